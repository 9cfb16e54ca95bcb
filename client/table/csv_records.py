"""Lines of CSV, or of plain text, as columns by their place."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from tidegate.client.errors import TableFailed
from tidegate.client.table.column import Column, glue_name, inferred
from tidegate.client.table.lines import Block, longest
from tidegate.client.table.records import Unreadable, infinities, read_or_blame, shown
from tidegate.client.table.times import is_time, times

_AT_ONCE_BYTES = 1024 * 1024
_HEX_CELL = r"^\s*[+-]?0x"
_INFINITE = r"^\s*[+-]?inf(inity)?\s*$"
_LONG = re.compile(rb"\d{19}")
_LONG_CELL = r"^\s*[+-]?\d{19,}\s*$"
_FRACTION = r"[.eE]"
_LONE_CR = re.compile(rb"\r(?!\n|$)")


class CsvRecords:
    """Cells, each in the column of its place. An empty cell is null, and `""` is empty text.

    `columns`: one for each cell; where a type is missing, it is read off `first`. Raises `TableFailed` for a type that
    a cell cannot have.
    """

    def __init__(
        self, columns: Sequence[Column], *, first: Block, null_values: Sequence[str] = ("",), plain_text: bool = False
    ) -> None:
        for column in columns:
            if column.type is not None and pa.types.is_nested(column.type):
                raise TableFailed(
                    f"the column {column.name!r} is {glue_name(column.type)}, which no cell of {first.address} can be; "
                    "let the model answer in JSON Lines, or make the column a string"
                )
        # By place and not by name: several may be skipped.
        self._names = [str(place) for place in range(len(columns))]
        self._columns = columns
        self._kept = [str(place) for place, column in enumerate(columns) if not column.skipped]
        self._plain_text = plain_text
        self._null_values = list(null_values)
        self._types = {
            name: column.type
            for name, column in zip(self._names, columns, strict=True)
            if column.type is not None and not column.skipped
        }
        if len(self._types) < len(self._kept):
            seen = read_or_blame(first, self._parsed, self._blame)
            self._types = {name: self._types.get(name) or self._seen(first, seen, name) for name in self._kept}
        self.schema = pa.schema([(columns[int(name)].name, self._types[name]) for name in self._kept])

    def read(self, block: Block) -> pa.Table:
        """A row for each line."""
        return read_or_blame(block, self._read, self._blame)

    def _seen(self, first: Block, seen: pa.Table, name: str) -> pa.DataType:
        """The type of a column that nobody said: text where a number would lose what is written."""
        kind = inferred(seen.schema.field(name).type)
        if pa.types.is_int64(kind) and _may_have_hex(first.data) and self._any(first, name, _HEX_CELL):
            return pa.string()
        if pa.types.is_float64(kind) and _LONG.search(first.data):
            cells = self._cells(first, name)
            long = pc.any(pc.match_substring_regex(cells, _LONG_CELL)).as_py()
            if long and not pc.any(pc.match_substring_regex(cells, _FRACTION)).as_py():
                return pa.string()
        return kind

    def _cells(self, block: Block, name: str) -> pa.ChunkedArray:
        """A column as it is written."""
        return self._parsed(block, only=name, kind=pa.string()).column(name)

    def _any(self, block: Block, name: str, pattern: str) -> bool:
        return bool(pc.any(pc.match_substring_regex(self._cells(block, name), pattern, ignore_case=True)).as_py())

    def _check(self, block: Block, parsed: pa.Table) -> None:
        """Raise `Unreadable` for what Arrow takes: 0x10, and a number that is too large as infinity."""
        numbers = parsed.select([name for name in parsed.column_names if pa.types.is_floating(parsed[name].type)])
        suspect = [name for name in numbers.column_names if infinities(numbers.select([name]))]
        for name in suspect:
            infinite = pc.is_inf(parsed[name]).combine_chunks()
            cells = self._cells(block, name).combine_chunks().filter(infinite)
            if not pc.all(pc.match_substring_regex(cells, _INFINITE, ignore_case=True)).as_py():
                raise Unreadable("a number is too large")
        if _may_have_hex(block.data):
            for name in parsed.column_names:
                if pa.types.is_integer(parsed[name].type) and self._any(block, name, _HEX_CELL):
                    raise Unreadable("a number is written in another base than ten")

    def _read(self, block: Block) -> pa.Table:
        parsed = self._parsed(block)
        self._check(block, parsed)
        arrays = [
            times(parsed.column(name), field.type) if is_time(field.type) else parsed.column(name)
            for name, field in zip(self._kept, self.schema, strict=True)
        ]
        if not arrays:  # all are skipped: the rows still count
            return parsed.select([])
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _parsed(self, block: Block, *, only: str | None = None, kind: pa.DataType | None = None) -> pa.Table:
        types = {name: pa.string() if is_time(found) else found for name, found in self._types.items()}
        if only is not None and kind is not None:
            types[only] = kind
        if self._plain_text:
            lines = pa.array([line.rstrip(b"\r").decode() for line in block.data.split(b"\n")[:-1]], pa.string())
            parsed = pa.table({"0": lines})
            wanted = types.get("0")
            return parsed if wanted is None else pa.table({"0": pc.cast(lines, wanted)})
        # To Arrow a CR ends a row: with a quote over two lines elsewhere, numbers would agree where rows do not.
        if block.data.count(b"\r") != block.data.count(b"\r\n"):
            raise Unreadable("a CR has no LF after it")
        return arrow_csv.read_csv(
            pa.BufferReader(block.data),
            read_options=arrow_csv.ReadOptions(
                column_names=self._names, block_size=max(_AT_ONCE_BYTES, longest(block.data))
            ),
            parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types,
                include_columns=[only] if only is not None else self._kept or self._names[:1],
                null_values=self._null_values,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )

    def _blame(self, line: bytes, _: Exception) -> str | None:
        cells = [line.decode()]
        if not self._plain_text:
            if flaw := flaw_of(line):
                return flaw
            if (count := count_of_cells(line)) != len(self._columns):
                wanted = ", ".join(column.name for column in self._columns)
                return f"{_cells(count)}, and {_cells(len(self._columns))} are expected: {wanted}"
            cells = _texts(line, self._names)
        single = Block(data=line + b"\n", count=1, address="", numbers=range(1))
        for name in self._kept:
            column, kind, cell = self._columns[int(name)], self._types.get(name), cells[int(name)]
            if kind is not None and not self._is(single, name, kind):
                return f"column {column.name!r}: {shown(cell)} is not a {glue_name(kind)}{_way_out(column)}"
        return None

    def _is(self, single: Block, name: str, kind: pa.DataType) -> bool:
        try:
            parsed = self._parsed(single, only=name)
            self._check(single, parsed)
            if is_time(kind):
                times(parsed.column(name), kind)
        except (pa.ArrowException, Unreadable):
            return False
        return True


def _way_out(column: Column) -> str:
    return "" if column.type is not None else "; its type is that of the lines before, say another with --columns"


def _may_have_hex(data: bytes) -> bool:
    return b"0x" in data or b"0X" in data


def flaw_of(line: bytes) -> str | None:
    """What speaks against a line's being a record from end to end."""
    if line.count(b'"') % 2:
        return "a quote is left open; a cell must not hold a newline, because each line is a record"
    if _LONE_CR.search(line):
        return "a CR has no LF after it; a line ends with LF or CRLF"
    return None


def count_of_cells(line: bytes) -> int:
    """How many cells one line of CSV has; an empty line is one empty cell."""
    try:
        return int(_read(line, [], pa.BufferReader(line + b"\n")).num_columns)
    except pa.ArrowException:
        return 1


def _texts(line: bytes, names: Sequence[str]) -> list[str]:
    row = _read(line, names, pa.BufferReader(line + b"\n"))
    return [row.column(name)[0].as_py() for name in names]


def _read(line: bytes, names: Sequence[str], source: pa.BufferReader) -> pa.Table:
    return arrow_csv.read_csv(
        source,
        read_options=arrow_csv.ReadOptions(
            column_names=names, autogenerate_column_names=not names, block_size=max(_AT_ONCE_BYTES, len(line) + 1)
        ),
        parse_options=arrow_csv.ParseOptions(ignore_empty_lines=False),
        convert_options=arrow_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
    )


def _cells(count: int) -> str:
    return f"{count} cell{'' if count == 1 else 's'}"
