"""What a line of JSON is blamed for."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

import pyarrow as pa

from tidegate.client.table.column import glue_name
from tidegate.client.table.json_shape import Members
from tidegate.client.table.json_to_arrow import Unknown, fits
from tidegate.client.table.records import shown

_CHANGED = re.compile(r"Column\((.*)\) changed from (\w+) to (\w+)")
_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


def blame(
    line: bytes,
    error: Exception,
    *,
    members: Members,
    types: Mapping[str, pa.DataType],
    said: Collection[str],
    unknown: Unknown,
) -> str | None:
    """Why a line does not fit the columns of `types`, of which the caller has `said` some; None: only `error` knows."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as reason:
        return f"it is not JSON ({reason}): {shown(line.decode(errors='replace'))}"
    if members.shape.wrapped is None and not isinstance(value, dict):
        return f"it is {_KINDS.get(type(value), 'null')}, and the lines before are objects"
    columns = members.columns(value)
    if unknown == "error" and (further := next((name for name in columns if name not in types), None)) is not None:
        known = ", ".join(types) or "none"
        return f"there is no column for the member {further!r} (columns: {known}); name those to take by --columns"
    for name, kind in types.items():
        found = columns.get(name)
        if found is not None and not fits(found, kind):
            return _misfit(name, found, kind, said=name in said)
    changed = _CHANGED.search(str(error))
    return f"{changed[1].strip('/')!r} changes from {changed[2]} to {changed[3]}" if changed else None


def _misfit(name: str, found: Any, kind: pa.DataType, *, said: bool) -> str:
    if not said and _has_empty(found):
        return (
            f"column {name!r}: no type can be read off an empty object; say one with --columns "
            "(struct<name:type>), or leave the column out there"
        )
    way_out = "" if said else "; say another type with --columns"
    return f"column {name!r}: {shown(found)} is not a {glue_name(kind)}{way_out}"


def _has_empty(value: Any) -> bool:
    if isinstance(value, dict):
        return not value or any(_has_empty(inner) for inner in value.values())
    return isinstance(value, list) and any(_has_empty(inner) for inner in value)
