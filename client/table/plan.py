"""Which column each cell and each member goes to, decided once, from the first records of either side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from tidegate.client.errors import TableFailed
from tidegate.client.table.column import ORIGIN, Column, check_names, glue_name
from tidegate.client.table.csv_records import CsvRecords, count_of_cells, flaw_of
from tidegate.client.table.forms import Form, Sides
from tidegate.client.table.json_records import JsonRecords, Shape, merged
from tidegate.client.table.lines import Block
from tidegate.client.table.records import Records

ANSWER, INPUT = "prediction", "input"
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
    declared = asked.declared
    in_cells = _cells(source, sides.source) if source is not None else 0
    out_cells = _cells(output, sides.output)
    if declared is None:
        in_columns, out_columns, named = _by_default(sides, source, output, in_cells, out_cells)
    else:
        in_columns, out_columns, named = _by_place(declared, source, output, in_cells, out_cells)
    unknown: Literal["error", "ignore"] = "error" if asked.named is None else "ignore"
    whole, first = (named[-1].name, named[0].name) if named else (ANSWER, INPUT)
    answer_shape = _shape(output, sides.output, whole=whole, first=first, joined=sides.joined)
    source_shape = _shape(source, sides.source, whole=first, first=first, joined=False) if source is not None else None
    readers: list[Records | None] = []
    for block, columns, shape in ((source, in_columns, source_shape), (output, out_columns, answer_shape)):
        form = sides.source if block is source else sides.output
        if block is None:
            readers.append(None)
        elif shape is None:
            readers.append(
                CsvRecords(columns, first=block, null_values=asked.null_values, plain_text=form is Form.TEXT)
            )
        else:
            other = source_shape if block is output else answer_shape
            taken = _taken(named, shape, other)
            readers.append(JsonRecords(taken, shape=shape, first=block, unknown=unknown))
    source_reader, output_reader = readers
    assert output_reader is not None  # noqa: S101 - there is always an output
    found: dict[str, pa.DataType] = {}
    for reader in readers:
        for field in reader.schema if reader is not None else ():
            if found.setdefault(field.name, field.type) != field.type:
                raise TableFailed(
                    f"the record's {field.name!r} is {glue_name(found[field.name])} and its answer's "
                    f"{glue_name(field.type)}: rename it in the model's answer, or say a type with --columns"
                )
    order = asked.table or tuple(each for each in declared or () if not each.skipped) or None
    if order is not None:
        if lost := next((each.name for each in order if each.type is None and each.name not in found), None):
            raise TableFailed(_never(lost))
        types = {each.name: each.type or found[each.name] for each in order}
    else:
        check_names(Column(name=name) for name in found)
        types = found
    schema = pa.schema([*types.items(), *zip(ORIGIN, _ORIGIN_TYPES, strict=True)])
    by_name = frozenset(each.name for each in named or ()) - {
        name for shape in (source_shape, answer_shape) if shape is not None for name in _single(shape)
    }
    return Plan(source=source_reader, output=output_reader, schema=schema, expected=by_name)


def check_seen(unseen: frozenset[str]) -> None:
    """Raise `TableFailed` where a column that is taken by name was in no record."""
    if unseen:
        raise TableFailed(_never(min(unseen)))


def _never(name: str) -> str:
    return (
        f"no record and no answer of the job has a member {name!r}; name those that they have by --columns, or let the "
        "model write it (null where there is nothing)"
    )


def _cells(block: Block, form: Form) -> int:
    match form:
        case Form.CSV:
            return count_of_cells(block.line(0))
        case Form.TEXT:
            return 1
        case _:
            return 0


def _by_default(
    sides: Sides, source: Block | None, output: Block, in_cells: int, out_cells: int
) -> tuple[list[Column], list[Column], None]:
    """Cells have no names of their own, but for a single answer and a line of text."""
    if (source is not None and sides.source is Form.CSV) or (sides.output is Form.CSV and out_cells > 1):
        answers = f"{source.address} has {in_cells} and " if source is not None and in_cells else ""
        raise TableFailed(
            f"the cells of CSV have no names ({answers}{output.address} has {out_cells}): name them in their order "
            "with --columns, or by a table with --table or --stage"
        )
    return [Column(name=INPUT)] * in_cells, [Column(name=ANSWER)] * out_cells, None


def _by_place(
    declared: Sequence[Column], source: Block | None, output: Block, in_cells: int, out_cells: int
) -> tuple[list[Column], list[Column], list[Column]]:
    """Cells of the input take the first columns, those of the answers the last; members take the rest, by name."""
    count = len(declared)
    none_by_name = out_cells > 0 and (in_cells > 0 or source is None)
    if in_cells + out_cells > count or (none_by_name and in_cells + out_cells != count):
        for block in (source, output) if in_cells else (output,) if out_cells else ():
            if block is not None and (flaw := flaw_of(block.line(0))):
                raise TableFailed(f"{block.address}, line {block.numbers[0]}: {flaw}")
        record = f"{source.address} has {_count(in_cells, 'cell')} and " if source is not None and in_cells else ""
        raise TableFailed(
            f"{record}{output.address} has {_count(out_cells, 'cell')} in line {output.numbers[0]}, for "
            f"{_count(count, 'column')}: {', '.join(column.name for column in declared)}"
        )
    named = [column for column in declared[in_cells : count - out_cells] if not column.skipped]
    return list(declared[:in_cells]), list(declared[count - out_cells :]), named


def _shape(block: Block | None, form: Form, *, whole: str, first: str, joined: bool) -> Shape | None:
    if block is None or form in (Form.CSV, Form.TEXT):
        return None
    line = block.line(0)
    try:
        return Shape.of(line, whole=whole, joined=joined, first=first)
    except (ValueError, RecursionError) as error:
        raise TableFailed(f"{block.address}, line {block.numbers[0]}: it is not JSON ({error})") from error


def _taken(named: Sequence[Column] | None, shape: Shape, other: Shape | None) -> list[Column] | None:
    """What one side reads by name: all but what the other is as a whole."""
    if shape.wrapped is not None:
        found = [column for column in named or () if column.name == shape.wrapped]
        return found or [Column(name=shape.wrapped)]
    if named is None:
        return None
    return [column for column in named if other is None or column.name != other.wrapped]


def _single(shape: Shape) -> list[str]:
    return [name for name in (shape.wrapped, *dict(shape.lifted).values()) if name is not None]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _always(text: str, count: int) -> pa.ChunkedArray:
    indices = pa.repeat(pa.scalar(0, pa.int32()), count)
    return pa.chunked_array([pa.DictionaryArray.from_arrays(indices, pa.array([text], pa.string()))])


def _range(first: int, count: int) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(range(first, first + count), pa.int64())])
