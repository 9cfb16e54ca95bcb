"""The real AWS toolkit and the real server, asked the same: every difference has a name in deviations.py."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.compatibility import oracle, toolkit
from tests.compatibility.cases import CASES, Case
from tests.compatibility.deviations import DEVIATIONS
from tests.compatibility.placing import place
from tests.contract.running import Server, running

ARCHIVES = sorted({case.archive for case in CASES})


class Seen(NamedTuple):
    status: int
    content_type: str | None
    body: bytes


def headers(case: Case) -> dict[str, str]:
    given = {"Content-Type": case.content_type, "Accept": case.accept, **case.headers}
    return {name: value for name, value in given.items() if value is not None}


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """The toolkit's answers, by case."""
    base, jobs = tmp_path_factory.mktemp("aws"), []
    for archive in ARCHIVES:
        root = place(archive, base / archive)
        asked = [
            {"body": base64.b64encode(case.body).decode(), "headers": headers(case)}
            for case in CASES
            if case.archive == archive
        ]
        # The toolkit does not look for code inside a folder that is alone in the archive.
        root = root / "my_model" if archive == "multi_file" else root
        jobs.append(json.dumps({"root": str(root), "cases": asked}) + "\n")
    done = subprocess.run(
        [sys.executable, oracle.__file__],
        input="".join(jobs),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(toolkit.folder()), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = {}
    for archive, line in zip(ARCHIVES, done.stdout.splitlines(), strict=True):
        cases = [case for case in CASES if case.archive == archive]
        for case, answer in zip(cases, json.loads(line), strict=True):
            found[case.name] = Seen(answer["status"], answer["type"], base64.b64decode(answer["body"]))
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """This server with a model for each archive."""
    base = tmp_path_factory.mktemp("ours")
    with running({}, SAGEMAKER_MULTI_MODEL="true") as server:
        for archive in ARCHIVES:
            body = json.dumps({"model_name": archive, "url": str(place(archive, base / archive))})
            reply = server.request("POST", "/models", body, {"content-type": "application/json"})
            assert reply.status == 200, reply.body
        yield server


def ask(server: Server, case: Case) -> Seen:
    reply = server.request("POST", f"/models/{case.archive}/invoke", case.body, headers(case))
    return Seen(reply.status, reply.headers.get("content-type"), reply.body)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_an_answer_is_the_toolkits_or_the_deviation_has_a_name(
    aws: dict[str, Seen], server: Server, case: Case
) -> None:
    theirs, ours = aws[case.name], ask(server, case)
    deviation = DEVIATIONS.get(case.name)
    if deviation is not None:
        assert (theirs.status, ours.status) == (deviation.aws, deviation.ours), (theirs, ours)
        assert ours != theirs, "this deviation is none any more: take it from the list"
    elif theirs.status == 200:
        assert ours == theirs
    else:
        assert ours.status == theirs.status, (theirs, ours)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_no_answer_of_ours_shows_a_traceback(server: Server, case: Case) -> None:
    """The toolkit's errors do, with the paths and the code of the container."""
    ours = ask(server, case)
    assert b"Traceback" not in ours.body
    if ours.status >= 400:
        error = json.loads(ours.body)["error"]
        assert sorted(error) == ["code", "message", "request_id"]
        assert "\n" not in error["message"]


def test_the_toolkits_errors_do_show_one(aws: dict[str, Seen]) -> None:
    assert b"Traceback (most recent call last)" in aws["broken json"].body


def test_every_deviation_is_of_a_case() -> None:
    assert set(DEVIATIONS) <= {case.name for case in CASES}
    assert len(CASES) == len({case.name for case in CASES})


def test_the_oracle_is_the_toolkit_and_not_ours() -> None:
    program = "import sagemaker_inference, sagemaker_pytorch_serving_container as c; print(c.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        env={"PYTHONPATH": str(toolkit.folder())},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert Path(done.stdout.strip()).is_relative_to(toolkit.folder())
