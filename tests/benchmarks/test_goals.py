"""The verdicts on the goals, from records."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.footprint import BareStart
from benchmarks.goals import Verdict, judge
from benchmarks.grid import Cell, Limit
from benchmarks.measured import Measured
from benchmarks.trials import Trial
from tests.benchmarks.records import cell, footprint, trial

OURS, OURS_BATCHED, MOSEC_BATCHED = "tidegate", "tidegate, batches of 8", "mosec, batches of 8"


def verdict(run: Measured, *words: str) -> Verdict:
    (found,) = [each for each in judge(run) if all(word in each.measure for word in words)]
    return found


def run_of(*cells: Cell, **records: Any) -> Measured:
    return Measured(cells=list(cells), **records)


def after(*trials: Trial) -> Measured:
    return Measured(trials=list(trials))


def test_without_records_no_goal_is_reached_or_missed() -> None:
    verdicts = judge(Measured())
    assert {each.reached for each in verdicts} == {None}
    assert {each.found for each in verdicts} == {""}


def test_every_goal_has_a_name_of_its_own() -> None:
    measures = [each.measure for each in judge(Measured())]
    assert len(set(measures)) == len(measures)


@pytest.mark.parametrize(
    ("label", "work", "peer", "factor"),
    [
        (OURS, "W0", "fastapi", 1.2),
        (OURS, "W0", "mosec", 1.3),
        (OURS, "W0", "torchserve", 12.0),
        (OURS_BATCHED, "W0", MOSEC_BATCHED, 1.0),
        (OURS_BATCHED, "W0", "torchserve", 20.0),
        (OURS, "W1", "fastapi", 1.1),
        (OURS_BATCHED, "W1", MOSEC_BATCHED, 1.0),
    ],
)
def test_a_goal_against_a_peer_is_reached_from_its_factor_on(label: str, work: str, peer: str, factor: float) -> None:
    """And by the same shape alone: the other one of ours has no part in it."""
    name = "no-op" if work == "W0" else "MLP"
    shape = "no batching" if label == OURS else "batches of 8"
    for per_s, reached in ((1000 * factor, True), (999 * factor, False)):
        run = run_of(cell(label, work, per_s=per_s), cell(peer, work, per_s=1000.0))
        found = [each for each in judge(run) if each.reached is not None]
        assert [(each.reached, each.rounds) for each in found if "CPU" not in each.measure] == [(reached, 1)]
        assert f"{name}, 32 connections, {shape}: requests/s over {peer}" in {each.measure for each in found}


def test_the_median_of_the_rounds_is_judged_and_their_range_is_shown() -> None:
    rounds = enumerate((1.0, 1.3, 1.25))
    cells = [
        each
        for repetition, ratio in rounds
        for each in (
            cell(OURS, per_s=100 * ratio, repetition=repetition),
            cell("fastapi", per_s=100.0, repetition=repetition),
        )
    ]
    found = verdict(run_of(*cells), "no-op, 32", "over fastapi")
    assert (found.reached, found.found, found.rounds) == (True, "1.25 x (1 x to 1.3 x)", 3)


def test_cpu_is_compared_in_batches() -> None:
    def found(ours: float) -> bool | None:
        return verdict(run_of(cell(OURS_BATCHED, cpu_us=ours), cell(MOSEC_BATCHED, cpu_us=50.0)), "CPU").reached

    assert (found(43.5), found(44.0)) == (True, False)


def test_the_bare_loop_has_the_same_batch() -> None:
    limits = [
        Limit(work="W2", batch=batch, repetition=0, per_s=per_s, cpu_us=1.0) for batch, per_s in ((1, 60.0), (8, 80.0))
    ]
    cells = [cell(label, "W2", 8, per_s=70.0) for label in (OURS, OURS_BATCHED)]
    run = run_of(*cells, limits=limits)
    assert verdict(run, "8 connections, no batching", "bare loop").reached is True
    assert verdict(run, "8 connections, batches", "bare loop").reached is False


def test_a_tail_is_judged_in_each_shape_at_each_count() -> None:
    cells = [
        cell(label, "W2", count, p50_ms=10.0, p99_ms=p99)
        for label, count, p99 in ((OURS, 8, 14.0), (OURS, 32, 15.0), (OURS_BATCHED, 32, 13.0))
    ]
    found = {each.measure: each.reached for each in judge(run_of(*cells)) if "p99" in each.measure}
    assert found == {
        "ResNet-18, 8 connections, no batching: p99 over p50": True,
        "ResNet-18, 8 connections, batches of 8: p99 over p50": None,
        "ResNet-18, 32 connections, no batching: p99 over p50": False,
        "ResNet-18, 32 connections, batches of 8: p99 over p50": True,
    }


@pytest.mark.parametrize(
    ("work", "ours_ms", "reached"),
    [("W0", 0.320, True), ("W0", 0.321, False), ("W1", 0.300, True), ("W1", 0.301, False), ("W2", 0.301, False)],
)
def test_one_connection_is_judged_by_fastapi(work: str, ours_ms: float, reached: bool) -> None:
    """The no-op may take 20 µs more, a model nothing."""
    cells = [cell(label, work, 1, p50_ms=p50) for label, p50 in ((OURS, ours_ms), ("fastapi", 0.3), ("mosec", 0.01))]
    (found,) = [each for each in judge(run_of(*cells)) if each.reached is not None]
    assert (found.reached, "one connection" in found.measure) == (reached, True)


def test_the_start_is_judged_by_what_no_server_can_avoid() -> None:
    def found(answer_s: float) -> bool | None:
        bare = BareStart(repetition=0, import_and_load_s=1.0)
        return verdict(Measured(footprints=[footprint(OURS, answer_s=answer_s)], bare_starts=[bare]), "start").reached

    assert (found(1.19), found(1.21)) == (True, False)


def test_memory_is_judged_at_rest_by_fastapi_and_under_batches_by_mosec() -> None:
    footprints = [
        footprint(OURS, rest_mib=340.0, loaded_mib=9_999.0),
        footprint("fastapi", rest_mib=500.0, loaded_mib=1.0),
        footprint(OURS_BATCHED, rest_mib=9_999.0, loaded_mib=421.0),
        footprint(MOSEC_BATCHED, rest_mib=1.0, loaded_mib=700.0),
    ]
    run = Measured(footprints=footprints)
    assert verdict(run, "at rest").reached is True
    assert (verdict(run, "under the ResNet").reached, verdict(run, "under the ResNet").found) == (False, "0.601 x")


def test_an_outcome_other_than_200_and_503_misses_the_overload_goal() -> None:
    values: dict[str, Any] = {"open_goodput": 1.0, "closed_256_goodput": 0.5, "open_outcomes": {"200": 5, "503": 5}}
    good = trial("overload", **values, closed_256_outcomes={"200": 1})
    bad = trial("overload", OURS_BATCHED, **values, closed_256_outcomes={"200": 1, "ConnectionResetError": 1})
    verdicts = {each.measure: each for each in judge(after(good, bad))}
    assert verdicts["overload, tidegate"].reached is True
    assert verdicts["overload, tidegate, queue of 100"].reached is None
    assert verdicts["overload, tidegate, batches of 8"].reached is False
    assert "ConnectionResetError" in verdicts["overload, tidegate, batches of 8"].found


def test_a_harmless_request_that_fails_misses_the_goal_on_hangs() -> None:
    fine = trial("hang", harmless={"200": 396}, endless={"504": 4})
    bad = trial("hang", harmless={"200": 390, "503": 6}, endless={"504": 4})
    assert verdict(after(fine), "while True", "no batching").reached is True
    assert verdict(after(bad), "while True", "no batching").reached is False


@pytest.mark.parametrize(
    ("changed", "reached"),
    [
        ({}, True),
        ({"stayed": {"200": 9, "503": 1}}, False),
        ({"afterwards": {"no answer": 8}}, False),
        ({"lost_processes": 1}, False),
        ({"more_descriptors": 1}, False),
        ({"more_descriptors": -1}, True),
    ],
)
def test_clients_that_vanish_leave_nothing_and_harm_nobody(changed: dict[str, Any], reached: bool) -> None:
    values: dict[str, Any] = {"left": 300, "stayed": {"200": 9}, "afterwards": {"200": 8}}
    values |= {"lost_processes": 0, "more_descriptors": 0} | changed
    assert verdict(after(trial("vanishing", **values)), "vanish", "no batching").reached is reached


@pytest.mark.parametrize(("failed", "reached"), [(0, True), (1, False)])
def test_a_killed_worker_costs_no_request(failed: int, reached: bool) -> None:
    assert verdict(after(trial("kill", OURS_BATCHED, failed=failed)), "SIGKILL", "batches").reached is reached
