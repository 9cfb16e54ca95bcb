"""What was done when: slots of equal width from the job's beginning on, never more than a few hundred of them."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_SLOTS = 240
_SKEW_S = 3600.0
"""A line that is further from the job than this is of another clock, and is in no slot."""


@dataclass(slots=True)
class Slot:
    """What ended within one slot; `busy_s` is how long requests were at hand in it, all of them together."""

    requests: int = 0
    failed: int = 0
    records: int = 0
    request_bytes: int = 0
    busy_s: float = 0.0

    def take(self, other: Slot) -> None:
        """Add another one."""
        self.requests += other.requests
        self.failed += other.failed
        self.records += other.records
        self.request_bytes += other.request_bytes
        self.busy_s += other.busy_s


@dataclass(slots=True)
class OverTime:
    """From `began_s` on; a job that runs for long has wider slots."""

    began_s: float
    ended_s: float
    width_s: float = 1.0
    slots: list[Slot] = field(default_factory=list)

    def add(self, ended_s: float, duration_s: float, *, failed: bool, records: int, request_bytes: int) -> None:
        """Note a request that ended then, after so long."""
        if not self.began_s - _SKEW_S <= ended_s <= self.ended_s + _SKEW_S:
            return
        while ended_s - self.began_s >= MOST_SLOTS * self.width_s:
            self._widen()
        last = self._at(ended_s)
        slot = self.slots[last]
        slot.requests += 1
        slot.failed += failed
        slot.records += records
        slot.request_bytes += request_bytes
        began_s = max(ended_s - duration_s, self.began_s)
        first = self._at(began_s)
        for number in range(first, last + 1):
            lower_s = self.began_s + number * self.width_s
            busy_s = min(ended_s, lower_s + self.width_s) - max(began_s, lower_s)
            self.slots[number].busy_s += max(busy_s, 0.0)

    def _at(self, moment_s: float) -> int:
        number = max(0, int((moment_s - self.began_s) / self.width_s))
        self.slots.extend(Slot() for _ in range(number + 1 - len(self.slots)))
        return number

    def _widen(self) -> None:
        for pair in range(0, len(self.slots), 2):
            slot = self.slots[pair]
            if pair + 1 < len(self.slots):
                slot.take(self.slots[pair + 1])
            self.slots[pair // 2] = slot
        del self.slots[(len(self.slots) + 1) // 2 :]
        self.width_s *= 2
