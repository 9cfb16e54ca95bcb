"""How busy the workers of a model are, as its batch search has to know it. Pure."""

from __future__ import annotations

from collections import deque

WINDOW_S = 0.5
"""Over this time at least the workers' time is added up."""
HIGH, LOW = 0.6, 0.3
"""Above which share of the workers' time the load becomes high, and below which it is no longer: apart, because waiting
for larger batches brings it down."""
QUIET_S = 1.0
"""After this time without a batch nothing of the load before is left."""


class SearchLoad:
    """The load of the last batches: how many requests there were at a time, and whether workers have time to spare."""

    __slots__ = ("_busy_s", "_last_s", "_rounds", "_since_s", "high")

    def __init__(self) -> None:
        self.high = False
        """Whether the workers have so little time that a wait may be worth it."""
        self._rounds: deque[int] = deque(maxlen=4)
        self._busy_s = 0.0
        self._since_s: float | None = None
        self._last_s = 0.0

    @property
    def in_flight(self) -> int:
        """The most requests, waiting and computing, that were here at the end of one of the last batches."""
        return max(self._rounds, default=0)

    def done(self, cost_s: float, in_flight: int, workers: int, now_s: float) -> None:
        """A batch is done that kept one of `workers` workers for `cost_s`, its wait included."""
        if self._rounds.maxlen != 2 * workers + 2:
            self._rounds = deque(self._rounds, maxlen=2 * workers + 2)
        self._rounds.append(in_flight)
        self._last_s = now_s
        if self._since_s is None:
            self._since_s = now_s - cost_s
        self._busy_s += cost_s
        elapsed_s = now_s - self._since_s
        if elapsed_s >= WINDOW_S:
            self.high = self._busy_s / (elapsed_s * workers) > (LOW if self.high else HIGH)
            self._busy_s, self._since_s = 0.0, now_s

    def look(self, now_s: float) -> None:
        """Nothing is computed now."""
        if now_s - self._last_s > QUIET_S:
            self.high = False
            self._rounds.clear()
            self._busy_s, self._since_s = 0.0, None
