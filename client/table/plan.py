"""Both readers and the columns of the file, decided once, from the first records of either side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from tidegate.client.errors import TableFailed
from tidegate.client.table.column import ORIGIN, Column, check_names, glue_name
from tidegate.client.table.csv_records import CsvRecords
from tidegate.client.table.forms import Form, Sides
from tidegate.client.table.json_records import JsonRecords, merged
from tidegate.client.table.lines import Block
from tidegate.client.table.places import Side, places_of
from tidegate.client.table.records import Records

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
        known = {column.name: column.type for column in self.table}
        for column in self.named:
            if column.skipped:
                continue
            if column.name not in known:
                raise TableFailed(f"the table has no column {column.name!r}; it has {', '.join(known)}")
            if column.type is not None and column.type != known[column.name]:
                raise TableFailed(
                    f"the column {column.name!r} is {glue_name(known[column.name])} in the table, not "
                    f"{glue_name(column.type)}"
                )

    @property
    def declared(self) -> tuple[Column, ...] | None:
        """The columns in the order of the cells, with what is known of their types."""
        if self.named is None:
            return self.table
        known = {column.name: column.type for column in self.table or ()}
        return tuple(Column(name=each.name, type=each.type or known.get(each.name)) for each in self.named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Both readers, and the columns of the file."""

    source: Records | None
    output: Records
    schema: pa.Schema
    expected: frozenset[str]
    """The columns that are taken by their name: one that is in no record at all is a mistake."""

    def rows(self, source: pa.Table | None, output: pa.Table, *, job: str, address: str, first_record: int) -> pa.Table:
        """Rows of the file from as many of either side."""
        sides = [side for side in (source, output) if side is not None]
        arrays = []
        for field in list(self.schema)[: -len(ORIGIN)]:
            found = [side.column(field.name) for side in sides if field.name in side.column_names]
            arrays.append(
                merged(found, field.name) if found else pa.chunked_array([pa.nulls(output.num_rows, field.type)])
            )
        count = output.num_rows
        arrays += [_always(job, count), _always(address, count), _range(first_record, count)]
        return pa.Table.from_arrays(arrays, schema=self.schema)


def plan_of(asked: Asked, sides: Sides, *, source: Block | None, output: Block) -> Plan:
    """The plan for records like the first of these. Raises `TableFailed` where they do not fit what is asked."""
    places = places_of(asked.declared, sides, source=source, output=output)
    source_reader = None if source is None else _reader(asked, places.source, first=source, form=sides.source)
    output_reader = _reader(asked, places.output, first=output, form=sides.output)
    schema = _schema(asked, source_reader, output_reader)
    return Plan(source=source_reader, output=output_reader, schema=schema, expected=places.by_name)


def _reader(asked: Asked, side: Side, *, first: Block, form: Form) -> Records:
    if side.shape is None:
        return CsvRecords(side.cells, first=first, null_values=asked.null_values, plain_text=form is Form.TEXT)
    unknown: Literal["error", "ignore"] = "error" if asked.named is None else "ignore"
    return JsonRecords(side.members, shape=side.shape, first=first, unknown=unknown)


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
        check_names(Column(name=name) for name in found)
    if lost := next((each.name for each in order if each.type is None and each.name not in found), None):
        raise TableFailed(_never(lost))
    types = {each.name: each.type or found[each.name] for each in order} or found
    return pa.schema([*types.items(), *zip(ORIGIN, _ORIGIN_TYPES, strict=True)])


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
