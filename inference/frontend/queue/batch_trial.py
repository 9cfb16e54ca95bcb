"""A size of batches that is in trial, and the sizes that are not tried for a while. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

SAMPLES = 5
"""Batches of each of two sizes that are compared by their medians: two outliers decide nothing."""
REMEMBERED = 2 * SAMPLES
"""The most of them."""
MOST_UNGATHERED = 8
"""How often a trial may hold requests back in vain."""
REST_S, LONGEST_REST_S = 60.0, 3600.0
"""How long a size rests that was tried in vain; doubled each time."""
FAILED_REST_S, LONGEST_FAILED_REST_S = 3600.0, 8 * 3600.0
"""How long one rests that failed, as where memory ran out."""


@dataclass(slots=True, kw_only=True, eq=False)
class Trial:
    """A size that is tried. `wait_s` is how long a batch of it may wait, `seen_s` when it began or last had one."""

    size: int
    wait_s: float
    seen_s: float
    costs: list[float] = field(default_factory=list)
    """How many seconds each of its batches kept a worker, its wait included."""
    spans: list[float] = field(default_factory=list)
    """The same without the wait."""
    usual: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """How many seconds batches of the chosen size kept a worker meanwhile."""
    wanted: int = SAMPLES
    """How many there are to be."""
    not_whole: int = 0
    """Batches that were not one call, because they are being proved, or are of several kinds."""
    ungathered: int = 0
    """How often requests were held back in vain."""
    too_long: int = 0
    """Batches that went beyond the bound by far."""


def high(spans: Sequence[float]) -> float:
    """What all take but one: a single outlier is none of the model's."""
    return sorted(spans)[-2]


@dataclass(slots=True, kw_only=True)
class _Rest:
    until_s: float
    pause_s: float
    failed: bool
    level: bool


class Rests:
    """Sizes that are not tried now, each for twice as long as the last time."""

    def __init__(self) -> None:
        self._by_size: dict[int, _Rest] = {}

    def add(self, size: int, now_s: float, *, failed: bool = False, level: bool = False) -> None:
        """Let a size rest: it failed; it is neither better nor worse (`level`), so that the next may be; or neither."""
        first_s, longest_s = (FAILED_REST_S, LONGEST_FAILED_REST_S) if failed else (REST_S, LONGEST_REST_S)
        before = self._by_size.get(size)
        pause_s = first_s if before is None else max(first_s, min(2 * before.pause_s, longest_s))
        self._by_size[size] = _Rest(until_s=now_s + pause_s, pause_s=pause_s, failed=failed, level=level)

    def has(self, size: int, now_s: float) -> bool:
        """Whether a size rests: it, or a smaller one that failed."""
        resting = ((tried, each) for tried, each in self._by_size.items() if now_s < each.until_s)
        return any(tried == size or (each.failed and tried < size) for tried, each in resting)

    def level(self, size: int, now_s: float) -> bool:
        """Whether a size rests and is as good as what is chosen."""
        rest = self._by_size.get(size)
        return rest is not None and now_s < rest.until_s and rest.level

    def forget_slow(self) -> None:
        """Forget all but those that failed: they may be faster now."""
        self._by_size = {size: rest for size, rest in self._by_size.items() if rest.failed}
