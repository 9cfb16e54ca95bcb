"""Both readers and the columns of the file, decided once, from the first records of either side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from tidegate.client.errors import TableFailed
from tidegate.client.table.agreement import Disagreement, merged
from tidegate.client.table.column import ORIGIN, Column, check_members, check_names, glue_name
from tidegate.client.table.csv_records import CsvRecords
from tidegate.client.table.forms import Form, Sides
from tidegate.client.table.json_records import JsonRecords
from tidegate.client.table.lines import Block
from tidegate.client.table.places import Side, places_of
from tidegate.client.table.records import Records, Rows, shown

_ORIGIN_TYPES = (pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int32(), pa.string()), pa.int64())


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is known of the columns before anything is read."""

    table: tuple[Column, ...] | None = None
    """Those of the table in the catalogue, all with their types."""
    named: tuple[Column, ...] | None = None
    """Those that the caller names, in the order of the cells."""
    null_values: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        check_names(self.named or ())
        if self.table is None or self.named is None:
            return
        known = {column.name.lower(): column for column in self.table}
        for column in self.named:
            if column.skipped:
                continue
            if (found := known.get(column.name.lower())) is None:
                names = ", ".join(each.name for each in self.table)
                raise TableFailed(f"the table has no column {column.name!r}; it has {names}")
            if column.type is not None and column.type != found.type:
                assert found.type is not None  # noqa: S101 - the catalogue says all types
                raise TableFailed(
                    f"the column {column.name!r} is {glue_name(found.type)} in the table, not {glue_name(column.type)}"
                )

    @property
    def declared(self) -> tuple[Column, ...] | None:
        """The columns in the order of the cells, with what is known of their types."""
        if self.named is None:
            return self.table
        known = {column.name.lower(): column for column in self.table or ()}
        return tuple(known.get(each.name.lower(), each) for each in self.named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Both readers, and the columns of the file."""

    source: Records | None
    output: Records
    schema: pa.Schema
    expected: frozenset[str]
    """The columns that are taken by their name: one that is in no record at all is a mistake."""
    max_chars: Mapping[str, int]
    """Of the columns whose texts must not be longer."""

    def rows(self, source: Rows | None, output: Rows, *, job: str, address: str, first_record: int) -> pa.Table:
        """Rows of the file from as many of either side. Raises `TableFailed` where the two say different things."""
        sides = [side for side in (source, output) if side is not None]
        count = output.table.num_rows
        arrays = []
        for field in list(self.schema)[: -len(ORIGIN)]:
            having = [side for side in sides if field.name in side.table.column_names]
            if (limit := self.max_chars.get(field.name)) is not None:
                for side in having:
                    _check_length(side, field.name, limit)
            try:
                found = merged([side.table.column(field.name) for side in having], field.name) if having else None
            except Disagreement as error:
                raise TableFailed(f"{sides[0].line(error.index)}: {error}") from None
            arrays.append(pa.chunked_array([pa.nulls(count, field.type)]) if found is None else found)
        arrays += [_always(job, count), _always(address, count), _range(first_record, count)]
        return pa.Table.from_arrays(arrays, schema=self.schema)


def plan_of(asked: Asked, sides: Sides, *, source: Block | None, output: Block) -> Plan:
    """The plan for records like the first of these. Raises `TableFailed` where they do not fit what is asked."""
    places = places_of(asked.declared, sides, source=source, output=output)
    source_reader = None if source is None else _reader(asked, places.source, first=source, form=sides.source)
    output_reader = _reader(asked, places.output, first=output, form=sides.output, answers=True)
    schema = _schema(asked, source_reader, output_reader)
    limits = {each.name: each.max_chars for each in asked.declared or () if each.max_chars is not None}
    return Plan(source=source_reader, output=output_reader, schema=schema, expected=places.by_name, max_chars=limits)


def _reader(asked: Asked, side: Side, *, first: Block, form: Form, answers: bool = False) -> Records:
    if side.shape is None:
        return CsvRecords(side.cells, first=first, null_values=asked.null_values, plain_text=form is Form.TEXT)
    unknown: Literal["error", "ignore"] = "error" if asked.named is None else "ignore"
    return JsonRecords(side.members, shape=side.shape, first=first, unknown=unknown, answers=answers)


def _schema(asked: Asked, source: Records | None, output: Records) -> pa.Schema:
    """The columns of the file: those of the table or those that are named, in their order, else all that there are."""
    found: dict[str, pa.DataType] = {}
    for reader in (source, output):
        for field in reader.schema if reader is not None else ():
            if found.setdefault(field.name, field.type) != field.type:
                raise TableFailed(
                    f"the record's {field.name!r} is {glue_name(found[field.name])} and its answer's "
                    f"{glue_name(field.type)}: rename it in the model's answer, or say a type with --columns"
                )
    order = asked.table or tuple(each for each in asked.declared or () if not each.skipped)
    if not order:
        check_members(found)
    if lost := next((each.name for each in order if each.type is None and each.name not in found), None):
        raise TableFailed(_never(lost))
    types = {each.name: each.type or found[each.name] for each in order} or found
    return pa.schema([*types.items(), *zip(ORIGIN, _ORIGIN_TYPES, strict=True)])


def names_member(data: bytes, name: str) -> bool:
    """Whether a member of this name may be in lines of JSON, in capitals or not."""
    lower = data.lower() if name.isascii() else data.decode().lower().encode()
    return f'"{name.lower()}"'.encode() in lower


def _check_length(side: Rows, name: str, limit: int) -> None:
    column = side.table.column(name)
    lengths = pc.utf8_length(column)
    if (pc.max(lengths).as_py() or 0) <= limit:
        return
    index = pc.index(pc.fill_null(pc.greater(lengths, limit), fill_value=False), pa.scalar(value=True)).as_py()
    text = column[index].as_py()
    raise TableFailed(
        f"{side.line(index)}: column {name!r}: {shown(text)} has {len(text)} characters, of at most {limit}"
    )


def check_seen(unseen: frozenset[str]) -> None:
    """Raise `TableFailed` where a column that is taken by name was in no record."""
    if unseen:
        raise TableFailed(_never(min(unseen)))


def _never(name: str) -> str:
    return (
        f"no record and no answer of the job has a member {name!r}; name those that they have by --columns, or let the "
        "model write it (null where there is nothing)"
    )


def _always(text: str, count: int) -> pa.ChunkedArray:
    indices = pa.repeat(pa.scalar(0, pa.int32()), count)
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, pa.array([text], pa.string()))])


def _range(first: int, count: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(range(first, first + count), pa.int64())])
