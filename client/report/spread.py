"""How times are spread, in memory that does not grow with their number: counted in classes 1 % wide.

So a percentile is right to half a percent, from a microsecond to days; the least, the greatest and the sum are exact.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

_CLASS = math.log(1.01)
_LEAST = 1e-3


@dataclass(slots=True)
class Spread:
    """Of values that are not negative."""

    count: int = 0
    total: float = 0.0
    least: float = math.inf
    greatest: float = 0.0
    _classes: Counter[int] = field(default_factory=Counter)

    def add(self, value: float) -> None:
        """Count one."""
        self.count += 1
        self.total += value
        self.least = min(self.least, value)
        self.greatest = max(self.greatest, value)
        self._classes[_class(value)] += 1

    def percentile(self, percent: float) -> float:
        """The value that so many percent do not exceed (nearest rank). Raises `ValueError` where there is none."""
        if not self.count:
            raise ValueError("there is no value")
        rank = max(1, math.ceil(self.count * percent / 100))
        if rank == self.count:
            return self.greatest
        seen = 0
        for number in sorted(self._classes):
            seen += self._classes[number]
            if seen >= rank:
                return min(max(_middle(number), self.least), self.greatest)
        return self.greatest

    def bars(self, most: int = 24) -> list[tuple[float, float, int]]:
        """A histogram over the logarithm: (from, to, how many), from the least value to the greatest."""
        if not self.count:
            return []
        first, last = min(self._classes), max(self._classes)
        width = max(1, math.ceil((last - first + 1) / most))
        bars = [0] * math.ceil((last - first + 1) / width)
        for number, count in self._classes.items():
            bars[(number - first) // width] += count
        return [(_from(first + width * i), _from(first + width * (i + 1)), count) for i, count in enumerate(bars)]


def _class(value: float) -> int:
    return math.floor(math.log(max(value, _LEAST) / _LEAST) / _CLASS)


def _from(number: int) -> float:
    return _LEAST * math.exp(number * _CLASS)


def _middle(number: int) -> float:
    return _LEAST * math.exp((number + 0.5) * _CLASS)
