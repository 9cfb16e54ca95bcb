"""Server processes: what they see, when they are healthy, what is left of them, and what a killed supervisor leaves."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.local_cloud.conftest import STAND_IN, await_true
from tests.processes import started
from tidegate.local_cloud.processes import end_orphans, process_birth
from tidegate.local_cloud.sagemaker.container import Container, ContainerFailed, ContainerSpec, await_healthy
from tidegate.local_cloud.sagemaker.container_answers import AnswerTooLarge, NoAnswer, TimedOut
from tidegate.local_cloud.sagemaker.container_client import ContainerClient
from tidegate.local_cloud.sagemaker.process_container import ProcessRunner

Start = Callable[..., Container]
NEVER = threading.Event()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the stand-in with an environment; everything is stopped in the end."""
    started: list[Container] = []

    def run(*command: str, **environment: str) -> Container:
        base = tmp_path / str(len(started))
        (base / "model").mkdir(parents=True)
        runner = ProcessRunner(tmp_path / "containers", command or STAND_IN)
        started.append(
            runner.start(ContainerSpec(image="serve", base_dir=base, environment=environment, log=tmp_path / "log"))
        )
        return started[-1]

    yield run
    for container in started:
        container.stop(0.0)


def healthy(container: Container) -> ContainerClient:
    await_healthy(container, timeout_s=60, cancelled=NEVER)
    return ContainerClient(container.port)


def post(client: ContainerClient, body: bytes, *, timeout_s: float = 30, max_bytes: int | None = None) -> bytes:
    return client.call("POST", "/invocations", headers={}, body=body, timeout_s=timeout_s, max_bytes=max_bytes).body


def test_a_container_sees_the_models_environment_and_not_the_callers(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a real one")
    monkeypatch.setenv("SOMETHING_PRIVATE", "of the caller")
    client = healthy(start(MODEL_SETTING="on"))
    seen = json.loads(post(client, b"environment:"))
    client.close()
    assert seen["MODEL_SETTING"] == "on"
    assert seen["TIDEGATE_HOST"] == "127.0.0.1"
    assert seen["PYTHONSAFEPATH"] == "1"
    assert not {"AWS_SECRET_ACCESS_KEY", "SOMETHING_PRIVATE"} & seen.keys()


def test_a_container_that_ends_before_it_is_healthy_gives_its_error_line_as_reason(start: Start) -> None:
    container = start(STAND_IN_ERROR="code/inference.py, line 3: invalid syntax.")
    with pytest.raises(ContainerFailed, match=r"^tidegate: error: code/inference\.py, line 3: invalid syntax\.$"):
        await_healthy(container, timeout_s=60, cancelled=NEVER)


def test_without_an_error_line_the_last_lines_are_the_reason(start: Start) -> None:
    container = start(STAND_IN_LAST_WORDS="one\ntwo\nthree\nfour")
    with pytest.raises(ContainerFailed, match=r"^two \| three \| four$"):
        await_healthy(container, timeout_s=60, cancelled=NEVER)


def test_a_container_that_says_nothing_gives_its_exit_code(start: Start) -> None:
    with pytest.raises(ContainerFailed, match="ended with exit code 3 and said nothing"):
        await_healthy(start(sys.executable, "-c", "raise SystemExit(3)"), timeout_s=60, cancelled=NEVER)


def test_a_container_that_never_gets_healthy_runs_into_its_time_out(start: Start) -> None:
    with pytest.raises(ContainerFailed, match=r"did not answer GET /ping with 200 within 0\.3 seconds"):
        await_healthy(start(STAND_IN_PING="never"), timeout_s=0.3, cancelled=NEVER)


# A server that ignores SIGTERM, with a child in a process group of its own, one in a session of its own, one whose
# parent is gone, and a daemon, which is both; where the argument is "end", the server ends once they are there.
FAMILY = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def child(prepare, orphan=False):
    reader, writer = os.pipe()
    if (middle := os.fork()) == 0:
        if not orphan or os.fork() == 0:
            prepare()
            os.write(writer, str(os.getpid()).encode())
            time.sleep(600)
        os._exit(0)
    if orphan:
        os.waitpid(middle, 0)
    return os.read(reader, 20).decode()
family = [child(prepare, orphan) for prepare in (os.setpgrp, os.setsid) for orphan in (False, True)]
open("draft", "w").write(" ".join(family))
os.rename("draft", "family")
end = {"end": lambda: sys.exit(3), "killed": lambda: os.kill(os.getpid(), 9), "stay": lambda: time.sleep(600)}
end[sys.argv[1]]()
"""


def family_of(base: Path) -> list[int]:
    note = base / "family"
    await_true(note.exists, "the children are started")
    return [int(word) for word in note.read_text().split()]


def test_stopping_a_container_takes_its_children_along_whatever_their_process_groups(
    start: Start, tmp_path: Path
) -> None:
    """The server ignores SIGTERM; no child is in its process group, as a real container's need not be."""
    container = start(sys.executable, "-c", FAMILY, "stay")
    family = family_of(tmp_path / "0")
    assert all(process_birth(child) for child in family)
    container.stop(0.1)
    assert container.exit_code() == 128 + signal.SIGKILL
    assert [process_birth(child) for child in family] == [None] * 4
    assert list((tmp_path / "containers").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has processes that adopt the children of others")
@pytest.mark.parametrize(("way", "exit_code"), [("end", 3), ("killed", 128 + signal.SIGKILL)])
def test_a_container_that_ended_by_itself_leaves_no_children(
    start: Start, tmp_path: Path, way: str, exit_code: int
) -> None:
    container = start(sys.executable, "-c", FAMILY, way)
    family = family_of(tmp_path / "0")
    assert container.wait() == exit_code
    assert [process_birth(child) for child in family] == [None] * 4


def test_what_a_killed_supervisor_left_running_is_ended(start: Start, tmp_path: Path) -> None:
    container = start(sys.executable, "-c", FAMILY, "stay")
    family = family_of(tmp_path / "0")
    (left,) = (tmp_path / "containers").iterdir()
    assert end_orphans(tmp_path / "containers") == [int(left.name)]
    assert container.wait() == 128 + signal.SIGKILL
    assert [process_birth(child) for child in family] == [None] * 4


def test_a_process_that_merely_has_the_same_id_is_left_alone(tmp_path: Path) -> None:
    with started([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as stranger:
        (tmp_path / str(stranger.pid)).write_text("born at another moment")
        assert end_orphans(tmp_path) == []
        assert process_birth(stranger.pid) is not None
        stranger.communicate(b"\n")
    assert stranger.returncode == 0


def test_calls_one_after_the_other_share_a_connection(start: Start) -> None:
    client = healthy(start())
    assert [post(client, body) for body in (b"a", b"b", b"c")] == [b"A", b"B", b"C"]
    assert len(client._idle) == 1
    client.close()


def test_a_connection_that_the_container_closed_is_not_used_again(start: Start) -> None:
    client = healthy(start())
    post(client, b"a")
    client._idle[0].sock.shutdown(socket.SHUT_RDWR)
    assert post(client, b"b") == b"B"
    client.close()


def test_a_container_that_does_not_answer_in_time_is_timed_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = ContainerClient(silent.getsockname()[1])
        with pytest.raises(TimedOut):
            post(client, b"a", timeout_s=0.2)


def test_a_container_that_hangs_up_gives_no_answer(start: Start) -> None:
    client = healthy(start())
    with pytest.raises(NoAnswer):
        post(client, b"hang up:")
    assert post(client, b"a") == b"A", "the next call has a connection of its own"
    client.close()


def test_an_answer_beyond_the_limit_is_cut_off(start: Start) -> None:
    client = healthy(start())
    assert len(post(client, b"big:1000", max_bytes=1000)) == 1000
    with pytest.raises(AnswerTooLarge):
        post(client, b"big:1001", max_bytes=1000)
    client.close()


def test_a_body_in_pieces_goes_out_in_chunks(start: Start) -> None:
    client = healthy(start())
    answer = client.call("POST", "/invocations", headers={}, body=iter([b"ab", b"cd"]), timeout_s=60)
    assert answer.body == b"ABCD"
    client.close()
