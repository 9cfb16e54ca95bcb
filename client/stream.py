"""An answer that comes in parts, and the forms in which it can be read."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from botocore.exceptions import EventStreamError
from urllib3.exceptions import HTTPError

from tidegate.client import reassembly
from tidegate.client.errors import StreamBroken, StreamClosed
from tidegate.client.model_choice import answered_by
from tidegate.client.reassembly import ServerSentEvent

_Item = TypeVar("_Item")


class Stream:
    """The parts of an answer as they come, in one of five forms.

        for part in stream:                  bytes, cut anywhere
        for piece in stream.text():          str
        for line in stream.lines():          str, whole lines
        for value in stream.json_lines():    what each line holds
        for event in stream.events():        ServerSentEvent

    What is whole is yielded at once. Each byte is yielded once: a form that is left in the middle, or another one,
    goes on where it was left. All raise `StreamBroken` where the stream breaks off, behind what was whole, and
    `StreamClosed` where it was closed before its end; an end without an error is the whole answer. Reading to the end
    closes the stream; to leave it earlier, `close()` it, from any thread, or use it in a `with` statement: then the
    endpoint stops computing it.
    """

    def __init__(self, events: Any, *, content_type: str, variant: str, custom_attributes: str = "") -> None:
        self.content_type = content_type
        self.variant = variant
        """The production variant that answers."""
        self.custom_attributes = custom_attributes
        self.answered_by = answered_by(custom_attributes)
        """The model and the number of its version, where the server has a model repository."""
        self._parts = _Parts(events)
        self._unread = reassembly.Unread(self._parts)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        self._demand_open()
        if not self._unread.data and not self._unread.more():
            raise StopIteration
        return bytes(self._unread.take(len(self._unread.data)))

    def text(self) -> Iterator[str]:
        """The text (UTF-8) as it comes; a letter that is cut comes with the part that completes it."""
        return self._while_open(reassembly.text(self._unread))

    def lines(self, *, max_bytes: int = reassembly.MAX_LINE_BYTES) -> Iterator[str]:
        r"""The lines without their ends (`\n` or `\r\n`). Raises `UnreadableStream` for one of over `max_bytes`."""
        return self._while_open(reassembly.lines(self._unread, max_bytes=max_bytes))

    def json_lines(self, *, max_bytes: int = reassembly.MAX_LINE_BYTES) -> Iterator[Any]:
        """What each line holds; empty ones are passed over. Raises `UnreadableStream` for one that is not JSON."""
        return self._while_open(reassembly.json_lines(self._unread, max_bytes=max_bytes))

    def events(self, *, max_bytes: int = reassembly.MAX_LINE_BYTES) -> Iterator[ServerSentEvent]:
        """The server-sent events (`text/event-stream`); comments are passed over."""
        return self._while_open(reassembly.server_sent_events(self._unread, max_bytes=max_bytes))

    def read(self) -> bytes:
        """All that is left, once the stream has ended. Where it breaks off, what came is the error's `rest`."""
        self._demand_open()
        while self._unread.more():
            pass
        return bytes(self._unread.take(len(self._unread.data)))

    def close(self) -> None:
        """Leave the stream, also from another thread: one that waits for the next part gets `StreamClosed`."""
        self._parts.close()

    def _while_open(self, items: Iterator[_Item]) -> Iterator[_Item]:
        self._demand_open()
        for item in items:
            yield item
            self._demand_open()

    def _demand_open(self) -> None:
        """What is here of a stream that was closed early is no answer: it ends anywhere."""
        if self._parts.closed and (self._unread.data or not self._parts.ended):
            raise StreamClosed("the stream was closed before its end")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Parts:
    """The bytes in botocore's events, for one thread; `close` is for any.

    A broken stream is an event of its own, which botocore raises. Source: API reference, ModelStreamError and
    InternalStreamFailure. A connection that is lost is an error of urllib3, which botocore passes on as it is.
    """

    def __init__(self, events: Any) -> None:
        self._events = events
        self._iterator = iter(events)
        # botocore's iterator and its events hold each other: left to the garbage collector, a stream that was dropped
        # would keep its connection, and the model its work, until some later time.
        weakref.finalize(self, events.close).atexit = False
        self._reading = threading.Lock()
        self._broken: StreamBroken | None = None
        self.ended = False
        """Whether all parts came."""
        self.closed = False
        """Whether it was left."""

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._broken is not None:
            raise self._broken  # once more: what came is not the whole, however often it is asked for
        if self.ended:
            raise StopIteration
        try:
            with self._reading:
                part = self._read()
        finally:
            if self.closed:
                self._hang_up()
        if part is None:
            raise StopIteration
        return part

    def close(self) -> None:
        self.closed = True
        self._hang_up()

    def _read(self) -> bytes | None:
        """The next part, None at the end; wherever it ends, the connection is closed."""
        part: bytes | None = None
        try:
            if not self.closed and (event := next(self._iterator, None)) is not None:
                part = event["PayloadPart"]["Bytes"]
        except (EventStreamError, HTTPError, OSError) as error:
            if not self.closed:
                self._broken = _broken_by(error)
                raise self._broken from error
        finally:
            if part is None:
                self._events.close()
        if self.closed:
            raise StreamClosed("the stream was closed while it was read")
        self.ended = part is None
        return part

    def _hang_up(self) -> None:
        """Close the connection; where another thread waits for it, wake that one, which then does."""
        if self._reading.acquire(blocking=False):
            try:
                self._events.close()
            finally:
                self._reading.release()
        else:
            # The thread that reads holds the response's own lock: to close it here would wait as long as it does.
            with suppress(AttributeError, ValueError, RuntimeError, OSError):
                self._events._raw_stream.shutdown()


def _broken_by(error: Exception) -> StreamBroken:
    if isinstance(error, EventStreamError):
        told: dict[str, Any] = error.response["Error"]
        text = told.get("Message") or told.get("Code") or error
        return StreamBroken(f"the answer broke off: {text}", code=str(told.get("Code", "")))
    return StreamBroken(f"the answer broke off: the connection to the endpoint was lost: {error}")
