"""How many of the requests that wait make a batch, and how long it is held: two ways, of which a scheduler has one.

    DeclaredSize   the size and the wait that settings or archive say, going by how many requests were in flight lately
    FoundSize      those that a `BatchSearch` finds on live traffic; it is told what became of each batch

Pure: the time is passed in.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import inf
from typing import Protocol

from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.queue.actions import Action, Log
from tidegate.inference.frontend.queue.batch_search import BatchSearch, Choice
from tidegate.inference.frontend.queue.pool_limits import PoolLimits
from tidegate.inference.frontend.queue.scheduling import Plan, RecentLoad, plan_batches
from tidegate.inference.protocol import Done

LOGGED_EVERY_S = 10.0
"""How often the log has a change of the batch size, at most."""


class Planner(Protocol):
    """What the scheduler asks before it sends batches, and tells of them."""

    @property
    def choice(self) -> Choice | None:
        """What was found, and why; None where nothing is to be found."""

    def plan(self, *, waiting: int, idle: int, computing: int, busy: int, oldest_wait_s: float, now_s: float) -> Plan:
        """What to send now, and how long to hold the rest: `waiting` requests, for `idle` workers, while `busy` others
        have `computing`.
        """

    def sent(self, worker: int, size: int, now_s: float, *, planned: bool) -> None:
        """A worker was given `size` requests; `planned`: as a batch, and not each for itself."""

    def done(
        self, worker: int, done: Done, *, size: int, busy_s: float, others: Callable[[], int], now_s: float
    ) -> Sequence[Action]:
        """A worker has done `size` requests, which took it `busy_s`, while `others()` wait or are computed."""

    def lost(self, worker: int, now_s: float) -> None:
        """A worker is gone, whatever it had."""


class DeclaredSize:
    """Batches of at most the size that is declared, held for at most the wait that is."""

    choice: Choice | None = None

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._recent = RecentLoad(rounds=2 * limits.workers + 2)

    def plan(
        self, *, waiting: int, idle: int, computing: int, busy: int, oldest_wait_s: float, now_s: float  # noqa: ARG002
    ) -> Plan:  # fmt: skip
        """See `Planner`."""
        plan = plan_batches(
            waiting=waiting,
            idle=idle,
            computing=computing,
            busy=busy,
            expected=self._recent.expected(computing),
            oldest_wait_s=oldest_wait_s,
            max_size=self._limits.max_batch_size,
            max_wait_s=self._limits.max_wait_s,
        )
        if not plan.hold_s:
            self._recent.record(waiting + computing)
        return plan

    def sent(self, worker: int, size: int, now_s: float, *, planned: bool) -> None:
        """Nothing that matters for the next plan."""

    def done(
        self, worker: int, done: Done, *, size: int, busy_s: float, others: Callable[[], int], now_s: float  # noqa: ARG002
    ) -> Sequence[Action]:  # fmt: skip
        """Nothing that matters for the next plan."""
        return ()

    def lost(self, worker: int, now_s: float) -> None:
        """Nothing that matters for the next plan."""


class FoundSize:
    """Batches of the size that a search finds; the log has what it found, at most once in `LOGGED_EVERY_S`."""

    def __init__(self, name: str, limits: PoolLimits, latency_s: float, metrics: ModelMetrics) -> None:
        """`name` is the model's; a batch may add `latency_s` to a request's time."""
        self._name = name
        self._metrics = metrics
        self.search = BatchSearch(max_size=limits.max_batch_size, max_wait_s=limits.max_wait_s, latency_s=latency_s)
        self._told_size, self._told_s, self._counted_paid = 1, -inf, 0
        self.sent, self.lost = self.search.sent, self.search.lost

    @property
    def choice(self) -> Choice | None:
        """See `Planner`."""
        return self.search.choice

    def plan(
        self, *, waiting: int, idle: int, computing: int, busy: int, oldest_wait_s: float, now_s: float  # noqa: ARG002
    ) -> Plan:  # fmt: skip
        """See `Planner`."""
        return self.search.plan(waiting=waiting, idle=idle, computing=computing, busy=busy, now_s=now_s)

    def done(
        self, worker: int, done: Done, *, size: int, busy_s: float, others: Callable[[], int], now_s: float
    ) -> Sequence[Action]:
        """See `Planner`."""
        search = self.search
        search.finished(
            worker,
            busy_s=busy_s,
            in_flight=others() + size,
            joined=done.joined,
            compared=done.proved + done.refused,
            halved=done.halved,
            largest=max(done.sizes, default=0),
            now_s=now_s,
        )
        self._metrics.search_paid += search.paid - self._counted_paid
        self._counted_paid = search.paid
        if search.size == self._told_size or now_s < self._told_s + LOGGED_EVERY_S:
            return ()
        self._told_size, self._told_s = search.size, now_s
        found = {"max_batch_size": search.size, "max_wait_ms": round(1000 * search.wait_s, 3), "why": search.why}
        return [Log(logging.INFO, "batches have another size from now on", {"model": self._name, **found})]


def planner_of(name: str, limits: PoolLimits, metrics: ModelMetrics) -> Planner:
    """The planner of a model: one that finds the size where that is asked for."""
    if limits.batch_latency_s is None:
        return DeclaredSize(limits)
    return FoundSize(name, limits, limits.batch_latency_s, metrics)
