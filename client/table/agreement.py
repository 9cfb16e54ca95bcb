"""One column of what a record and its answer both have of it."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tidegate.client.table.records import rows_where


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
            differ = [index for index in rows_where(both) if first[index] != other[index]]
        else:
            unequal = pc.and_(both, pc.not_equal(first, other))
            if pa.types.is_floating(first.type):  # NaN is what it is on both sides
                unequal = pc.and_not(unequal, pc.and_(pc.is_nan(first), pc.is_nan(other)))
            differ = rows_where(unequal)
        if differ:
            raise Disagreement(name, differ[0])
        first = other if first.null_count == len(first) else pc.coalesce(first, other)
    return first
