"""Where each column stands in a line of JSON: as a member, as a member of what SageMaker joined, or as all of it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tidegate.client.errors import TableFailed
from tidegate.client.table.lines import Block
from tidegate.client.table.times import is_time

JOINED_INPUT, JOINED_ANSWER = "SageMakerInput", "SageMakerOutput"
_PLACES = {JOINED_INPUT: -1, JOINED_ANSWER: 1}
# A line that is null does not say what the others are.
LOOKED_AT = 1000


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

    def members(self, value: Any) -> dict[str, Any]:
        """What a line holds, by the names that it has itself, with what is lifted in its place."""
        if self.wrapped is not None:
            return {self.wrapped: value}
        found: dict[str, Any] = {}
        lifted = dict(self.lifted)
        for member, inner in value.items() if isinstance(value, dict) else ():
            if member not in lifted:
                found[member] = inner
            elif lifted[member] is None and isinstance(inner, dict):
                found |= inner
            else:
                found[lifted[member] or member] = inner
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """Which member of a line each column is: of its own name, or of one in other letters."""

    shape: Shape
    spelled: Mapping[str, str]
    """The member of each column that lines spell in other letters."""

    @classmethod
    def of(cls, shape: Shape, names: Collection[str], first: Block) -> Members:
        """As the first lines spell these columns.

        Raises `TableFailed` where they do so in several ways, and for a column of the name that holds others.
        """
        if shape.wrapped is not None:
            return cls(shape=shape, spelled={})
        holders = {member.lower() for member, column in shape.lifted if column is None}
        # Arrow ends the process where a schema has a name twice.
        if taken := next((name for name in names if name.lower() in holders), None):
            raise TableFailed(
                f"there is no column for {taken!r} as a whole: it holds an object in the lines of this job, and each "
                "of its members is a column; name those"
            )
        return cls(shape=shape, spelled=_spellings(names, map(shape.members, _objects(first))))

    def spelling(self, name: str) -> str:
        """The member that is this column."""
        return self.spelled.get(name, name)

    def columns(self, value: Any) -> dict[str, Any]:
        """The columns of a line and what they hold."""
        return self._renamed(self.shape.members(value))

    def schema(self, types: Mapping[str, pa.DataType]) -> pa.Schema:
        """Lines as Arrow is to read them: times are text at first, and what is lifted stands where it stands."""
        types = {name: pa.string() if is_time(kind) else kind for name, kind in types.items()}
        if self.shape.wrapped is not None:
            return pa.schema([(name, kind) for name, kind in types.items() if name == self.shape.wrapped])
        lifted = dict(self.shape.lifted)
        members = [(self.spelling(name), kind) for name, kind in types.items() if name not in lifted.values()]
        fields = list(members)
        for member, name in lifted.items():
            if name is None:
                fields.append((member, pa.struct(members)))
            elif name in types:
                fields.append((member, types[name]))
        return pa.schema(fields)

    def types(self, parsed: pa.Schema) -> dict[str, pa.DataType]:
        """The columns of lines that Arrow has read. Raises `TableFailed` where two of one name have different types."""
        lifted = dict(self.shape.lifted)
        types: dict[str, pa.DataType] = {}
        # What the job was sent stands before its answer, wherever Arrow found either.
        for field in sorted(parsed, key=lambda field: _PLACES.get(field.name, 0) if field.name in lifted else 0):
            if field.name in lifted and lifted[field.name] is None and pa.types.is_struct(field.type):
                inner = {member.name: member.type for member in field.type}
            else:
                inner = {lifted.get(field.name) or field.name: field.type}
            inner = self._renamed(inner)
            if twice := next((name for name, kind in inner.items() if types.get(name, kind) != kind), None):
                raise TableFailed(
                    f"the record and its answer have {twice!r} of different types; rename it in the answer"
                )
            types |= inner
        return types

    def arrays(self, parsed: pa.Table, name: str) -> list[pa.ChunkedArray]:
        """All that lines which Arrow has read hold of a column: a joined line may have it twice, or none at all."""
        member = self.spelling(name)
        lifted = self.shape.lifted
        whole = [parsed.column(outer) for outer, column in lifted if column == name]
        if whole:
            return whole
        found = [parsed.column(member)] if member in parsed.column_names else []
        return found + [
            pa.chunked_array([chunk.field(member) for chunk in _unmasked(parsed.column(outer))])
            for outer, column in lifted
            if column is None and outer in parsed.column_names
        ]

    def _renamed(self, members: dict[str, Any]) -> dict[str, Any]:
        columns = {member: name for name, member in self.spelled.items()}
        return {columns.get(member, member): found for member, found in members.items()}


def _objects(block: Block) -> Iterator[dict[str, Any]]:
    """The first lines, as far as they are JSON objects."""
    for line in block.data.split(b"\n", LOOKED_AT)[: min(block.count, LOOKED_AT)]:
        with suppress(ValueError, RecursionError):
            value = json.loads(line)
            if isinstance(value, dict):
                yield value


def _spellings(names: Iterable[str], lines: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The member for each name that lines spell in other letters, as SQL makes no difference of case.

    Raises `TableFailed` where they spell it in several ways, and never as the name is spelled.
    """
    keys: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for members in lines for key in members):
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


def _unmasked(column: pa.ChunkedArray) -> Sequence[pa.StructArray]:
    """The chunks, with the nulls of the structs handed down to their members."""
    return [pa.StructArray.from_arrays(chunk.flatten(), fields=list(chunk.type)) for chunk in column.chunks]
