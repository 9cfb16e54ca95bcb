"""What the librarian wants done. The shell carries these values out, in their order.

Fetch ─▶ fetched | fetch_failed          RemoveFromDisk ─▶ removed
Load ─▶ loaded | load_failed             Unload, Drop ─▶ unloaded
Grant, Refuse: the end of a `Librarian.want`
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from tidegate.inference.errors import RequestError
from tidegate.inference.frontend.queue.actions import Log
from tidegate.inference.repository.catalogue import Revision


class Place(NamedTuple):
    """Where a revision is in memory: in workers of its own (`worker` is None), or in a worker whose script took it."""

    revision: Revision
    worker: int | None = None


class Fetch(NamedTuple):
    """Have the repository's process bring a revision to the disk, in no more than `max_bytes` where that is given."""

    revision: Revision
    max_bytes: int | None


class CancelFetch(NamedTuple):
    """Nobody wants it any more. `fetch_failed` (or `fetched`) is told as ever."""

    revision: Revision


class RemoveFromDisk(NamedTuple):
    """Remove a fetched directory. It is neither loaded nor loading."""

    revision: Revision
    directory: str


class Load(NamedTuple):
    """Start a pool of workers on a directory, and have it check itself. Its memory is reserved."""

    place: Place
    directory: str
    reserved_bytes: int


class Unload(NamedTuple):
    """Take no more traffic, finish what is computed or waits, end the workers. Also ends a load that is under way."""

    revision: Revision
    reason: str
    """`evicted`, `replaced`, `removed`, `too_large` or `asked`."""
    idle_s: float | None
    """Of what was evicted to make room: how long ago it was last used. Small numbers mean that the limits are."""


class Drop(NamedTuple):
    """Have a worker let go of a revision that its script took, and free its caches."""

    worker: int
    revision: Revision
    reason: str
    idle_s: float | None


class Grant(NamedTuple):
    """The revision is loaded: hand the request to its pool now. It comes before any `Unload` of the same revision."""

    waiter: Hashable
    place: Place
    directory: str


class Refuse(NamedTuple):
    """The request is answered with this error; a 503 among them says when to come back (`retry_after_s`)."""

    waiter: Hashable
    error: RequestError


__all__ = [
    "Action",
    "CancelFetch",
    "Drop",
    "Fetch",
    "Grant",
    "Load",
    "Log",
    "Place",
    "Refuse",
    "RemoveFromDisk",
    "Unload",
]

Action = Fetch | CancelFetch | RemoveFromDisk | Load | Unload | Drop | Grant | Refuse | Log
