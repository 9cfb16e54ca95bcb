"""`status`, `logs` and `doctor` at the command line, and how files are read that grow."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.local_cloud import pipelines
from tests.local_cloud.conftest import Account
from tests.local_cloud.test_lifecycle import COMMAND, exports
from tests.processes import started
from tidegate.local_cloud import log_files
from tidegate.local_cloud.inventory import ENDPOINT, TRAINING_JOB
from tidegate.local_cloud.log_files import Named, NoSuchLog, Reader
from tidegate.local_cloud.processes import process_birth
from tidegate.local_cloud.state_directory import StateDirectory, SupervisorRecord

Run = Callable[..., subprocess.CompletedProcess[str]]


def environment_for(directory: Path, **more: str) -> dict[str, str]:
    own = ("AWS_", "LOCAL_CLOUD_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(own) and not name.lower().endswith("_proxy")
    }
    return kept | {"LOCAL_CLOUD_DIR": str(directory)} | more


@pytest.fixture
def run(account: Account) -> Run:
    """Runs `python -m local_cloud` for the cloud that all tests share."""

    def local_cloud(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env=environment_for(account.cloud.directory),
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )

    return local_cloud


@pytest.fixture(scope="module")
def endpoint(account: Account) -> Iterator[str]:
    name = account.endpoint(account.model())
    account.invoke(name, b"anything")
    yield name
    account.delete(name)


def test_status_tells_people_and_programs_the_same(account: Account, run: Run, endpoint: str) -> None:
    status = run("status")
    assert status.returncode == 0
    assert exports(status.stdout) == {name: str(value) for name, value in account.cloud.environment.items()}
    assert all(line.startswith(("export ", "unset ")) for line in status.stdout.splitlines())
    (row,) = [line.split() for line in status.stderr.splitlines() if line.split()[:1] == [endpoint]]
    assert row[1:4] == ["InService", "variant-0", "1"]
    assert row[5].startswith("s3://")
    assert account.cloud.environment["AWS_ENDPOINT_URL_SAGEMAKER"] in status.stderr

    told = json.loads(run("status", "--json").stdout)
    assert told["environment"] == account.cloud.environment
    (there,) = [each for each in told["endpoints"] if each["name"] == endpoint]
    image = there["variants"][0]["image"]
    variant = {"name": "variant-0", "instances": 1, "model": row[4], "image": image, "data": row[5], "exit": None}
    assert there["variants"] == [variant]
    assert told["recorded"]["models"] >= 1


def test_status_of_no_cloud_is_exit_code_1(tmp_path: Path) -> None:
    command = [*COMMAND, "status", "--json"]
    done = subprocess.run(command, env=environment_for(tmp_path / "none"), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"up": False, "directory": str(tmp_path / "none")}
    assert "not up in" in done.stderr


def test_logs_prints_what_a_server_wrote(account: Account, run: Run, endpoint: str) -> None:
    for name in (endpoint, f"endpoint/{endpoint}"):
        logs = run("logs", name)
        assert (logs.returncode, logs.stderr) == (0, "")
        assert "POST /invocations" in logs.stdout.splitlines()
    assert account.cloud.log_text(endpoint) == logs.stdout
    assert "is in service with" in run("logs").stdout, "without a name it is the cloud's own log"
    unknown = run("logs", f"{endpoint}x")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert f"nothing is called {endpoint}x; the nearest: " in unknown.stderr
    assert f"endpoint/{endpoint}" in unknown.stderr


def test_logs_of_a_pipeline_are_those_of_its_jobs(account: Account, run: Run) -> None:
    steps = [
        pipelines.process(account, name, f"print('it is {name}'); (base / 'processing/out/x').write_text('x')\n")
        for name in ("First", "Second")
    ]
    name = pipelines.create(account, pipelines.definition(*steps))
    end = pipelines.ended(account, pipelines.start(account, name))
    assert end["PipelineExecutionStatus"] == "Succeeded", end
    logs = run("logs", name, "--follow")
    assert logs.returncode == 0, logs.stderr
    said = [line.partition(" | ") for line in logs.stdout.splitlines()]
    assert {"it is First", "it is Second"} <= {line for _, _, line in said}
    assert len({job for job, _, line in said if line.startswith("it is")}) == 2
    assert logs.stderr == f"local cloud: pipeline/{name}: Succeeded\n"
    told = run("status").stderr
    assert re.search(rf"^  {name} +Succeeded$", told, re.MULTILINE)
    assert re.search(rf"^  pipeline +{name}/\w+ +2 processing Completed$", told, re.MULTILINE)
    assert "-Second-" not in told, "its jobs are told as one"


def test_logs_that_are_followed_end_with_the_endpoint(account: Account) -> None:
    name = account.endpoint(account.model())
    with started(
        [*COMMAND, "logs", name, "--follow"],
        env=environment_for(account.cloud.directory),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        assert following.stdout.readline(), "what was written before comes first"
        account.invoke(name, b"later")
        while "POST /invocations" not in (line := following.stdout.readline()):
            assert line, "it ended before the request was seen"
        account.delete(name)
        said, remarks = following.communicate(timeout=900)
        assert (following.returncode, remarks) == (0, ""), said


def test_ctrl_c_ends_what_is_followed(account: Account, endpoint: str) -> None:
    with started(
        [*COMMAND, "logs", endpoint, "--follow"],
        env=environment_for(account.cloud.directory),
        stdout=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        assert following.stdout.readline()
        following.send_signal(signal.SIGINT)
        assert following.wait(900) == 130


KNOWN = [
    Named(kind=ENDPOINT, name="digits"),
    Named(kind=TRAINING_JOB, name="digits"),
    Named(kind=TRAINING_JOB, name="digits-2026"),
    Named(kind=ENDPOINT, name="paint"),
]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("paint", KNOWN[3]), ("pa", KNOWN[3]), ("endpoint/digits", KNOWN[0]), ("training-job/digits-", KNOWN[2])],
)
def test_a_thing_is_found_by_its_name_or_the_beginning_of_it(wanted: str, found: Named) -> None:
    assert log_files.find(wanted, KNOWN) == found


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("digits", "digits may be endpoint/digits or training-job/digits: write one of these"),
        ("dig", "dig may be endpoint/digits, training-job/digits or training-job/digits-2026: write one of these"),
        ("pain-t", "nothing is called pain-t; the nearest: endpoint/paint"),
        ("pipeline/nope", "nothing is called pipeline/nope; the nearest: "),
        ("job/x", "job/x: 'job' is no kind of thing that writes; there are endpoint, inference-component"),
    ],
)
def test_a_name_that_is_not_one_things_gets_a_sentence_with_the_nearest(wanted: str, sentence: str) -> None:
    with pytest.raises(NoSuchLog) as refused:
        log_files.find(wanted, KNOWN)
    assert str(refused.value).startswith(sentence)


def test_where_nothing_is_near_some_of_what_there_is_is_named() -> None:
    many = [Named(kind=ENDPOINT, name=f"{letter}-{letter * 9}") for letter in "abcdefgh"]
    with pytest.raises(NoSuchLog) as refused:
        log_files.find("pipeline/qqq", many)
    first = ", ".join(map(str, many[:5]))
    assert str(refused.value) == f"nothing is called pipeline/qqq; there are {first} and 3 more"
    with pytest.raises(NoSuchLog, match=r"^nothing is called qqq, and nothing has written anything yet$"):
        log_files.find("qqq", [])


def test_files_that_come_late_grow_are_cut_off_or_change_their_name_are_read_once_and_whole(tmp_path: Path) -> None:
    first, second = tmp_path / "a.log", tmp_path / "b.log"
    reader = Reader(lambda: sorted(tmp_path.glob("*.log")))

    def read() -> list[str]:
        return [f"{path.stem} {line}" for path, line in reader.read()]

    assert read() == []
    first.write_bytes(b"one\ntw")
    assert read() == ["a one"], "half a line waits for its other half"
    with first.open("ab") as log:
        log.write(b"o\r\nthree \xc3")
    second.write_bytes(b"late\n")
    assert read() == ["a two", "b late"]
    with first.open("ab") as log:
        log.write(b"\xa9\nfour")
    first.rename(tmp_path / "a.log.1")
    assert read() == ["a three é"]
    first.write_bytes(b"five\n")
    assert read() == ["a four", "a five"], "what was written before the name changed comes first"
    second.write_bytes(b"x\n")
    assert read() == ["b x"], "a file that was cut off begins anew"
    second.write_bytes(b"x\nrest")
    assert read() == []
    assert [line for _, line in reader.close()] == ["rest"]


def test_doctor_says_what_is_in_the_way_of_this_machine_and_this_shell(tmp_path: Path) -> None:
    """A cloud that was killed, a shell of another cloud and of a real account, and a cdk that would ask AWS."""
    tools, state = tmp_path / "tools", StateDirectory(tmp_path / "state")
    tools.mkdir()
    (tools / "cdk").write_text("#!/bin/sh\necho '2.100.0 (build 1234567)'\n")
    (tools / "cdk").chmod(0o755)
    with started([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as gone:
        birth = process_birth(gone.pid)
        assert gone.stdin is not None
        gone.stdin.close()
        gone.wait(60)
    with state.claimed():
        address = "http://127.0.0.1:1"
        state.write(
            SupervisorRecord(
                process_id=gone.pid, birth=f"{birth}", moto_url=address, sagemaker_url=address, region="us-east-1"
            )
        )
    environment = environment_for(
        state.path,
        PATH=f"{tools}{os.pathsep}{os.environ['PATH']}",
        DOCKER=str(tmp_path / "no-docker"),
        AWS_ENDPOINT_URL=address,
        AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE",
        AWS_PROFILE="work",
    )

    def doctor(*options: str) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, "doctor", *options]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=900)

    done = doctor("--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["ready"]) == (1, False)
    found = {(each["check"], each["level"]): each for each in told["findings"]}
    assert "cdk 2.100.0" in found["clients", "error"]["sentence"]
    assert found["clients", "error"]["advice"] == "npm install aws-cdk@latest"
    assert "ended without being stopped" in found["state", "warning"]["sentence"]
    shell = [each["sentence"] for each in told["findings"] if each["check"] == "shell"]
    assert any("AWS_ENDPOINT_URL leads to http://127.0.0.1:1, where nothing answers" in each for each in shell)
    assert any("AWS_ACCESS_KEY_ID is a key of a real account" in each for each in shell)
    assert any("AWS_PROFILE is set" in each for each in shell)
    assert found["packages", "ok"]
    assert "no-docker" in found["docker", "ok"]["sentence"]
    assert all(each["advice"] for each in told["findings"] if each["level"] != "ok")

    status = subprocess.run(
        [*COMMAND, "status", "--json"], env=environment, capture_output=True, text=True, check=False
    )
    assert status.returncode == 1
    where = {"up": False, "directory": str(state.path)}
    assert json.loads(status.stdout) == where | {"ended": "without being stopped", "servers_left": []}
    assert f"a cloud in {state.path} ended without being stopped\n  -> up ends what is left" in status.stderr

    environment["PATH"] = os.environ["PATH"].replace(str(tools), "")
    lines = doctor().stdout.splitlines()
    assert any(line.startswith("warning  state: ") for line in lines)
    assert any(line.startswith("         -> up ends what is left") for line in lines)
