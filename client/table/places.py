"""Which column each cell and each member goes to: cells by their place, members by their names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tidegate.client.errors import TableFailed
from tidegate.client.table.column import Column
from tidegate.client.table.csv_records import count_of_cells, flaw_of
from tidegate.client.table.forms import Form, Sides
from tidegate.client.table.json_shape import JOINED_ANSWER, LOOKED_AT, Shape
from tidegate.client.table.lines import Block

ANSWER, INPUT = "prediction", "input"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one side reads. `shape` None: it is of cells."""

    cells: Sequence[Column] = ()
    members: Sequence[Column] | None = None
    """None: all that there are."""
    shape: Shape | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What each side reads, and the columns that are taken by name from whichever side has them."""

    source: Side
    output: Side
    by_name: frozenset[str]


def places_of(declared: Sequence[Column] | None, sides: Sides, *, source: Block | None, output: Block) -> Places:
    """The places in records like the first of these. Raises `TableFailed` where cells and columns do not agree."""
    in_cells = _cells(source, sides.source) if source is not None else 0
    out_cells = _cells(output, sides.output)
    if declared is None:
        in_columns, out_columns, named = _by_default(sides, source, output, in_cells, out_cells)
    else:
        in_columns, out_columns, named = _by_place(declared, source, output, in_cells, out_cells)
    whole, first = (named[-1].name, named[0].name) if named else (ANSWER, INPUT)
    answer_shape = _shape(output, sides.output, whole=whole, first=first, joined=sides.joined)
    source_shape = _shape(source, sides.source, whole=first, first=first, joined=False) if source is not None else None
    shapes = [shape for shape in (source_shape, answer_shape) if shape is not None]
    single = [name for shape in shapes for name in shape.single]
    if declared is not None and named is not None and shapes and len(named) < (len(single) or 1):
        _refuse_too_few(declared, named, output, answers=answer_shape is not None)
    return Places(
        source=Side(cells=in_columns, members=_taken(named, source_shape, answer_shape), shape=source_shape),
        output=Side(cells=out_columns, members=_taken(named, answer_shape, source_shape), shape=answer_shape),
        by_name=frozenset(each.name for each in named or ()) - set(single),
    )


def _refuse_too_few(declared: Sequence[Column], named: Sequence[Column], output: Block, *, answers: bool) -> None:
    if len(named) == len(declared):
        raise TableFailed(f"{_count(len(named), 'column')} cannot hold both a record and its answer: name one for each")
    wanted = "answers" if answers else "records"
    raise TableFailed(
        f"no column is left for the {wanted} in JSON, of which {output.address} is the first: "
        f"{', '.join(column.name for column in declared)} are taken by cells"
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
    found: Shape | None = None
    for index, line in enumerate(block.data.split(b"\n", LOOKED_AT)[: min(block.count, LOOKED_AT)]):
        try:
            value = json.loads(line) if line.strip() else None  # an empty answer
        except (ValueError, RecursionError) as error:
            raise TableFailed(f"{block.address}, line {block.numbers[index]}: it is not JSON ({error})") from error
        found = Shape.of(value, whole=whole, joined=joined, first=first)
        if value is not None and not (joined and isinstance(value, dict) and value.get(JOINED_ANSWER, 0) is None):
            return found
    return found


def _taken(named: Sequence[Column] | None, shape: Shape | None, other: Shape | None) -> list[Column] | None:
    """What one side reads by name: all but what the other is as a whole."""
    if shape is None:
        return None
    if shape.wrapped is not None:
        found = [column for column in named or () if column.name == shape.wrapped]
        return found or [Column(name=shape.wrapped)]
    if named is None:
        return None
    return [column for column in named if other is None or column.name != other.wrapped]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
