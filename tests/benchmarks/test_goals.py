"""The verdicts on the goals, from records."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.goals import Verdict, judge, loop_ratio, paired_ratio
from benchmarks.grid import Limit
from tests.benchmarks.records import cell, trial


def verdict(verdicts: list[Verdict], words: str) -> Verdict:
    (found,) = [each for each in verdicts if words in each.measure]
    return found


def test_a_ratio_is_formed_within_a_repetition_and_never_across() -> None:
    """The machine was three times slower in repetition 1: the ratio does not notice."""
    cells = [
        cell("tidegate", per_s=300.0, repetition=0),
        cell("mosec", per_s=200.0, repetition=0),
        cell("tidegate", per_s=100.0, repetition=1),
        cell("mosec", per_s=66.0, repetition=1),
        cell("mosec", per_s=1.0, repetition=2),  # ours was not measured in this one
    ]
    assert paired_ratio(cells, "tidegate", "mosec", "W0", 32) == pytest.approx((1.5 + 100 / 66) / 2)


def test_a_peer_without_a_good_answer_gives_no_ratio() -> None:
    assert paired_ratio([cell("tidegate"), cell("mosec", per_s=0.0)], "tidegate", "mosec", "W0", 32) is None


def test_the_bare_loop_counts_at_its_better_batch_size() -> None:
    limits = [
        Limit(work="W2", batch=batch, repetition=0, per_s=per_s, cpu_us=1.0) for batch, per_s in ((1, 60.0), (8, 80.0))
    ]
    assert loop_ratio([cell("tidegate", "W2", 8, per_s=76.0)], limits, "W2", 8) == pytest.approx(0.95)


def test_without_records_no_goal_is_reached_or_missed() -> None:
    verdicts = judge([], [], [])
    assert {each.reached for each in verdicts} == {None}
    assert {each.found for each in verdicts} == {""}


@pytest.mark.parametrize(("ours", "reached"), [(99.0, False), (100.0, True)])
def test_a_goal_against_a_peer_is_reached_from_its_factor_on(ours: float, reached: bool) -> None:
    verdicts = judge([cell("tidegate", per_s=ours), cell("mosec", per_s=100.0)], [], [])
    assert verdict(verdicts, "no-op, 32 connections: requests/s over mosec").reached is reached


@pytest.mark.parametrize(
    ("ours", "fastapi", "mosec", "reached"),
    [(0.3, 0.15, 7.0, True), (0.4, 0.15, 7.0, False), (0.3, 0.15, 0.2, False)],
)
def test_one_connection_is_judged_by_fastapi_and_by_every_other_peer(
    ours: float, fastapi: float, mosec: float, reached: bool
) -> None:
    cells = [
        cell(label, "W1", 1, p50_ms=p50)
        for label, p50 in (("tidegate", ours), ("tidegate again", 0.01), ("fastapi", fastapi), ("mosec", mosec))
    ]
    assert verdict(judge(cells, [], []), "MLP, one connection").reached is reached


def test_an_outcome_other_than_200_and_503_misses_the_overload_goal() -> None:
    values: dict[str, Any] = {"open_goodput": 1.0, "closed_256_goodput": 0.5, "open_outcomes": {"200": 5, "503": 5}}
    good = trial("overload", **values, closed_256_outcomes={"200": 1})
    bad = trial("overload", **values, closed_256_outcomes={"200": 1, "ConnectionResetError": 1})
    assert verdict(judge([], [], [good]), "overload (tidegate)").reached is True
    missed = verdict(judge([], [], [bad]), "overload (tidegate)")
    assert missed.reached is False
    assert "ConnectionResetError" in missed.found


def test_a_harmless_request_that_fails_misses_the_goal_on_hangs() -> None:
    fine = trial("hang", harmless={"200": 396}, endless={"504": 4})
    bad = trial("hang", harmless={"200": 390, "503": 6}, endless={"504": 4})
    assert verdict(judge([], [], [fine]), "while True").reached is True
    assert verdict(judge([], [], [bad]), "while True").reached is False


def test_memory_is_compared_with_the_peer_that_needs_least() -> None:
    trials = [
        trial("footprint", "tidegate", pss_mib=390.0, health_s=1.2),
        trial("footprint", "mosec", pss_mib=700.0, health_s=2.0),
        trial("footprint", "fastapi", pss_mib=500.0, health_s=2.0),
    ]
    verdicts = judge([], [], trials)
    assert verdict(verdicts, "memory after").reached is True
    over = verdict(verdicts, "memory over the best peer")
    assert (over.reached, over.found) == (False, "0.78 x")
    assert "fastapi" in over.measure


def test_the_start_is_judged_by_what_no_server_can_avoid() -> None:
    start = trial("footprint", pss_mib=1.0, health_s=1.35)
    bare = [trial("unavoidable_start", "bare loop", import_and_load_s=seconds) for seconds in (1.1, 1.0)]
    assert verdict(judge([], [], [start, bare[0]]), "start to first").reached is True
    assert verdict(judge([], [], [start, bare[1]]), "start to first").reached is False


def test_pings_without_an_answer_miss_the_goal_however_fast_the_others_were() -> None:
    verdicts = judge([], [], [trial("ping_without_gil", p99_ms=1.0, failed=3)])
    assert verdict(verdicts, "holds the GIL").reached is False
