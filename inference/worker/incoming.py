"""What a client has sent in a conversation and `stream_fn` has not read yet.

The thread that reads the frontend's frames puts them in; `stream_fn` takes them out, in a thread of its own
(`Incoming`) or on an event loop (`AsyncIncoming`). Either way it iterates whole messages, `str` or `bytes`, or asks
for `fragments()`.
"""

from __future__ import annotations

import asyncio
import threading
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from time import monotonic

from tidegate.inference.conversation_frames import Message

FULL_BYTES = 1024 * 1024
"""So many that are not read pause the client; it goes on when half of them are read."""
_MESSAGE_BYTES = 128
"""What a message costs besides its data: empty ones must not be free."""

Data = str | bytes
_UTF8 = getincrementaldecoder("utf-8")


class Stopwatch:
    """Since when user code has been at work. It does not run while `stream_fn` waits for its client."""

    __slots__ = ("since_s",)

    def __init__(self) -> None:
        self.since_s: float | None = None

    def start(self) -> None:
        """User code goes on now."""
        self.since_s = monotonic()

    def stop(self) -> None:
        """It waits for the client: to send, or to read."""
        self.since_s = None

    def seconds(self, now_s: float) -> float:
        """How long user code has been at work, 0 where it waits."""
        since_s = self.since_s
        return 0.0 if since_s is None else now_s - since_s


class Inbox:
    """Frames in their order, within a bound, between two threads."""

    def __init__(self, tell_full: Callable[[bool], None], wake: Callable[[], object]) -> None:
        self._tell_full = tell_full
        self._wake = wake
        self._lock = threading.Lock()
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._full = False
        self._told_full = False
        self._telling = False
        self._ended = False

    def put(self, message: Message) -> None:
        """Add a frame; what comes after the end goes nowhere."""
        with self._lock:
            if self._ended:
                return
            self._messages.append(message)
            self._bytes += len(message.data) + _MESSAGE_BYTES
            self._full |= self._bytes >= FULL_BYTES
        self._tell()
        self._wake()

    def end(self, *, discard: bool) -> None:
        """Nothing more will come; `discard` also what is there, because nobody waits for an answer."""
        with self._lock:
            self._ended = True
            if discard:
                self._messages.clear()
        self._wake()

    def take(self) -> Message | None:
        """The next frame, None where there is none yet. Raises `StopIteration` at the end."""
        with self._lock:
            if not self._messages:
                if self._ended:
                    raise StopIteration
                return None
            message = self._messages.popleft()
            self._bytes -= len(message.data) + _MESSAGE_BYTES
            self._full &= self._bytes > FULL_BYTES // 2
        self._tell()
        return message

    def _tell(self) -> None:
        """Tell whether it is full, where that has changed; without the lock, because telling may take a while.

        Both threads come here, and only one tells at a time, the last state last: a word that is overtaken by the one
        after it would leave the client paused for ever.
        """
        while True:
            with self._lock:
                if self._telling or self._full is self._told_full:
                    return
                self._telling, full = True, self._full
            try:
                self._tell_full(full)
            finally:
                with self._lock:
                    self._telling, self._told_full = False, full


class _Joined:
    """Frames to whole messages."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def add(self, message: Message) -> Data | None:
        """The message that this frame completes, None where it does not."""
        self._parts.append(message.data)
        if not message.is_last:
            return None
        data = b"".join(self._parts)
        self._parts.clear()
        return data.decode(errors="replace") if message.is_text else data


class _Kept:
    """Frames to pairs of data and whether the message ends with it. A character that was cut comes with its end."""

    def __init__(self) -> None:
        self._text = _UTF8("replace")

    def add(self, message: Message) -> tuple[Data, bool]:
        data = self._text.decode(message.data, message.is_last) if message.is_text else message.data
        return data, message.is_last


class Incoming:
    """The client's messages for a synchronous `stream_fn`: `for message in incoming`, until the client closes."""

    def __init__(self, tell_full: Callable[[bool], None], stopwatch: Stopwatch) -> None:
        self._changed = threading.Event()
        self._stopwatch = stopwatch
        self.inbox = Inbox(tell_full, self._changed.set)
        self._joined = _Joined()

    def __iter__(self) -> Iterator[Data]:
        return self

    def __next__(self) -> Data:
        while (data := self._joined.add(self._take())) is None:
            pass
        return data

    def fragments(self) -> Iterator[tuple[Data, bool]]:
        """Each WebSocket frame as it came: its data, and whether it is the last of its message."""
        kept = _Kept()
        while True:
            try:
                message = self._take()
            except StopIteration:
                return
            yield kept.add(message)

    def _take(self) -> Message:
        while True:
            self._changed.clear()
            message = self.inbox.take()
            if message is not None:
                return message
            self._stopwatch.stop()
            self._changed.wait()
            self._stopwatch.start()


class AsyncIncoming:
    """The client's messages for an asynchronous `stream_fn`: `async for message in incoming`."""

    def __init__(
        self, tell_full: Callable[[bool], None], stopwatch: Stopwatch, loop: asyncio.AbstractEventLoop
    ) -> None:
        changed = self._changed = asyncio.Event()
        self._stopwatch = stopwatch
        self.inbox = Inbox(tell_full, lambda: loop.call_soon_threadsafe(changed.set))
        self._joined = _Joined()

    def __aiter__(self) -> AsyncIterator[Data]:
        return self

    async def __anext__(self) -> Data:
        while (data := self._joined.add(await self._take())) is None:
            pass
        return data

    async def fragments(self) -> AsyncIterator[tuple[Data, bool]]:
        """Each WebSocket frame as it came: its data, and whether it is the last of its message."""
        kept = _Kept()
        while True:
            try:
                message = await self._take()
            except StopAsyncIteration:
                return
            yield kept.add(message)

    async def _take(self) -> Message:
        while True:
            self._changed.clear()
            try:
                message = self.inbox.take()
            except StopIteration:
                raise StopAsyncIteration from None
            if message is not None:
                return message
            self._stopwatch.stop()
            try:
                await self._changed.wait()
            finally:
                self._stopwatch.start()
