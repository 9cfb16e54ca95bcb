"""A frontend may hang up at any moment: the fork server, and a worker, then end without a word."""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.running import START_S, wait_until, write_files
from tidegate.inference import protocol
from tidegate.inference.protocol import Kind, ModelSpec, Request

PARENT = "from tidegate.inference.worker.fork_server import main; main({fd}, 20)"
WORKER = (
    "import socket; from tidegate.inference.worker import leaving, serving; "
    "leaving.leave(serving.run(socket.socket(fileno={fd})))"
)


@contextmanager
def started(program: str, kind: int) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    with theirs:
        command = [sys.executable, "-P", "-c", program.format(fd=theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
    with process, ours:
        try:
            yield process, ours
        finally:
            process.kill()  # where something else failed: it would wait for more


def spec_of(model_dir: Path) -> ModelSpec:
    return ModelSpec(
        name="toy",
        model_dir=str(model_dir),
        program=None,
        threads=1,
        verify=False,
        max_batch_size=1,
        default_accept="application/json",
        max_decoded_bytes=2**20,
        max_response_bytes=2**30,
        max_image_pixels=2**20,
        log_level=40,
    )


def wait_for_data(channel: socket.socket) -> None:
    assert select.select([channel], [], [], START_S)[0], "nothing came"


def test_the_parent_of_the_workers_ends_quietly_where_its_messages_are_not_read_any_more() -> None:
    with started(PARENT, socket.SOCK_SEQPACKET) as (process, control):
        wait_for_data(control)
        control.close()  # with a message in it, so that the other end reads a reset
        _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize("kind", [Kind.READY, 99])
def test_a_worker_that_is_sent_what_it_does_not_know_says_so_and_ends(tmp_path: Path, kind: int) -> None:
    write_files(tmp_path, {"code/inference.py": "def model_fn(model_dir):\n    return len\n"})
    with started(WORKER, socket.SOCK_STREAM) as (process, channel):
        channel.sendall(protocol.frame(Kind.LOAD, spec_of(tmp_path).to_json()))
        wait_for_data(channel)
        channel.sendall(protocol.FRAME.pack(0, kind))
        _, errors = process.communicate(timeout=300)
    assert process.returncode == 1
    assert f"a frame of the kind {int(kind)} came where COMPUTE" in errors.decode()


SLOW = """
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir)

def input_fn(body, content_type):
    return body

def predict_fn(data, model):
    (model / "computing").touch()
    while not (model / "release").exists():
        pass
    return "x" * 1_000_000
"""


@pytest.mark.parametrize("unread", [True, False])
def test_a_worker_ends_quietly_where_nobody_waits_for_its_answer_any_more(tmp_path: Path, unread: bool) -> None:
    write_files(tmp_path, {"code/inference.py": SLOW})
    with started(WORKER, socket.SOCK_STREAM) as (process, channel):
        channel.sendall(protocol.frame(Kind.LOAD, spec_of(tmp_path).to_json()))
        wait_for_data(channel)
        if not unread:
            channel.recv(65536)
        channel.sendall(protocol.compute_frame([Request(1, "text/csv", "", b"", b"1")]))
        wait_until((tmp_path / "computing").exists, "it computes")
        channel.close()
        (tmp_path / "release").touch()
        _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, b"")
