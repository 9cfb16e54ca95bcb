"""The rules of the queue hold for any load: nobody starves, nobody waits for nothing, no worker is overfilled."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference.frontend.queue.scheduling import (
    NOTHING,
    Plan,
    RecentLoad,
    RejectReason,
    Retry,
    after_loss,
    plan_batches,
    reject_reason,
)
from tidegate.inference.frontend.workers.model_health import restart_delay_s

LOADS = st.fixed_dictionaries(
    {
        "waiting": st.integers(0, 300),
        "idle": st.integers(0, 9),
        "computing": st.integers(0, 300),
        "busy": st.integers(0, 9),
        "expected": st.integers(-5, 300),
        "oldest_wait_s": st.floats(0, 2),
        "max_size": st.integers(1, 64),
        "max_wait_s": st.floats(0, 2),
    }
)
"""Every argument of `plan_batches`."""


def plan(
    *,
    waiting: int,
    idle: int,
    computing: int = 0,
    busy: int = 0,
    expected: int = 0,
    oldest_wait_s: float = 0.0,
    max_size: int = 8,
    max_wait_s: float = 0.005,
) -> Plan:
    return plan_batches(
        waiting=waiting,
        idle=idle,
        computing=computing,
        busy=busy,
        expected=expected,
        oldest_wait_s=oldest_wait_s,
        max_size=max_size,
        max_wait_s=max_wait_s,
    )


@given(LOADS)
def test_batches_are_within_the_limit_and_share_what_waits_evenly(load: dict[str, Any]) -> None:
    found = plan_batches(**load)
    waiting, idle, max_size = load["waiting"], load["idle"], load["max_size"]
    assert len(found.sizes) <= idle
    assert all(1 <= size <= max_size for size in found.sizes)
    assert sum(found.sizes) <= waiting
    if found.sizes:
        assert max(found.sizes) - min(found.sizes) <= 1
        in_flight = max(waiting, load["expected"]) + load["computing"]
        share = math.ceil(in_flight / (idle + load["busy"]))
        assert sum(found.sizes) == min(waiting, min(max_size, share) * idle)
        assert len(found.sizes) == min(waiting, idle)


@given(LOADS)
def test_work_that_could_be_done_is_done_or_held_for_a_bounded_time(load: dict[str, Any]) -> None:
    found = plan_batches(**load)
    waiting, idle, max_size = load["waiting"], load["idle"], load["max_size"]
    if not waiting or not idle:
        assert found == NOTHING
        return
    assert bool(found.sizes) != bool(found.hold_s)
    assert 0 <= found.hold_s <= load["max_wait_s"]
    if found.hold_s:
        assert max_size > 1
        assert load["expected"] > waiting, "held back although no more are expected"
        assert waiting < max_size * idle, "held back although every batch is full"
        # What was held goes out when the time is over, if nothing came and the clock is only as exact as a float.
        waited_s = max(load["oldest_wait_s"] + found.hold_s, load["max_wait_s"])
        later = plan_batches(**load | {"oldest_wait_s": waited_s})
        assert later.sizes


@pytest.mark.parametrize(
    ("waiting", "idle", "max_size", "sizes"),
    [
        (8, 2, 8, (4, 4)),
        (9, 2, 8, (5, 4)),
        (1, 4, 8, (1,)),
        (3, 4, 8, (1, 1, 1)),
        (40, 2, 8, (8, 8)),
        (5, 3, 1, (1, 1, 1)),
        (7, 3, 8, (3, 2, 2)),
    ],
)
def test_what_waits_is_shared_among_the_idle_workers(
    waiting: int, idle: int, max_size: int, sizes: tuple[int, ...]
) -> None:
    assert plan(waiting=waiting, idle=idle, max_size=max_size).sizes == sizes


def test_a_worker_leaves_to_a_busy_one_what_is_its_share() -> None:
    assert plan(waiting=6, idle=1, computing=2, busy=1).sizes == (4,)
    assert plan(waiting=4, idle=1, computing=4, busy=1).sizes == (4,)
    assert plan(waiting=24, idle=1, computing=8, busy=1).sizes == (8,)


@given(st.integers(2, 24), st.data())
def test_two_workers_come_to_even_batches_however_they_began(clients: int, data: st.DataObject) -> None:
    """Clients that send their next request when the last is answered; the worker with the older batch ends first."""
    first = data.draw(st.integers(1, clients - 1))
    batches, waiting = [first, clients - first], 0
    for _ in range(20):
        waiting += batches.pop(0)
        sizes = plan(waiting=waiting, idle=1, computing=batches[0], busy=1, max_size=64).sizes
        batches.append(sizes[0])
        waiting -= sizes[0]
    assert waiting + abs(batches[0] - batches[1]) <= 1


@given(st.integers(1, 30), st.integers(1, 4), st.integers(2, 64), st.integers(1, 8))
def test_a_lone_client_is_never_held(requests: int, idle: int, max_size: int, rounds: int) -> None:
    """It sends its next request when the last is answered, so never more than one is in flight."""
    recent = RecentLoad(rounds=rounds)
    for _ in range(requests):
        found = plan(waiting=1, idle=idle, expected=recent.expected(0), max_size=max_size, max_wait_s=60)
        assert found.sizes == (1,)
        recent.record(1)


@given(st.integers(2, 8), st.integers(1, 8))
def test_clients_that_left_are_waited_for_no_longer_than_the_load_is_remembered(clients: int, rounds: int) -> None:
    recent = RecentLoad(rounds=rounds)
    recent.record(clients)
    held = 0
    while plan(waiting=1, idle=1, expected=recent.expected(0)).hold_s:
        held += 1
        recent.record(1)
    assert held == rounds


def test_requests_that_are_computing_are_not_waited_for() -> None:
    recent = RecentLoad()
    recent.record(4)
    assert recent.expected(computing=0) == 4
    assert recent.expected(computing=3) == 1
    assert plan(waiting=1, idle=1, expected=recent.expected(computing=3)).sizes == (1,)


def test_without_batching_nothing_is_held() -> None:
    assert plan(waiting=1, idle=2, expected=50, max_size=1, max_wait_s=10).sizes == (1,)


def test_a_wait_of_zero_holds_nothing() -> None:
    assert plan(waiting=1, idle=1, expected=50, max_wait_s=0).sizes == (1,)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=20), st.integers(1, 4), st.integers(1, 8))
def test_nothing_starves_in_a_queue_that_goes_first_in_first_out(
    arrivals: list[int], workers: int, max_size: int
) -> None:
    """Whatever arrives, the queue is empty after as many rounds as its length needs."""
    recent, waiting = RecentLoad(), 0
    for arrived in [*arrivals, *[0] * sum(arrivals)]:
        waiting += arrived
        if not waiting:
            continue
        found = plan(waiting=waiting, idle=workers, expected=recent.expected(0), oldest_wait_s=0.0, max_size=max_size)
        if found.hold_s:
            found = plan(
                waiting=waiting, idle=workers, expected=recent.expected(0), oldest_wait_s=0.005, max_size=max_size
            )
        assert sum(found.sizes) >= 1
        recent.record(waiting)
        waiting -= sum(found.sizes)
    assert waiting == 0


# --- admission


def why(**changes: float) -> RejectReason | None:
    numbers: dict[str, float] = {
        "waiting": 0,
        "queue_size": 10,
        "expected_wait_s": 0,
        "max_wait_s": 60,
    }
    return reject_reason(**(numbers | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"waiting": 9}, None),
        ({"waiting": 10}, RejectReason.QUEUE_FULL),
        ({"waiting": 11}, RejectReason.QUEUE_FULL),
        ({"expected_wait_s": 60}, None),
        ({"expected_wait_s": 60.1}, RejectReason.TOO_LONG_A_WAIT),
        ({"waiting": 10, "expected_wait_s": 61}, RejectReason.QUEUE_FULL),
    ],
)
def test_a_request_is_shed_only_over_a_limit(changes: dict[str, float], expected: RejectReason | None) -> None:
    assert why(**changes) is expected


# --- after a worker was lost


@pytest.mark.parametrize(
    ("shared_by", "deaths_isolated", "hung", "retry", "fate"),
    [
        (4, 0, False, True, Retry.ISOLATED),
        (4, 0, True, True, Retry.ISOLATED),
        (2, 1, False, True, Retry.ISOLATED),
        (1, 1, False, True, Retry.ISOLATED),
        (1, 2, False, True, Retry.DIED),
        (1, 3, False, True, Retry.DIED),
        (1, 0, True, True, Retry.HUNG),
        (1, 1, True, True, Retry.HUNG),
        (1, 1, False, False, Retry.DIED),
        (1, 0, True, False, Retry.HUNG),
        (4, 0, False, False, Retry.DIED),
        (4, 0, True, False, Retry.HUNG),
    ],
)
def test_the_innocent_are_tried_again_and_the_killer_is_not(
    shared_by: int, deaths_isolated: int, hung: bool, retry: bool, fate: Retry
) -> None:
    assert after_loss(shared_by=shared_by, deaths_isolated=deaths_isolated, hung=hung, retry=retry) is fate


@given(st.integers(1, 64), st.booleans())
def test_every_request_ends_after_at_most_three_losses(shared_by: int, hung: bool) -> None:
    """Once with its batch, then alone: hanging once or dying twice is the end."""
    losses, deaths_isolated = 0, 0
    while True:
        losses += 1
        deaths_isolated += shared_by == 1 and not hung
        if (
            after_loss(shared_by=shared_by, deaths_isolated=deaths_isolated, hung=hung, retry=True)
            is not Retry.ISOLATED
        ):
            break
        shared_by = 1
    assert losses <= 3


@given(st.integers(-1, 100_000))
def test_the_restart_delay_grows_to_ten_seconds_and_no_further(failures: int) -> None:
    assert 0 <= restart_delay_s(failures) <= 10
    assert restart_delay_s(failures) <= restart_delay_s(failures + 1)


def test_the_first_restart_is_at_once_and_the_next_ones_wait() -> None:
    assert [restart_delay_s(n) for n in range(5)] == pytest.approx([0, 0.1, 0.2, 0.4, 0.8])
    assert restart_delay_s(8) == 10
