"""What the server keeps of a WebSocket whose client has left: nothing, and without waiting for a garbage collection."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest
from websockets.protocol import Protocol
from websockets.server import ServerProtocol

from tests.inference.memory_http import MemoryTransport, Stage, settle
from tests.raw_websocket import CONTINUATION, TEXT, frame, opening
from tidegate.inference.conversation_frames import Opening
from tidegate.inference.frontend.http.connection import Connection
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.websocket import WebSocket, WebSocketLimits
from tidegate.inference.frontend.http.websocket_connection import WebSocketConnection
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.workers.conversations import Client

LIMITS = WebSocketLimits(message_bytes=1_000_000, frame_bytes=1_000_000)
KINDS = (Protocol, ServerProtocol, WebSocket, WebSocketConnection)


class Silent:
    """A model that hears and says nothing."""

    def __init__(self) -> None:
        self.metrics = ModelMetrics()

    def converse(self, client: Client) -> Silent:  # noqa: ARG002 - it is not told anything
        return self

    def message(self, data: bytes, *, is_text: bool, is_last: bool) -> None: ...
    def close(self, code: int) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


def resets(transport: MemoryTransport) -> None:
    transport.abort()


def half_closes(transport: MemoryTransport) -> None:
    transport.connection.eof_received()
    transport.close()


@pytest.mark.parametrize("leaves", [resets, half_closes])
def test_half_a_message_goes_with_its_client(leaves: Callable[[MemoryTransport], None]) -> None:
    stage = Stage()

    def websocket_of(request: Request) -> WebSocketConnection:
        websocket = WebSocket("/x", request.headers, LIMITS)
        return WebSocketConnection(stage, websocket, Silent(), Opening(0, "/x", "", "", b""), max_s=60, ping_s=60)

    stage.taker = websocket_of

    async def talk() -> None:
        connection = Connection(stage)
        transport = MemoryTransport(connection)
        connection.connection_made(transport)
        transport.connection.data_received(opening())
        assert transport.written.startswith(b"HTTP/1.1 101")
        transport.connection.data_received(frame(TEXT, b"begun", fin=False) + frame(CONTINUATION, b"x" * 500_000)[:-1])
        leaves(transport)
        await settle()
        del transport.connection  # as asyncio's own transports do

    gc.collect()
    gc.disable()
    try:
        asyncio.run(talk())
        # By type(): an object of another library may do anything when it is asked for its __class__.
        left = [type(each).__name__ for each in gc.get_objects() if type(each) in KINDS]
    finally:
        gc.enable()
    assert left == []
    assert stage.budget.held_bytes == 0
