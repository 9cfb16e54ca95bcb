"""Metrics in memory: for each series, and each minute of the cloud's clock, a tally that has every statistic.

Percentiles come from a histogram with buckets 1 % apart, as CloudWatch itself does not keep single values either.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

MINUTE_S = 60
KEPT = timedelta(days=15)  # "Metrics retention": periods of 60 seconds are there for 15 days
_STATISTIC = re.compile(r"Sum|Average|Minimum|Maximum|SampleCount|p(100(\.0*)?|[0-9]{1,2}(\.[0-9]{0,10})?)")
_STEP = math.log(1.01)
_ZERO = -(10**6)  # the bucket of what has no logarithm


@dataclass(frozen=True, slots=True)
class Series:
    """Which series: two with other dimensions are two, and no sum of one another."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]  # sorted by name

    @classmethod
    def of(cls, namespace: str, name: str, dimensions: Mapping[str, str]) -> Series:
        return cls(namespace, name, tuple(sorted(dimensions.items())))


@dataclass(slots=True)
class Tally:
    """What was seen of a series within a time."""

    count: float = 0.0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    buckets: dict[int, float] = field(default_factory=dict)  # empty where only statistics were put

    def add(self, value: float, times: float = 1.0) -> None:
        self.count += times
        self.total += value * times
        self.least = min(self.least, value)
        self.most = max(self.most, value)
        bucket = int(math.log(value) // _STEP) if value > 0 else _ZERO
        self.buckets[bucket] = self.buckets.get(bucket, 0.0) + times

    def merge(self, other: Tally) -> None:
        self.count += other.count
        self.total += other.total
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)
        for bucket, times in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0.0) + times

    def copy(self) -> Tally:
        return Tally(self.count, self.total, self.least, self.most, dict(self.buckets))

    def statistic(self, name: str) -> float | None:
        """``Sum``, ``Average``, ``Minimum``, ``Maximum``, ``SampleCount`` or a percentile such as ``p99.9``.

        None for a statistic that cannot be told. Raises ValueError for one that this cloud does not have.
        """
        if not self.count:
            return None
        match name:
            case "Sum":
                return self.total
            case "Average":
                return self.total / self.count
            case "Minimum":
                return self.least
            case "Maximum":
                return self.most
            case "SampleCount":
                return self.count
        if not is_statistic(name):
            raise ValueError(f"the local cloud does not have the statistic {name}")
        return self._percentile(float(name[1:]))

    def _percentile(self, percent: float) -> float | None:
        if not self.buckets:
            return None
        if percent >= 100:
            return self.most
        rank, passed = percent / 100 * sum(self.buckets.values()), 0.0
        for bucket, times in sorted(self.buckets.items()):
            passed += times
            if passed >= rank:
                # The middle of the bucket, and never what was not seen.
                value = 0.0 if bucket == _ZERO else math.exp((bucket + 0.5) * _STEP)
                return min(max(value, self.least), self.most)
        return self.most


class MetricStore:
    """All series of this cloud's own services. Threads may add at the same time."""

    def __init__(self) -> None:
        self.series: dict[Series, dict[int, Tally]] = {}
        """By the minute, counted from 1970."""
        self.units: dict[str, str] = {}
        """By the name of the metric; None is what the others have."""
        self._lock = threading.Lock()
        self._changed: dict[tuple[Series, int], Tally] | None = None  # since the last look of who keeps them

    def watch(self) -> None:
        """From now on :meth:`changes` knows what has changed."""
        self._changed = {}

    def changes(self) -> list[tuple[Series, int, Tally]]:
        """The tallies that have changed since the last call, as they are now, by series and minute."""
        with self._lock:
            changed, self._changed = self._changed or {}, {}
            return [(series, minute, tally.copy()) for (series, minute), tally in changed.items()]

    def changed_still(self, changes: Iterable[tuple[Series, int, Tally]]) -> None:
        """What :meth:`changes` gave comes again."""
        with self._lock:
            for series, minute, _ in changes:
                tally = self.series.get(series, {}).get(minute)
                if tally is not None and self._changed is not None:
                    self._changed[series, minute] = tally

    def tallies(self) -> list[tuple[Series, int, Tally]]:
        """All of them, by series and minute."""
        with self._lock:
            return [
                (series, minute, tally.copy())
                for series, minutes in self.series.items()
                for minute, tally in minutes.items()
            ]

    def add(self, series: Series, moment: datetime, value: float, *, times: float = 1.0) -> None:
        with self._lock:
            self._tally(series, moment).add(value, times)

    def merge(self, series: Series, moment: datetime, tally: Tally) -> None:
        with self._lock:
            self._tally(series, moment).merge(tally)

    def between(self, series: Series, begin: datetime, end: datetime) -> Tally:
        """What was seen from ``begin`` on, before ``end``; both at full minutes."""
        found = Tally()
        with self._lock:
            minutes = self.series.get(series, {})
            first, last = minute_of(begin), minute_of(end)
            if last - first <= len(minutes):
                chosen: Iterable[int] = (minute for minute in range(first, last) if minute in minutes)
            else:
                chosen = (minute for minute in minutes if first <= minute < last)
            for minute in chosen:
                found.merge(minutes[minute])
        return found

    def everything(self) -> list[tuple[Series, datetime, Tally]]:
        """Each series' tallies with the beginning of their minutes."""
        with self._lock:
            return [
                (series, datetime.fromtimestamp(minute * MINUTE_S, UTC), tally)
                for series, minutes in self.series.items()
                for minute, tally in minutes.items()
            ]

    def forget_before(self, moment: datetime) -> None:
        """Drops what is older."""
        oldest = minute_of(moment)
        with self._lock:
            for series in list(self.series):
                minutes = self.series[series]
                for minute in [minute for minute in minutes if minute < oldest]:
                    del minutes[minute]
                if not minutes:
                    del self.series[series]

    def _tally(self, series: Series, moment: datetime) -> Tally:
        minutes = self.series.get(series)
        if minutes is None:
            minutes = self.series[series] = {}
        minute = minute_of(moment)
        tally = minutes.get(minute)
        if tally is None:
            tally = minutes[minute] = Tally()
        if self._changed is not None:
            self._changed[series, minute] = tally
        return tally


def is_statistic(name: str) -> bool:
    """Whether :meth:`Tally.statistic` has it."""
    return _STATISTIC.fullmatch(name) is not None


def minute_of(moment: datetime) -> int:
    return int(moment.timestamp() // MINUTE_S)
