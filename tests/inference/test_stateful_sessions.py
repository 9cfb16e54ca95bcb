"""Sessions by the clock: what ends when, and what the limit is. The clock is the test's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tidegate.inference.errors import BadRequest, Overloaded
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.response import Response
from tidegate.inference.frontend.models.stateful_sessions import NEW_SESSION, SessionReply, StatefulSessions
from tidegate.inference.frontend.queue.reply import Failure, Reply
from tidegate.inference.protocol import SESSION_HEADER
from tidegate.inference.settings import Settings
from tidegate.inference.worker.session import Session, session_of

BEGIN = b'{"requestType": "NEW_SESSION"}'


class Clock:
    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(tmp_path: Path, clock: Clock) -> Iterator[StatefulSessions]:
    settings = Settings(sessions_path=tmp_path, session_expiration_s=60, max_sessions=2)
    sessions = StatefulSessions(settings, clock)
    yield sessions
    sessions.close()
    assert list(tmp_path.iterdir()) == []


class Kept:
    """A reply that keeps what it is told."""

    def __init__(self) -> None:
        self.status = 0
        self.headers = self.body = b""
        self.ended = False

    def start(self, status: int, content_type: str, headers: bytes, length: int | None) -> None:  # noqa: ARG002
        self.status, self.headers = status, headers

    def write(self, data: bytes) -> None:
        self.body += data

    def end(self) -> None:
        self.ended = True

    def fail(self, error: Failure) -> None:
        self.status, self.ended = error.status, True


def asked(body: bytes, *sessions: str) -> Request:
    headers = [(SESSION_HEADER.encode(), session.encode()) for session in sessions]
    request = Request(method="POST", target=b"/invocations", headers=headers)
    request.body.append(body)
    return request


def ask(
    sessions: StatefulSessions, body: bytes, session: str = "", model: Callable[[Reply], None] | None = None
) -> Kept:
    """What a client is answered by a model that answers with the session that its worker would be told."""

    async def asking() -> Kept:
        kept, request = Kept(), asked(body, *([session] if session else []))
        try:
            reply = sessions.take(request, kept, "model")
            if reply is not None and model is not None:
                model(reply)
            elif reply is not None:
                Response(200, "text/plain", request.headers[-1][1] if request.headers else b"none").send(reply)
        finally:
            await asyncio.get_running_loop().shutdown_default_executor()  # directories are removed in it
        return kept

    return asyncio.run(asking())


def begin(sessions: StatefulSessions) -> str:
    return ask(sessions, BEGIN).headers.decode().partition(": ")[2].partition(";")[0]


def test_a_session_ends_at_the_time_that_it_was_announced_with(sessions: StatefulSessions, clock: Clock) -> None:
    assert b"; Expires=1970-01-12T13:47:40Z\r\n" in ask(sessions, BEGIN).headers
    session = begin(sessions)
    clock.now_s += 59.9
    assert ask(sessions, b"1", session).body == session.encode()
    clock.now_s += 0.1
    with pytest.raises(BadRequest, match="it has ended"):
        ask(sessions, b"1", session)
    assert not (sessions.root / session).exists()


def test_one_session_more_than_the_limit_is_refused_until_one_has_ended(
    sessions: StatefulSessions, clock: Clock
) -> None:
    first = begin(sessions)
    clock.now_s += 30
    second = begin(sessions)
    with pytest.raises(Overloaded, match="2 sessions are open, which is the limit"):
        begin(sessions)
    clock.now_s += 30
    third = begin(sessions)
    assert sorted(path.name for path in sessions.root.iterdir()) == sorted([second, third])
    assert first not in {second, third}
    ask(sessions, b'{"requestType": "CLOSE"}', second)
    begin(sessions)


def test_a_header_that_comes_twice_is_one_session_for_frontend_and_worker(sessions: StatefulSessions) -> None:
    session = begin(sessions)
    request = asked(b"1", "../..", session)
    assert sessions.take(request, Kept(), "model") is not None
    assert request.headers == [(SESSION_HEADER.encode(), session.encode())]
    assert request.header(SESSION_HEADER.encode()) == session


def test_a_new_session_is_announced_with_its_first_answer_and_ends_if_that_fails(sessions: StatefulSessions) -> None:
    def answers_500(reply: Reply) -> None:
        Response(500, "text/plain", b"no").send(reply)

    def fails(reply: Reply) -> None:
        reply.fail(Overloaded("Too much."))

    def leaves(reply: Reply) -> None:
        assert isinstance(reply, SessionReply)
        reply.cancel()

    for model in (answers_500, fails, leaves):
        assert b"new-session-id" not in ask(sessions, b"1", NEW_SESSION, model).headers
        assert list(sessions.root.iterdir()) == []
    first = ask(sessions, b"1", NEW_SESSION)
    (session,) = sessions.root.iterdir()
    assert first.body == session.name.encode()
    assert b"x-amzn-sagemaker-new-session-id: %b; Expires=" % first.body in first.headers


def test_a_request_whose_client_left_no_longer_keeps_its_session(sessions: StatefulSessions, clock: Clock) -> None:
    session = begin(sessions)

    async def leave() -> None:
        reply = sessions.take(asked(b"1", session), Kept(), "model")
        clock.now_s += 60
        sessions.sweep()
        assert (sessions.root / session).exists(), "a request is at work in it"
        assert isinstance(reply, SessionReply)
        reply.cancel()
        reply.cancel()
        await asyncio.get_running_loop().shutdown_default_executor()

    asyncio.run(leave())
    assert not (sessions.root / session).exists()


@pytest.mark.parametrize(
    "header", ["", "..", "../../etc", "NEW_SESSION", "A" * 36, "12345678-1234-1234-1234-12345678901g"]
)
def test_the_worker_takes_no_directory_from_what_is_no_id(header: str) -> None:
    assert session_of("/dev/shm/sessions", header) is None


def test_the_worker_knows_no_session_where_they_are_off() -> None:
    assert session_of(None, "12345678-1234-1234-1234-123456789012") is None


def test_values_are_kept_as_json_by_names_that_are_file_names(tmp_path: Path) -> None:
    session = Session(session_id="s", directory=tmp_path)
    assert session.get("absent", 7) == 7
    session.put("state", {"turn": [1, "zwölf"]})
    assert session.get("state") == {"turn": [1, "zwölf"]}
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert json.loads((tmp_path / "state").read_bytes()) == {"turn": [1, "zwölf"]}
    for key in ("", "..", "a/b", "/etc/passwd", "a\0b"):
        with pytest.raises(ValueError, match="is no file name"):
            session.put(key, 1)
    with pytest.raises(TypeError):
        session.put("state", object())
    assert session.get("state") == {"turn": [1, "zwölf"]}
