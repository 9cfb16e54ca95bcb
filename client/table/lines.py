"""From pieces of an object to blocks of whole lines, each of which is a record, and which line each one was."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tidegate.client.errors import TableFailed

MAX_LINE_BYTES = 256 * 1024 * 1024
_MARK = codecs.BOM_UTF8
_SPACES = b" \t\r\v\f"
# A line of nothing but spaces begins like one of these: looked for first, as that is much faster.
_BLANK_BEGINNINGS = tuple(b"\n" + bytes([space]) for space in _SPACES + b"\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some records of one object: a line each, which ends with a newline."""

    data: bytes
    count: int
    address: str
    numbers: range | Sequence[int]
    """Of each record, which line of the object it is, from 1."""

    def line(self, index: int) -> bytes:
        """The record of this index, without its newline."""
        return self.data.split(b"\n", index + 1)[index]

    def part(self, begin: int, end: int) -> Block:
        """The records from `begin` to before `end`."""
        lines = self.data.split(b"\n", end)[begin:end]
        return Block(
            data=b"".join(line + b"\n" for line in lines),
            count=end - begin,
            address=self.address,
            numbers=self.numbers[begin:end],
        )


def blocks(
    pieces: Iterable[bytes],
    *,
    address: str,
    charset: str = "utf-8",
    blank_is_record: Callable[[], bool] = lambda: False,
) -> Iterator[Block]:
    """The records of an object in UTF-8, without a byte order mark at its start.

    Lines that are empty or only whitespace are none, unless `blank_is_record` says so: it is asked once, at the first
    of them. Raises `TableFailed` for a line that is not text of `charset` or has more than `MAX_LINE_BYTES`.
    """
    kept: bool | None = None
    number = 1
    for data in _whole_lines(pieces, address):
        count = data.count(b"\n")
        numbers: range | Sequence[int] = range(number, number + count)
        text = _as_utf8(data, charset, address, number)
        number += count
        if number == count + 1:  # the first
            text = text.removeprefix(_MARK)
        if may_have_blank(text) and (blank := _blank(text)):
            if kept is None:
                kept = blank_is_record()
            if not kept:
                lines = text.split(b"\n")
                text = b"".join(line + b"\n" for index, line in enumerate(lines[:-1]) if index not in blank)
                numbers = [each for index, each in enumerate(numbers) if index not in blank]
        if numbers:
            yield Block(data=text, count=len(numbers), address=address, numbers=numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How many lines an object has."""

    all: int
    blank: int


def counted(pieces: Iterable[bytes], *, address: str) -> Counted:
    """How many lines there are, and how many of them are blank."""
    all_lines = blank = 0
    for found in _whole_lines(pieces, address):
        data = found if all_lines else found.removeprefix(_MARK)
        all_lines += data.count(b"\n")
        blank += len(_blank(data)) if may_have_blank(data) else 0
    return Counted(all=all_lines, blank=blank)


def _whole_lines(pieces: Iterable[bytes], address: str) -> Iterator[bytes]:
    """The content cut behind newlines; the last line gets one where it has none."""
    rest: list[bytes] = []
    held = 0
    for piece in pieces:
        end = piece.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, piece[:end]]) if rest else piece[:end]
            rest, held = [], 0
        if end < len(piece):
            rest.append(piece[end:])
            held += len(piece) - end
        if held > MAX_LINE_BYTES:
            raise TableFailed(f"{address} has a line of more than {MAX_LINE_BYTES // 2**20} MiB")
    if rest:
        yield b"".join([*rest, b"\n"])


def longest(data: bytes) -> int:
    """A bound of the bytes of the longest line, near enough to choose a buffer by."""
    at, end, step = 0, len(data), 64 * 1024
    most = 2 * step
    while at < end:
        newline = data.find(b"\n", min(at + step, end - 1))
        newline = end if newline < 0 else newline + 1
        most = max(most, newline - at)
        at = newline
    return most


def _as_utf8(data: bytes, charset: str, address: str, first_line: int) -> bytes:
    if data.isascii():
        return data
    try:
        text = data.decode(charset)
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise TableFailed(
            f"{address}, line {line}: {data[error.start : error.end]!r} is not {charset.upper()} ({error.reason}); "
            "write the file in UTF-8, or give the job a ContentType with its charset"
        ) from None
    return data if codecs.lookup(charset).name == "utf-8" else text.encode()


def may_have_blank(data: bytes) -> bool:
    """Whether there may be blank lines: quickly said, and no is certain."""
    return data[:1].isspace() or any(beginning in data for beginning in _BLANK_BEGINNINGS)


_BLANK = re.compile(rb"^[ \t\r\v\f]*\n", re.MULTILINE)


def _blank(data: bytes) -> frozenset[int]:
    """The indices of blank lines."""
    found, at, index = set(), 0, 0
    for match in _BLANK.finditer(data):
        index += data.count(b"\n", at, match.start())
        found.add(index)
        at = match.start()
    return frozenset(found)
