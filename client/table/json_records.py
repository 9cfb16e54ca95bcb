"""Lines of JSON as columns by the names of their members."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Literal

import pyarrow as pa

from tidegate.client.table.agreement import Disagreement, merged
from tidegate.client.table.column import Column, inferred
from tidegate.client.table.json_blame import blame
from tidegate.client.table.json_losses import ForeignAnswers, check_long, check_spelled
from tidegate.client.table.json_shape import Members, Shape
from tidegate.client.table.json_to_arrow import Unknown, to_arrow
from tidegate.client.table.lines import Block
from tidegate.client.table.records import Unreadable, read_or_blame
from tidegate.client.table.times import is_time, times


class JsonRecords:
    """Members of objects, each in the column of its name; a member that a line lacks is null.

    `columns` None: all members of the first block. `unknown`: what becomes of members without a column; an object of
    which no member has one, where others have, is an error of `answers` all the same. Upper and lower case make no
    difference, but every line spells a member as the first lines do.
    """

    def __init__(
        self,
        columns: Sequence[Column] | None,
        *,
        shape: Shape,
        first: Block,
        unknown: Literal["error", "ignore"] = "error",
        answers: bool = False,
    ) -> None:
        said = {column.name: column.type for column in columns or () if column.type is not None}
        self._members = Members.of(shape, [column.name for column in columns or ()], first)
        complete = columns is not None and all(column.name in said for column in columns)
        types = said if complete else _types(columns, said, self._members, first)
        self.schema = pa.schema(list(types.items()))
        self._written = self._members.schema(types)
        self._unknown: Unknown = "error" if shape.wrapped is not None else unknown
        may_be_foreign = answers and self._unknown == "ignore" and len(types) > 0
        self._foreign = ForeignAnswers(shape, types) if may_be_foreign else None
        self._blame = functools.partial(blame, members=self._members, types=types, said=said, unknown=self._unknown)

    def read(self, block: Block) -> pa.Table:
        """A row for each line."""
        table = read_or_blame(block, self._read, self._blame)
        if self._unknown == "ignore":
            check_spelled(block, self._members, table)
        if self._foreign is not None:
            self._foreign.check(block)
        return table

    def _read(self, block: Block) -> pa.Table:
        parsed = to_arrow(block, self._written, wrapped=self._members.shape.wrapped, unknown=self._unknown)
        if self._foreign is not None:
            self._foreign.see(parsed)
        arrays = [self._column(parsed, field) for field in self.schema]
        return pa.Table.from_arrays(arrays, schema=self.schema) if arrays else parsed.select([])

    def _column(self, parsed: pa.Table, field: pa.Field) -> pa.ChunkedArray:
        found = self._members.arrays(parsed, field.name)
        try:
            array = merged(found, field.name) if found else pa.chunked_array([pa.nulls(parsed.num_rows, field.type)])
        except Disagreement as error:
            raise Unreadable(str(error)) from None
        return times(array, field.type) if is_time(field.type) and pa.types.is_string(array.type) else array


def _types(
    columns: Sequence[Column] | None, said: Mapping[str, pa.DataType], members: Members, first: Block
) -> dict[str, pa.DataType]:
    """The types of the columns, or of all members: those that are not said are read off the first block."""
    written, wrapped = members.schema(said), members.shape.wrapped
    seen = read_or_blame(
        first,
        lambda block: to_arrow(block, written, wrapped=wrapped, unknown="infer"),
        functools.partial(blame, members=members, types=said, said=said, unknown="infer"),
    )
    found = {name: inferred(kind) for name, kind in members.types(seen.schema).items()}
    wanted = list(found) if columns is None else [column.name for column in columns]
    check_long(first, members, {name for name in wanted if name in found and name not in said})
    # A column of no type that this side does not have is of the other side, or of none.
    both = {name: said.get(name) or found.get(name) for name in wanted}
    return {name: kind for name, kind in both.items() if kind is not None}
