"""From input bytes to requests and back: how a batch transform job splits, batches and assembles. Pure rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LONE_CR = re.compile(rb"\r(?!\n)")
_IN_LINES = (
    "text/csv",
    "application/jsonlines",
    "application/x-jsonlines",
    "application/jsonl",
    "application/x-ndjson",
    "text/plain",
)


class RecordTooLarge(Exception):
    """A record alone is larger than a request may be. ``index`` counts records from 0."""

    def __init__(self, *, index: int, max_bytes: int) -> None:
        super().__init__(f"record {index} is larger than the {max_bytes} bytes that MaxPayloadInMB allows to a request")
        self.index = index


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record as it stood in the input (``source``) and as it is sent (``payload``: after the input filter)."""

    index: int
    source: bytes
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The records of one request."""

    records: tuple[Record, ...]

    @property
    def payload(self) -> bytes:
        return b"".join(record.payload for record in self.records)


def whole(chunks: Iterable[bytes], *, max_bytes: int | None) -> Iterator[bytes]:
    """SplitType None: the object is one record; an empty object is none.

    Reads no further, and raises :class:`RecordTooLarge`, once the record has more than ``max_bytes``.
    """
    held, size = [], 0
    for chunk in chunks:
        held.append(chunk)
        size += len(chunk)
        if max_bytes is not None and size > max_bytes:
            raise RecordTooLarge(index=0, max_bytes=max_bytes)
    if size:
        yield b"".join(held)


def lines(chunks: Iterable[bytes], *, max_bytes: int | None) -> Iterator[bytes]:
    """SplitType Line: records with their newline; the last one may lack it.

    Lines that are empty or only whitespace are no records; without them the records joined again are the input.
    Holds no more of a line than ``max_bytes`` and a chunk; then it raises :class:`RecordTooLarge`.
    """
    rest: list[bytes] = []
    held = index = 0
    for chunk in chunks:
        *ended, tail = chunk.split(b"\n")
        for piece in ended:
            line = b"".join([*rest, piece, b"\n"])
            rest, held = [], 0
            if _is_record(line):
                yield line
                index += 1
        if tail:
            rest.append(tail)
            held += len(tail)
        if max_bytes is not None and held > max_bytes:
            raise RecordTooLarge(index=index, max_bytes=max_bytes)
    if _is_record(line := b"".join(rest)):
        yield line


def _is_record(line: bytes) -> bool:
    return bool(line.removeprefix(_BYTE_ORDER_MARK).strip())


def without_mark(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same content without a byte order mark at its start."""
    start = b""
    waiting = iter(chunks)
    for chunk in waiting:
        start += chunk
        if len(start) >= len(_BYTE_ORDER_MARK):
            break
    yield start.removeprefix(_BYTE_ORDER_MARK)
    yield from waiting


def batches(records: Iterable[Record], *, multi: bool, max_bytes: int | None) -> Iterator[Batch]:
    """BatchStrategy: every record alone, or as many neighbours as fit into ``max_bytes`` (None: all of them).

    Raises :class:`RecordTooLarge` when it meets a record that does not fit alone.
    """
    held: list[Record] = []
    size = 0
    for record in records:
        length = len(record.payload)
        if max_bytes is not None and length > max_bytes:
            raise RecordTooLarge(index=record.index, max_bytes=max_bytes)
        if held and (not multi or (max_bytes is not None and size + length > max_bytes)):
            yield Batch(records=tuple(held))
            held, size = [], 0
        held.append(record)
        size += length
    if held:
        yield Batch(records=tuple(held))


def answer_lines(answer: bytes, count: int) -> list[bytes]:
    """The lines of an answer without their newlines, one for each record of the request.

    An empty line counts where it is the answer to a record; beyond that, as in the input, it is none. Raises
    ValueError when the number of lines is another one.
    """
    found = answer.removesuffix(b"\n").split(b"\n")
    if len(found) != count:
        found = [line for line in found if line.strip()]
    if len(found) != count:
        raise ValueError(f"the answer has {len(found)} line{'' if len(found) == 1 else 's'} for {_records(count)}")
    return found


def why_other_lines(answer: bytes, records: Sequence[Record], *, answered: str, sent: str) -> str:
    """Why an answer has not a line for each record, and a way out. ``answered`` and ``sent`` are media types."""
    alone = len(records) == 1
    single = "" if alone else " or BatchStrategy to SingleRecord"
    if answered not in _IN_LINES:
        return (
            f"it is {answered or 'of no type'}: set Accept to a type in lines (text/csv, application/jsonlines){single}"
            ", or leave AssembleWith, JoinSource and OutputFilter out"
        )
    for record in records:
        if flaw := flaw_of_line(record.payload, quotes=sent == "text/csv"):
            return f"in record {record.index} {flaw}"
    for number, line in enumerate(answer.split(b"\n")):
        if flaw := flaw_of_line(line, quotes=answered == "text/csv"):
            return f"in line {number} of the answer {flaw}"
    single = "" if alone else ", or set BatchStrategy to SingleRecord"
    return f"it is {answered}, which is in lines: let the model's code write one for each record{single}"


def flaw_of_line(line: bytes, *, quotes: bool) -> str | None:
    """What speaks against a line's being one record from end to end; ``quotes``: whether it is CSV."""
    if quotes and line.count(b'"') % 2:
        return "a quote is left open: a cell must not hold a newline, because each line is a record"
    if _LONE_CR.search(line.rstrip()):
        return "a CR has no LF after it: a line ends with LF or CRLF"
    return None


def _records(count: int) -> str:
    return "1 record" if count == 1 else f"{count} records"


def output_key(input_key: str, *, input_prefix: str, output_prefix: str) -> str:
    """Where an input's result goes: below the output path as it lay below the input's folder, plus ``.out``."""
    folder = input_prefix[: input_prefix.rfind("/") + 1]
    relative = input_key.removeprefix(folder)
    return f"{output_prefix.rstrip('/')}/{relative}.out".lstrip("/")
