"""Which bodies are too slow: a rule of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.inference.frontend.http.pace import Pace


def pace(bytes_per_s: int = 100) -> Pace:
    return Pace(bytes_per_s=bytes_per_s, grace_s=10, window_s=60, started_s=1000)


@pytest.mark.parametrize(
    ("elapsed_s", "moved_bytes", "slow"),
    [(10, 0, False), (10.5, 1049, True), (10.5, 1050, False), (50, 4999, True), (50, 5000, False)],
)
def test_once_the_grace_is_over_the_whole_must_have_the_least_rate(
    elapsed_s: float, moved_bytes: int, slow: bool
) -> None:
    assert pace().too_slow(1000 + elapsed_s, moved_bytes) is slow


def test_what_was_sent_at_once_earns_no_silence_longer_than_the_window() -> None:
    found = pace()
    assert not found.too_slow(1059, 10**9)
    assert not found.too_slow(1061, 10**9), "in the first window there was much"
    assert not found.too_slow(1119, 10**9)
    assert found.too_slow(1120, 10**9)


def test_silence_is_too_long_as_soon_as_it_is_a_window_wherever_in_time_it_began() -> None:
    for silent_from_s in (1, 20, 59, 100, 1000):
        found = pace()
        slow_s = next(
            second for second in range(1, 3000) if found.too_slow(1000 + second, min(second, silent_from_s) * 10**9)
        )
        assert 60 < slow_s - silent_from_s <= 60 + 60 / 64 + 1


def test_each_window_asks_for_its_own_share() -> None:
    found = pace()
    assert not found.too_slow(1061, 10**9)
    assert not found.too_slow(1122, 10**9 + 6100)
    assert found.too_slow(1183, 10**9 + 6100 + 6099)


def test_however_long_it_takes_and_often_it_is_looked_at_few_numbers_are_kept() -> None:
    found = pace()
    assert not any(found.too_slow(1000 + look / 10, look * 100) for look in range(100_000))
    assert len(found._marks) <= 66


@given(st.lists(st.floats(0.1, 500), max_size=30))
def test_a_rate_of_nothing_is_never_too_slow(steps_s: list[float]) -> None:
    found, now_s = pace(bytes_per_s=0), 1000.0
    for step_s in steps_s:
        now_s += step_s
        assert not found.too_slow(now_s, 0)
