"""An answer that comes in parts, and the forms in which it can be read."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import EventStreamError
from urllib3.exceptions import HTTPError

from tidegate.client import reassembly
from tidegate.client.errors import StreamBroken
from tidegate.client.reassembly import ServerSentEvent


class Stream:
    """The parts of an answer as they come; to be read once, in one of five forms.

        for part in stream:                  bytes, cut anywhere
        for piece in stream.text():          str
        for line in stream.lines():          str, whole lines
        for value in stream.json_lines():    what each line holds
        for event in stream.events():        ServerSentEvent

    What is whole is yielded at once. All raise `StreamBroken` where the stream breaks off, behind what was whole; an
    end without an error is the whole answer. Reading to the end closes the stream; to leave it earlier, `close()` it or
    use it in a `with` statement: then the endpoint stops computing it.
    """

    def __init__(self, events: Any, *, content_type: str, variant: str, custom_attributes: str = "") -> None:
        self.content_type = content_type
        self.variant = variant
        """The production variant that answers."""
        self.custom_attributes = custom_attributes
        self._parts = _parts(events)
        self._close = events.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._parts)

    def text(self) -> Iterator[str]:
        """The text (UTF-8) as it comes; a letter that is cut comes with the part that completes it."""
        return reassembly.text(self._parts)

    def lines(self, *, max_bytes: int = reassembly.MAX_LINE_BYTES) -> Iterator[str]:
        r"""The lines without their ends (`\n` or `\r\n`). Raises `UnreadableStream` for one of over `max_bytes`."""
        return reassembly.lines(self._parts, max_bytes=max_bytes)

    def json_lines(self, *, max_bytes: int = reassembly.MAX_LINE_BYTES) -> Iterator[Any]:
        """What each line holds; empty ones are passed over. Raises `UnreadableStream` for one that is not JSON."""
        return reassembly.json_lines(self._parts, max_bytes=max_bytes)

    def events(self, *, max_bytes: int = reassembly.MAX_LINE_BYTES) -> Iterator[ServerSentEvent]:
        """The server-sent events (`text/event-stream`); comments are passed over."""
        return reassembly.server_sent_events(self._parts, max_bytes=max_bytes)

    def read(self) -> bytes:
        """All that is left, once the stream has ended."""
        return b"".join(self._parts)

    def close(self) -> None:
        """Leave the stream. A stream that was left yields no more."""
        self._parts.close()
        self._close()  # a generator that was not begun has nothing to clean up

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _parts(events: Any) -> Generator[bytes, None, None]:
    # A broken stream is an event of its own, which botocore raises. Source: API reference, ModelStreamError and
    # InternalStreamFailure. A connection that is lost is an error of urllib3, which botocore passes on as it is.
    try:
        for event in events:
            part: bytes = event["PayloadPart"]["Bytes"]
            yield part
    except EventStreamError as error:
        told: dict[str, Any] = error.response["Error"]
        raise StreamBroken(
            f"the answer broke off: {told.get('Message') or told.get('Code') or error}",
            code=str(told.get("Code", "")),
        ) from error
    except (HTTPError, OSError) as error:
        raise StreamBroken(f"the answer broke off: the connection to the endpoint was lost: {error}") from error
    finally:
        events.close()
