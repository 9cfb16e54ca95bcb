"""A client of `stream_fn` that reads slowly, and one that is gone: the time is passed in, the socket is in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.inference.memory_http import EchoServer, MemoryTransport, settle
from tests.inference.test_websocket import opened
from tidegate.inference.conversation_frames import Message, Opening
from tidegate.inference.frontend.http.websocket_connection import WebSocketConnection
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.workers.conversations import Client
from tidegate.inference.settings import Settings


class Flood:
    """A model that says something as soon as the socket takes more."""

    def __init__(self) -> None:
        self.metrics = ModelMetrics()

    def converse(self, client: Client) -> Flood:
        self.client = client
        return self

    def message(self, data: bytes, *, is_text: bool, is_last: bool) -> None: ...
    def close(self, code: int) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None:
        asyncio.get_running_loop().call_soon(self.say)

    def say(self) -> None:
        self.client.message(Message(0, b"x" * 1_000_000, False, True))


@pytest.mark.parametrize(
    ("reads", "given_up_s"),
    [
        (lambda _: 2000, None),  # a ping lies behind 500 seconds of data
        (lambda second: 100_000 if second < 50 or second > 150 else 0, None),
        (lambda second: 100_000 if second < 50 else 0, 170),
        (lambda _: 0, 120),
    ],
)
def test_a_client_that_reads_is_there_though_it_has_not_come_to_its_pings(
    reads: Callable[[int], int], given_up_s: int | None
) -> None:
    async def run() -> int | None:
        model, server = Flood(), EchoServer(settings=Settings(idle_timeout_s=150))
        connection = WebSocketConnection(server, opened(), model, Opening(0, "/", "", "", b""), max_s=10**6, ping_s=30)
        transport = MemoryTransport(connection, room_bytes=100)
        connection.take(transport, b"")
        model.say()
        begun_s = connection._heard_s
        for second in range(1, 600):
            transport.read(reads(second))
            await asyncio.sleep(0)
            connection.sweep(begun_s + second)
            if transport.closed:
                return second
        connection.abort()
        await settle()
        return None

    gone_s = asyncio.run(run())
    assert gone_s == given_up_s if given_up_s is None else gone_s is not None and abs(gone_s - given_up_s) <= 31
