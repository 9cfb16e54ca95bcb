"""What readers of records have in common: a block becomes columns, or one sentence names the line that is to blame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from tidegate.client.errors import TableFailed
from tidegate.client.table.lines import Block

_SHOWN_CHARS = 80


class Records(Protocol):
    """A reader of one side, the job's input or its output."""

    schema: pa.Schema
    """The columns that `read` gives."""

    def read(self, block: Block) -> pa.Table:
        """A row for each record. Raises `TableFailed` naming the line that does not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows of one side, and where they come from."""

    table: pa.Table
    address: str
    numbers: range | Sequence[int]
    """Of each row, which line of the object it is, from 1."""

    def line(self, index: int) -> str:
        """The row as an error names it."""
        return f"{self.address}, line {self.numbers[index]}"


class Unreadable(Exception):
    """A block that is not as many rows as it has lines."""


def read_or_blame(
    block: Block, read: Callable[[Block], pa.Table], blame: Callable[[bytes, Exception], str | None]
) -> pa.Table:
    """`read(block)`; where that fails, `blame` says why of the first line with which it does."""
    try:
        return _read(block, read)
    except (pa.ArrowException, Unreadable, UnicodeDecodeError) as error:
        index = _culprit(block, read)
        reason = blame(block.line(index), error) or str(error).partition("\n")[0]
        raise TableFailed(f"{block.address}, line {block.numbers[index]}: {reason}") from error


def _read(block: Block, read: Callable[[Block], pa.Table]) -> pa.Table:
    table = read(block)
    if table.num_rows != block.count:
        raise Unreadable(f"{block.count} lines are {table.num_rows} records")
    return table


def _culprit(block: Block, read: Callable[[Block], pa.Table]) -> int:
    """The last line of the shortest beginning that cannot be read."""
    good, bad = 0, block.count
    while bad - good > 1:
        middle = (good + bad) // 2
        if _fails(block.part(0, middle), read):
            bad = middle
        else:
            good = middle
    return bad - 1


def _fails(block: Block, read: Callable[[Block], pa.Table]) -> bool:
    try:
        _read(block, read)
    except (pa.ArrowException, Unreadable, UnicodeDecodeError):
        return True
    return False


def infinities(table: pa.Table) -> int:
    """How many numbers of its columns are infinite, those in lists and structs too."""
    return sum(_infinities(chunk) for column in table.columns for chunk in column.chunks)


def _infinities(array: pa.Array) -> int:
    if pa.types.is_floating(array.type):
        return pc.sum(pc.is_inf(array)).as_py() or 0
    if pa.types.is_list(array.type):
        return _infinities(array.flatten())
    if pa.types.is_struct(array.type):
        return sum(_infinities(member) for member in array.flatten())
    return 0


def rows_where(mask: pa.ChunkedArray | pa.BooleanArray) -> list[int]:
    """The indices of the rows for which it is true."""
    combined = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
    found: list[int] = pc.indices_nonzero(pc.fill_null(combined, fill_value=False)).to_pylist()
    return found


def shown(value: Any) -> str:
    """A value as an error quotes it: short."""
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…")
