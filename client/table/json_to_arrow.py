"""Lines of JSON read by Arrow, one row for each, and no number made infinite that is too large for a float."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

import pyarrow as pa
from pyarrow import json as arrow_json

from tidegate.client.table.lines import Block, longest, may_have_blank
from tidegate.client.table.records import Unreadable, infinities
from tidegate.client.table.times import is_time, times

Unknown = Literal["error", "ignore", "infer"]
_AT_ONCE_BYTES = 1024 * 1024
_BLANK = re.compile(rb"^[ \t\r\v\f]*\n", re.MULTILINE)
_LINE = re.compile(rb"^[ \t]*\{.*\}[ \t\r]*$", re.MULTILINE)
_NULL = re.compile(rb"^[ \t]*null[ \t\r]*$", re.MULTILINE)


def to_arrow(block: Block, schema: pa.Schema, *, wrapped: str | None, unknown: Unknown) -> pa.Table:
    """The members of each line, those of `schema` in its types.

    `wrapped`: lines are no objects, and go to this column as a whole. `unknown`: what becomes of members that `schema`
    does not have. Raises `Unreadable` or `ArrowException` for what does not fit.
    """
    data = block.data
    if may_have_blank(data):  # an empty answer
        data = _BLANK.sub(b"null\n", data)
    if wrapped is not None:
        data = _wrap(data, wrapped)
    elif not _objects_in_lines(data, block.count):
        data = _NULL.sub(b"{}", data)  # nothing in any column
        if not _objects_in_lines(data, block.count):
            raise Unreadable("a line is not an object")
    # Types are read off all of the block; and a line must fit into what Arrow reads at once.
    at_once = len(data) if unknown == "infer" else max(_AT_ONCE_BYTES, longest(data))
    return _finite(data, schema, unknown, at_once)


def fits(value: Any, kind: pa.DataType) -> bool:
    """Whether a column of this type can hold the value."""
    line = json.dumps({"x": value}).encode() + b"\n"
    schema = pa.schema([("x", pa.string() if is_time(kind) else kind)])
    try:
        parsed = _finite(line, schema, "error", max(_AT_ONCE_BYTES, len(line)))
        if is_time(kind):
            times(parsed.column("x"), kind)
    except (pa.ArrowException, Unreadable):
        return False
    return True


def _finite(data: bytes, schema: pa.Schema, unknown: Unknown, at_once: int) -> pa.Table:
    """What Arrow reads. Raises `Unreadable` where it would make a number infinite that is too large for a float."""
    parsed = _parsed(data, schema, unknown, at_once)
    wide = pa.schema([(field.name, _wide(field.type)) for field in schema])
    found = infinities(parsed) if wide != schema else 0
    if found and found != infinities(_parsed(data, wide, unknown, at_once)):
        raise Unreadable("a number is too large for a float")
    return parsed


def _parsed(data: bytes, schema: pa.Schema, unknown: Unknown, at_once: int) -> pa.Table:
    return arrow_json.read_json(
        pa.BufferReader(data),
        read_options=arrow_json.ReadOptions(block_size=at_once),
        parse_options=arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unknown),
    )


def _wide(kind: pa.DataType) -> pa.DataType:
    """The same with doubles in the place of floats."""
    if pa.types.is_list(kind):
        return pa.list_(_wide(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(member.name, _wide(member.type)) for member in kind])
    return pa.float64() if pa.types.is_float32(kind) else kind


def _objects_in_lines(data: bytes, count: int) -> bool:
    """Whether each line begins and ends an object: Arrow reads them wherever they begin."""
    plain = data.count(b"}\n{") == count - 1 and data[:1] == b"{" and data[-2:] == b"}\n"
    return plain or len(_LINE.findall(data)) == count


def _wrap(data: bytes, name: str) -> bytes:
    head = b'{"%s":' % json.dumps(name)[1:-1].encode()
    return head + data[:-1].replace(b"\n", b"}\n" + head) + b"}\n"
