"""Dates and moments from text, vectorised: with a zone they are taken to UTC, without one they are as they stand."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

_ZONE = r":\d\d(\.\d+)?\s*(Z|[+-]\d\d(:?\d\d)?)$"


def is_time(kind: pa.DataType) -> bool:
    """Whether columns of this type are read as text first."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def times(text: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The dates or moments that `text` spells in ISO 8601. Raises `ArrowInvalid` for what spells none."""
    if pa.types.is_date(kind):
        return pc.cast(text, kind)
    zoned = pc.match_substring_regex(text, _ZONE)
    if not pc.any(zoned).as_py():
        return pc.cast(text, kind)
    nothing = pa.scalar(None, pa.string())
    in_utc = pc.cast(pc.if_else(zoned, text, nothing), pa.timestamp(kind.unit, "UTC"))
    return pc.coalesce(pc.cast(in_utc, kind), pc.cast(pc.if_else(zoned, nothing, text), kind))
