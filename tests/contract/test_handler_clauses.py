"""The contract of the four functions, clause by clause, over real sockets.

The table is in handler_clauses.py. One multi-model server serves every archive, each in a process of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.handler_clauses import CLAUSES, CSV, JSON, REFUSED_AT_LOAD, Clause, script
from tests.contract.running import Server, running, write_files


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running({}, SAGEMAKER_MULTI_MODEL="true") as server:
        yield server


def load(server: Server, base: Path, files: dict[str, str | bytes]) -> Any:
    write_files(base, files)
    body = json.dumps({"model_name": "clause", "url": str(base)})
    return server.request("POST", "/models", body, {"content-type": JSON})


@pytest.mark.parametrize("clause", CLAUSES, ids=[clause.says for clause in CLAUSES])
def test_a_clause_holds(server: Server, tmp_path: Path, clause: Clause) -> None:
    loaded = load(server, tmp_path, clause.files)
    assert loaded.status == 200, loaded.body
    try:
        named = {"content-type": clause.content_type, "accept": clause.accept, **clause.headers}
        sent = {name: value for name, value in named.items() if value is not None}
        reply = server.request("POST", "/models/clause/invoke", clause.body, sent)
    finally:
        assert server.request("DELETE", "/models/clause").status == 200
    assert reply.status == clause.status, reply.body
    if clause.status >= 400:
        assert reply.error == {**clause.answer, "request_id": reply.error["request_id"]}
    elif isinstance(clause.answer, bytes):
        assert reply.body == clause.answer
    else:
        assert reply.json() == clause.answer
    if clause.answer_type is not None:
        assert reply.headers["content-type"] == clause.answer_type
    assert clause.answer_headers.items() <= reply.headers.items()


@pytest.mark.parametrize("mistake", REFUSED_AT_LOAD)
def test_a_mistake_is_an_error_at_load_and_not_a_silent_default(server: Server, tmp_path: Path, mistake: str) -> None:
    files, words = REFUSED_AT_LOAD[mistake]
    reply = load(server, tmp_path, files)
    assert reply.status == 500
    assert words in reply.error["message"]
    assert "\n" not in reply.error["message"]
    assert server.request("GET", "/models/clause").status == 404


def test_model_fn_runs_once_for_each_worker(tmp_path: Path) -> None:
    counting = script(
        "import os\n",
        model_fn="def model_fn(model_dir):\n    open('loads', 'a').write(str(os.getpid()) + '\\n')\n    return 'm'\n",
    )
    with running({"code/inference.py": counting}, TIDEGATE_WORKERS="2") as server:
        loads = server.model_dir / "loads"
        server.wait_until(lambda: len(loads.read_text().split()) == 2, "both workers have loaded")
        for _ in range(20):
            assert server.post(b"x", CSV).body == b"x"
        assert sorted(loads.read_text().split()) == sorted(str(worker.pid) for worker in server.workers())


def test_what_a_script_counts_is_in_the_log_with_the_id_of_its_request(server: Server, tmp_path: Path) -> None:
    counting = script(
        output_fn="def output_fn(p, accept, c):\n    c.metrics.add_counter('Tokens', 3)\n    return 'x'\n"
    )
    assert load(server, tmp_path, {"code/inference.py": counting}).status == 200
    try:
        sent = {"content-type": CSV, "X-Amzn-SageMaker-Inference-Id": "counted-1"}
        assert server.request("POST", "/models/clause/invoke", b"x", sent).status == 200
    finally:
        server.request("DELETE", "/models/clause")
    entries = server.entries()
    (entry,) = [entry for entry in entries if entry.get("request_id") == "counted-1" and "metric" in entry]
    assert (entry["metric"], entry["value"], entry["unit"], entry["type"]) == ("Tokens", 3, "count", "counter")


def test_what_a_script_prints_is_in_the_log_at_once_and_outlives_its_worker(tmp_path: Path) -> None:
    printing = script(
        "import os, signal\nprint('importing')\n",
        predict_fn="def predict_fn(data, model):\n    print('asked for ' + data)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    with running({"code/inference.py": printing}, PYTHONUNBUFFERED="") as server:
        assert "\nimporting\n" in f"\n{server.log()}"
        assert server.post(b"this", CSV).status == 500
        assert server.log().count("asked for this\n") == 2


def test_what_a_script_logs_or_warns_of_is_a_line_of_the_log_without_any_set_up(server: Server, tmp_path: Path) -> None:
    logging = script(
        "import logging, warnings\nlogger = logging.getLogger(__name__)\nlogger.info('importing')\n"
        "warnings.warn('an old function')\n",
        predict_fn="def predict_fn(data, model):\n    logger.info('asked for %s', data)\n    logger.debug('not this')\n"
        "    return data\n",
    )
    assert load(server, tmp_path, {"code/inference.py": logging}).status == 200
    try:
        assert server.request("POST", "/models/clause/invoke", b"this", {"content-type": CSV}).status == 200
    finally:
        server.request("DELETE", "/models/clause")
    entries = server.entries()
    found = [entry for entry in entries if entry["logger"] == "inference"]
    assert [(entry["level"], entry["message"]) for entry in found] == [
        ("info", "importing"),
        ("info", "asked for this"),
    ]
    (warned,) = [entry for entry in entries if entry["logger"] == "py.warnings"]
    assert warned["level"] == "warning"
    assert "inference.py:4: UserWarning: an old function" in warned["message"]
    assert all(line.startswith("{") for line in server.log().splitlines() if "an old function" in line)


def test_nothing_is_written_into_the_model_directory(tmp_path: Path) -> None:
    """The platform mounts it read-only. Python's own caches are off, as they are in the image."""
    files: dict[str, str | bytes] = {
        "code/inference.py": script("import helper\n"),
        "code/helper.py": "",
        "code/requirements.txt": "numpy\n",
        "code/wheels/.keep": b"",
    }
    with running(files, PYTHONDONTWRITEBYTECODE="1") as server:
        assert server.post(b"x", CSV).status == 200
        found = {str(path.relative_to(server.model_dir)) for path in server.model_dir.rglob("*") if path.is_file()}
    assert found == set(files)
