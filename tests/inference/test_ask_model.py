"""A request to a model: what its pool is given, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace
from typing import cast

import pytest

from tests.inference.memory_http import MemoryTransport, Stage, post, settle, status
from tidegate.inference.errors import Overloaded
from tidegate.inference.frontend.http.ask_model import AskModel
from tidegate.inference.frontend.http.connection import Connection
from tidegate.inference.frontend.http.reply import HttpReply
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.models.stateful_sessions import StatefulSessions
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.settings import Settings


class Pool:
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.spec = SimpleNamespace(name="m")
        self.metrics = ModelMetrics()
        self.requests: list[PendingRequest] = []
        self.told: list[str] = []
        self.full = False

    def submit(self, request: PendingRequest) -> None:
        if self.full:
            raise Overloaded("Full.")
        self.requests.append(request)

    def cancel(self, request: PendingRequest) -> None:
        assert request is self.requests[0]
        self.told.append("cancel")


class Server(Stage):
    def __init__(self, pool: Pool, sessions: StatefulSessions | None = None, *, timed: bool = False) -> None:
        super().__init__()
        self.pool, self.sessions, self.timed = pool, sessions, timed

    def admit(self, request: Request) -> AskModel:
        request.id = "id"
        return AskModel(cast(ModelPool, self.pool), self.sessions, timed=self.timed)


async def connect(server: Server, sent: bytes) -> MemoryTransport:
    connection = Connection(server)
    transport = MemoryTransport(connection)
    connection.connection_made(transport)
    connection.data_received(sent)
    await settle()
    return transport


def answer(request: PendingRequest, body: bytes = b"yes") -> None:
    request.reply.start(200, "text/plain", b"", len(body))
    request.reply.write(body)
    request.reply.end()


def test_a_pool_is_given_the_types_all_headers_with_the_requests_id_and_the_body() -> None:
    pool = Pool()

    async def run() -> bytes:
        transport = await connect(Server(pool), post(b"1,2", "/invocations", "Content-Type: text/csv", "X-A: b"))
        answer(pool.requests[0])
        return transport.written

    assert status(asyncio.run(run())) == [200]
    (request,) = pool.requests
    assert (request.content_type, request.accept) == ("text/csv", "")
    assert (
        request.headers
        == b"host: x\r\ncontent-type: text/csv\r\nx-a: b\r\ncontent-length: 3\r\nx-tidegate-request-id: id\r\n"
    )
    assert pool.metrics.responses == {200: 1}


def test_an_answered_request_leaves_nothing_for_the_garbage_collector() -> None:
    pool = Pool()

    async def run() -> int:
        await connect(Server(pool), post(b"1") * 3)
        gc.collect()
        gc.disable()
        try:
            while pool.requests:
                answer(pool.requests.pop())
            await settle()
            # By type(): an object of another library may do anything when it is asked for its __class__.
            return sum(type(each) in (HttpReply, Request, AskModel, PendingRequest) for each in gc.get_objects())
        finally:
            gc.enable()

    assert asyncio.run(run()) == 0


def test_a_pool_that_has_become_full_meanwhile_is_503() -> None:
    pool = Pool()
    pool.full = True

    async def run() -> bytes:
        return (await connect(Server(pool), post(b"1"))).written

    assert status(asyncio.run(run())) == [503]


def test_server_timing_is_added_to_the_models_headers() -> None:
    pool = Pool()

    async def run() -> bytes:
        transport = await connect(Server(pool, timed=True), post(b"1"))
        pool.requests[0].queued_s, pool.requests[0].sent_s = 100.0, 100.25
        answer(pool.requests[0])
        return transport.written

    assert b"server-timing: queue;dur=250.000, worker;dur=" in asyncio.run(run())


@pytest.mark.parametrize("outcome", ["full", "leaves", "answered"])
def test_a_session_is_left_whatever_becomes_of_its_request(outcome: str, tmp_path: object) -> None:
    pool = Pool()
    pool.full = outcome == "full"

    async def run() -> None:
        sessions = StatefulSessions(Settings(sessions_path=tmp_path))  # type: ignore[arg-type]  # a fixture
        new = post(b"1", "/invocations", "x-amzn-sagemaker-session-id: NEW_SESSION")
        transport = await connect(Server(pool, sessions), new)
        if outcome == "answered":
            answer(pool.requests[0])
            assert b"x-amzn-sagemaker-new-session-id: " in transport.written
        transport.close()
        await settle()
        await asyncio.get_running_loop().shutdown_default_executor()
        assert len(list(sessions.root.iterdir())) == (outcome == "answered")
        sessions.close()

    asyncio.run(run())
    assert pool.told == (["cancel"] if outcome == "leaves" else [])
