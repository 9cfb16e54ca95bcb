"""One client connection: bytes to exchanges and back, within limits.

llhttp (through httptools) parses and refuses what smuggles; the limits on bytes, counts and times are ours, because
no Python server has all of them. Requests on one connection are answered one at a time, in their order.

    IDLE ─ first byte ─▶ HEAD ─ blank line ─▶ BODY ─ last byte ─▶ ANSWERING ─ answer written ─▶ IDLE
                           └──── refused: answer, `connection: close`, discard what still comes ────▶ DISCARDING
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum, auto
from http import HTTPStatus
from time import monotonic
from typing import Protocol, cast

import httptools

from tidegate.inference.errors import (
    BadRequest,
    HeaderTooLarge,
    MethodNotAllowed,
    Overloaded,
    PayloadTooLarge,
    RequestError,
    RequestTimedOut,
    UnknownTransferCoding,
)
from tidegate.inference.frontend.http.exchange import Exchange, Response, error_response, split_target
from tidegate.inference.frontend.http.pace import Pace
from tidegate.inference.frontend.metrics import Abandoned
from tidegate.inference.settings import Settings

DISCARD_S = 5.0
DISCARD_BYTES = 64 * 1024 * 1024
"""How long, and how much, a refused client may go on sending."""
HALF_CLOSE_GRACE_S = 0.2
REFUSED_S = 0.2
"""How long a client for whom there is no connection may take to read so."""
_SMALL_PIECE_BYTES = 1024
SKIPPED_BYTES = 64 * 1024
"""The longest body of a refused request that is read past so that the connection can go on."""
_PIPELINED = 16
"""Requests that may wait on one connection behind the one at hand; more than that is not a client's need."""

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Phase(Enum):
    """What the connection waits for."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWERING = auto()
    DISCARDING = auto()


class Application(Protocol):
    """What a connection needs from the server."""

    settings: Settings
    draining: bool

    def opened(self, connection: Connection) -> bool: ...
    def closed(self, connection: Connection) -> None: ...
    def next_id(self) -> str: ...
    def admit(self, exchange: Exchange) -> None: ...
    def hold_bytes(self, count: int) -> bool: ...
    async def respond(self, exchange: Exchange) -> Response: ...
    def finished(self, exchange: Exchange | None, status: int) -> None: ...
    def abandoned(self, exchange: Exchange, state: Abandoned) -> None: ...


class Connection(asyncio.Protocol):
    """The protocol of one accepted socket."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._settings = application.settings
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpRequestParser(self)
        self._phase = Phase.IDLE
        self._since_s = monotonic()
        self._head_open = False
        self._head_bytes = 0
        self._after_chunk_header = False
        self._upgrading = False
        self._paused = False
        self._unwritable = False
        self._pending_refusal: tuple[RequestError, Exchange | None] | None = None
        self._discarded_bytes = 0
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._incoming: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._task: asyncio.Task[None] | None = None
        self._unread_bytes = 0
        self._sending = self._reading = self._pace(self._since_s)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._application.opened(self):
            self._refuse(Overloaded(f"There are {self._settings.max_connections} connections, which is the limit."))
            self._loop.call_later(REFUSED_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > DISCARD_BYTES:
                self._transport.abort()
            return
        if self._phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        if self._head_open:
            # The parser keeps a header until it is whole, so an endless one is only seen here.
            self._head_bytes += len(data)
            if not self._check_head():
                return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._refuse(BadRequest(f"The request is not valid HTTP/1.1: {error}."))
        if self._after_chunk_header and not self._deaf:
            # No body came after it, so these were trailers: they are as large as a head at most.
            self._head_bytes += len(data)
            self._check_head()

    def eof_received(self) -> bool:
        # Closing and half-closing look the same from here. Who half-closed after a quick request gets its answer;
        # who closed while waiting is taken out of the queue.
        if self._task is None and not self._queue:
            return False
        self._loop.call_later(HALF_CLOSE_GRACE_S, self._transport.abort)
        return True

    def pause_writing(self) -> None:
        self._unwritable = True

    def resume_writing(self) -> None:
        self._unwritable = False
        if self._task is None and self._phase is not Phase.DISCARDING and not self._transport.is_closing():
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - there is nobody left to tell
        if self._task is not None:
            self._task.cancel()
        for exchange in (*self._queue, self._incoming):
            if exchange is not None:
                self._application.hold_bytes(-exchange.body_bytes)
        for exchange in self._queue:
            if exchange.refusal is None:
                self._application.abandoned(exchange, "waiting")
        self._queue.clear()
        self._incoming = None
        self._application.closed(self)

    # --- httptools

    def on_message_begin(self) -> None:
        self._head_open, self._head_bytes = True, 0
        self._target, self._headers = b"", []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # What comes after the body is no header: nobody who looked at the headers on the way has seen it.
        if self._incoming is None:
            self._headers.append((name.lower(), value))

    def on_chunk_header(self) -> None:
        self._after_chunk_header, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._head_open = False
        self._upgrading = self._parser.should_upgrade()
        if self._upgrading:
            return
        self._head_bytes = len(self._target) + sum([len(name) + len(value) + 4 for name, value in self._headers])
        if self._deaf or not self._check_head():
            return
        path, query = split_target(self._target)
        exchange = Exchange(
            id=self._application.next_id(),
            method=self._parser.get_method().decode("latin-1"),
            path=path,
            query=query,
            headers=self._headers,
            keep_alive=self._parser.should_keep_alive(),
        )
        ambiguity = _ambiguity(exchange)
        if ambiguity is not None:
            self._refuse(ambiguity, exchange)
            return
        try:
            self._application.admit(exchange)
            if exchange.content_length > self._settings.max_body_bytes:
                raise self._too_large()
        except RequestError as error:
            if not _is_short(exchange):
                self._refuse(error, exchange)
                return
            # A client that is told to come back need not connect again for it.
            exchange.refusal = error
        self._incoming = exchange
        if self._task is None:
            self._enter(Phase.BODY)
            if exchange.header(b"expect").lower() == "100-continue":
                self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._after_chunk_header = False
        exchange = self._incoming
        if exchange is None or exchange.refusal is not None:
            return
        if len(body) < _SMALL_PIECE_BYTES and exchange.body:
            # Two-byte chunks as objects of their own would take thirty times the memory that is accounted for.
            if type(exchange.body[-1]) is bytearray:
                exchange.body[-1] += body
            else:
                exchange.body.append(bytearray(body))
        else:
            exchange.body.append(body)
        exchange.body_bytes += len(body)
        has_room = self._application.hold_bytes(len(body))
        if exchange.body_bytes > self._settings.max_body_bytes:
            self._refuse(self._too_large(), exchange)
        elif not has_room:
            # It was admitted when the others that were, or a chunked body's size, could not be known yet.
            self._refuse(
                Overloaded("The server is overloaded: the requests at hand hold all the memory that they may.")
            )

    def on_message_complete(self) -> None:
        self._after_chunk_header = False
        exchange, self._incoming = self._incoming, None
        if exchange is None or self._upgrading:
            return
        self._queue.append(exchange)
        if self._task is None and not self._unwritable:
            self._next()
        elif len(self._queue) >= _PIPELINED:
            self._pause()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read a request that offers an upgrade once more without the offer, as HTTP allows.

        Java's client makes that offer with every first request, body and all; the parser would skip the body.
        """
        if self._parser.get_method() == b"CONNECT":  # an upgrade in itself: without the offer it would come back here
            self._refuse(MethodNotAllowed("CONNECT is not answered: this server is no proxy."))
            return
        offer = (b"upgrade", b"connection", b"http2-settings")
        kept = b"".join(b"%b: %b\r\n" % header for header in self._headers if header[0] not in offer)
        head = b"%b %b HTTP/1.1\r\n%bconnection: close\r\n\r\n" % (self._parser.get_method(), self._target, kept)
        self._parser = httptools.HttpRequestParser(self)
        self._phase = Phase.HEAD if self._phase is Phase.IDLE else self._phase
        self.data_received(head + rest)

    # --- answering

    def _next(self) -> None:
        if self._unwritable:
            return  # whoever does not read his answers gets no further one: they would fill the memory
        while self._queue and (refusal := self._queue[0].refusal) is not None:
            refused = self._queue.popleft()
            if not self._finish(refused, error_response(refusal, refused.id)):
                return
        if self._queue:
            self._enter(Phase.ANSWERING)
            self._task = self._loop.create_task(self._answer(self._queue.popleft()))
        elif self._pending_refusal is not None:
            self._send_refusal(*self._pending_refusal)
        elif self._incoming is not None:
            self._enter(Phase.BODY)
        else:
            self._enter(Phase.HEAD if self._head_open else Phase.IDLE)
        if self._paused and not self._queue and not self._deaf:
            self._paused = False
            self._transport.resume_reading()

    async def _answer(self, exchange: Exchange) -> None:
        try:
            response = await self._application.respond(exchange)
        finally:
            self._application.hold_bytes(-exchange.body_bytes)
        self._task = None
        if self._finish(exchange, response):
            self._next()

    def _finish(self, exchange: Exchange, response: Response) -> bool:
        """Write the one answer of an exchange; returns whether the connection goes on."""
        if self._transport.is_closing():
            if exchange.refusal is None:
                self._application.abandoned(exchange, "computing")
            return False
        keep_alive = exchange.keep_alive and not self._application.draining
        self._write(response, exchange, keep_alive=keep_alive)
        self._application.finished(exchange, response.status)
        if not keep_alive:
            self._transport.close()
        return keep_alive

    def _write(self, response: Response, exchange: Exchange | None, *, keep_alive: bool) -> None:
        head = (
            _STATUS_LINES.get(response.status) or f"HTTP/1.1 {response.status} \r\n".encode(),
            b"content-type: ",
            response.content_type.encode("latin-1", "replace"),
            b"\r\ncontent-length: ",
            str(len(response.body)).encode(),
            b"\r\n",
            response.headers,
            b"\r\n" if keep_alive else b"connection: close\r\n\r\n",
        )
        body = b"" if exchange is not None and exchange.method == "HEAD" else response.body
        self._transport.write(b"".join((*head, body)))
        self._unread_bytes = 0

    @property
    def _deaf(self) -> bool:
        """Whether what still comes is not looked at, because the last request on this connection was refused."""
        return self._phase is Phase.DISCARDING or self._pending_refusal is not None

    def _refuse(self, error: RequestError, exchange: Exchange | None = None) -> None:
        """Answer with `error` in its turn, as the last answer on this connection."""
        if self._deaf:
            return
        # A body that breaks off the protocol is refused without an exchange being named.
        exchange, self._incoming = exchange or self._incoming, None
        if exchange is not None:
            self._application.hold_bytes(-exchange.body_bytes)
            exchange.body, exchange.body_bytes = [], 0
        if self._task is not None or self._queue:
            self._pending_refusal = (error, exchange)
        else:
            self._send_refusal(error, exchange)

    def _send_refusal(self, error: RequestError, exchange: Exchange | None) -> None:
        self._enter(Phase.DISCARDING)
        request_id = exchange.id if exchange is not None else self._application.next_id()
        self._write(error_response(error, request_id), exchange, keep_alive=False)
        self._application.finished(exchange, error.status)
        # The client may go on sending for a while, so that it reads the refusal rather than a reset.
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _pause(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def _check_head(self) -> bool:
        if len(self._headers) > self._settings.max_header_count:
            self._refuse(HeaderTooLarge(f"There are more than {self._settings.max_header_count} headers."))
        elif self._head_bytes > self._settings.max_header_bytes:
            self._refuse(
                HeaderTooLarge(f"The request line and headers are over {self._settings.max_header_bytes} bytes.")
            )
        else:
            return True
        return False

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(f"The body is over the limit of {self._settings.max_body_bytes} bytes.")

    # --- time

    def _enter(self, phase: Phase) -> None:
        self._phase, self._since_s = phase, monotonic()

    def sweep(self, now_s: float) -> None:
        """Give up a client that is too slow or too quiet. Called twice a second."""
        elapsed_s = now_s - self._since_s
        if self._phase is Phase.IDLE and elapsed_s > self._settings.idle_timeout_s:
            self._transport.close()
        elif self._phase is Phase.HEAD and elapsed_s > self._settings.header_timeout_s:
            self._refuse(RequestTimedOut(f"The headers took longer than {self._settings.header_timeout_s:g} s."))
        elif self._phase is Phase.BODY and self._is_dribbled(now_s):
            rate = self._settings.min_body_rate_bytes_per_s
            self._refuse(RequestTimedOut(f"The body came slower than {rate} bytes/s."), self._incoming)
        elif self._phase is Phase.DISCARDING and elapsed_s > DISCARD_S:
            self._transport.abort()
        self._sweep_unread(now_s)

    def _is_dribbled(self, now_s: float) -> bool:
        if self._incoming is None:
            return False
        if self._sending.started_s != self._since_s:  # made here, because most bodies are gone before the first sweep
            self._sending = self._pace(self._since_s)
        return self._sending.too_slow(now_s, self._incoming.body_bytes)

    def _sweep_unread(self, now_s: float) -> None:
        """Abort for a client that does not read its answers at the least rate either."""
        left = self._transport.get_write_buffer_size()
        if not left:
            self._unread_bytes = 0
        elif not self._unread_bytes:
            self._unread_bytes, self._reading = left, self._pace(now_s)
        elif self._reading.too_slow(now_s, self._unread_bytes - left):
            self._transport.abort()

    def _pace(self, now_s: float) -> Pace:
        settings = self._settings
        return Pace(
            bytes_per_s=settings.min_body_rate_bytes_per_s,
            grace_s=settings.header_timeout_s,
            window_s=max(settings.idle_timeout_s, settings.header_timeout_s),
            started_s=now_s,
        )

    def idle_s(self, now_s: float) -> float:
        """How long no request has been at hand, in seconds; 0 while one is."""
        return now_s - self._since_s if self._phase is Phase.IDLE else 0.0

    def close_if_idle(self) -> None:
        """Hang up where no request is at hand."""
        if self._phase is Phase.IDLE:
            self._transport.close()

    def abort(self) -> None:
        """Hang up whatever is at hand."""
        self._transport.abort()


def _ambiguity(exchange: Exchange) -> RequestError | None:
    """What another server on the way could have read otherwise, beyond what the parser refuses."""
    coding = exchange.header(b"transfer-encoding")
    if coding and coding.lower() != "chunked":
        return UnknownTransferCoding(f"The Transfer-Encoding '{coding[:100]}' is not read here; only chunked is.")
    if exchange.has_repeated_headers and sum(name == b"host" for name, _ in exchange.headers) > 1:
        return BadRequest("The request has more than one Host header.")
    return None


def _is_short(exchange: Exchange) -> bool:
    """Whether the body of a refused request is on its way already and not worth a connection."""
    announced = not exchange.header(b"transfer-encoding") and not exchange.header(b"expect")
    return announced and exchange.content_length <= SKIPPED_BYTES
