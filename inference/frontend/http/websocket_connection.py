"""One client of `stream_fn`: a socket that HTTP has handed over, around `WebSocket` and the model's side.

    client ─ frames ▶ WebSocket ▶ Conversation ─▶ worker: stream_fn ─▶ message, hold, farewell ▶ WebSocket ▶ client

Neither side is read faster than the other takes it: what a client does not read pauses its `stream_fn`, what
`stream_fn` does not read pauses its client. Pings are answered and sent here, whatever the model does.
"""

from __future__ import annotations

import asyncio
import json
from time import monotonic
from typing import Protocol, cast

from tidegate.inference.conversation_frames import Farewell, Message, Opening
from tidegate.inference.errors import Overloaded
from tidegate.inference.frontend.http.limits import Limits
from tidegate.inference.frontend.http.peer import Peer
from tidegate.inference.frontend.http.unsent import Unsent
from tidegate.inference.frontend.http.websocket import (
    BROKEN_OFF,
    GOING_AWAY,
    NO_CODE,
    NORMAL,
    TRY_AGAIN_LATER,
    Closed,
    Fragment,
    WebSocket,
)
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.queue.budget import ByteBudget
from tidegate.inference.frontend.workers.conversations import Client

CLOSE_S = 5.0
"""How long a client may take to answer a Close, and a `stream_fn` to say its last words before one."""
UNANSWERED_PINGS = 3
"""After so many a client counts as gone."""
PING_BYTES = 64
"""Less than this is not looked at when it is acknowledged: perhaps only pings, which a dead program's system takes."""
UNREAD_BYTES = 1024 * 1024
"""A client that does not read its pongs is not read either."""


class Conversation(Protocol):
    """The model's side. After `close`, but for 1001, it says nothing any more."""

    def message(self, data: bytes, *, is_text: bool, is_last: bool) -> None: ...
    def close(self, code: int) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Model(Protocol):
    """Who has the workers."""

    metrics: ModelMetrics

    def converse(self, client: Client) -> Conversation:
        """Begin a conversation on the freest worker. Raises `RequestError`."""


class Application(Protocol):
    """What the connection needs from the server."""

    limits: Limits
    budget: ByteBudget
    draining: bool
    answering: int

    def opened(self, peer: Peer) -> bool: ...
    def closed(self, peer: Peer) -> None: ...


class WebSocketConnection(asyncio.Protocol):
    """The protocol of a socket from its upgrade to its end."""

    def __init__(
        self,
        application: Application,
        websocket: WebSocket,
        model: Model,
        opening: Opening,
        *,
        max_s: float,
        ping_s: float,
    ) -> None:
        """Begin the conversation; `take` follows. Raises `RequestError` where no worker has room for one.

        The connection lives for `max_s` and pings after `ping_s` of silence.
        """
        self.opening = opening
        self._application = application
        self._websocket = websocket
        self._model = model
        self._max_s = max_s
        self._ping_s = ping_s
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._leaving: str = ""
        """Why the client is going to be told to leave, once the model has said its last words."""
        self._leaving_s = 0.0
        self._held = False
        self._unwritable = False
        self._reading_paused = False
        self._eof_sent = False
        self._reserved_bytes = 0
        self._began_s = self._heard_s = self._pinged_s = monotonic()
        self._closing_s: float | None = None
        self._read_bytes: int | None = None
        self._unsent: Unsent = cast(Unsent, None)
        self._conversation: Conversation | None = model.converse(self)

    def take(self, transport: asyncio.Transport, rest: bytes) -> None:
        """Own the socket from now on: accept, and read `rest`."""
        self._transport = transport
        self._unsent = Unsent(transport, self._application.budget, self._application.limits)
        transport.set_protocol(self)
        self._application.answering += 1
        self._model.metrics.conversations_open += 1
        self._application.opened(self)  # there is room: the connection that it was has just been closed
        self._flush()
        self.data_received(rest)

    # --- asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        self._heard_s = monotonic()
        for event in self._websocket.feed(data):
            if type(event) is Fragment:
                self._hear(event)
            elif type(event) is Closed:
                self._client_left(event)
        self._count_bytes()
        self._flush()

    def eof_received(self) -> bool:
        for event in self._websocket.end():
            if type(event) is Closed:
                self._client_left(event)
        return False

    def pause_writing(self) -> None:
        self._unwritable = True
        if self._conversation is not None:
            self._conversation.pause()

    def resume_writing(self) -> None:
        self._unwritable = False
        if self._conversation is not None:
            self._conversation.resume()
        self._read_or_wait()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the client is told nothing any more
        self._client_left(Closed(BROKEN_OFF, ""))
        self._websocket.forget()
        self._application.budget.release(self._reserved_bytes)
        self._reserved_bytes = 0
        self._unsent.release()
        self._application.answering -= 1
        self._application.closed(self)

    # --- the client

    def _hear(self, fragment: Fragment) -> None:
        if self._conversation is not None:
            self._model.metrics.conversation_frames["received"] += 1
            self._conversation.message(fragment.data, is_text=fragment.is_text, is_last=fragment.is_last)

    def _client_left(self, closed: Closed) -> None:
        """The conversation is over for the model, however the client went."""
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            self._ended(closed.code)
            conversation.close(closed.code)

    # --- the model

    def message(self, message: Message) -> None:
        """Send one frame."""
        if self._conversation is None:
            return
        self._model.metrics.conversation_frames["sent"] += 1
        self._websocket.send(message.data, is_text=message.is_text, is_last=message.is_last)
        self._flush()

    def hold(self, *, on: bool) -> None:
        """Stop reading from the client, which `stream_fn` does not keep up with; or go on."""
        self._held = on
        self._read_or_wait()

    def farewell(self, farewell: Farewell) -> None:
        """End with what the model's side says; an error also as a message of its own, which a client can read."""
        if self._conversation is None:
            return
        self._conversation = None
        if farewell.error and not self._websocket.in_message:
            said = {"ModelStreamError": {"ErrorCode": farewell.error, "Message": farewell.reason}}
            self._websocket.send(json.dumps(said).encode(), is_text=True)
        if self._leaving and not farewell.error:
            self._close(GOING_AWAY, self._leaving)
        else:
            self._close(farewell.code, farewell.reason)

    def _close(self, code: int, reason: str) -> None:
        self._ended(code)
        self._websocket.close(code, reason)
        self._flush()

    def _ended(self, code: int) -> None:
        self._model.metrics.conversations_open -= 1
        self._model.metrics.conversations_closed[NORMAL if code == NO_CODE else code] += 1

    # --- the socket

    def _flush(self) -> None:
        """Write what the WebSocket has to say, and close the socket behind its last byte."""
        transport = self._transport
        if transport.is_closing():
            return
        if data := self._websocket.take():
            self._unsent.written_bytes += len(data)
            transport.write(data)
        if self._websocket.is_closed and self._closing_s is None:
            self._closing_s = monotonic()
        if self._websocket.is_over and not self._eof_sent:
            self._eof_sent = True
            # Not close: bytes that are still on their way to us would make the kernel reset the connection, and the
            # client would never read why.
            transport.write_eof()
        self._read_or_wait()

    def _read_or_wait(self) -> None:
        wait = not self._websocket.is_closed and (
            self._held or (self._unwritable and self._transport.get_write_buffer_size() > UNREAD_BYTES)
        )
        if wait is self._reading_paused or self._transport.is_closing():
            return
        self._reading_paused = wait
        if wait:
            self._transport.pause_reading()
        else:
            self._heard_s = monotonic()  # a client that was not listened to has not been silent
            self._transport.resume_reading()

    def _count_bytes(self) -> None:
        """Hold of the budget what is here: half a frame from the client, and what it has not read."""
        budget, waiting_bytes = self._application.budget, self._websocket.waiting_bytes
        self._unsent.count()
        if waiting_bytes > self._reserved_bytes:
            try:
                budget.reserve(waiting_bytes - self._reserved_bytes)
            except Overloaded as error:
                self._cut_off(TRY_AGAIN_LATER, error.message)
                return
        else:
            budget.release(self._reserved_bytes - waiting_bytes)
        self._reserved_bytes = waiting_bytes

    def _cut_off(self, code: int, reason: str) -> None:
        """Tell the client to leave, whatever the model still has to say."""
        conversation, self._conversation = self._conversation, None
        if conversation is not None:
            conversation.close(BROKEN_OFF)
            self._close(code, reason)

    # --- time

    at_work = True

    def sweep(self, now_s: float) -> None:
        """Ping a client that is silent, give up one that is gone, and end one whose time is over."""
        if self._closing_s is not None:
            if now_s - self._closing_s > CLOSE_S:
                self._transport.abort()
            return
        if self._application.draining:
            self.leave("The server is stopping.")
        elif now_s - self._began_s > self._max_s:
            self.leave(f"The connection has lived for {self._max_s:g} s, which is the longest: connect again.")
        if self._leaving and now_s - self._leaving_s > CLOSE_S:
            self._cut_off(GOING_AWAY, self._leaving)
        self._sweep_silence(now_s)
        if self._unsent.too_slow(now_s):
            self._transport.abort()
        self._count_bytes()

    def leave(self, reason: str) -> None:
        """Let the model say its last words, then tell the client to leave."""
        if not self._leaving and self._conversation is not None:
            self._leaving, self._leaving_s = reason, monotonic()
            self._conversation.close(GOING_AWAY)

    def _sweep_silence(self, now_s: float) -> None:
        silent_s = now_s - self._heard_s
        if self._reading_paused or silent_s < self._ping_s:
            return
        # A client that reads slowly finds a ping behind all that was sent before it; while it reads, it is there.
        unread_bytes = self._unsent.unread_bytes()
        read_bytes, before_bytes = self._unsent.written_bytes - unread_bytes, self._read_bytes
        self._read_bytes = read_bytes
        if before_bytes is not None and unread_bytes > PING_BYTES and read_bytes > before_bytes:
            self._heard_s = now_s
        elif silent_s > self._ping_s * (1 + UNANSWERED_PINGS):
            self._transport.abort()
        elif now_s - self._pinged_s >= self._ping_s:
            self._pinged_s = now_s
            self._websocket.ping(b"")
            self._flush()

    def idle_s(self, now_s: float) -> float:  # noqa: ARG002 - a connection like the others
        """Never idle: a conversation may be silent for long, and pings say whether anybody is there."""
        return 0.0

    def close_if_idle(self) -> None:
        """Hang up because the server ends, whatever the model still has to say."""
        self._cut_off(GOING_AWAY, self._leaving or "The server has stopped.")

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()
