"""Sessions by the clock: what ends when, and what the limit is. The clock is the test's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidegate.inference.errors import BadRequest, Overloaded
from tidegate.inference.frontend.http.exchange import Exchange, Response
from tidegate.inference.frontend.models.stateful_sessions import StatefulSessions
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


async def model(exchange: Exchange) -> Response:
    """Answers with the session that the worker would be told."""
    return Response(200, "text/plain", exchange.headers[-1][1] if exchange.headers else b"none")


def ask(sessions: StatefulSessions, body: bytes, session: str = "") -> Response:
    async def asking() -> Response:
        headers = [(b"x-amzn-sagemaker-session-id", session.encode())] if session else []
        exchange = Exchange(
            id="1", method="POST", path="/invocations", query="", headers=headers, keep_alive=True, body=[body]
        )
        exchange.body_bytes = len(body)
        try:
            return await sessions.answer(model, exchange, "model")
        finally:
            await asyncio.get_running_loop().shutdown_default_executor()  # directories are removed in it

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

    async def asking() -> Response:
        name = b"x-amzn-sagemaker-session-id"
        exchange = Exchange(
            id="1",
            method="POST",
            path="/invocations",
            query="",
            headers=[(name, b"../.."), (name, session.encode())],
            keep_alive=True,
        )
        seen: list[list[tuple[bytes, bytes]]] = []

        async def look(exchange: Exchange) -> Response:
            seen.append(exchange.headers)
            return Response(200, "text/plain", b"")

        await sessions.answer(look, exchange, "model")
        assert seen == [[(name, session.encode())]]
        return Response(200, "text/plain", b"")

    asyncio.run(asking())


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
