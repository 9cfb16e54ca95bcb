"""When to list next: after the interval with a little chance in it, later where listing costs or fails. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MAX_SHARE = 0.01
"""Of one core, that listing may take in the long run: all else of an idle server takes up to 0.9 %; the goal is 2 %."""
_JITTER = 0.05
_MOST_JITTER_S = 0.5
_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """How long until the next listing begins, and how long is between two as things are."""

    wait_s: float
    interval_s: float
    note: str = ""


class Polling:
    """All times are of a monotonic clock: that somebody sets the machine's clock changes nothing.

    `chance` is a number from 0 to 1, drawn by the caller: replicas that started together shall not list together.
    """

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._failures = 0
        self._listed = False

    def after_listing(self, *, started_s: float, now_s: float, cpu_s: float, chance: float) -> Pause:
        """After a good one, which took `cpu_s` of a core. The first reads everything, and is not taken as usual."""
        self._failures = 0
        first, self._listed = not self._listed, True
        interval_s, note = self._interval_s, ""
        if not first and cpu_s > MAX_SHARE * interval_s:
            interval_s = cpu_s / MAX_SHARE
            note = (
                f"A listing took {cpu_s:.2f} s of a core; the interval is {interval_s:.0f} s instead of "
                f"{self._interval_s:g} s, so that listing takes {MAX_SHARE:.1%} of it at most."
            )
        jitter_s = chance * min(_JITTER * interval_s, _MOST_JITTER_S)
        # Slow is not idle: a store that takes longer than the interval gets a rest between two listings, too.
        wait_s = max(started_s + interval_s - now_s, interval_s / 4) + jitter_s
        return Pause(wait_s=wait_s, interval_s=interval_s, note=note)

    def after_failure(self, *, chance: float) -> float:
        """Seconds until the next try: twice as long after each failure, soon at first where nothing is known yet."""
        base_s = self._interval_s if self._listed and self._interval_s else min(self._interval_s, _FIRST_RETRY_S)
        base_s = base_s or _FIRST_RETRY_S
        wait_s = min(base_s * 2.0 ** min(self._failures, 16), max(_LONGEST_RETRY_S, self._interval_s))
        self._failures += 1
        return wait_s * (1 + _JITTER * chance)
