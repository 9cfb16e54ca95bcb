"""The search for a batch size in worlds whose best size is known: clients, workers and a clock, all simulated."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.inference.frontend.queue.batch_search import SHARE, BatchSearch
from tidegate.inference.frontend.queue.batch_trial import FAILED_REST_S

LATENCY_S = 0.05
RETURN_S = 0.001
"""After this time a client that was answered asks again."""

CallSeconds = Callable[[int], float]


class World:
    """A model of which a call of n requests takes `call_s(n)`; calls of more than `memory` requests fail.

    `clients` ask again when they are answered; `rate` requests a second come by chance. Kinds of requests, as many as
    `kinds`, never share a call. It holds the search to its laws at every step.
    """

    def __init__(
        self,
        call_s: CallSeconds,
        *,
        workers: int = 1,
        clients: int = 0,
        rate: float = 0.0,
        noise: float = 0.0,
        memory: int = 1 << 30,
        kinds: int = 1,
        joins: bool = True,
        latency_s: float = LATENCY_S,
        max_wait_s: float = LATENCY_S,
        max_size: int = 64,
    ) -> None:
        self.call_s, self.noise, self.memory, self.kinds, self.joins = call_s, noise, memory, kinds, joins
        self.latency_s, self.max_wait_s = latency_s, max_wait_s
        self.search = BatchSearch(max_size=max_size, max_wait_s=max_wait_s, latency_s=latency_s)
        self.chance = random.Random(7)  # noqa: S311 - it is to be repeatable
        self.now_s = 0.0
        self.waiting: deque[float] = deque()
        self.idle = list(range(workers))
        self.computing = 0
        self.sent = self.answered = 0
        self.too_large = 0
        """Requests in batches that were larger than what was chosen."""
        self.tried: dict[int, int] = {}
        """Batches by their sizes, as far as those were larger than what was chosen."""
        self.longest_hold_s = 0.0
        self._idle_since_s: float | None = None
        self._numbers = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._look_s = -1.0
        for _ in range(clients):
            self._at(self.chance.uniform(0, 0.01), self._ask)
        if rate:
            self._at(0.0, lambda: self._chance_comer(rate))

    def _at(self, when_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when_s, next(self._numbers), what))

    def run(self, requests: int) -> World:
        """Until so many more are answered."""
        until = self.answered + requests
        while self.answered < until:
            when_s, _, what = heapq.heappop(self._events)
            self.now_s = max(self.now_s, when_s)
            what()
            self._fill()
            assert self.search.paid <= SHARE * self.sent, "too many pay for the search"
            assert self.too_large <= SHARE * self.sent, "more than the search says"
        return self

    def _ask(self) -> None:
        self.waiting.append(self.now_s)

    def _chance_comer(self, rate: float) -> None:
        self._ask()
        self._at(self.now_s + self.chance.expovariate(rate), lambda: self._chance_comer(rate))

    def burst(self, requests: int) -> None:
        """Have so many come at once."""
        self._at(self.now_s, lambda: self.waiting.extend([self.now_s] * requests))

    def _fill(self) -> None:
        if not (self.waiting and self.idle):
            self._idle_since_s = None
            return
        if self._idle_since_s is None:
            self._idle_since_s = self.now_s
        self.longest_hold_s = max(self.longest_hold_s, self.now_s - self._idle_since_s)
        plan = self.search.plan(
            waiting=len(self.waiting),
            idle=len(self.idle),
            computing=self.computing,
            busy=self._workers - len(self.idle),
            now_s=self.now_s,
        )
        if plan.hold_s:
            assert not plan.sizes
            assert plan.hold_s <= self.max_wait_s
            if self._look_s <= self.now_s:
                self._look_s = self.now_s + plan.hold_s
                self._at(self._look_s, lambda: None)
            return
        assert plan.sizes, "somebody waits beside an idle worker, and for nothing"
        for size in plan.sizes:
            self._send(size)
        self._idle_since_s = None

    @property
    def _workers(self) -> int:
        return len(self.idle) + self._busy

    _busy = 0

    def _send(self, size: int) -> None:
        came = [self.waiting.popleft() for _ in range(size)]
        worker = self.idle.pop()
        self._busy += 1
        self.computing += size
        self.sent += size
        if size > self.search.size:
            self.too_large += size
            self.tried[size] = self.tried.get(size, 0) + 1
        self.search.sent(worker, size, self.now_s)
        took_s, told = self._compute(size)
        self._at(self.now_s + took_s, lambda: self._done(worker, len(came), took_s, told))

    def _compute(self, size: int) -> tuple[float, dict[str, int]]:
        """What a batch takes, and what the worker says of it."""
        factor = self.chance.lognormvariate(0, self.noise) if self.noise else 1.0
        if not self.joins:
            return factor * size * self.call_s(1), {}
        if self.kinds > 1:
            by_kind: dict[int, int] = {}
            for _ in range(size):
                kind = self.chance.randrange(self.kinds)
                by_kind[kind] = by_kind.get(kind, 0) + 1
            took_s = factor * sum(self.call_s(each) for each in by_kind.values())
            shared = sum(each > 1 for each in by_kind.values())
            return took_s, {"joined": shared, "largest": max(by_kind.values())}
        if size > self.memory:
            return factor * 2 * self.call_s(size // 2), {"joined": 2, "halved": 1, "largest": size}
        return factor * self.call_s(size), {"joined": int(size > 1), "largest": size}

    def _done(self, worker: int, size: int, took_s: float, told: dict[str, int]) -> None:
        in_flight = len(self.waiting) + self.computing
        self.computing -= size
        self._busy -= 1
        self.idle.append(worker)
        self.answered += size
        self.search.finished(worker, busy_s=took_s, in_flight=in_flight, now_s=self.now_s, **told)
        for _ in range(size if self._closed else 0):
            self._at(self.now_s + RETURN_S * self.chance.uniform(0.5, 1.5), self._ask)

    _closed = True

    def added_s(self) -> float:
        """What the choice adds to the time of a request, at most."""
        return self.call_s(self.search.size) + self.search.wait_s - self.call_s(1)


def open_world(call_s: CallSeconds, **changes: Any) -> World:
    """A world whose clients do not wait for an answer before they ask again."""
    world = World(call_s, **changes)
    world._closed = False
    return world


def fixed(call_s: float) -> CallSeconds:
    return lambda _n: call_s


def affine(call_s: float, request_s: float) -> CallSeconds:
    return lambda n: call_s + n * request_s


def cliff(at: int, call_s: float) -> CallSeconds:
    return lambda n: call_s if n < at else n * call_s


@pytest.mark.parametrize(("workers", "clients", "best"), [(1, 32, 32), (2, 32, 16), (1, 8, 8), (1, 6, 6), (1, 2, 2)])
def test_where_a_call_takes_the_same_for_any_number_each_worker_gets_its_share_of_the_clients(
    workers: int, clients: int, best: int
) -> None:
    world = World(fixed(0.01), workers=workers, clients=clients).run(20_000)
    assert world.search.size == best


def test_where_a_call_takes_as_long_as_its_requests_one_by_one_they_stay_alone_and_none_waits() -> None:
    world = World(affine(0, 0.005), workers=2, clients=32).run(20_000)
    assert (world.search.size, world.search.wait_s) == (1, 0.0)
    assert "gain nothing" in world.search.why


def test_a_cliff_is_found_and_seldom_looked_at_again() -> None:
    world = World(cliff(16, 0.01), clients=64).run(20_000)
    assert world.search.size == 8
    before = world.tried[16]
    assert before <= 2, "two that go far beyond the bound are enough"
    hours = world.now_s / 3600
    world.run(100_000)
    assert world.search.size == 8
    assert world.tried[16] - before <= 2 * 5 * (1 + (world.now_s / 3600 - hours) * 60)


def test_noise_neither_hides_a_gain_nor_makes_one_that_breaks_the_bound() -> None:
    world = World(affine(0.01, 0.001), clients=32, noise=0.15).run(40_000)
    assert world.search.size >= 8
    assert world.added_s() <= 1.3 * LATENCY_S


def test_the_bound_keeps_a_size_away_that_would_have_been_faster() -> None:
    world = World(affine(0.005, 0.004), clients=64).run(20_000)
    assert world.search.size == 8, "sixteen would take 60 ms more than one alone"
    tight = World(affine(0.005, 0.004), clients=64, latency_s=0.013, max_wait_s=0.013).run(20_000)
    assert tight.search.size == 4
    none = World(fixed(0.01), clients=64, latency_s=0.0, max_wait_s=0.0).run(20_000)
    assert none.search.wait_s == 0.0
    assert none.longest_hold_s == 0.0


def test_a_machine_that_becomes_slower_gets_smaller_batches_and_larger_ones_when_it_is_fast_again() -> None:
    quick, slow = affine(0.005, 0.004), affine(0.015, 0.012)
    world = World(quick, clients=64).run(20_000)
    assert world.search.size == 8
    world.call_s = slow
    world.run(10_000)
    assert world.search.size in (2, 4), "eight take 84 ms more than one alone now"
    world.call_s = quick
    world.run(40_000)
    assert world.search.size == 8


def test_batches_shrink_again_where_they_have_come_to_gain_nothing() -> None:
    world = World(fixed(0.01), clients=8).run(10_000)
    assert world.search.size == 8
    world.call_s = affine(0, 0.005)
    world.run(60_000)
    assert world.search.size == 1


def test_with_little_traffic_nobody_waits_and_nobody_pays() -> None:
    world = open_world(fixed(0.01), rate=2.0).run(5_000)
    assert world.longest_hold_s == 0.0
    assert world.search.paid <= 20
    assert world.search.size <= 2


def test_bursts_find_a_size_too() -> None:
    world = open_world(fixed(0.01))
    for _ in range(200):
        world.burst(40)
        world.run(40)
        world.now_s += 5.0
    assert world.search.size >= 8


def test_a_size_that_failed_is_not_tried_again_for_long() -> None:
    world = World(fixed(0.01), clients=128, memory=31)
    world.run(40_000)
    assert world.now_s < FAILED_REST_S
    assert world.search.size == 16
    assert world.tried[32] == 1
    assert not [size for size in world.tried if size > 32]
    assert "32 failed" in world.search.why or world.search.size == 16


def test_the_choice_is_halved_when_its_calls_begin_to_fail() -> None:
    world = World(fixed(0.01), clients=32).run(20_000)
    assert world.search.size == 32
    world.memory = 12
    world.run(2_000)
    assert world.search.size == 8


def test_requests_of_several_kinds_get_the_size_that_gains_for_their_mixture() -> None:
    mixed = World(fixed(0.01), clients=64, kinds=3).run(60_000)
    assert mixed.search.size >= 8


def test_requests_that_are_never_joined_are_soon_left_alone() -> None:
    world = World(fixed(0.01), clients=64, joins=False).run(20_000)
    assert world.search.size == 1
    assert "share no call" in world.search.why
    assert world.search.paid < 100


def test_a_worker_that_is_lost_with_a_trial_fails_that_size_and_changes_no_choice() -> None:
    search = BatchSearch(max_size=64, max_wait_s=0.05, latency_s=0.05)
    now_s = 0.0
    for _ in range(60):
        search.sent(1, 1, now_s)
        now_s += 0.01
        search.finished(1, busy_s=0.01, in_flight=8, now_s=now_s)
    plan = search.plan(waiting=8, idle=1, computing=0, busy=0, now_s=now_s)
    assert plan.sizes == (2,)
    search.sent(1, 2, now_s)
    search.lost(1, now_s)
    assert search.size == 1
    later = search.plan(waiting=8, idle=1, computing=0, busy=0, now_s=now_s + FAILED_REST_S / 2)
    assert later.sizes == (1,)


def test_a_worker_that_is_lost_with_ordinary_batches_changes_nothing() -> None:
    world = World(fixed(0.01), clients=8).run(10_000)
    before = world.search.choice
    assert before.size == 8
    world.search.sent(99, 8, world.now_s)
    world.search.lost(99, world.now_s)
    assert world.search.choice == before


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    call_ms=st.floats(0.1, 60),
    request_ms=st.floats(0, 10),
    cliff_at=st.sampled_from([2, 3, 8, 12, 16, 1000]),
    workers=st.integers(1, 3),
    clients=st.integers(1, 70),
    rate=st.sampled_from([0.0, 1.0, 30.0]),
    latency_ms=st.sampled_from([0.0, 5.0, 50.0]),
    memory=st.sampled_from([1, 5, 32, 1000]),
    kinds=st.sampled_from([1, 1, 3]),
)
def test_in_every_world_the_budget_and_the_bound_hold(
    call_ms: float,
    request_ms: float,
    cliff_at: int,
    workers: int,
    clients: int,
    rate: float,
    latency_ms: float,
    memory: int,
    kinds: int,
) -> None:
    """The budget is looked at in every step of the world, and how long anybody is held back."""

    def call_s(n: int) -> float:
        return (call_ms + n * request_ms + (n * call_ms if n >= cliff_at else 0)) / 1000

    latency_s = latency_ms / 1000
    world = World(
        call_s,
        workers=workers,
        clients=clients,
        rate=rate,
        memory=memory,
        kinds=kinds,
        latency_s=latency_s,
        max_wait_s=latency_s,
    )
    for _ in range(10):
        world.run(500)
        if kinds == 1:
            assert world.search.size <= memory
            assert world.added_s() <= latency_s + 1e-9
    assert world.longest_hold_s <= latency_s + 1e-9
