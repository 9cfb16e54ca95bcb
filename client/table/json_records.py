"""Lines of JSON as columns by the names of their members."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from tidegate.client.errors import TableFailed
from tidegate.client.table.column import Column, glue_name, inferred
from tidegate.client.table.lines import Block, longest, may_have_blank
from tidegate.client.table.records import Unreadable, infinities, read_or_blame, shown
from tidegate.client.table.times import is_time, times

JOINED_INPUT, JOINED_ANSWER = "SageMakerInput", "SageMakerOutput"
_PLACES = {JOINED_INPUT: -1, JOINED_ANSWER: 1}
_LINE = re.compile(rb"^[ \t]*\{.*\}[ \t\r]*$", re.MULTILINE)
_AT_ONCE_BYTES = 1024 * 1024
_BLANK = re.compile(rb"^[ \t\r\v\f]*\n", re.MULTILINE)
_LONG = re.compile(rb"[:\[,\n][ \t]*-?\d{19}|^-?\d{19}")
# A line that is null does not say what the others are.
LOOKED_AT = 1000
_NULL = re.compile(rb"^[ \t]*null[ \t\r]*$", re.MULTILINE)
_CHANGED = re.compile(r"Column\((.*)\) changed from (\w+) to (\w+)")
_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a line holds its columns.

    `wrapped`: a line is no object, and as a whole the value of this column. `lifted`: these members of the line stand
    for the column of that name, or (None) for a column for each of their own members.
    """

    wrapped: str | None = None
    lifted: tuple[tuple[str, str | None], ...] = ()

    @property
    def single(self) -> list[str]:
        """The columns that a value as a whole goes to."""
        return [name for name in (self.wrapped, *dict(self.lifted).values()) if name is not None]

    @classmethod
    def of(cls, value: Any, *, whole: str, joined: bool, first: str) -> Shape:
        """The shape of lines that hold such a value: `whole` names the column of an answer, `first` of an input."""
        if not isinstance(value, dict):
            return cls(wrapped=whole)
        lifted = [
            (member, None if isinstance(value[member], dict) else name)
            for member, name in ((JOINED_INPUT, first), (JOINED_ANSWER, whole))
            if joined and member in value
        ]
        return cls(lifted=tuple(lifted))


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
        self._shape = shape
        self._unknown: Literal["error", "ignore"] = "error" if shape.wrapped is not None else unknown
        self._types: dict[str, pa.DataType] | None = None  # not known yet
        self._declared = {column.name: column.type for column in columns or ()}
        self._spelled = {} if shape.wrapped is not None else spellings(self._declared, self._values(first))
        self._answers = answers
        self._bare: list[int] = []
        self._any_taken = False
        self._foreign: str | None = None
        if columns is None or None in self._declared.values():
            typed = {name: kind for name, kind in self._declared.items() if kind is not None}
            known = pa.schema(self._explicit_fields(typed))
            seen = read_or_blame(first, lambda block: self._parsed(block, known, infer=True), self._blame)
            found = {name: inferred(kind) for name, kind in self._flat(seen.schema).items()}
            self._check_long(
                first, {name for name in found if name not in typed and (columns is None or name in self._declared)}
            )
            if columns is None:
                self._declared = dict.fromkeys(found)
            # A column of no type that this side does not have is of the other side, or of none.
            both = {name: kind or found.get(name) for name, kind in self._declared.items()}
            types = {name: kind for name, kind in both.items() if kind is not None}
        else:
            types = {name: kind for name, kind in self._declared.items() if kind is not None}
        self._types = types
        self.schema = pa.schema(list(types.items()))
        self._explicit = pa.schema(self._explicit_fields(types))

    def read(self, block: Block) -> pa.Table:
        """A row for each line."""
        table = read_or_blame(block, self._read, self._blame)
        if self._unknown == "ignore":
            self._check_spelled(block, table)
            self._check_taken(block)
        return table

    def _values(self, block: Block) -> list[dict[str, Any]]:
        """The members of the first lines, as far as they are JSON."""
        found = []
        for line in block.data.split(b"\n", LOOKED_AT)[: min(block.count, LOOKED_AT)]:
            with suppress(ValueError, RecursionError):
                value = json.loads(line)
                if isinstance(value, dict):
                    found.append(self._members(value, renamed=False))
        return found

    def _check_long(self, block: Block, names: set[str]) -> None:
        """Raise `TableFailed` where whole numbers of more than 64 bits would become doubles unasked."""
        if not _LONG.search(block.data):
            return
        long: dict[str, int] = {}
        for index in range(block.count):
            try:
                value = json.loads(block.line(index)) if block.line(index).strip() else None
            except (ValueError, RecursionError):
                return
            if self._shape.wrapped is not None:
                value = {self._shape.wrapped: value}
            for name, member in (self._members(value) if isinstance(value, dict) else {}).items():
                if name in names:
                    leaves = list(_leaves(member))
                    if any(isinstance(leaf, float) for leaf in leaves):
                        names = names - {name}
                    elif any(isinstance(leaf, int) and not -(2**63) <= leaf < 2**63 for leaf in leaves):
                        long.setdefault(name, index)
        for name, index in long.items():
            if name in names:
                raise TableFailed(
                    f"{block.address}, line {block.numbers[index]}: column {name!r}: a whole number has more than "
                    "64 bits; say its type with --columns, such as decimal(38,0) or double"
                )

    def _check_spelled(self, block: Block, table: pa.Table) -> None:
        """Raise `TableFailed` where a column has nothing because a line spells the member in other letters."""
        lower: bytes | None = None
        for name in table.column_names:
            if not table.column(name).null_count or self._shape.wrapped is not None:
                continue
            member = self._spelled.get(name, name)
            lower = block.data.lower() if lower is None else lower
            if lower.count(b'"%s"' % member.lower().encode()) == block.data.count(b'"%s"' % member.encode()):
                continue
            lines = block.data.split(b"\n")
            for index in _rows_where(pc.is_null(table.column(name))):
                value = json.loads(lines[index]) if lines[index].strip() else None
                keys = self._members(value, renamed=False) if isinstance(value, dict) else {}
                other = next((key for key in keys if key.lower() == member.lower() and key != member), None)
                if other is not None and member not in keys:
                    raise TableFailed(
                        f"{block.address}, line {block.numbers[index]}: the member {other!r} is {member!r} elsewhere; "
                        "every line must spell it in one way"
                    )

    def _check_taken(self, block: Block) -> None:
        """Raise `TableFailed` where an answer has members and no column has one of them, as an error in its place."""
        if not self._answers or not self._types:
            return
        self._any_taken = self._any_taken or len(self._bare) < block.count
        if self._bare and self._foreign is None:
            lines = block.data.split(b"\n")
            known = {name.lower() for name in self._types}
            for index in self._bare:
                value = json.loads(lines[index]) if lines[index].strip() else None
                if isinstance(value, dict) and JOINED_ANSWER in dict(self._shape.lifted):
                    value = value.get(JOINED_ANSWER)
                if isinstance(value, dict) and value and not any(key.lower() in known for key in value):
                    self._foreign = (
                        f"{block.address}, line {block.numbers[index]}: the answer has {', '.join(map(shown, value))} "
                        f"and none of the columns that other answers have ({', '.join(self._types)}); name a member of "
                        "it with --columns, or let the model answer null"
                    )
                    break
        if self._any_taken and self._foreign is not None:
            raise TableFailed(self._foreign)

    def _explicit_fields(self, known: dict[str, pa.DataType]) -> list[tuple[str, pa.DataType]]:
        """What Arrow is told of a line: times are text at first, and what is lifted stands where it stands."""
        types = {name: pa.string() if is_time(kind) else kind for name, kind in known.items()}
        if self._shape.wrapped is not None:
            return [(name, kind) for name, kind in types.items() if name == self._shape.wrapped]
        lifted = dict(self._shape.lifted)
        single = {name for name in lifted.values() if name is not None}
        members = [(self._spelled.get(name, name), kind) for name, kind in types.items() if name not in single]
        fields = list(members)
        for member, name in lifted.items():
            if name is None:
                fields.append((member, pa.struct(members)))
            elif name in types:
                fields.append((member, types[name]))
        return fields

    def _flat(self, schema: pa.Schema) -> dict[str, pa.DataType]:
        """The columns that parsed lines have, with what is lifted in its place."""
        lifted = dict(self._shape.lifted)
        flat: dict[str, pa.DataType] = {}
        # What the job was sent stands before its answer, wherever Arrow found either.
        for field in sorted(schema, key=lambda field: _PLACES.get(field.name, 0) if field.name in lifted else 0):
            if field.name in lifted and lifted[field.name] is None and pa.types.is_struct(field.type):
                inner = {member.name: member.type for member in field.type}
            else:
                inner = {lifted.get(field.name) or field.name: field.type}
            columns = {member: name for name, member in self._spelled.items()}
            inner = {columns.get(member, member): kind for member, kind in inner.items()}
            if twice := next((name for name, kind in inner.items() if flat.get(name, kind) != kind), None):
                raise TableFailed(
                    f"the record and its answer have {twice!r} of different types; rename it in the answer"
                )
            flat |= inner
        return flat

    def _read(self, block: Block) -> pa.Table:
        parsed = self._parsed(block, self._explicit)
        arrays = []
        lifted = dict(self._shape.lifted)
        if self._answers and self._unknown == "ignore":
            self._bare = _bare(parsed, lifted)
        for name, kind in (self._types or {}).items():
            spelled = self._spelled.get(name, name)
            found = [parsed.column(member) for member, column in lifted.items() if column == name]
            if not found and spelled in parsed.column_names:
                found.append(parsed.column(spelled))
            found += [
                pa.chunked_array([chunk.field(spelled) for chunk in _unmasked(parsed.column(member))])
                for member, column in lifted.items()
                if column is None and member in parsed.column_names and not self._is_single(name)
            ]
            try:
                array = merged(found, name) if found else pa.chunked_array([pa.nulls(parsed.num_rows, kind)])
            except Disagreement as error:
                raise Unreadable(str(error)) from None
            arrays.append(times(array, kind) if is_time(kind) and pa.types.is_string(array.type) else array)
        if not arrays:
            return parsed.select([])
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _is_single(self, name: str) -> bool:
        return name in dict(self._shape.lifted).values()

    def _parsed(self, block: Block, schema: pa.Schema, *, infer: bool = False) -> pa.Table:
        data = block.data
        if may_have_blank(data):  # an empty answer
            data = _BLANK.sub(b"null\n", data)
        if self._shape.wrapped is not None:
            data = _wrap(data, self._shape.wrapped)
        elif not _objects_in_lines(data, block.count):
            data = _NULL.sub(b"{}", data)  # nothing in any column
            if not _objects_in_lines(data, block.count):
                raise Unreadable("a line is not an object")
        # Types are read off all of the block; and a line must fit into what Arrow reads at once.
        at_once = len(data) if infer else max(_AT_ONCE_BYTES, longest(data))
        unknown = "infer" if infer else self._unknown
        parsed = _parsed(data, schema, unknown, at_once)
        wide = _widened(schema)
        found = infinities(parsed) if wide != schema else 0
        if found and found != infinities(_parsed(data, wide, unknown, at_once)):
            raise Unreadable("a number is too large for a float")
        return parsed

    def _blame(self, line: bytes, error: Exception) -> str | None:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as reason:
            return f"it is not JSON ({reason}): {shown(line.decode(errors='replace'))}"
        wrapped = self._shape.wrapped
        if wrapped is None and not isinstance(value, dict):
            return f"it is {_KINDS.get(type(value), 'null')}, and the lines before are objects"
        flat = {wrapped: value} if wrapped is not None else self._members(value)
        types = self._types
        if types is None:
            types = {name: kind for name, kind in self._declared.items() if kind is not None}
        elif self._unknown == "error" and (unknown := [name for name in flat if name not in types]):
            known = ", ".join(types) or "none"
            return (
                f"there is no column for the member {unknown[0]!r} (columns: {known}); name those to take by --columns"
            )
        for name, kind in types.items():
            found = flat.get(name)
            if found is not None and not _is(found, kind):
                if self._declared.get(name) is None and _has_empty(found):
                    return (
                        f"column {name!r}: no type can be read off an empty object; say one with --columns "
                        "(struct<name:type>), or leave the column out there"
                    )
                further = "" if self._declared.get(name) is not None else "; say another type with --columns"
                return f"column {name!r}: {shown(found)} is not a {glue_name(kind)}{further}"
        changed = _CHANGED.search(str(error))
        return f"{changed[1].strip('/')!r} changes from {changed[2]} to {changed[3]}" if changed else None

    def _members(self, value: dict[str, Any], *, renamed: bool = True) -> dict[str, Any]:
        """The columns of a line and what they hold; not `renamed`, by the names that the line has."""
        flat: dict[str, Any] = {}
        lifted = dict(self._shape.lifted)
        for member, found in value.items():
            if member not in lifted:
                flat[member] = found
            elif lifted[member] is None and isinstance(found, dict):
                flat |= found
            else:
                flat[lifted[member] or member] = found
        if not renamed:
            return flat
        columns = {member: name for name, member in self._spelled.items()}
        return {columns.get(member, member): found for member, found in flat.items()}


def spellings(names: Iterable[str], values: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The member for each name that lines spell in other letters, as SQL makes no difference of case.

    Raises `TableFailed` where they spell it in several ways, and never as the name is spelled.
    """
    keys: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for value in values for key in value):
        keys.setdefault(key.lower(), []).append(key)
    found = {}
    for name in names:
        spelled = keys.get(name.lower(), [])
        if not spelled or name in spelled:
            continue
        if len(spelled) > 1:
            raise TableFailed(f"the column {name!r} may be either member, {spelled[0]!r} or {spelled[1]!r}")
        found[name] = spelled[0]
    return found


class Disagreement(Exception):
    """A record and its answer say different things. `index`: of the first such row."""

    def __init__(self, name: str, index: int) -> None:
        super().__init__(f"a record and its answer have different values of {name!r}; rename it in the answer")
        self.index = index


def merged(found: Sequence[pa.ChunkedArray], name: str) -> pa.ChunkedArray:
    """One column of what two sides have of it. Raises `Disagreement` where they say different things of one record."""
    first, *others = found
    for other in others:
        if other.null_count == len(other) or first.equals(other):
            continue
        both = pc.and_(pc.is_valid(first), pc.is_valid(other))
        if pa.types.is_nested(first.type):
            differ = [index for index in _rows_where(both) if first[index] != other[index]]
        else:
            unequal = pc.and_(both, pc.not_equal(first, other))
            if pa.types.is_floating(first.type):  # NaN is what it is on both sides
                unequal = pc.and_not(unequal, pc.and_(pc.is_nan(first), pc.is_nan(other)))
            differ = _rows_where(unequal)
        if differ:
            raise Disagreement(name, differ[0])
        first = other if first.null_count == len(first) else pc.coalesce(first, other)
    return first


def _rows_where(mask: pa.ChunkedArray) -> list[int]:
    """The indices of the rows for which it is true."""
    combined = mask.combine_chunks() if isinstance(mask, pa.ChunkedArray) else mask
    found: list[int] = pc.indices_nonzero(pc.fill_null(combined, fill_value=False)).to_pylist()
    return found


def _bare(parsed: pa.Table, lifted: Mapping[str, str | None]) -> list[int]:
    """The rows whose answer fills no column: all of the line, or what a joined line has of it."""
    columns = [parsed.column(name) for name in parsed.column_names]
    if JOINED_ANSWER in lifted:
        if lifted[JOINED_ANSWER] is not None or JOINED_ANSWER not in parsed.column_names:
            return []
        columns = parsed.column(JOINED_ANSWER).flatten()
    if not columns or any(not column.null_count for column in columns):
        return []
    return _rows_where(functools.reduce(pc.and_, [pc.is_null(column) for column in columns]))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    else:
        yield value


def _has_empty(value: Any) -> bool:
    if isinstance(value, dict):
        return not value or any(_has_empty(inner) for inner in value.values())
    return isinstance(value, list) and any(_has_empty(inner) for inner in value)


def _parsed(data: bytes, schema: pa.Schema, unknown: str, at_once: int) -> pa.Table:
    return arrow_json.read_json(
        pa.BufferReader(data),
        read_options=arrow_json.ReadOptions(block_size=at_once),
        parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unknown),
    )


def _widened(schema: pa.Schema) -> pa.Schema:
    """The same with doubles in the place of floats, which Arrow fills with infinity where a number is too large."""
    return pa.schema([(field.name, _wide(field.type)) for field in schema])


def _wide(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(_wide(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(member.name, _wide(member.type)) for member in kind])
    return pa.float64() if pa.types.is_float32(kind) else kind


def _unmasked(column: pa.ChunkedArray) -> Sequence[pa.StructArray]:
    """The chunks, with the nulls of the structs handed down to their members."""
    return [pa.StructArray.from_arrays(chunk.flatten(), fields=list(chunk.type)) for chunk in column.chunks]


def _objects_in_lines(data: bytes, count: int) -> bool:
    """Whether each line begins and ends an object: Arrow reads them wherever they begin."""
    plain = data.count(b"}\n{") == count - 1 and data[:1] == b"{" and data[-2:] == b"}\n"
    return plain or len(_LINE.findall(data)) == count


def _wrap(data: bytes, name: str) -> bytes:
    head = b'{"%s":' % json.dumps(name)[1:-1].encode()
    return head + data[:-1].replace(b"\n", b"}\n" + head) + b"}\n"


def _is(value: Any, kind: pa.DataType) -> bool:
    text = is_time(kind)
    line = json.dumps({"x": value}).encode() + b"\n"
    schema = pa.schema([("x", pa.string() if text else kind)])
    at_once = max(_AT_ONCE_BYTES, len(line))
    try:
        parsed = _parsed(line, schema, "error", at_once)
        if text:
            times(parsed.column("x"), kind)
        elif infinities(parsed) != infinities(_parsed(line, _widened(schema), "error", at_once)):
            return False
    except pa.ArrowException:
        return False
    return True
