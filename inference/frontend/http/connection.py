"""One client connection: a socket around `RequestParser`, `HttpReply` and the limits.

Requests on one connection are answered one at a time, in their order. Each has one `HttpReply`, which is in one place:
`_incoming` while its body arrives, `_waiting` behind others, `_answering` while it is answered.

    IDLE ─ first byte ─▶ HEAD ─ blank line ─▶ BODY ─ last byte ─▶ ANSWERING ─ answer written ─▶ IDLE
                           └──── refused: answer, `connection: close`, discard what still comes ────▶ DISCARDING
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from enum import Enum, auto
from functools import partial
from time import monotonic
from typing import cast

from tidegate.inference.errors import Overloaded, RequestError, RequestTimedOut
from tidegate.inference.frontend.http.limits import PIPELINED, Discard, worth_skipping
from tidegate.inference.frontend.http.outgoing import Outgoing
from tidegate.inference.frontend.http.pace import Pace
from tidegate.inference.frontend.http.peer import Application, Upgrade
from tidegate.inference.frontend.http.reply import HttpReply
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.request_parser import END, Event, RequestParser, UpgradeOffer
from tidegate.inference.frontend.http.responders import own_failure
from tidegate.inference.frontend.http.response import CONTINUE, encode, error_response
from tidegate.inference.frontend.idle_exit import counts
from tidegate.inference.frontend.queue.file_body import FileBody

HALF_CLOSE_GRACE_S = 0.2
REFUSED_S = 0.2
"""How long a client for whom there is no connection may take to read so."""
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class Phase(Enum):
    """What the connection waits for."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    ANSWERING = auto()
    DISCARDING = auto()


# To look a member up in its enumeration takes as long as a call.
IDLE, HEAD, BODY, ANSWERING, DISCARDING = Phase
_BEFORE_BODY = (IDLE, HEAD)


class Connection(asyncio.Protocol):
    """The protocol of one accepted socket."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._loop = asyncio.get_running_loop()
        self._limits = application.limits
        self._budget = application.budget
        self._spool = application.spool
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.outgoing: Outgoing = cast(Outgoing, None)
        """Where responses are written."""
        self._parser = RequestParser(self._limits.head)
        self._phase = IDLE
        self._since_s = monotonic()
        self._incoming: HttpReply | None = None
        self._waiting: deque[HttpReply] = deque()
        self._answering: HttpReply | None = None
        self._advancing = False
        self._last_word: tuple[RequestError, HttpReply | None] | None = None
        """The refusal that ends this connection, once the requests before it are answered."""
        self._discard: Discard | None = None
        """There once a request was refused for good: what still comes is not looked at."""
        self._too_slow = False
        """Whether the client was given up because it did not read."""
        self._reading_paused = False
        self._responder_paused = False
        self._sending: Pace | None = None

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.outgoing = Outgoing(self._transport, self._budget, self._limits)
        if not self.application.opened(self):
            self._refuse(Overloaded(f"There are {self.application.max_connections} connections, which is the limit."))
            self._loop.call_later(REFUSED_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        if self._discard is not None:
            if not self._discard.takes(len(data)):
                self._transport.abort()
            return
        self._take(self._parser.feed(data))
        # A request that is complete by now, as most are, was never in these phases.
        if self._incoming is not None:
            if self._phase in _BEFORE_BODY:
                self._enter(BODY)
        elif self._phase is IDLE and self._parser.in_head:
            self._enter(HEAD)

    def eof_received(self) -> bool:
        # Closing and half-closing look the same from here. A client that half-closes after a quick request gets its
        # answer; the request of one that closed while it waits is cancelled.
        if self._answering is None and not self._waiting:
            return False
        self._loop.call_later(HALF_CLOSE_GRACE_S, self._transport.abort)
        return True

    def pause_writing(self) -> None:
        self.outgoing.full = True
        self.outgoing.unsent.count()
        reply = self._answering
        if reply is not None and reply.responder is not None and reply.streams:
            self._responder_paused = True
            reply.responder.pause()

    def resume_writing(self) -> None:
        self.outgoing.full = False
        self.outgoing.unsent.count()
        if self._responder_paused and self._answering is not None and self._answering.responder is not None:
            self._responder_paused = False
            self._answering.responder.resume()
        else:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - there is nobody left to tell
        reply, self._answering = self._answering, None
        if reply is not None:
            self.application.answering -= 1
            self._forget(reply)
            reply.stream_over("reader_too_slow" if self._too_slow else "reader_left")
            if reply.responder is not None:
                reply.responder.cancel()
                reply.responder = None
        for reply in self._waiting:
            self._forget(reply)
            if reply.responder is not None and reply.responder.metrics is not None:
                reply.responder.metrics.abandoned["waiting"] += 1
        self._waiting.clear()
        if self._incoming is not None:
            self._forget(self._incoming)
            self._incoming = None
        self.outgoing.unsent.release()
        self.application.closed(self)

    # --- what the client sends

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if self._discard is not None:
                return
            if type(event) is Request:
                self._admit(event)
            elif type(event) is bytes:
                self._take_piece(event)
            elif event is END:
                self._take_end()
            elif type(event) is UpgradeOffer:
                self._consider(event.request)
            elif isinstance(event, RequestError):
                self._refuse(event)

    def _admit(self, request: Request) -> None:
        reply = HttpReply(self, request)
        try:
            reply.responder = self.application.admit(request)
            self._make_room(reply, request.content_length)
        except RequestError as error:
            if not worth_skipping(request):
                self._refuse(error, reply)
                return
            # A client that is told to come back need not connect again for it.
            reply.refusal = error
        self._incoming = reply
        if b"expect" in request.by_name and request.expects_continue and self._answering is None:
            self._transport.write(CONTINUE)

    def _take_piece(self, piece: bytes) -> None:
        reply = self._incoming
        if reply is None or reply.refusal is not None:
            return
        size = reply.request.body.size + len(piece)
        try:
            if size > reply.reserved_bytes:  # a chunked body announces nothing
                self._make_room(reply, size)
            reply.request.body.append(piece)
        except RequestError as error:
            self._refuse(error)
            return
        if reply.request.body.behind and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def _take_end(self) -> None:
        reply, self._incoming = self._incoming, None
        if reply is None:
            return
        free = self._answering is None and reply.request.body.complete
        if free and not (self._waiting or self.outgoing.full or self._transport.is_closing()):
            self._begin(reply)
            return
        self._waiting.append(reply)
        if not reply.request.body.complete and self._answering is None:
            self._enter(ANSWERING)  # as soon as its end is in its file
        if len(self._waiting) >= PIPELINED:
            self._reading_paused = True
            self._transport.pause_reading()

    def _consider(self, request: Request) -> None:
        """Let another protocol take over, where the server has one for this request and nothing is left to answer."""
        request.id = self.application.next_id()
        upgrade: Upgrade | None = None
        if self._answering is None and not self._waiting:
            try:
                upgrade = self.application.upgrade(request)
            except RequestError as error:
                self._refuse(error, HttpReply(self, request))
                return
        if upgrade is None:
            self._take(self._parser.decline_upgrade())
            return
        self.application.closed(self)
        self._transport.set_write_buffer_limits()
        upgrade.take(self._transport, self._parser.take_upgrade())

    def _make_room(self, reply: HttpReply, size: int) -> None:
        """Reserve what a body of `size` bytes takes, in memory or, where it is large, in a file.

        Raises `PayloadTooLarge`, `Overloaded` or `SpoolFull`.
        """
        limit = self._limits.body
        if size > limit.max_bytes and (too_large := limit.error(size)) is not None:
            raise too_large
        body = reply.request.body
        try:
            if isinstance(body, FileBody):
                body.make_room(size)
            elif size <= self._spool.threshold_bytes:
                self._budget.reserve(size - reply.reserved_bytes)
                reply.reserved_bytes = size
            else:
                moved = self._spool.take_over(body) if body.size else self._spool.begin(size)
                moved.moved = partial(self._written, reply, moved)
                reply.request.body = moved
                self._budget.release(reply.reserved_bytes)
                reply.reserved_bytes = 0
        except Overloaded:
            if reply.responder is not None and reply.responder.metrics is not None:
                reply.responder.metrics.shed["too_many_bytes"] += 1
            raise

    def _written(self, reply: HttpReply, body: FileBody) -> None:
        """Some of a body is in its file, or cannot be."""
        if body.error is not None and reply is self._incoming:
            self._refuse(body.error, reply)
            return
        if body.error is not None:
            reply.refusal = body.error
        if self._reading_paused and not body.behind and len(self._waiting) < PIPELINED:
            self._reading_paused = False
            self._transport.resume_reading()
        if self._waiting and body.complete:
            self._next()

    def _forget(self, reply: HttpReply) -> None:
        self._budget.release(reply.reserved_bytes)
        reply.reserved_bytes = 0
        reply.request.body.close()

    # --- what it is answered

    def _next(self) -> None:
        """Answer what waits, as far as that can be done now."""
        if self._advancing:  # called by an answer that was there at once: the loop below goes on
            return
        self._advancing = True
        while self._answering is None and self._waiting and not self.outgoing.full and not self._transport.is_closing():
            if not self._waiting[0].request.body.complete:
                break
            self._begin(self._waiting.popleft())
        self._advancing = False
        # Answer nothing more to a client that does not read: responses would pile up.
        if self.outgoing.full or self._transport.is_closing() or self._phase is DISCARDING:
            return
        if self._answering is None and self._waiting:
            self._enter(ANSWERING)
        elif self._answering is None:
            if self._last_word is not None:
                self._send_last_word(*self._last_word)
            elif self._incoming is not None:
                self._enter(BODY)
            else:
                self._enter(HEAD if self._parser.in_head else IDLE)
        if self._reading_paused and not self._waiting and self._discard is None:
            self._reading_paused = False
            self._transport.resume_reading()

    def _begin(self, reply: HttpReply) -> None:
        self._phase, self._since_s = ANSWERING, monotonic()
        self._answering = reply
        if self.outgoing.unsent.watched:
            self.outgoing.unsent.begin_anew()
        reply.begun_s = self._since_s
        self.application.answering += 1
        if reply.responder is None or reply.refusal is not None:
            refusal = reply.refusal or RequestError("The request was not admitted.")
            self.application.refused(reply.request, refusal)
            reply.fail(refusal)
            return
        try:
            reply.responder.begin(reply.request, reply)
        except RequestError as error:
            reply.fail(error)
        except Exception:
            reply.fail(own_failure(reply.request))

    # --- called by the reply

    def answered(self, reply: HttpReply) -> None:
        """The response of `reply` is written."""
        if reply is not self._answering:
            return
        if self.outgoing.joined:
            self.outgoing.send_joined()
        self._answering = None
        self._responder_paused = False
        self.application.answering -= 1
        self._forget(reply)
        gone = self._transport.is_closing()
        # Taken apart, because the responder knows its reply: as a circle they would stay until a collection.
        responder, reply.responder = reply.responder, None
        if responder is not None and (metrics := responder.metrics) is not None:
            if gone:
                metrics.abandoned["computing"] += 1
            else:
                metrics.responses[reply.status] += 1
        if gone:
            return
        if reply.keep_alive:
            self._next()
        else:
            self._transport.close()

    def break_off(self, reply: HttpReply, *, reset: bool) -> None:
        """End the connection in the middle of a response, so that the client cannot take it for a whole one."""
        if reset:
            peer: socket.socket = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
        self.answered(reply)

    # --- refusing

    def _refuse(self, error: RequestError, reply: HttpReply | None = None) -> None:
        """Answer with `error` in its turn, as the last answer on this connection."""
        if self._discard is not None:
            return
        self._discard = Discard()
        # A body that breaks off the protocol is refused without its request being named.
        reply, self._incoming = reply or self._incoming, None
        if reply is not None:
            self._forget(reply)
        if self._answering is not None or self._waiting:
            self._last_word = (error, reply)
        else:
            self._send_last_word(error, reply)

    def _send_last_word(self, error: RequestError, reply: HttpReply | None) -> None:
        self._enter(DISCARDING)
        if self._discard is not None:
            self._discard.started_s = self._since_s
        response = (
            error_response(error, reply.request.id, open_inference=reply.request.open_inference)
            if reply is not None
            else error_response(error, self.application.next_id())
        )
        encoded = encode(response, keep_alive=False)
        if reply is not None:
            if reply.request.method == "HEAD":
                encoded = encoded.removesuffix(response.body)
            if reply.responder is not None and reply.responder.metrics is not None:
                reply.responder.metrics.responses[error.status] += 1
            self.application.refused(reply.request, error)
        self.outgoing.send(encoded, b"")
        # The client may go on sending for a while, so that it reads the refusal rather than a reset.
        if self._transport.can_write_eof():
            self._transport.write_eof()

    # --- time and memory

    def _enter(self, phase: Phase) -> None:
        self._phase, self._since_s = phase, monotonic()

    def sweep(self, now_s: float) -> None:
        """Give up a client that is too slow or too quiet. Called twice a second."""
        elapsed_s = now_s - self._since_s
        if self._phase is IDLE and elapsed_s > self._limits.idle_s:
            self._transport.close()
        elif self._phase is HEAD and elapsed_s > self._limits.head_s:
            self._refuse(RequestTimedOut(f"The headers took longer than {self._limits.head_s:g} s."))
        elif self._phase is BODY and self._is_dribbled(now_s):
            self._refuse(RequestTimedOut(f"The body came slower than {self._limits.min_bytes_per_s} bytes/s."))
        elif self._discard is not None and self._discard.over(now_s):
            self._transport.abort()
        if self.outgoing.unsent.too_slow(now_s):
            self._too_slow = True
            self._transport.abort()

    def _is_dribbled(self, now_s: float) -> bool:
        if self._incoming is None:
            return False
        if self._sending is None or self._sending.started_s != self._since_s:  # most bodies are there before a sweep
            self._sending = self._limits.pace(self._since_s)
        return self._sending.too_slow(now_s, self._incoming.request.body.size)

    @property
    def at_work(self) -> bool:
        """Whether a client waits for an answer that a model gives, or has not read all of one."""
        at_hand = (self._incoming, self._answering, *self._waiting)
        return self._transport.get_write_buffer_size() > 0 or any(
            counts(reply.request.method, reply.request.path) for reply in at_hand if reply is not None
        )

    def idle_s(self, now_s: float) -> float:
        """How long no request has been at hand, in seconds; 0 while one is."""
        return now_s - self._since_s if self._phase is IDLE else 0.0

    def close_if_idle(self) -> None:
        """Hang up where no request is at hand."""
        if self._phase is IDLE:
            self._transport.close()

    def abort(self) -> None:
        """Hang up whatever is at hand."""
        self._transport.abort()
