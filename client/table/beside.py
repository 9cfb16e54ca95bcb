"""The records of an object beside their answers, line by line, although the two are cut into blocks differently."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from tidegate.client.errors import TableFailed
from tidegate.client.table.forms import Form, Sides
from tidegate.client.table.job_objects import Place, Span, Transformed
from tidegate.client.table.lines import MAX_LINE_BYTES, Block, blocks, counted
from tidegate.client.table.plan import Plan
from tidegate.client.table.reading import ObjectReader, Started, ahead, chunks
from tidegate.client.table.records import Records, Rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A pair of objects whose first bytes are on their way. To be closed."""

    pair: Transformed
    s3: Any
    sides: Sides
    span: Span
    source: Started | None
    output: Started

    @classmethod
    def of(cls, pair: Transformed, *, s3: Any, sides: Sides, span: Span, pool: ThreadPoolExecutor) -> Opened:
        """Ask for both."""
        source = _pieces(s3, pair.source, sides, span, of="source") if sides.reads_source else None
        return cls(
            pair=pair,
            s3=s3,
            sides=sides,
            span=span,
            source=None if source is None else ahead(source, pool),
            output=ahead(_pieces(s3, pair.output, sides, span, of="output"), pool),
        )

    def close(self) -> None:
        """Let both go."""
        if self.source is not None:
            self.source.close()
        self.output.close()

    def blank_is_answer(self) -> bool:
        """Whether blank lines of the output count: an empty answer is one where else the numbers would not agree."""
        if self.sides.joined:
            return False
        records = 1
        if self.sides.source.in_lines:
            pieces = _pieces(self.s3, self.pair.source, self.sides, self.span, of="source")
            found = counted(pieces, address=self.pair.source.address)
            records = found.all - found.blank
        pieces = _pieces(self.s3, self.pair.output, self.sides, self.span, of="output")
        return counted(pieces, address=self.pair.output.address).all == records


def blocks_of(opened: Opened, sides: Sides, *, of: Literal["source", "output"]) -> Iterator[Block]:
    """The records of one side."""
    if of == "source":
        pieces, place, form, charset = opened.source, opened.pair.source, sides.source, sides.source_charset
    else:
        pieces, place, form, charset = opened.output, opened.pair.output, sides.output, sides.output_charset
    assert pieces is not None  # noqa: S101 - a side that is not read is not asked for
    if form is Form.DOCUMENT:
        return _document(pieces, place)
    blank = opened.blank_is_answer if of == "output" else lambda: False
    return blocks(pieces, address=place.address, charset=charset, blank_is_record=blank)


@dataclass(slots=True)
class Peeked:
    """Blocks of which the first is known."""

    rest: Iterator[Block]
    first: Block | None
    recent: list[Block] = field(default_factory=list)
    """The block that was read last."""

    def __iter__(self) -> Iterator[Block]:
        if self.first is not None:
            self.recent = [self.first]
            yield self.first
        for block in self.rest:
            self.recent = [block]
            yield block


def peeked(found: Iterator[Block]) -> Peeked:
    """The same blocks, the first of them read."""
    return Peeked(found, next(found, None))


def pairs(
    pair: Transformed, source: Peeked | None, output: Peeked, plan: Plan | None, *, one_record: bool
) -> Iterator[tuple[Rows | None, Rows]]:
    """As many rows of either side, again and again. Raises `TableFailed` where one side has more than the other."""
    left = _Queue(source, None if plan is None else plan.source) if source is not None else None
    right = _Queue(output, None if plan is None else plan.output)
    if left is None:
        while (count := right.ready()) is not None:
            yield None, right.take(count)
        if one_record and right.taken > 1:
            raise _unequal(pair, 1, right.taken)
        return
    while (have := left.ready()) is not None and (also := right.ready()) is not None:
        count = min(have, also)
        yield left.take(count), right.take(count)
    records, answers = left.total(), right.total()
    if records != answers:
        raise _unequal(pair, records, answers)


class _Queue:
    """Rows of one side, as many at a time as are asked for."""

    def __init__(self, found: Peeked, reader: Records | None) -> None:
        self._blocks, self._reader = iter(found), reader
        self._held: pa.Table | None = None
        self._address = ""
        self._numbers: range | Sequence[int] = range(0)
        self._at = 0
        self._waiting: Block | None = None
        self.taken = 0

    def ready(self) -> int | None:
        """How many rows there are at hand; None at the end, and where nothing can be read yet."""
        if self._held is None or self._at == self._held.num_rows:
            self._waiting = next(self._blocks, None)
            if self._waiting is None or self._reader is None:
                return None
            self._address, self._numbers = self._waiting.address, self._waiting.numbers
            self._held, self._at, self._waiting = self._reader.read(self._waiting), 0, None
        return int(self._held.num_rows - self._at)

    def take(self, count: int) -> Rows:
        """The next rows."""
        assert self._held is not None  # noqa: S101 - asked for after ready()
        rows = Rows(
            table=self._held.slice(self._at, count),
            address=self._address,
            numbers=self._numbers[self._at : self._at + count],
        )
        self._at += count
        self.taken += count
        return rows

    def total(self) -> int:
        """All rows of the side, with what was not taken."""
        held = 0 if self._held is None else self._held.num_rows - self._at
        waiting = 0 if self._waiting is None else self._waiting.count
        return self.taken + held + waiting + sum(block.count for block in self._blocks)


def _unequal(pair: Transformed, records: int, answers: int) -> TableFailed:
    return TableFailed(
        f"{pair.source.address} has {records} record{'' if records == 1 else 's'} and {pair.output.address} "
        f"{answers} line{'' if answers == 1 else 's'}: which answer belongs to which record cannot be said; let the "
        "model answer each record in a line of its own, in a job with SplitType and AssembleWith Line"
    )


def _pieces(s3: Any, place: Place, sides: Sides, span: Span, *, of: Literal["source", "output"]) -> Any:
    if of == "source":
        missing = "without the job's input there is no record beside the answers"
        reader = ObjectReader(s3, place, missing=missing, check=span.check_source)
        return chunks(reader, packed=sides.packed)
    missing = "the job's answers are not there any more, or another job's name was meant"
    return chunks(ObjectReader(s3, place, missing=missing, check=span.check_output), packed=False)


def _document(pieces: Iterable[bytes], place: Place) -> Iterator[Block]:
    """A whole object as one record: its JSON in one line."""
    held, size = [], 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size > MAX_LINE_BYTES:
            raise TableFailed(f"{place.address} is a JSON document of more than {MAX_LINE_BYTES // 2**20} MiB")
    content = b"".join(held)
    try:
        line = json.dumps(json.loads(content.decode("utf-8-sig")), separators=(",", ":")).encode()
    except (ValueError, RecursionError) as error:
        raise TableFailed(f"{place.address} is not JSON: {error}") from error
    yield Block(data=line + b"\n", count=1, address=place.address, numbers=range(1, 2))
