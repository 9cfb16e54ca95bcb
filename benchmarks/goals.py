"""The goals of the server, judged from what was measured. Pure: records in, verdicts out.

A ratio is formed within a repetition (both numbers of one run, minutes apart at most) and the median over the
repetitions is judged.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.grid import Cell, Limit
from benchmarks.trials import Trial

US = "tidegate"
WORK_NAMES = {"W0": "no-op", "W1": "MLP", "W2": "ResNet-18"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of the goal table. `reached` is None where it was not measured."""

    measure: str
    goal: str
    found: str
    reached: bool | None


def judge(cells: Sequence[Cell], limits: Sequence[Limit], trials: Sequence[Trial]) -> list[Verdict]:
    """Every goal, in the order of the table."""
    return [
        _faster(cells, "W0", "mosec", 1.0),
        _faster(cells, "W0", "torchserve", 15.0),
        _at_most("no-op, 32 connections: server CPU a request", "µs", 50, median_of(cells, US, "W0", 32, "cpu_us")),
        _faster(cells, "W1", "mosec", 1.0),
        _faster(cells, "W1", "torchserve", 6.0),
        *(_beside_the_loop(cells, limits, count) for count in (8, 32)),
        *(_tail(cells, count) for count in (8, 32)),
        *(_one_connection(cells, work) for work in WORK_NAMES),
        *_overload(trials),
        _trial(trials, "kill", "SIGKILL of a worker under load: failed requests", key="failed", unit="", at_most=0),
        _hang(trials),
        _trial(trials, "ping_under_load", "`/ping` while workers compute: p99", key="p99_ms", unit=" ms", at_most=50),
        _trial(
            trials,
            "ping_without_gil",
            "`/ping` while user code holds the GIL: p99",
            key="p99_ms",
            unit=" ms",
            at_most=50,
        ),
        *_memory(trials),
        _start(trials),
        _trial(
            trials,
            "further_worker",
            "a further worker, beyond its imports and `model_fn`",
            key="beyond_imports_and_model_fn_s",
            unit=" s",
            at_most=0.1,
        ),
        _trial(
            trials, "batching", "batch 1 → 8, a predict of 10 ms, 32 connections", key="factor", unit=" x", at_least=7
        ),
    ]


def median_of(cells: Iterable[Cell], label: str, work: str, connections: int, field: str) -> float | None:
    """The median of a field over the repetitions; None where there is none."""
    found = [getattr(cell, field) for cell in cells if _is(cell, label, work, connections)]
    return statistics.median(found) if found else None


def paired_ratio(cells: Sequence[Cell], label: str, other: str, work: str, connections: int) -> float | None:
    """Median over the repetitions of (requests/s of `label`) / (requests/s of `other`)."""
    ours = {cell.repetition: cell.per_s for cell in cells if _is(cell, label, work, connections)}
    theirs = {cell.repetition: cell.per_s for cell in cells if _is(cell, other, work, connections)}
    ratios = [ours[each] / theirs[each] for each in ours.keys() & theirs.keys() if theirs[each] > 0]
    return statistics.median(ratios) if ratios else None


def loop_ratio(cells: Sequence[Cell], limits: Sequence[Limit], work: str, connections: int) -> float | None:
    """Median over the repetitions of our requests/s over the faster of the two bare loops (batch 1 and 8)."""
    best: dict[int, float] = {}
    for limit in limits:
        if limit.work == work:
            best[limit.repetition] = max(best.get(limit.repetition, 0.0), limit.per_s)
    ours = {cell.repetition: cell.per_s for cell in cells if _is(cell, US, work, connections)}
    ratios = [ours[each] / best[each] for each in ours.keys() & best.keys()]
    return statistics.median(ratios) if ratios else None


# --- one kind of goal each


def _faster(cells: Sequence[Cell], work: str, peer: str, factor: float) -> Verdict:
    ratio = paired_ratio(cells, US, peer, work, 32)
    return Verdict(
        measure=f"{WORK_NAMES[work]}, 32 connections: requests/s over {peer}",
        goal=f"≥ {factor:g} x",
        found="" if ratio is None else f"{ratio:.2f} x",
        reached=None if ratio is None else ratio >= factor,
    )


def _at_most(measure: str, unit: str, goal: float, value: float | None, *, at_least: bool = False) -> Verdict:
    return Verdict(
        measure=measure,
        goal=f"{'≥' if at_least else '≤'} {goal:g} {unit}",
        found="" if value is None else f"{value:.3g} {unit}",
        reached=None if value is None else (value >= goal if at_least else value <= goal),
    )


def _beside_the_loop(cells: Sequence[Cell], limits: Sequence[Limit], connections: int) -> Verdict:
    ratio = loop_ratio(cells, limits, "W2", connections)
    return _at_most(f"ResNet-18, {connections} connections: over the bare loop", "x", 0.95, ratio, at_least=True)


def _tail(cells: Sequence[Cell], connections: int) -> Verdict:
    ratios = [cell.p99_ms / cell.p50_ms for cell in cells if _is(cell, US, "W2", connections) and cell.p50_ms]
    return _at_most(
        f"ResNet-18, {connections} connections: p99 over p50", "x", 1.3, statistics.median(ratios) if ratios else None
    )


def _one_connection(cells: Sequence[Cell], work: str) -> Verdict:
    ours, naive = (median_of(cells, label, work, 1, "p50_ms") for label in (US, "fastapi"))
    labels = dict.fromkeys(cell.label for cell in cells if not cell.label.startswith(US))
    others = [
        (value, label)
        for label in labels
        if label != "fastapi" and (value := median_of(cells, label, work, 1, "p50_ms")) is not None
    ]
    measure, goal = f"{WORK_NAMES[work]}, one connection: p50", "≤ fastapi + 0.2 ms, ahead of every other peer"
    if ours is None or naive is None or not others:
        return Verdict(measure=measure, goal=goal, found="", reached=None)
    best, who = min(others)
    found = f"{ours:.2f} ms; fastapi {naive:.2f} ms; next {who} {best:.2f} ms"
    return Verdict(measure=measure, goal=goal, found=found, reached=ours <= naive + 0.2 and ours < best)


def _overload(trials: Sequence[Trial]) -> list[Verdict]:
    verdicts = []
    for label in (US, f"{US}, queue of 100"):
        values = _values(trials, "overload", label)
        if values is None:
            verdicts.append(_missing(f"overload ({label})", "only 200 and 503; open loop ≥ 0.9 of 32 connections"))
            continue
        strange = {*values["open_outcomes"], *values["closed_256_outcomes"]} - {"200", "503"}
        found = f"open loop {values['open_goodput']:.2f}, 256 connections {values['closed_256_goodput']:.2f}; "
        found += f"outcomes besides 200 and 503: {', '.join(sorted(strange)) or 'none'}"
        verdicts.append(
            Verdict(
                measure=f"overload ({label})",
                goal="only 200 and 503; open loop ≥ 0.9 of 32 connections",
                found=found,
                reached=not strange and values["open_goodput"] >= 0.9,
            )
        )
    return verdicts


def _hang(trials: Sequence[Trial]) -> Verdict:
    measure, goal = "one in a hundred is `while True`, deadline 2 s", "only those requests fail"
    values = _values(trials, "hang", US)
    if values is None:
        return _missing(measure, goal)
    failed = {outcome: count for outcome, count in values["harmless"].items() if outcome != "200"}
    found = f"harmless: {values['harmless']}, endless: {values['endless']}"
    return Verdict(measure=measure, goal=goal, found=found, reached=not failed)


def _memory(trials: Sequence[Trial]) -> list[Verdict]:
    pss = {trial.label: float(trial.values["pss_mib"]) for trial in trials if trial.kind == "footprint"}
    ours = pss.pop(US, None)
    least = min(pss.items(), key=lambda item: item[1]) if pss else None
    ratio = ours / least[1] if ours is not None and least else None
    name = f" ({least[0]})" if least else ""
    return [
        _at_most("memory after the ResNet (PSS of the tree)", "MiB", 400, ours),
        _at_most(f"memory over the best peer{name}", "x", 0.75, ratio),
    ]


def _start(trials: Sequence[Trial]) -> Verdict:
    measure, goal = "start to first 200 ping", "≤ import of torch + load + 0.3 s"
    values, bare = _values(trials, "footprint", US), _values(trials, "unavoidable_start", "bare loop")
    if values is None or bare is None:
        return _missing(measure, goal)
    found = f"{values['health_s']:.2f} s; import and load {bare['import_and_load_s']:.2f} s"
    reached = values["health_s"] <= bare["import_and_load_s"] + 0.3
    return Verdict(measure=measure, goal=goal, found=found, reached=reached)


def _trial(
    trials: Sequence[Trial],
    kind: str,
    measure: str,
    *,
    key: str,
    unit: str,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Verdict:
    """One value of one trial against one bound; pings without an answer miss it whatever the others took."""
    goal = f"≤ {at_most:g}{unit}" if at_most is not None else f"≥ {at_least:g}{unit}"
    values = _values(trials, kind, US)
    if values is None:
        return _missing(measure, goal)
    value: float = values[key]
    failed = values.get("failed", 0) if key != "failed" else 0
    held = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    found = f"{value:.3g}{unit}" + (f"; {failed} without an answer" if failed else "")
    return Verdict(measure=measure, goal=goal, found=found, reached=held and not failed)


def _values(trials: Sequence[Trial], kind: str, label: str) -> dict[str, Any] | None:
    return next((trial.values for trial in trials if trial.kind == kind and trial.label == label), None)


def _missing(measure: str, goal: str) -> Verdict:
    return Verdict(measure=measure, goal=goal, found="", reached=None)


def _is(cell: Cell, label: str, work: str, connections: int) -> bool:
    return (cell.label, cell.work, cell.connections) == (label, work, connections)
