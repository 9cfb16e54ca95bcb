"""Two callables timed against each other: in one process, in turns of random order."""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

_ROUNDS = (7, 40)
_BUDGET_S = 4.0
_WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The median times of one call each.

    Attributes:
        latency_ms: of the form.
        eager_latency_ms: of the eager network.
    """

    latency_ms: float
    eager_latency_ms: float

    @property
    def ratio(self) -> float:
        """How many times as fast the form is: above 1 is faster than eager."""
        return self.eager_latency_ms / self.latency_ms

    def as_json(self) -> dict[str, float]:
        """As it stands in the manifest."""
        return {
            "latency_ms": round(self.latency_ms, 4),
            "eager_latency_ms": round(self.eager_latency_ms, 4),
            "ratio": round(self.ratio, 3),
        }


def timed(eager: Callable[[], object], form: Callable[[], object], *, budget_s: float = _BUDGET_S) -> Timing:
    """Time both until `budget_s` is used up, at least 7 rounds.

    The order within a round is random: whoever always comes after the other finds the caches as that left them, which
    alone made two equal callables differ by a factor of two.
    """
    calls = {"eager": eager, "form": form}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        until = time.perf_counter() + _WARM_UP_S
        for _ in range(3):
            call()
            if time.perf_counter() > until:
                break
    until = time.perf_counter() + budget_s
    least, most = _ROUNDS
    for round_number in range(most):
        if round_number >= least and time.perf_counter() > until:
            break
        for name in random.sample(list(calls), len(calls)):
            started = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(each) * 1e3 for name, each in times.items()}
    return Timing(latency_ms=medians["form"], eager_latency_ms=medians["eager"])
