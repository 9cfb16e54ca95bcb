"""The goals of the server, judged from what was measured. Pure: records in, verdicts out.

A ratio is formed within a repetition (both numbers of one run, minutes apart at most) and the median over the
repetitions is judged.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.contestants import BATCHED, US, US_BATCHED, label_of
from benchmarks.measured import WORK_NAMES, Measured, differences, quotients

MOSEC, MOSEC_BATCHED = "mosec", label_of("mosec", BATCHED)
FASTAPI, AWS = "fastapi", "torchserve"
SHAPES = {US: "no batching", US_BATCHED: "batches of 8"}
ENOUGH_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of the goal table."""

    measure: str
    goal: str
    found: str = ""
    reached: bool | None = None
    """None where it was not measured."""
    rounds: int | None = None
    """How many repetitions the median is of; None for what is counted once."""


def judge(run: Measured) -> list[Verdict]:
    """Every goal, in the order of the table."""
    return [
        _faster(run, "W0", US, FASTAPI, 1.2),
        _faster(run, "W0", US, MOSEC, 1.3),
        _faster(run, "W0", US, AWS, 12.0),
        _faster(run, "W0", US_BATCHED, MOSEC_BATCHED, 1.0),
        _faster(run, "W0", US_BATCHED, AWS, 20.0),
        _cheaper(run),
        _faster(run, "W1", US, FASTAPI, 1.1),
        _faster(run, "W1", US_BATCHED, MOSEC_BATCHED, 1.0),
        *(_beside_the_loop(run, label, count) for count in (8, 32) for label in SHAPES),
        *(_tail(run, label, count) for count in (8, 32) for label in SHAPES),
        _one_connection(run, "W0", beyond_us=20.0),
        *(_one_connection(run, work, beyond_us=0.0) for work in ("W1", "W2")),
        _start(run),
        _rest(run),
        _loaded(run),
        *(verdict(run, label) for verdict in (_kill, _hang, _vanishing) for label in SHAPES),
        *(_overload(run, f"{label}{queue}") for label in SHAPES for queue in ("", ", queue of 100")),
    ]


# --- speed


def _faster(run: Measured, work: str, label: str, peer: str, factor: float) -> Verdict:
    return _at_least(
        f"{WORK_NAMES[work]}, 32 connections, {SHAPES[label]}: requests/s over {peer}",
        factor,
        quotients(run.cell(label, work, 32), run.cell(peer, work, 32)),
    )


def _cheaper(run: Measured) -> Verdict:
    ours, theirs = (run.cell(label, "W0", 32, "cpu_us") for label in (US_BATCHED, MOSEC_BATCHED))
    return _at_most(
        f"no-op, 32 connections, batches of 8: CPU a request over {MOSEC_BATCHED}", 0.87, quotients(ours, theirs)
    )


def _beside_the_loop(run: Measured, label: str, connections: int) -> Verdict:
    return _at_least(
        f"ResNet-18, {connections} connections, {SHAPES[label]}: over the bare loop with the same batch",
        0.98,
        quotients(run.cell(label, "W2", connections), run.limit("W2", 1 if label == US else BATCHED.batch)),
    )


def _tail(run: Measured, label: str, connections: int) -> Verdict:
    p99, p50 = (run.cell(label, "W2", connections, what) for what in ("p99_ms", "p50_ms"))
    return _at_most(f"ResNet-18, {connections} connections, {SHAPES[label]}: p99 over p50", 1.4, quotients(p99, p50))


def _one_connection(run: Measured, work: str, *, beyond_us: float) -> Verdict:
    ours, theirs = (run.cell(label, work, 1, "p50_ms") for label in (US, FASTAPI))
    beyond = [round(1e3 * each, 1) for each in differences(ours, theirs)]
    goal = f"≤ {FASTAPI}'s" + (f" + {beyond_us:g} µs" if beyond_us else "")
    return _judged(
        f"{WORK_NAMES[work]}, one connection, no batching: p50",
        goal,
        beyond,
        lambda value: value <= beyond_us,
        lambda value: f"{value:+,.0f} µs",
    )


# --- start and memory


def _start(run: Measured) -> Verdict:
    return _judged(
        "start to the first answer, ResNet-18",
        "≤ import of torch + load + 0.2 s",
        differences(run.footprint(US, "answer_s"), run.bare_start()),
        lambda value: value <= 0.2,
        lambda value: f"{value:+.2f} s",
    )


def _rest(run: Measured) -> Verdict:
    ours, theirs = (run.footprint(each, "rest_mib") for each in (US, FASTAPI))
    return _at_most(f"memory at rest, no batching (PSS of the tree): over {FASTAPI}", 0.68, quotients(ours, theirs))


def _loaded(run: Measured) -> Verdict:
    ours, theirs = (run.footprint(each, "loaded_mib") for each in (US_BATCHED, MOSEC_BATCHED))
    measure = f"memory under the ResNet, batches of 8 (PSS of the tree): over {MOSEC_BATCHED}"
    return _at_most(measure, 0.6, quotients(ours, theirs))


# --- faults


def _kill(run: Measured, label: str) -> Verdict:
    measure, goal = f"SIGKILL of a worker under load, {SHAPES[label]}: failed requests", "0"
    values = run.trial("kill", label)
    if values is None:
        return Verdict(measure=measure, goal=goal)
    return Verdict(measure=measure, goal=goal, found=str(values["failed"]), reached=values["failed"] == 0)


def _hang(run: Measured, label: str) -> Verdict:
    measure = f"one request in a hundred is `while True`, deadline 2 s, {SHAPES[label]}"
    goal, values = "only those requests fail", run.trial("hang", label)
    if values is None:
        return Verdict(measure=measure, goal=goal)
    found = f"harmless: {values['harmless']}, endless: {values['endless']}"
    return Verdict(measure=measure, goal=goal, found=found, reached=set(values["harmless"]) == {"200"})


def _vanishing(run: Measured, label: str) -> Verdict:
    measure = f"clients that vanish with their request under way, {SHAPES[label]}"
    goal, values = "no other fails, nothing is left of them", run.trial("vanishing", label)
    if values is None:
        return Verdict(measure=measure, goal=goal)
    found = (
        f"{values['left']} left; who stayed: {values['stayed']}, who came afterwards: {values['afterwards']}; "
        f"{values['lost_processes']} processes lost, {values['more_descriptors']:+} descriptors"
    )
    unharmed = set(values["stayed"]) == set(values["afterwards"]) == {"200"}
    reached = unharmed and not values["lost_processes"] and values["more_descriptors"] <= 0
    return Verdict(measure=measure, goal=goal, found=found, reached=reached)


def _overload(run: Measured, label: str) -> Verdict:
    measure, goal = f"overload, {label}", "only 200 and 503; open loop ≥ 0.9 of 32 connections"
    values = run.trial("overload", label)
    if values is None:
        return Verdict(measure=measure, goal=goal)
    strange = {*values["open_outcomes"], *values["closed_256_outcomes"]} - {"200", "503"}
    found = f"open loop {values['open_goodput']:.2f}, 256 connections {values['closed_256_goodput']:.2f}; "
    found += f"outcomes besides 200 and 503: {', '.join(sorted(strange)) or 'none'}"
    return Verdict(measure=measure, goal=goal, found=found, reached=not strange and values["open_goodput"] >= 0.9)


# --- the median of some rounds against a bound


def _at_least(measure: str, factor: float, values: Sequence[float]) -> Verdict:
    return _judged(measure, f"≥ {factor:g} x", values, lambda value: value >= factor, lambda value: f"{value:.3g} x")


def _at_most(measure: str, factor: float, values: Sequence[float]) -> Verdict:
    return _judged(measure, f"≤ {factor:g} x", values, lambda value: value <= factor, lambda value: f"{value:.3g} x")


def _judged(
    measure: str, goal: str, values: Sequence[float], holds: Callable[[float], bool], words: Callable[[float], str]
) -> Verdict:
    if not values:
        return Verdict(measure=measure, goal=goal)
    value = statistics.median(values)
    found = words(value)
    if len(values) > 1:
        found += f" ({words(min(values))} to {words(max(values))})"
    return Verdict(measure=measure, goal=goal, found=found, reached=holds(value), rounds=len(values))
