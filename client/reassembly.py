"""A stream of bytes as text, lines, JSON lines or server-sent events, however it was cut.

    parts ─▶ lines ─▶ JSON lines
                 └──▶ server-sent events

The parts of a stream do not fall on lines, events or even letters: SageMaker passes on what it read from the
container's socket. So nothing here looks at where a part ends. Lines are cut as bytes and decoded whole; in UTF-8 a
line break is never part of another letter.

Where the parts break off with an error, what was whole before it has been yielded and the error is passed on; what was
not whole is in its `rest`.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tidegate.client.errors import StreamBroken, UnreadableStream

MAX_LINE_BYTES = 64 * 1024 * 1024
"""The longest line, and the longest data of one event, that is put together."""

_BYTE_ORDER_MARK = codecs.BOM_UTF8


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


def text(parts: Iterable[bytes]) -> Iterator[str]:
    """The text of each part; a letter that is cut comes with the part that completes it.

    Raises `UnreadableStream` for what is not UTF-8, also for a letter that the stream's end cuts.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    try:
        for part in _told(parts, lambda: decoder.getstate()[0]):
            decoded = decoder.decode(part)
            if decoded:
                yield decoded
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise UnreadableStream(f"the stream is not UTF-8: {error}") from error


def lines(parts: Iterable[bytes], *, max_bytes: int = MAX_LINE_BYTES) -> Iterator[str]:
    r"""The lines, without their ends (`\n` or `\r\n`); the last one needs none.

    Raises `UnreadableStream` for a line that is not UTF-8 or longer than `max_bytes`.
    """
    for number, line in enumerate(_whole_lines(parts, max_bytes), start=1):
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise UnreadableStream(f"line {number} of the stream is not UTF-8: {error}") from error


def json_lines(parts: Iterable[bytes], *, max_bytes: int = MAX_LINE_BYTES) -> Iterator[Any]:
    """The value of each line; empty lines are passed over.

    Raises `UnreadableStream` for a line that is not JSON or longer than `max_bytes`.
    """
    for number, line in enumerate(lines(parts, max_bytes=max_bytes), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UnreadableStream(f"line {number} of the stream is not JSON: {error}") from error
        yield value


def server_sent_events(parts: Iterable[bytes], *, max_bytes: int = MAX_LINE_BYTES) -> Iterator[ServerSentEvent]:
    r"""The events that have data. Lines end with `\n`, `\r\n` or `\r`; what is not UTF-8 becomes U+FFFD.

    At the stream's end the last event needs no blank line, unlike in a browser: several model servers leave it out.
    Where the stream breaks off, an event that has none is not whole.
    """
    last_id, event, size = "", list[bytes](), 0
    try:
        for line in _whole_lines(parts, max_bytes, lone_cr=True):
            if line:
                event.append(line)
                size += len(line)
                if size > max_bytes:
                    raise UnreadableStream(f"an event of the stream has more than {max_bytes} bytes")
                continue
            last_id, found = _event(event, last_id)
            if found is not None:
                yield found
            event, size = [], 0
    except StreamBroken as broken:
        broken.rest = b"".join(line + b"\n" for line in event) + broken.rest
        raise
    _, found = _event(event, last_id)
    if found is not None:
        yield found


def _event(lines: list[bytes], last_id: str) -> tuple[str, ServerSentEvent | None]:
    """The id that counts from here on, and the event that the lines before a blank one are, if they have data."""
    kind, data = "", list[str]()
    for line in lines:
        field, _, value = line.decode(errors="replace").partition(":")  # a comment is a line with an empty field
        value = value.removeprefix(" ")
        match field:
            case "data":
                data.append(value)
            case "event":
                kind = value
            case "id" if "\0" not in value:
                last_id = value
    found = ServerSentEvent(data="\n".join(data), event=kind or "message", id=last_id) if data else None
    return last_id, found


class _Cutter:
    """Cuts bytes into lines as they come; each byte is looked at once."""

    def __init__(self, max_bytes: int, *, lone_cr: bool) -> None:
        self._max_bytes = max_bytes
        self._lone_cr = lone_cr
        self._pieces: list[bytes] = []
        self._size = 0
        self._first = True
        self._after_cr = False  # a newline that comes next belongs to the carriage return before it

    @property
    def rest(self) -> bytes:
        """What came behind the last whole line."""
        return b"".join(self._pieces)

    def feed(self, part: bytes) -> Iterator[bytes]:
        if not part:
            return
        if self._after_cr:
            part = part.removeprefix(b"\n")
        if self._lone_cr:
            self._after_cr = part.endswith(b"\r")
            part = part.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *ended, rest = part.split(b"\n")
        for piece in ended:
            self._take(piece)
            yield self._line()
        self._take(rest)

    def end(self) -> Iterator[bytes]:
        line = self._line()
        if line:  # not where there was only a byte order mark
            yield line

    def _take(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
            if self._size > self._max_bytes:
                raise UnreadableStream(f"a line of the stream has more than {self._max_bytes} bytes")

    def _line(self) -> bytes:
        line = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        if self._first:
            line, self._first = line.removeprefix(_BYTE_ORDER_MARK), False
        return line


def _whole_lines(parts: Iterable[bytes], max_bytes: int, *, lone_cr: bool = False) -> Iterator[bytes]:
    cutter = _Cutter(max_bytes, lone_cr=lone_cr)
    for part in _told(parts, lambda: cutter.rest):
        for line in cutter.feed(part):
            yield line if lone_cr else line.removesuffix(b"\r")
    yield from cutter.end()


def _told(parts: Iterable[bytes], rest: Any) -> Iterator[bytes]:
    """The parts; the error of a stream that breaks off is told what had come and was not whole."""
    try:
        yield from parts
    except StreamBroken as broken:
        broken.rest = rest()
        raise
