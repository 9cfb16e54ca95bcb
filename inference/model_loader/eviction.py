"""What goes from a full cache so that something else has room. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A file of the cache."""

    path: Path
    size_bytes: int
    """What it takes, or will take when all of it is there."""
    used_s: float
    """When it was used last, on any clock that is the same for all."""
    in_use: bool


def to_evict(held: Iterable[Held], *, needed_bytes: int, max_bytes: int) -> list[Held] | None:
    """The least recently used of those that nobody uses, as few as it takes; None where that is not enough."""
    held = list(held)
    excess = sum(each.size_bytes for each in held) + needed_bytes - max_bytes
    chosen: list[Held] = []
    for each in sorted((each for each in held if not each.in_use), key=lambda each: each.used_s):
        if excess <= 0:
            break
        chosen.append(each)
        excess -= each.size_bytes
    return None if excess > 0 else chosen
