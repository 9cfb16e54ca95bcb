"""What a store holds at one moment: names, sizes and tags, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Entry(NamedTuple):
    """One file or object. A tuple, because a listing has tens of thousands of them."""

    path: str
    """Below the repository, with `/` between the parts; with one at the end it is an empty folder."""
    size_bytes: int
    tag: str
    """Changes with the content: an ETag; the time and the number of a file."""
    changed_s: float
    """When it was written, by the store's own clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All entries by ascending path, at one moment of the store's own clock."""

    entries: tuple[Entry, ...]
    now_s: float
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Folders and files that are there and cannot be read, with the reason: they are not gone."""
    passing: frozenset[str] = frozenset()
    """Those of them whose reason may pass by itself, or by who looks after the disk; the rest is what it is."""
