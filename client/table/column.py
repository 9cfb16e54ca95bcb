"""The columns of a table: their names, and their types as Glue spells them and as Arrow does."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from tidegate.client.errors import TableFailed

DAY = "day"
ORIGIN = ("job", "input_file", "record")
"""The last columns of each file: which job, which object, and which record of it, from 0."""
SKIPPED = "-"
_PLAIN = {
    "boolean": pa.bool_(),
    "tinyint": pa.int8(),
    "smallint": pa.int16(),
    "int": pa.int32(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "binary": pa.binary(),
}
_LIMITED = r"(?:var)?char\(\s*(\d+)\s*\)"
_NAMES = {str(arrow): name for name, arrow in reversed(_PLAIN.items())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column. `type` None: to be read off the first block of the answers."""

    name: str
    type: pa.DataType | None = None
    max_chars: int | None = None
    """Of `varchar(10)` and `char(1)`; to Arrow they are texts of any length."""

    @property
    def skipped(self) -> bool:
        """Whether the cells at this place are left out."""
        return self.name == SKIPPED


def columns_of(text: str) -> tuple[Column, ...]:
    """`id:string, x:double, -, label` as columns. Raises `TableFailed` for what is no type, and a name said twice."""
    columns = []
    for word in _split(text, ","):
        name, colon, spelled = word.partition(":")
        if not name.strip() or (colon and not spelled.strip()):
            raise TableFailed(f"--columns {text}: write NAME or NAME:TYPE, with commas between")
        columns.append(column_of(name.strip(), spelled) if colon else Column(name=name.strip()))
    check_names(columns)
    return tuple(columns)


def column_of(name: str, spelled: str) -> Column:
    """The column of a type as Glue spells it. Raises `TableFailed`."""
    limit = re.fullmatch(_LIMITED, spelled.strip().lower())
    return Column(name=name, type=arrow_type(spelled), max_chars=int(limit[1]) if limit else None)


def check_members(types: Mapping[str, pa.DataType]) -> None:
    """Raise `TableFailed` where members of JSON cannot be columns by their own names."""
    check_names((Column(name=name) for name in types), way_out="leave it out by naming those to take with --columns")
    for name, kind in types.items():
        if not name or _has_nameless(kind):
            raise TableFailed(
                f"a member{f' of {name!r}' if name else ''} has an empty name, which no column can have; leave it out "
                "by naming those to take with --columns"
            )


def _has_nameless(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _has_nameless(kind.value_type)
    return bool(pa.types.is_struct(kind)) and any(not each.name or _has_nameless(each.type) for each in kind)


def check_names(columns: Iterable[Column], *, way_out: str = "name it otherwise") -> None:
    """Raise `TableFailed` where two columns have one name, or one has a name that every table has."""
    seen: set[str] = set()
    for column in columns:
        lower = column.name.lower()
        if column.skipped:
            continue
        if lower in {DAY, *ORIGIN}:
            raise TableFailed(f"the column {column.name!r} is one that the client fills itself; {way_out}")
        if lower in seen:
            raise TableFailed(f"the column {column.name!r} is named twice; SQL makes no difference of case")
        seen.add(lower)


def arrow_type(spelled: str) -> pa.DataType:
    """Arrow's type for Glue's, such as `array<double>`. Raises `TableFailed` naming what is no type here."""
    text = spelled.strip().lower()
    if text in _PLAIN:
        return _PLAIN[text]
    if found := re.fullmatch(r"decimal(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?", text):
        precision, scale = int(found[1] or 10), int(found[2] or 0)
        if 1 <= precision <= 38 and scale <= precision:
            return pa.decimal128(precision, scale)
    if re.fullmatch(_LIMITED, text):
        return pa.string()
    # Names of members keep their case.
    if found := re.fullmatch(r"array<(.+)>", spelled.strip(), re.IGNORECASE):
        return pa.list_(arrow_type(found[1]))
    if found := re.fullmatch(r"struct<(.+)>", spelled.strip(), re.IGNORECASE):
        members = [member.partition(":") for member in _split(found[1], ",")]
        if all(name.strip() and inner.strip() for name, _, inner in members):
            return pa.struct([(name.strip(), arrow_type(inner)) for name, _, inner in members])
    raise TableFailed(
        f"{spelled.strip()!r} is not a type of a column here; there are {', '.join(_PLAIN)}, decimal(10,2), "
        "array<double> and struct<name:type>"
    )


def glue_name(arrow: pa.DataType) -> str:
    """How Glue spells the type."""
    if pa.types.is_list(arrow):
        return f"array<{glue_name(arrow.value_type)}>"
    if pa.types.is_struct(arrow):
        return f"struct<{','.join(f'{member.name}:{glue_name(member.type)}' for member in arrow)}>"
    if pa.types.is_decimal(arrow):
        return f"decimal({arrow.precision},{arrow.scale})"
    return _NAMES.get(str(arrow), str(arrow))


def inferred(arrow: pa.DataType) -> pa.DataType:
    """The type that a column gets whose first block looks like `arrow`.

    Text stays text even where all of it so far looks like a time, and a column without values is text: what the first
    megabytes happen to hold must not refuse the rest.
    """
    if pa.types.is_list(arrow):
        return pa.list_(inferred(arrow.value_type))
    if pa.types.is_struct(arrow) and arrow.num_fields:  # Parquet has no struct without members
        return pa.struct([(member.name, inferred(member.type)) for member in arrow])
    kept = pa.types.is_boolean(arrow) or pa.types.is_int64(arrow) or pa.types.is_float64(arrow)
    return arrow if kept else pa.string()


def _split(text: str, separator: str) -> list[str]:
    """The parts between separators that stand in no brackets."""
    parts, depth, part = [], 0, ""
    for letter in text:
        depth += (letter in "<(") - (letter in ">)")
        if letter == separator and not depth:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [*parts, part]
