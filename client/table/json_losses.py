"""What lines of JSON say, Arrow takes without a word and the table would lose: refused here, by line."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tidegate.client.errors import TableFailed
from tidegate.client.table.json_shape import JOINED_ANSWER, Members, Shape
from tidegate.client.table.lines import Block
from tidegate.client.table.records import rows_where, shown

_LONG = re.compile(rb"[:\[,\n][ \t]*-?\d{19}|^-?\d{19}")


def check_long(block: Block, members: Members, names: Iterable[str]) -> None:
    """Raise `TableFailed` where whole numbers of more than 64 bits would become doubles unasked in these columns."""
    if not _LONG.search(block.data):
        return
    left = set(names)
    long: dict[str, int] = {}
    for index, line in enumerate(block.data.split(b"\n")[: block.count]):
        try:
            value = _value(line)
        except (ValueError, RecursionError):
            return
        for name, member in members.columns(value).items():
            if name in left:
                leaves = list(_leaves(member))
                if any(isinstance(leaf, float) for leaf in leaves):
                    left.remove(name)
                elif any(isinstance(leaf, int) and not -(2**63) <= leaf < 2**63 for leaf in leaves):
                    long.setdefault(name, index)
    for name, index in long.items():
        if name in left:
            raise TableFailed(
                f"{block.address}, line {block.numbers[index]}: column {name!r}: a whole number has more than "
                "64 bits; say its type with --columns, such as decimal(38,0) or double"
            )


def check_spelled(block: Block, members: Members, table: pa.Table) -> None:
    """Raise `TableFailed` where a column of `table` has nothing because a line spells its member in other letters."""
    if members.shape.wrapped is not None:
        return
    lower: bytes | None = None
    for name in table.column_names:
        if not table.column(name).null_count:
            continue
        member = members.spelling(name)
        lower = block.data.lower() if lower is None else lower
        if lower.count(b'"%s"' % member.lower().encode()) == block.data.count(b'"%s"' % member.encode()):
            continue
        lines = block.data.split(b"\n")
        for index in rows_where(pc.is_null(table.column(name))):
            keys = members.shape.members(_value(lines[index]))
            other = next((key for key in keys if key.lower() == member.lower() and key != member), None)
            if other is not None and member not in keys:
                raise TableFailed(
                    f"{block.address}, line {block.numbers[index]}: the member {other!r} is {member!r} elsewhere; "
                    "every line must spell it in one way"
                )


class ForeignAnswers:
    """Answers that have members of which no column takes one, as an error has in the place of an answer.

    They are refused as soon as another answer fills a column: where none does, other checks say so.
    """

    def __init__(self, shape: Shape, columns: Iterable[str]) -> None:
        self._lifted = dict(shape.lifted)
        self._columns = list(columns)
        self._bare: list[int] = []
        self._any_taken = False
        self._foreign: str | None = None

    def see(self, parsed: pa.Table) -> None:
        """Note which rows of a block fill no column, before it is checked."""
        self._bare = self._filling_none(parsed)

    def check(self, block: Block) -> None:
        """Raise `TableFailed` for the first such answer of this block, which was seen, and of those before."""
        self._any_taken = self._any_taken or len(self._bare) < block.count
        if self._foreign is None:
            self._foreign = self._first(block)
        if self._any_taken and self._foreign is not None:
            raise TableFailed(self._foreign)

    def _filling_none(self, parsed: pa.Table) -> list[int]:
        """The rows whose answer fills no column: all of the line, or what a joined line has of it."""
        columns = parsed.columns
        if JOINED_ANSWER in self._lifted:
            if self._lifted[JOINED_ANSWER] is not None or JOINED_ANSWER not in parsed.column_names:
                return []
            columns = parsed.column(JOINED_ANSWER).flatten()
        if not columns or any(not column.null_count for column in columns):
            return []
        return rows_where(functools.reduce(pc.and_, [pc.is_null(column) for column in columns]))

    def _first(self, block: Block) -> str | None:
        lines = block.data.split(b"\n") if self._bare else []
        known = {name.lower() for name in self._columns}
        for index in self._bare:
            value = _value(lines[index])
            if isinstance(value, dict) and JOINED_ANSWER in self._lifted:
                value = value.get(JOINED_ANSWER)
            if isinstance(value, dict) and value and not any(key.lower() in known for key in value):
                return (
                    f"{block.address}, line {block.numbers[index]}: the answer has {', '.join(map(shown, value))} "
                    f"and none of the columns that other answers have ({', '.join(self._columns)}); name a member of "
                    "it with --columns, or let the model answer null"
                )
        return None


def _value(line: bytes) -> Any:
    return json.loads(line) if line.strip() else None  # an empty answer


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    else:
        yield value
