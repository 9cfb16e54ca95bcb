"""When a repository is listed again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference.repository.polling import MAX_SHARE, Polling

CHANCE = st.floats(0, 1)


def listed(polling: Polling, *, cpu_s: float = 0.0, took_s: float = 0.0, chance: float = 0.0) -> float:
    return polling.after_listing(started_s=100.0, now_s=100.0 + took_s, cpu_s=cpu_s, chance=chance).wait_s


def test_the_interval_is_from_start_to_start() -> None:
    polling = Polling(10)
    assert listed(polling, took_s=3) == 7
    assert listed(polling, took_s=30) == 2.5, "slow is no reason for one listing after the other"


def test_what_costs_much_is_done_less_often_and_says_so() -> None:
    """The first listing reads everything there is, and tells nothing about those that follow."""
    polling = Polling(10)
    assert listed(polling, cpu_s=5.0) == 10
    pause = polling.after_listing(started_s=0, now_s=0, cpu_s=0.5, chance=0)
    assert pause.interval_s == pause.wait_s == pytest.approx(0.5 / 0.01)
    assert pause.note == (
        "A listing took 0.50 s of a core; the interval is 50 s instead of 10 s, so that listing takes 1.0% of it at "
        "most."
    )
    pause = polling.after_listing(started_s=0, now_s=0, cpu_s=0.1, chance=0)
    assert (pause.interval_s, pause.note) == (10, "")


@pytest.mark.parametrize("cpu_s", [0.1, 0.15, 0.19, 0.21, 0.5, 5.0])
def test_an_idle_server_keeps_to_two_percent_of_a_core_with_its_listings(cpu_s: float) -> None:
    """What else it does costs less than one percent, and listing leaves it that."""
    polling = Polling(10)
    listed(polling)
    wait_s = listed(polling, cpu_s=cpu_s)
    assert cpu_s / wait_s + 0.01 <= 0.02 + 1e-9


@given(st.floats(0.1, 3600), st.floats(0, 100), st.floats(0, 100), CHANCE)
def test_listing_never_takes_more_than_its_share_nor_comes_before_its_time(
    interval_s: float, cpu_s: float, took_s: float, chance: float
) -> None:
    polling = Polling(interval_s)
    listed(polling)
    pause = polling.after_listing(started_s=0, now_s=took_s, cpu_s=cpu_s, chance=chance)
    period_s = took_s + pause.wait_s
    assert cpu_s <= MAX_SHARE * period_s * 1.000001
    assert period_s >= interval_s * 0.999999
    assert period_s <= max(pause.interval_s, took_s + pause.interval_s / 4) + 0.51
    assert bool(pause.note) == (pause.interval_s != interval_s)


@given(CHANCE)
def test_failures_are_retried_soon_at_first_then_ever_later_and_never_not(chance: float) -> None:
    """Before the first good listing nothing can be served, so it is tried again after a second."""
    polling = Polling(10)
    waits = [polling.after_failure(chance=chance) for _ in range(40)]
    assert 1 <= waits[0] <= 1.05
    assert waits == sorted(waits)
    assert 60 <= waits[-1] <= 63
    listed(polling)
    assert 10 <= polling.after_failure(chance=chance) <= 10.5
    assert 20 <= polling.after_failure(chance=chance) <= 21
    listed(polling)
    assert 10 <= polling.after_failure(chance=chance) <= 10.5, "a good one begins anew"


@given(st.floats(0, 0.5), CHANCE)
def test_a_short_interval_or_none_never_spins(interval_s: float, chance: float) -> None:
    polling = Polling(interval_s)
    assert polling.after_failure(chance=chance) >= min(interval_s, 1) > 0 or interval_s == 0
    assert Polling(0).after_failure(chance=chance) >= 1
