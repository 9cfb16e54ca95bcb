"""Whether what has no manifest may be believed: that it is finished, and that it is gone. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple


class _Seen(NamedTuple):
    content: str
    since_s: float


class Stability:
    """A content is finished once it has been the same for one interval. Times are of a monotonic clock."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._seen: dict[Hashable, _Seen] = {}

    def is_finished(self, key: Hashable, content: str, *, now_s: float, old: bool = False) -> bool:
        """Whether `content` of `key`, as it was listed at `now_s`, may be used.

        `old` says that by the store's own clock nothing of it was written for an interval; it counts for what is seen
        for the first time only, as what lay there before the server started.
        """
        seen = self._seen.get(key)
        if seen is None:
            seen = self._seen[key] = _Seen(content, now_s - self._interval_s if old else now_s)
        elif seen.content != content:
            seen = self._seen[key] = _Seen(content, now_s)
        return now_s - seen.since_s >= self._interval_s

    def forget(self, key: Hashable) -> None:
        """It is gone."""
        self._seen.pop(key, None)


class Absences:
    """What is missing is gone once two good listings say so, at least half an interval apart."""

    def __init__(self, interval_s: float) -> None:
        self._least_s = interval_s / 2
        self._since_s: dict[Hashable, float] = {}

    def is_gone(self, key: Hashable, *, now_s: float) -> bool:
        """Whether what a listing at `now_s` does not have may be given up."""
        since_s = self._since_s.get(key)
        if since_s is None:
            self._since_s[key] = now_s
            return False
        if now_s - since_s < self._least_s:
            return False
        del self._since_s[key]
        return True

    def is_here(self, key: Hashable) -> None:
        """A listing has it."""
        self._since_s.pop(key, None)
