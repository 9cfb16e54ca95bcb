"""A stream of bytes as text, lines, JSON lines or server-sent events, however it was cut.

    parts ─▶ Unread ─▶ lines ─▶ JSON lines
                 ├───▶ text
                 └───▶ server-sent events

The parts of a stream do not fall on lines, events or even letters: SageMaker passes on what it read from the
container's socket. So nothing here looks at where a part ends. Lines are cut as bytes and decoded whole; in UTF-8 a
line break is never part of another letter.

What has come is in one place, `Unread`, until it is yielded: a reader that is left in the middle loses nothing to the
next one. Where the parts break off with an error, what was whole before it has been yielded and the error is passed on;
what was not whole is in its `rest`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

from tidegate.client.errors import StreamBroken, UnreadableStream

MAX_LINE_BYTES = 64 * 1024 * 1024
"""The longest line, and the longest data of one event, that is put together."""

_BYTE_ORDER_MARK = codecs.BOM_UTF8
_END_OF_LINE = re.compile(rb"\r\n|\n|\r")


class Unread:
    """What has come of a stream and was not yielded, and what its readers know of what was."""

    def __init__(self, parts: Iterable[bytes]) -> None:
        self._parts = iter(parts)
        self.data = bytearray()
        self.begun = False
        """Whether something was taken: a byte order mark can only come before that."""
        self.lines = 0
        self.last_event_id = ""

    @classmethod
    def of(cls, parts: Iterable[bytes] | Self) -> Self:
        """The parts, where they are not such already."""
        return parts if isinstance(parts, cls) else cls(parts)  # type: ignore[arg-type]

    def more(self) -> bool:
        """Wait for the next part; False at the end. Raises what the parts raise."""
        try:
            self.data += next(self._parts)
        except StopIteration:
            return False
        except StreamBroken as broken:
            broken.rest = bytes(self.data)
            raise
        return True

    def take(self, size: int) -> bytearray:
        """The first `size` bytes, as yielded."""
        taken = self.data[:size]
        del self.data[:size]
        self.begun = True
        return taken

    def take_without_mark(self, size: int) -> bytearray:
        """The same without the byte order mark that a stream may begin with."""
        begun = self.begun
        taken = self.take(size)
        return taken if begun else taken.removeprefix(_BYTE_ORDER_MARK)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSentEvent:
    """One event. Source: WHATWG HTML, "Server-sent events"."""

    data: str
    """The values of its `data:` lines, joined by newlines."""
    event: str = "message"
    id: str = ""
    """The last `id:` that the stream had up to here."""

    def json(self) -> Any:
        """The data as JSON. Raises `ValueError` where it is none, such as the `[DONE]` that ends OpenAI's streams."""
        return json.loads(self.data)


def text(parts: Iterable[bytes] | Unread) -> Iterator[str]:
    """The text of each part; a letter that is cut comes with the part that completes it.

    Raises `UnreadableStream` for what is not UTF-8, also for a letter that the stream's end cuts.
    """
    unread = Unread.of(parts)
    try:
        while True:
            decoded, size = codecs.utf_8_decode(unread.data, "strict", False)
            if size:
                if not unread.begun:
                    decoded = decoded.removeprefix("\ufeff")
                unread.take(size)
                if decoded:
                    yield decoded
            elif not unread.more():
                break
        unread.data.decode()
    except UnicodeDecodeError as error:
        raise UnreadableStream(f"the stream is not UTF-8: {error}") from error


def lines(parts: Iterable[bytes] | Unread, *, max_bytes: int = MAX_LINE_BYTES) -> Iterator[str]:
    r"""The lines, without their ends (`\n` or `\r\n`); the last one needs none.

    Raises `UnreadableStream` for a line that is not UTF-8 or longer than `max_bytes`.
    """
    unread = Unread.of(parts)
    searched = 0
    while True:
        end = unread.data.find(b"\n", searched)
        size = end if end >= 0 else len(unread.data)
        if size > max_bytes:
            raise UnreadableStream(f"a line of the stream has more than {max_bytes} bytes")
        if end >= 0:
            yield _line(unread, unread.take_without_mark(end + 1)[:-1].removesuffix(b"\r"))
            searched = 0  # whoever else has read meanwhile
            continue
        searched = size
        if not unread.more():
            break
    if line := unread.take_without_mark(len(unread.data)):  # not where there was only a byte order mark
        yield _line(unread, line)


def _line(unread: Unread, line: bytearray) -> str:
    unread.lines += 1
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise UnreadableStream(f"line {unread.lines} of the stream is not UTF-8: {error}") from error


def json_lines(parts: Iterable[bytes] | Unread, *, max_bytes: int = MAX_LINE_BYTES) -> Iterator[Any]:
    """The value of each line; empty lines are passed over.

    Raises `UnreadableStream` for a line that is not JSON or longer than `max_bytes`.
    """
    unread = Unread.of(parts)
    for line in lines(unread, max_bytes=max_bytes):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UnreadableStream(f"line {unread.lines} of the stream is not JSON: {error}") from error
        yield value


def server_sent_events(
    parts: Iterable[bytes] | Unread, *, max_bytes: int = MAX_LINE_BYTES
) -> Iterator[ServerSentEvent]:
    r"""The events that have data. Lines end with `\n`, `\r\n` or `\r`; what is not UTF-8 becomes U+FFFD.

    At the stream's end the last event needs no blank line, unlike in a browser: several model servers leave it out.
    Where the stream breaks off, an event that has none is not whole.
    """
    unread = Unread.of(parts)
    line_begin = searched = size = 0
    after_cr = False  # a newline that comes next belongs to the carriage return before it
    while True:
        if after_cr and len(unread.data) > line_begin:
            after_cr = False
            if unread.data.startswith(b"\n", line_begin):
                line_begin += 1
        end = _END_OF_LINE.search(unread.data, max(searched, line_begin))
        length = (end.start() if end else len(unread.data)) - line_begin
        if length > max_bytes:
            raise UnreadableStream(f"a line of the stream has more than {max_bytes} bytes")
        if end is None:
            searched = len(unread.data)
            if not unread.more():
                break
            continue
        after_cr = end.group() == b"\r" and end.end() == len(unread.data)
        line_begin = end.end()
        size += length
        if size > max_bytes:
            raise UnreadableStream(f"an event of the stream has more than {max_bytes} bytes")
        if not length:
            found = _event(unread, line_begin)
            line_begin = searched = size = 0
            if found is not None:
                yield found
    found = _event(unread, len(unread.data))
    if found is not None:
        yield found


def _event(unread: Unread, size: int) -> ServerSentEvent | None:
    """The event that the next `size` bytes are, if they have data."""
    kind, data = "", list[str]()
    for line in _END_OF_LINE.split(unread.take_without_mark(size)):
        field, _, value = line.decode(errors="replace").partition(":")  # a comment is a line with an empty field
        value = value.removeprefix(" ")
        match field:
            case "data":
                data.append(value)
            case "event":
                kind = value
            case "id" if "\0" not in value:
                unread.last_event_id = value
    return ServerSentEvent(data="\n".join(data), event=kind or "message", id=unread.last_event_id) if data else None
