"""Whether bytes flow at the least rate. A pure rule: the time and the count are passed in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_MARKS = 64
"""How finely a window slides: in steps of its 64th part."""


@dataclass(slots=True, kw_only=True)
class Pace:
    """One body on its way, since `started_s`.

    It is too slow where it is slower than the least rate on the whole, once `grace_s` are over, or in any `window_s`:
    whoever sent much at once would otherwise have earned hours in which he may send nothing and we hold what he sent.
    """

    bytes_per_s: int
    grace_s: float
    window_s: float
    started_s: float
    _marks: deque[tuple[float, int]] = field(default_factory=deque)
    """How many bytes had moved at some moments: the last one that is a window ago, and those after it."""

    def __post_init__(self) -> None:
        self._marks.append((self.started_s, 0))

    def too_slow(self, now_s: float, moved_bytes: int) -> bool:
        """Whether `moved_bytes` in all, until now, are too few."""
        elapsed_s = now_s - self.started_s
        if elapsed_s > self.grace_s and moved_bytes < elapsed_s * self.bytes_per_s:
            return True
        marks = self._marks
        while len(marks) > 1 and now_s - marks[1][0] > self.window_s:
            marks.popleft()
        lately_s, lately_bytes = now_s - marks[0][0], moved_bytes - marks[0][1]
        if lately_s > self.window_s and lately_bytes < lately_s * self.bytes_per_s:
            return True
        if now_s - marks[-1][0] >= self.window_s / _MARKS:
            marks.append((now_s, moved_bytes))
        return False
