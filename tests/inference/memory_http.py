"""A transport in memory and a server that echoes, for tests of a connection without a socket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from tidegate.inference.errors import NotFound, RequestError
from tidegate.inference.frontend.http.limits import Limits
from tidegate.inference.frontend.http.peer import Peer, Upgrade
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import Responder
from tidegate.inference.frontend.http.response import Response
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.queue.budget import ByteBudget
from tidegate.inference.frontend.queue.reply import Reply
from tidegate.inference.frontend.queue.spool import Spool
from tidegate.inference.settings import Settings


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; a close is told to the protocol in the next round, as by a real loop.

    `room_bytes` is what the socket takes before it is full; the rest is unsent, and the protocol is paused as by a loop
    whose high-water mark is 0.
    """

    def __init__(self, connection: asyncio.Protocol, room_bytes: int = 10**9) -> None:
        super().__init__()
        self.connection = connection
        self.written = b""
        self.writes = 0
        self.closed = False
        self.reading = True
        self.room_bytes = room_bytes
        self.unsent_bytes = 0
        self.options: list[Any] = []
        self.loop = asyncio.get_running_loop()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name != "socket":
            return default
        return SimpleNamespace(setsockopt=lambda *option: self.options.append(option), fileno=lambda: -1)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self.connection = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def write(self, data: Any) -> None:
        assert not self.closed, "written after the close"
        self.written += bytes(data)
        self.writes += 1
        paused = self.unsent_bytes > 0
        self.unsent_bytes += max(len(data) - self.room_bytes, 0)
        self.room_bytes = max(self.room_bytes - len(data), 0)
        if self.unsent_bytes and not paused:
            self.connection.pause_writing()

    def read(self, size: int = 10**9) -> None:
        """The client reads."""
        left = max(self.unsent_bytes - size, 0)
        self.room_bytes += size - (self.unsent_bytes - left)
        resumes = self.unsent_bytes > 0 and not left
        self.unsent_bytes = left
        if resumes:
            self.connection.resume_writing()

    def turn(self) -> None:
        """Let a loop that does not run go on until nothing is left to do."""
        self.loop.run_until_complete(settle())

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.loop.call_soon(self.connection.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Echo:
    """Answers with the request's own body, after as many rounds of the loop as a third of its bytes leave over."""

    def __init__(self, server: EchoServer) -> None:
        self.server = server
        self.metrics = server.metrics
        self.handle: asyncio.Handle | None = None

    def begin(self, request: Request, reply: Reply) -> None:
        body = request.body.whole()
        self.server.served.append(body)
        self._later(len(body) % 3, reply, body)

    def _later(self, rounds: int, reply: Reply, body: bytes) -> None:
        if rounds:
            self.handle = asyncio.get_running_loop().call_soon(self._later, rounds - 1, reply, body)
        else:
            Response(200, "text/plain", body).send(reply)

    def cancel(self) -> None:
        self.server.cancelled += 1
        if self.handle is not None:
            self.handle.cancel()

    def pause(self) -> None: ...
    def resume(self) -> None: ...


@dataclass
class EchoServer:
    """What a connection needs of a server."""

    settings: Settings = field(default_factory=Settings)
    draining: bool = False
    answering: int = 0
    max_connections: int = 10
    budget: ByteBudget = field(default_factory=lambda: ByteBudget(10**8))
    metrics: ModelMetrics = field(default_factory=ModelMetrics)
    open: set[Peer] = field(default_factory=set)
    served: list[bytes] = field(default_factory=list)
    cancelled: int = 0

    def __post_init__(self) -> None:
        self.spool = Spool(self.settings, self.budget)

    @property
    def limits(self) -> Limits:
        return Limits.of(self.settings)

    def opened(self, peer: Peer) -> bool:
        if len(self.open) >= self.max_connections:
            return False
        self.open.add(peer)
        return True

    def closed(self, peer: Peer) -> None:
        self.open.discard(peer)

    def next_id(self) -> str:
        return "id"

    def admit(self, request: Request) -> Responder:
        request.id = "id"
        if request.path == "/nowhere":
            raise NotFound("There is nothing here.")
        return Echo(self)

    def refused(self, request: Request, error: RequestError) -> None:
        """Nothing is logged here."""

    def upgrade(self, request: Request) -> Upgrade | None:  # noqa: ARG002 - nothing else is spoken
        return None


@dataclass(eq=False)
class Stage(EchoServer):
    """A server whose answers the test gives itself, by `reply`."""

    requests: list[Request] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    responder: Responder | None = None
    taker: Callable[[Request], Upgrade | None] = lambda _: None

    @property
    def reply(self) -> Reply:
        return self.replies[-1]

    def admit(self, request: Request) -> Responder:
        request.id = "id"
        return self.responder or Given(self)

    def upgrade(self, request: Request) -> Upgrade | None:
        return self.taker(request)


class Given:
    """Leaves the answer to the test."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.metrics: ModelMetrics | None = stage.metrics

    def begin(self, request: Request, reply: Reply) -> None:
        self.stage.requests.append(request)
        self.stage.replies.append(reply)

    def cancel(self) -> None:
        self.stage.told.append("cancel")

    def pause(self) -> None:
        self.stage.told.append("pause")

    def resume(self) -> None:
        self.stage.told.append("resume")


async def settle() -> None:
    """Let everything that is ready happen."""
    for _ in range(60):
        await asyncio.sleep(0)


def post(body: bytes, path: str = "/invocations", *headers: str, chunks: list[bytes] | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", *headers]
    if chunks is None:
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body
    head = "\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks if c) + b"0\r\n\r\n"


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def status(written: bytes) -> list[int]:
    return [int(digits) for digits in re.findall(rb"HTTP/1\.1 (\d{3}) ", written)]
