"""One conversation: `stream_fn` between a client's messages and what it yields, in a thread or on an event loop.

    OPEN ─▶ stream_fn(incoming, context) ─ next ─▶ MESSAGE ─ next ─▶ … ─ returns, raises or is cut off ─▶ CLOSE

The thread that reads the frontend's frames calls `put`, `end` and `pause`, which never wait. Everything else runs
where `stream_fn` runs.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol

from tidegate.inference.conversation_frames import Farewell, Message, message_frame
from tidegate.inference.errors import HandlerFailed
from tidegate.inference.protocol import pause_frame, resume_frame
from tidegate.inference.worker.device_errors import DeviceLost, give_up_if_device_is_lost
from tidegate.inference.worker.incoming import AsyncIncoming, Inbox, Incoming, Stopwatch
from tidegate.inference.worker.request import Request
from tidegate.inference.worker.stream_context import StreamContext
from tidegate.inference.worker.user_errors import public_error

log = logging.getLogger("tidegate.worker")

NORMAL, GOING_AWAY = 1000, 1001
_CODES = {413: 1009, 415: 1003, 503: 1013}
"""What a WebSocket's Close says for an HTTP status that a script raised (RFC 6455 section 7.4.1)."""
LEAVE_S = 1.0
"""How long an asynchronous `stream_fn` whose client has left may take to notice before it is cancelled."""


class Owner(Protocol):
    """What a conversation needs from its worker, from any thread."""

    def send(self, data: bytes) -> None: ...
    def ended(self, conversation: Conversation, farewell: Farewell) -> None: ...
    def around(self, request: Request) -> AbstractContextManager[object]:
        """What is entered while `stream_fn` runs."""

    def leave(self, reason: str) -> None:
        """End the worker."""


class Conversation(ABC):
    """What both kinds have in common."""

    def __init__(self, owner: Owner, context: StreamContext, max_bytes: int) -> None:
        self.id = context.conversation_id
        self.stopwatch = Stopwatch()
        self.context = context
        self._owner = owner
        self._max_bytes = max_bytes
        self._gone = False
        self._unfinished: type[str] | type[bytes] | None = None

    # --- called by the thread that reads frames

    def put(self, message: Message) -> None:
        """The client sent a frame."""
        self._inbox.put(message)

    def end(self, code: int) -> None:
        """The client left, or is about to be told to (1001): then `stream_fn` may still say its last words."""
        leaving = code == GOING_AWAY
        self._gone |= not leaving
        self._inbox.end(discard=not leaving)
        if not leaving:
            self.pause(on=False)

    @abstractmethod
    def pause(self, *, on: bool) -> None:
        """The client does not read what `stream_fn` yields, or reads it again."""

    def give_up(self) -> None:
        """Its time is over: let it end by itself if it can, and let nobody hear of it."""
        self.end(NORMAL)

    @property
    @abstractmethod
    def _inbox(self) -> Inbox: ...

    # --- called where stream_fn runs

    def _say(self, output: Any) -> None:
        data, is_last = output if isinstance(output, tuple) and len(output) == 2 else (output, True)
        kind = str if isinstance(data, str) else bytes
        if not isinstance(data, str | bytes | bytearray | memoryview):
            raise HandlerFailed(
                f"stream_fn yielded a value of the type {type(data).__name__}; a frame is str or bytes, "
                "or (str or bytes, whether it is the message's last)."
            )
        if self._unfinished not in (None, kind):
            raise HandlerFailed("stream_fn began a message as text and went on with bytes, or the other way round.")
        encoded = data.encode() if isinstance(data, str) else bytes(data)
        if len(encoded) > self._max_bytes:
            raise HandlerFailed(f"stream_fn yielded {len(encoded)} bytes; the limit of a frame is {self._max_bytes}.")
        self._unfinished = None if is_last else kind
        if not self._gone:
            self._owner.send(message_frame(Message(self.id, encoded, kind is str, bool(is_last))))

    def _farewell_of(self, error: BaseException) -> Farewell:
        try:
            give_up_if_device_is_lost(error)
        except DeviceLost as lost:
            self._owner.leave(f"the device is lost: {lost}")
        public = public_error(error, "stream_fn", self.context.request)
        if public.status >= 500:
            log.error("stream_fn failed", exc_info=error, extra={"request_id": self.context.get_request_id(0)})
        code = _CODES.get(public.status, 1008 if public.status < 500 else 1011)
        return Farewell(self.id, code, public.message, public.code)


class ThreadConversation(Conversation):
    """A conversation whose `stream_fn` is an ordinary function: it has a thread of its own."""

    def __init__(
        self,
        owner: Owner,
        context: StreamContext,
        max_bytes: int,
        stream_fn: Callable[[Incoming, StreamContext], Iterable[Any] | None],
    ) -> None:
        super().__init__(owner, context, max_bytes)
        self._stream_fn = stream_fn
        self._incoming = Incoming(_teller(owner, self.id), self.stopwatch)
        self._readable = threading.Event()
        self._readable.set()
        self._thread = threading.Thread(target=self._run, name=f"stream_fn-conversation-{self.id}", daemon=True)

    def start(self) -> None:
        """Begin to talk."""
        self._thread.start()

    @property
    def _inbox(self) -> Inbox:
        return self._incoming.inbox

    def pause(self, *, on: bool) -> None:
        if on and not self._gone:
            self._readable.clear()
        else:
            self._readable.set()

    def _run(self) -> None:
        farewell = Farewell(self.id, NORMAL, "")
        self.context.put_at_hand()
        self.stopwatch.start()
        try:
            with self._owner.around(self.context.request):
                self._talk()
        except BaseException as error:
            farewell = self._farewell_of(error)
        finally:
            self.stopwatch.stop()
        self._owner.ended(self, farewell)

    def _talk(self) -> None:
        outputs = self._stream_fn(self._incoming, self.context)
        if outputs is None:
            return
        if isinstance(outputs, str | bytes) or not isinstance(outputs, Iterable):
            raise HandlerFailed(f"stream_fn returned a value of the type {type(outputs).__name__}; it must yield.")
        iterator = iter(outputs)
        try:
            while not self._gone:
                try:
                    output = next(iterator)
                except StopIteration:
                    return
                self._say(output)
                if not self._readable.is_set():
                    self.stopwatch.stop()
                    self._readable.wait()
                self.stopwatch.start()
        finally:
            _close(iterator)


class LoopConversation(Conversation):
    """A conversation whose `stream_fn` is asynchronous: all of a worker share one event loop."""

    def __init__(
        self,
        owner: Owner,
        context: StreamContext,
        max_bytes: int,
        stream_fn: Callable[[AsyncIncoming, StreamContext], Any],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(owner, context, max_bytes)
        self._stream_fn = stream_fn
        self._loop = loop
        self._incoming = AsyncIncoming(_teller(owner, self.id), self.stopwatch, loop)
        self._readable = asyncio.Event()
        self._readable.set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to talk."""
        self._loop.call_soon_threadsafe(self._start)

    @property
    def _inbox(self) -> Inbox:
        return self._incoming.inbox

    def pause(self, *, on: bool) -> None:
        self._loop.call_soon_threadsafe(self._readable.clear if on and not self._gone else self._readable.set)

    def end(self, code: int) -> None:
        super().end(code)
        if self._gone:
            self._loop.call_soon_threadsafe(self._loop.call_later, LEAVE_S, self._cancel)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._run())

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        farewell = Farewell(self.id, NORMAL, "")
        self.context.put_at_hand()
        self.stopwatch.start()
        try:
            with self._owner.around(self.context.request):
                await self._talk()
        except BaseException as error:
            if not (self._gone and isinstance(error, asyncio.CancelledError)):  # else it was cancelled from here
                farewell = self._farewell_of(error)
        finally:
            self.stopwatch.stop()
        self._owner.ended(self, farewell)

    async def _talk(self) -> None:
        outputs = self._stream_fn(self._incoming, self.context)
        if inspect.isawaitable(outputs):
            outputs = await outputs
        if outputs is None:
            return
        if not isinstance(outputs, AsyncIterable):
            raise HandlerFailed(f"stream_fn returned a value of the type {type(outputs).__name__}; it must yield.")
        iterator = aiter(outputs)
        try:
            while not self._gone:
                try:
                    output = await anext(iterator)
                except StopAsyncIteration:
                    return
                self._say(output)
                self.stopwatch.stop()
                await asyncio.sleep(0)  # a generator that never waits would keep the others from their turn
                await self._readable.wait()
                self.stopwatch.start()
        finally:
            await _aclose(iterator)


def _teller(owner: Owner, id_: int) -> Callable[[bool], None]:
    """What tells the frontend whether the client's messages are too many at the moment.

    Not a method of the conversation: it and its messages would know each other, and stay until a collection.
    """
    return lambda on: owner.send(pause_frame(id_) if on else resume_frame(id_))


def _close(iterator: Iterator[Any]) -> None:
    with suppress(AttributeError):  # an iterator need not have it
        iterator.close()  # type: ignore[attr-defined]


async def _aclose(iterator: AsyncIterator[Any]) -> None:
    if (close := getattr(iterator, "aclose", None)) is not None:
        await close()
