"""Whether bytes flow at the least rate. A pure rule: the time and the count are passed in."""

from __future__ import annotations

from dataclasses import dataclass


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
    _window_started_s: float = 0.0
    _window_bytes: int = 0

    def __post_init__(self) -> None:
        self._window_started_s = self.started_s

    def too_slow(self, now_s: float, moved_bytes: int) -> bool:
        """Whether `moved_bytes` in all, until now, are too few."""
        elapsed_s = now_s - self.started_s
        if elapsed_s > self.grace_s and moved_bytes < elapsed_s * self.bytes_per_s:
            return True
        lately_s = now_s - self._window_started_s
        if lately_s > self.window_s:
            if moved_bytes - self._window_bytes < lately_s * self.bytes_per_s:
                return True
            self._window_started_s, self._window_bytes = now_s, moved_bytes
        return False
