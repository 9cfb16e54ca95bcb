"""Decides for a model repository: what is fetched, loaded, switched to, evicted, and who waits for it. No I/O.

The shell tells what happened, with the time, and carries out the actions that come back, in their order:

    now_s = monotonic()
    revision = librarian.find(selector, now_s)            # warm: two look-ups and a time stamp
    if revision is None:
        carry_out(librarian.want(waiter, selector, now_s, deadline_s))     # Grant or Refuse ends it, perhaps at once

`Grant` is carried out by handing the request to the revision's pool. Whoever awaits anything between the grant and that
asks `find` again. `timer_s` says when `tick` is to be called, whatever happens; it may have changed after each call.

Laws:
* A revision answers only after it was loaded here and passed its check, and only where the catalogue says it, or said
  it last before what came after turned out not to load.
* Nothing is loaded or fetched before its room is reserved; what must go is gone (`unloaded`, `removed`) before.
* Whoever waits is granted or refused exactly once, at the latest when its deadline has passed.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field

from tidegate.inference.frontend.repository.actions import Action, Place
from tidegate.inference.frontend.repository.choice import Selector
from tidegate.inference.repository.catalogue import Model, Revision


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be held at one time; None is no limit. What is coming and what is going counts as what is there."""

    max_loaded_models: int
    max_loaded_bytes: int | None = None
    max_disk_models: int | None = None
    max_disk_bytes: int | None = None
    max_waiters: int = 10_000
    """Requests that wait for a load at one time."""
    workers: int = 1
    """Of one model: the first guess at its memory is what it takes on disk times this."""


@dataclass(slots=True, kw_only=True)
class Counts:
    """For `/metrics`; they only grow."""

    hits: int = 0
    """Requests whose revision was loaded."""
    misses: int = 0
    """Requests that had to wait for a fetch or a load."""
    loads: int = 0
    load_failures: int = 0
    fetches: int = 0
    fetch_failures: int = 0
    evictions: int = 0
    """From memory, to make room."""
    disk_evictions: int = 0
    switches: int = 0
    """Times that another revision took over while the old one was loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionReport:
    """One version as `/models` shows it."""

    version: int
    labels: tuple[str, ...]
    state: str
    """`loaded`, `available`, `loading`, `failed` or `invalid`."""
    reason: str
    bytes: int | None
    """In memory where it is loaded, else on disk as the listing says."""
    last_used_s: float | None
    """On the clock of `now_s`; None: never."""
    load_s: float | None
    """How long its last load took."""
    serving: Revision | None
    """What answers for it now: another digest than the catalogue's while that one is not loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """One model as `/models` shows it."""

    name: str
    reason: str
    versions: tuple[VersionReport, ...] = ()


@dataclass(slots=True)
class Librarian:
    """One for each server that has a repository. `pinned` names models whose `latest` is loaded and never evicted."""

    limits: Limits
    unload_first: bool = False
    pinned: Collection[str] = ()
    counts: Counts = field(default_factory=Counts)

    # --- requests

    def find(self, selector: Selector, now_s: float) -> Revision | None:
        """The loaded revision that answers a selector, and note its use; None: ask `want`."""
        raise NotImplementedError

    def want(
        self, waiter: Hashable, selector: Selector, now_s: float, deadline_s: float, *, worker: int | None = None
    ) -> list[Action]:
        """Ask for a selector's revision, for a request or (`worker`) for a script's `get_model` in that worker.

        `Grant` or `Refuse` follows, in this answer or a later one. Raises the four errors of `resolving`, `Overloaded`.
        For a script, `Load` names the worker: it loads then, and `loaded` or `load_failed` of that place is told.
        """
        raise NotImplementedError

    def leave(self, waiter: Hashable, now_s: float) -> list[Action]:
        """The client has left: it is told nothing more."""
        raise NotImplementedError

    def unload(self, name: str, now_s: float) -> list[Action]:
        """Somebody asked to have a model out of memory, pinned or not; the next request loads it again."""
        raise NotImplementedError

    # --- the repository

    def kept(self, revision: Revision, directory: str, size_bytes: int, now_s: float) -> list[Action]:
        """A revision is on the disk from an earlier life."""
        raise NotImplementedError

    def changed(self, models: Iterable[Model], removed: Iterable[str], now_s: float) -> list[Action]:
        """Models are new, different or gone."""
        raise NotImplementedError

    def listed(self, now_s: float) -> list[Action]:
        """A listing was good and is told in full: what is on the disk for no model goes; the pinned are loaded."""
        raise NotImplementedError

    def fetched(self, revision: Revision, directory: str, size_bytes: int, now_s: float) -> list[Action]:
        """A revision is on the disk and verified."""
        raise NotImplementedError

    def fetch_failed(
        self, revision: Revision, reason: str, now_s: float, *, passing: bool, needed_bytes: int | None = None
    ) -> list[Action]:
        """A revision could not be brought; it takes nothing on the disk."""
        raise NotImplementedError

    def removed(self, revision: Revision, now_s: float) -> list[Action]:
        """A directory is gone."""
        raise NotImplementedError

    def repository_lost(self, now_s: float) -> list[Action]:
        """The repository's process died: what it did is forgotten. Nothing is asked of it until `repository_back`."""
        raise NotImplementedError

    def repository_back(self, now_s: float) -> list[Action]:
        """It runs again, and has told what is `kept`."""
        raise NotImplementedError

    # --- memory

    def loaded(self, place: Place, memory_bytes: int, now_s: float) -> list[Action]:
        """A revision is loaded, checked and measured (host and GPU)."""
        raise NotImplementedError

    def load_failed(self, place: Place, reason: str, now_s: float, *, too_large: bool = False) -> list[Action]:
        """A load failed, or a revision that was loaded cannot be kept up. Its memory is free."""
        raise NotImplementedError

    def unloaded(self, place: Place, now_s: float) -> list[Action]:
        """What `Unload` or `Drop` asked for is done, its memory is free; also said of a load that it ended."""
        raise NotImplementedError

    def measured(self, place: Place, memory_bytes: int, now_s: float) -> list[Action]:
        """What a loaded revision takes has changed."""
        raise NotImplementedError

    def worker_gone(self, worker: int, now_s: float) -> list[Action]:
        """A worker whose script held revisions ended, and its memory is free."""
        raise NotImplementedError

    def free_memory(self, spare_bytes: int | None) -> None:
        """What the machine can spare beyond `TIDEGATE_MIN_FREE_MEMORY_BYTES`, told before other calls; None: plenty."""
        raise NotImplementedError

    # --- time

    @property
    def timer_s(self) -> float:
        """When `tick` is to be called; infinite: not at all."""
        raise NotImplementedError

    def tick(self, now_s: float) -> list[Action]:
        """Deadlines have passed, back-offs have ended."""
        raise NotImplementedError

    # --- what people see

    def names(self) -> list[str]:
        """All models, in order."""
        raise NotImplementedError

    def report(self, name: str) -> ModelReport:
        """One of them. Raises `ModelNotFound`."""
        raise NotImplementedError
