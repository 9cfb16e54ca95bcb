"""Which revision of a model answers, which is to take over, and what is tried again when. One model; no I/O.

A version's *target* is what the catalogue says. It answers as soon as it is loaded and has passed its check; until
then, and where it fails, the last good one does:

    number     its target, else the content of that number that passed before
    label      the version it stands for, else the one it stood for
    latest     the highest number, else the next

What fails is passed over until its back-off ends. A version that has left the catalogue answers to its number no more;
for `latest` or a label it bridges the time in which its successor is loaded, and goes when that is loaded or fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from tidegate.inference.errors import ModelLoadFailed, ModelLoading, ModelTooLarge, RequestError
from tidegate.inference.frontend.repository.resolving import LATEST, Key
from tidegate.inference.repository.catalogue import Model, Revision, VersionState

FIRST_RETRY_S = 10.0
LONGEST_RETRY_S = 600.0
FIRST_PASSING_RETRY_S = 1.0
INTERRUPTIONS = 3
"""In a row, after which a revision that never comes to load is taken for what it is that ends its workers."""
LONGEST_PASSING_RETRY_S = 60.0


class Fault(Enum):
    """Why a revision does not come to memory."""

    BROKEN = auto()
    """Its content: it cannot be unpacked, loaded, or fails its own check."""
    PASSING = auto()
    """The network, the store, or a worker that was lost while it loaded: requests wait, as it is tried again soon."""
    TOO_LARGE = auto()
    """It does not fit into the limits, whatever else goes."""
    BESIDE = auto()
    """It does not fit beside the one that it is to take over from, which goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The last failure of a revision, and when it is tried again."""

    fault: Fault
    reason: str
    tries: int
    retry_at_s: float
    on_disk: bool = False
    """Whether it could not even be brought to the disk: nobody can load it then, no script either."""
    private: bool = False
    """Whether the reason may hold paths of the container or what user code raised: clients are not told it."""

    def error(self, revision: Revision, now_s: float) -> RequestError:
        """What a request is told that nothing else can answer."""
        what = f"Version {revision.version} of the model '{revision.name}'"
        reason = "the server's log says why" if self.private else self.reason[:500].rstrip(". ")
        if self.fault is Fault.PASSING:
            wait_s = max(1, min(60, round(self.retry_at_s - now_s + 0.5)))
            return ModelLoading(f"{what} cannot be had at present: {reason}.", wait_s)
        if self.fault is Fault.BROKEN:
            return ModelLoadFailed(f"{what} could not be loaded: {reason}.")
        return ModelTooLarge(f"{what} does not fit: {reason}.")


def next_failure(
    before: Failure | None, fault: Fault, reason: str, now_s: float, *, on_disk: bool = False, private: bool = False
) -> Failure:
    """One more failure: what is passed over is so twice as long each time."""
    tries = before.tries + 1 if before is not None and before.fault is fault else 1
    first_s, longest_s = (
        (FIRST_PASSING_RETRY_S, LONGEST_PASSING_RETRY_S) if fault is Fault.PASSING else (FIRST_RETRY_S, LONGEST_RETRY_S)
    )
    retry_at_s = now_s + min(longest_s, first_s * 2 ** min(tries - 1, 20))
    return Failure(fault=fault, reason=reason, tries=tries, retry_at_s=retry_at_s, on_disk=on_disk, private=private)


@dataclass(slots=True)
class Line:
    """One number of a model: what it should be, and what of it was good here."""

    target: Revision | None = None
    good: Revision | None = None

    def revisions(self) -> Iterator[Revision]:
        """Both, the target first."""
        if self.target is not None:
            yield self.target
        if self.good is not None and self.good != self.target:
            yield self.good


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a key comes to now."""

    answer: Revision | None = None
    """Loaded: it answers."""
    wanted: Revision | None = None
    """Not loaded: it is to answer as soon as it is."""
    failed: Revision | None = None
    """The first that is passed over because it failed."""


@dataclass(slots=True)
class Switch:
    """One model. Keys that are `live` are answered now; what is to take over is loaded without anybody asking."""

    model: Model
    unload_first: bool = False
    lines: dict[int, Line] = field(default_factory=dict)
    live: set[Key] = field(default_factory=set)
    last: dict[Key, Revision] = field(default_factory=dict)
    """What answered each key last."""
    failures: dict[Revision, Failure] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.update(self.model)

    # --- what happens

    def update(self, model: Model) -> None:
        """The catalogue says something else. What is incomplete or invalid is not gone: its last good one stays."""
        self.model = model
        lines = {}
        for version in model.versions:
            line = self.lines.get(version.number) or Line()
            available = version.state is VersionState.AVAILABLE
            line.target = (
                Revision(name=model.name, version=version.number, digest=version.digest) if available else None
            )
            lines[version.number] = line
        self.lines = dict(sorted(lines.items(), reverse=True))
        self.live = {key for key in self.live if self.has(key)}
        self.last = {key: revision for key, revision in self.last.items() if self.has(key)}
        self.failures = {revision: failure for revision, failure in self.failures.items() if self.knows(revision)}

    def passed(self, revision: Revision) -> None:
        """A revision is loaded and has passed its check."""
        self.failures.pop(revision, None)
        line = self.lines.get(revision.version)
        if line is not None and line.target == revision:
            line.good = revision

    def failed(
        self,
        revision: Revision,
        fault: Fault,
        reason: str,
        now_s: float,
        *,
        on_disk: bool = False,
        private: bool = False,
    ) -> Failure:
        """It was not: pass it over for a while, twice as long each time."""
        before = self.failures.get(revision)
        failure = next_failure(before, fault, reason, now_s, on_disk=on_disk, private=private)
        if self.knows(revision):
            self.failures[revision] = failure
        return failure

    def may_pass(self, revision: Revision) -> bool:
        """Whether one more load that was interrupted says nothing about the content yet."""
        before = self.failures.get(revision)
        return before is None or (before.fault is Fault.PASSING and before.tries < INTERRUPTIONS)

    def cooled(self, revision: Revision) -> None:
        """It was evicted: what it answered is loaded again when somebody asks."""
        self.live = {key for key in self.live if self.last.get(key) != revision}

    # --- what follows

    def has(self, key: Key) -> bool:
        """Whether the catalogue still has what a key names."""
        return key == LATEST or (key in self.model.labels if isinstance(key, str) else key in self.lines)

    def knows(self, revision: Revision) -> bool:
        """Whether a revision is a target, or the last good one of a number that is still there."""
        line = self.lines.get(revision.version)
        return line is not None and revision in (line.target, line.good)

    def target(self, key: Key) -> Revision | None:
        """What the catalogue says about a key, loaded or not."""
        for number in self._numbers(key):
            if (target := self.lines[number].target) is not None:
                return target
        return None

    def plan(
        self,
        key: Key,
        now_s: float,
        loaded: Callable[[Revision], bool],
        stored: Callable[[Revision], bool],
        failure_of: Callable[[Revision], Failure | None] | None = None,
    ) -> Plan:
        """Who answers a key, and what is to be loaded for it. `stored`: whether a revision is on the disk.

        `failure_of` says what failed in the worker of a script, where it is about that.
        """
        failure_of = failure_of or self.failures.get
        wanted: Revision | None = None
        failed: Revision | None = None
        beside: Revision | None = None
        last = self.last.get(key)
        for number in self._numbers(key):
            for revision in self.lines[number].revisions():
                if loaded(revision):
                    if wanted is None or revision in (last, self.lines[wanted.version].good):
                        return self._answered(revision, wanted, failed)
                elif wanted is None and (revision == self.lines[number].target or stored(revision)):
                    failure = failure_of(revision)
                    if failure is None or now_s >= failure.retry_at_s:
                        wanted = revision
                    else:
                        failed = failed or revision
                        if failure.fault is Fault.BESIDE:
                            beside = beside or revision
        wanted = beside or wanted  # nothing is there that it would have to stand beside
        if wanted is not None and last is not None and loaded(last) and last.version not in self.lines:
            return self._answered(last, wanted, failed)
        return Plan(wanted=wanted, failed=failed)

    def _answered(self, answer: Revision, wanted: Revision | None, failed: Revision | None) -> Plan:
        failure = self.failures.get(wanted) if wanted is not None else None
        if self.unload_first and failure is not None and failure.fault in (Fault.BROKEN, Fault.TOO_LARGE):
            # To try once more would take away what answers. A new content, or whoever asks for that number, may.
            return Plan(answer=answer, failed=failed or wanted)
        return Plan(answer=answer, wanted=wanted, failed=failed)

    def _numbers(self, key: Key) -> Iterator[int]:
        if key == LATEST:
            yield from self.lines
            return
        number = self.model.labels.get(key) if isinstance(key, str) else key
        if number in self.lines:
            yield number
        last = self.last.get(key)
        if last is not None and last.version != number and last.version in self.lines:
            yield last.version
