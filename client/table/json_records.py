"""Lines of JSON as columns by the names of their members."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from tidegate.client.errors import TableFailed
from tidegate.client.table.column import Column, glue_name, inferred
from tidegate.client.table.lines import Block, longest
from tidegate.client.table.records import Unreadable, read_or_blame, shown
from tidegate.client.table.times import is_time, times

JOINED_INPUT, JOINED_ANSWER = "SageMakerInput", "SageMakerOutput"
_PLACES = {JOINED_INPUT: -1, JOINED_ANSWER: 1}
_LINE = re.compile(rb"^[ \t]*\{.*\}[ \t\r]*$", re.MULTILINE)
_AT_ONCE_BYTES = 1024 * 1024
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

    `columns` None: all members of the first block. `unknown`: what becomes of members without a column.
    """

    def __init__(
        self,
        columns: Sequence[Column] | None,
        *,
        shape: Shape,
        first: Block,
        unknown: Literal["error", "ignore"] = "error",
    ) -> None:
        self._shape = shape
        self._unknown: Literal["error", "ignore"] = "error" if shape.wrapped is not None else unknown
        self._types: dict[str, pa.DataType] | None = None  # not known yet
        self._declared = {column.name: column.type for column in columns or ()}
        if columns is None or None in self._declared.values():
            typed = {name: kind for name, kind in self._declared.items() if kind is not None}
            known = pa.schema(self._explicit_fields(typed))
            seen = read_or_blame(first, lambda block: self._parsed(block, known, infer=True), self._blame)
            found = {name: inferred(kind) for name, kind in self._flat(seen.schema).items()}
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
        return read_or_blame(block, self._read, self._blame)

    def _explicit_fields(self, known: dict[str, pa.DataType]) -> list[tuple[str, pa.DataType]]:
        """What Arrow is told of a line: times are text at first, and what is lifted stands where it stands."""
        types = {name: pa.string() if is_time(kind) else kind for name, kind in known.items()}
        if self._shape.wrapped is not None:
            return [(name, kind) for name, kind in types.items() if name == self._shape.wrapped]
        lifted = dict(self._shape.lifted)
        single = {name for name in lifted.values() if name is not None}
        members = [(name, kind) for name, kind in types.items() if name not in single]
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
        for name, kind in (self._types or {}).items():
            found = [parsed.column(member) for member, column in lifted.items() if column == name]
            if not found and name in parsed.column_names:
                found.append(parsed.column(name))
            found += [
                pa.chunked_array([chunk.field(name) for chunk in _unmasked(parsed.column(member))])
                for member, column in lifted.items()
                if column is None and member in parsed.column_names and not self._is_single(name)
            ]
            array = merged(found, name) if found else pa.chunked_array([pa.nulls(parsed.num_rows, kind)])
            arrays.append(times(array, kind) if is_time(kind) and pa.types.is_string(array.type) else array)
        if not arrays:
            return parsed.select([])
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _is_single(self, name: str) -> bool:
        return name in dict(self._shape.lifted).values()

    def _parsed(self, block: Block, schema: pa.Schema, *, infer: bool = False) -> pa.Table:
        data = block.data
        if self._shape.wrapped is not None:
            data = _wrap(data, self._shape.wrapped)
        elif not _objects_in_lines(data, block.count):
            data = _NULL.sub(b"{}", data)  # nothing in any column
            if not _objects_in_lines(data, block.count):
                raise Unreadable("a line is not an object")
        # Types are read off all of the block; and a line must fit into what Arrow reads at once.
        at_once = len(data) if infer else max(_AT_ONCE_BYTES, longest(data))
        return arrow_json.read_json(
            pa.BufferReader(data),
            read_options=arrow_json.ReadOptions(block_size=at_once),
            parse_options=arrow_json.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior="infer" if infer else self._unknown
            ),
        )

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
                further = "" if self._declared.get(name) is not None else "; say another type with --columns"
                return f"column {name!r}: {shown(found)} is not a {glue_name(kind)}{further}"
        changed = _CHANGED.search(str(error))
        return f"{changed[1].strip('/')!r} changes from {changed[2]} to {changed[3]}" if changed else None

    def _members(self, value: dict[str, Any]) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        lifted = dict(self._shape.lifted)
        for member, found in value.items():
            if member not in lifted:
                flat[member] = found
            elif lifted[member] is None and isinstance(found, dict):
                flat |= found
            else:
                flat[lifted[member] or member] = found
        return flat


def merged(found: Sequence[pa.ChunkedArray], name: str) -> pa.ChunkedArray:
    """One column of what two sides have of it. Raises `TableFailed` where they say different things of one record."""
    first, *others = found
    for other in others:
        if other.null_count == len(other) or first.equals(other):
            continue
        both = pc.and_(pc.is_valid(first), pc.is_valid(other))
        if pc.any(both).as_py() and (
            pa.types.is_nested(first.type) or pc.any(pc.and_(both, pc.not_equal(first, other))).as_py()
        ):
            raise TableFailed(f"a record and its answer have different values of {name!r}; rename it in the answer")
        first = other if first.null_count == len(first) else pc.coalesce(first, other)
    return first


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
    try:
        parsed = arrow_json.read_json(
            pa.BufferReader(line),
            parse_options=arrow_json.ParseOptions(
                explicit_schema=pa.schema([("x", pa.string() if text else kind)]), unexpected_field_behavior="error"
            ),
        ).column("x")
        if text:
            times(parsed, kind)
    except pa.ArrowException:
        return False
    return True
