"""Stateful sessions over real sockets: begun, used, checked, ended by the client, by time, and with their model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.contract.running import Reply, Server, running, write_files

CHAT = """
import json, os

def model_fn(model_dir):
    return None

def input_fn(data, content_type):
    return json.loads(data)

def predict_fn(data, model, context):
    session = context.get_session()
    if session is None:
        return {"session": None, "header": context.get_request_header(0, "X-Amzn-SageMaker-Session-Id")}
    if "fail" in data:
        raise RuntimeError("as asked")
    said = session.get("said", []) + [data["text"]]
    session.put("said", said)
    if "wait_for" in data:
        open("waiting", "w").close()
        while not os.path.exists(data["wait_for"]):
            pass
    return {"session": session.session_id, "said": said, "files": sorted(os.listdir(session.files_path)),
            "directory": session.files_path, "pid": os.getpid()}

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
"""Remembers what it was told in its session."""

OWN = """
def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept, context):
    if context.get_request_header(0, "X-Amzn-SageMaker-Session-Id") == "NEW_SESSION":
        context.set_response_header(0, "X-Amzn-SageMaker-New-Session-Id", "mine-1; Expires=2030-01-01T00:00:00Z")
    return [data, str(context.get_session())]
"""
"""Has sessions of its own making, as a script could in the AWS container."""

ON = {"SAGEMAKER_ENABLE_STATEFUL_SESSIONS": "true"}
BEGIN, CLOSE = b'{"requestType": "NEW_SESSION"}', b'{"requestType":"CLOSE"}'
NEW_HEADER, CLOSED_HEADER = "x-amzn-sagemaker-new-session-id", "x-amzn-sagemaker-closed-session-id"
API_SHAPE = re.compile(r"^([a-zA-Z0-9](-*[a-zA-Z0-9])*); Expires=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)$")
"""Of `NewSessionResponseHeader` in the service model of the runtime API."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running({"code/inference.py": CHAT}, TIDEGATE_WORKERS="2", TIDEGATE_MAX_SESSIONS="50", **ON) as server:
        yield server


def ask(server: Server, body: bytes, session: str | None = None) -> Reply:
    return server.post(body, **({"X-Amzn-SageMaker-Session-Id": session} if session is not None else {}))


def begin(server: Server) -> str:
    reply = ask(server, BEGIN, "NEW_SESSION")
    assert reply.status == 200
    named = API_SHAPE.match(reply.headers[NEW_HEADER])
    assert named
    assert reply.body == f"Session {named[1]} created".encode()
    return named[1]


def say(server: Server, text: str, session: str | None, **more: object) -> Reply:
    return ask(server, json.dumps({"text": text, **more}).encode(), session)


def test_a_session_keeps_what_its_requests_say_whichever_worker_answers(server: Server) -> None:
    one, other = begin(server), begin(server)
    pids = set()
    for count in range(1, 13):
        answer = say(server, f"word {count}", one).json()
        assert answer["session"] == one
        assert answer["said"] == [f"word {number}" for number in range(1, count + 1)]
        pids.add(answer["pid"])
    assert say(server, "mine", other).json()["said"] == ["mine"]
    assert answer["files"] == ["said"]
    assert say(server, "nothing", None).json() == {"session": None, "header": None}


def test_the_answer_that_begins_a_session_says_when_it_ends(server: Server) -> None:
    before = datetime.now(UTC).timestamp()
    named = API_SHAPE.match(ask(server, BEGIN).headers[NEW_HEADER])
    after = datetime.now(UTC).timestamp()
    assert named
    ends = datetime.strptime(named[3], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    assert before + 1199 <= ends <= after + 1200


def test_a_session_may_begin_with_its_first_request(server: Server) -> None:
    reply = say(server, "hello", "NEW_SESSION")
    named = API_SHAPE.match(reply.headers[NEW_HEADER])
    assert named
    assert (reply.json()["session"], reply.json()["said"]) == (named[1], ["hello"])
    again = say(server, "again", named[1])
    assert again.json()["said"] == ["hello", "again"]
    assert NEW_HEADER not in again.headers


def test_a_first_request_that_fails_begins_no_session(server: Server) -> None:
    reply = ask(server, b'{"fail": 1}', "NEW_SESSION")
    assert (reply.status, reply.error["code"]) == (500, "handler_failed")
    assert NEW_HEADER not in reply.headers


def test_an_ended_session_is_400_and_its_directory_is_gone(server: Server) -> None:
    session = begin(server)
    directory = Path(say(server, "hello", session).json()["directory"])
    assert directory.is_dir()
    reply = ask(server, CLOSE, session)
    assert (reply.status, reply.headers[CLOSED_HEADER]) == (200, session)
    assert reply.body == f"Session {session} closed".encode()
    for body in (b'{"text": "still there?"}', CLOSE):
        reply = ask(server, body, session)
        assert (reply.status, reply.error["code"]) == (400, "bad_request")
        assert reply.error["message"].startswith(f"There is no session '{session}'")
    server.wait_until(lambda: not directory.exists(), "the directory is removed")


def test_a_session_that_is_closed_at_work_loses_its_directory_only_then(server: Server, tmp_path: Path) -> None:
    session = begin(server)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(say, server, "hello", session, wait_for=str(tmp_path / "go"))
        server.wait_until((server.model_dir / "waiting").exists, "the request is at work")
        assert ask(server, CLOSE, session).status == 200
        (tmp_path / "go").touch()
        answer = pending.result(timeout=60)
    assert (answer.status, answer.json()["files"]) == (200, ["said"])
    server.wait_until(lambda: not Path(answer.json()["directory"]).exists(), "the directory is removed")


def test_a_close_of_no_session_in_particular_is_400(server: Server) -> None:
    reply = ask(server, CLOSE)
    assert (reply.status, reply.error["code"]) == (400, "bad_request")
    assert "X-Amzn-SageMaker-Session-Id" in reply.error["message"]


@pytest.mark.parametrize(
    "name",
    ["ghost", "../../etc", "00000000-0000-0000-0000-000000000000", "new_session", "a" * 300, "NEW_SESSION; x", "."],
)
def test_a_session_that_is_not_here_is_400(server: Server, name: str) -> None:
    reply = say(server, "hello", name)
    assert (reply.status, reply.error["code"]) == (400, "bad_request")
    assert ask(server, CLOSE, name).status == 400


@pytest.mark.parametrize(
    "body", [b'{"requestType": "OPEN"}', b'{"requestType": "CLOSE", "force": 1}', b'{"requestType": 1}']
)
def test_a_malformed_request_about_a_session_is_400(server: Server, body: bytes) -> None:
    reply = ask(server, body, begin(server))
    assert (reply.status, reply.error["code"]) == (400, "bad_request")
    assert "requestType" in reply.error["message"]


def test_a_body_that_only_speaks_of_a_request_type_goes_to_the_model(server: Server) -> None:
    assert say(server, "requestType", None).status == 200
    assert server.post(b'[{"requestType": "CLOSE"}]').status == 200


def test_sessions_end_in_time_with_all_that_is_in_them(tmp_path: Path) -> None:
    limits = {"SAGEMAKER_SESSIONS_EXPIRATION": "1", "SAGEMAKER_SESSIONS_PATH": str(tmp_path)}
    with running({"code/inference.py": CHAT}, **ON, **limits) as server:
        session = begin(server)
        server.wait_until(lambda: say(server, "hello", session).status == 400, "the session is over")
        server.wait_until(lambda: not list(tmp_path.glob("*/*")), "its directory is removed without anybody asking")
        begin(server)
        assert server.terminate() == 0
    assert list(tmp_path.iterdir()) == []


def test_one_session_more_than_the_limit_is_503() -> None:
    with running({"code/inference.py": CHAT}, TIDEGATE_MAX_SESSIONS="1", **ON) as server:
        session = begin(server)
        refused = ask(server, BEGIN)
        assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (503, "overloaded", "1")
        assert ask(server, CLOSE, session).status == 200
        begin(server)


def test_a_place_that_cannot_be_written_is_one_line_and_exit_1() -> None:
    with running({"code/inference.py": CHAT}, wait=False, SAGEMAKER_SESSIONS_PATH="/proc/sessions", **ON) as server:
        assert server.ended() == 1
        last = server.log().strip().splitlines()[-1]
    assert last.startswith("tidegate: error: Sessions cannot be kept in /proc/sessions (SAGEMAKER_SESSIONS_PATH): ")


def test_without_the_variable_the_headers_are_the_scripts_own() -> None:
    with running({"code/inference.py": OWN}) as server:
        reply = ask(server, BEGIN, "NEW_SESSION")
        assert reply.headers[NEW_HEADER] == "mine-1; Expires=2030-01-01T00:00:00Z"
        assert reply.json() == [BEGIN.decode(), "None"]
        assert ask(server, b"[]", "ghost").json() == ["[]", "None"]


def test_a_session_is_of_one_model_and_ends_when_that_is_unloaded(tmp_path: Path) -> None:
    with running({}, SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_SESSIONS_PATH=str(tmp_path / "s"), **ON) as server:
        for name in ("one", "two"):
            write_files(tmp_path / name, {"code/inference.py": CHAT})
            body = json.dumps({"model_name": name, "url": str(tmp_path / name)})
            assert server.request("POST", "/models", body).status == 200

        def invoke(model: str, body: bytes, session: str) -> Reply:
            headers = {"content-type": "application/json", "X-Amzn-SageMaker-Session-Id": session}
            return server.request("POST", f"/models/{model}/invoke", body, headers)

        session = invoke("one", BEGIN, "").headers[NEW_HEADER].partition(";")[0]
        assert invoke("one", b'{"text": "hi"}', session).json()["said"] == ["hi"]
        assert invoke("two", b'{"text": "hi"}', session).status == 400
        assert server.request("DELETE", "/models/one").status == 200
        server.wait_until(lambda: not list((tmp_path / "s").glob("*/*")), "its directory is removed")
