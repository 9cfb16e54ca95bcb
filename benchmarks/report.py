"""The results as Markdown: goals and ratios first, then every figure with the noise that it was taken in. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.goals import US, WORK_NAMES, judge, median_of, paired_ratio
from benchmarks.grid import Cell, Failure, Limit
from benchmarks.trials import Trial

NOISY_CORES = 0.3
"""A figure whose run shared the machine with more than this is marked with `~`: it is a lower bound."""


@dataclass(slots=True, kw_only=True)
class Results:
    """Everything one run measured."""

    command: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    limits: list[Limit] = field(default_factory=list)
    shape_cells: list[Cell] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def markdown(results: Results) -> str:
    """The whole report."""
    parts = [
        "# Serving benchmark",
        _machine(results),
        "## Goals",
        _goals(results),
        "## Requests/s of tidegate over each peer (paired, median)",
        _ratios(results.cells),
        _control(results.cells),
        *(f"## {work}: {WORK_NAMES[work]}\n\n{_figures(results, work)}" for work in WORK_NAMES),
    ]
    if results.shape_cells:
        parts += ["## Each at its best shape", _best_shapes(results.shape_cells)]
    if results.trials:
        parts += ["## Trials", *_trials(results.trials)]
    if results.failures:
        rows = [(each.label, each.part, each.error.replace("|", "/").replace("\n", " ")) for each in results.failures]
        parts += ["## Could not be measured", table(("server", "part", "error"), rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _machine(results: Results) -> str:
    facts = ", ".join(f"{name}: {value}" for name, value in results.machine.items())
    return (
        f"Command: `{results.command}`  \nMachine: {facts}  \n"
        f"Settings: {', '.join(f'{name}: {value}' for name, value in results.settings.items())}"
    )


def _goals(results: Results) -> str:
    words = {True: "reached", False: "**missed**", None: "not measured"}
    verdicts = judge(results.cells, results.limits, results.trials)
    return table(
        ("measure", "goal", "found", "verdict"),
        [(each.measure, each.goal, each.found, words[each.reached]) for each in verdicts],
    )


def _ratios(cells: Sequence[Cell]) -> str:
    peers = [label for label in dict.fromkeys(cell.label for cell in cells) if label != US]
    columns = sorted({(cell.work, cell.connections) for cell in cells})
    rows = [
        (peer, *(_number(paired_ratio(cells, US, peer, work, count), " x") for work, count in columns))
        for peer in peers
    ]
    return table(("peer", *(f"{work} c{count}" for work, count in columns)), rows)


def _control(cells: Sequence[Cell]) -> str:
    again = f"{US} again"
    columns = sorted({(cell.work, cell.connections) for cell in cells})
    ratios = [ratio for work, count in columns if (ratio := paired_ratio(cells, US, again, work, count)) is not None]
    if not ratios:
        return ""
    return (
        f"The control is the same server under a second name: its ratios, which would all be 1 on a quiet machine, "
        f"go from {min(ratios):.2f} to {max(ratios):.2f}. A difference within that range says nothing."
    )


def _figures(results: Results, work: str) -> str:
    cells = [cell for cell in results.cells if cell.work == work]
    counts = sorted({cell.connections for cell in cells})
    head = ("server", *(f"c{count}: req/s · p50 · p99 ms" for count in counts), "CPU µs/req at the most", "errors")
    rows = []
    for label in dict.fromkeys(cell.label for cell in sorted(cells, key=lambda cell: cell.label)):
        of_label = [cell for cell in cells if cell.label == label]
        shape = of_label[0].shape
        errors: dict[str, int] = {}
        for cell in of_label:
            for outcome, count in cell.outcomes.items():
                errors[outcome] = errors.get(outcome, 0) + count
        rows.append(
            (
                f"{label} ({shape})",
                *(_figure(of_label, label, work, count) for count in counts),
                _number(median_of(of_label, label, work, counts[-1], "cpu_us")),
                ", ".join(f"{outcome}: {count}" for outcome, count in errors.items()) or "0",
            )
        )
    text = table(head, rows)
    for batch in (1, 8):
        found = [limit for limit in results.limits if (limit.work, limit.batch) == (work, batch)]
        if found:
            rates = sorted(limit.per_s for limit in found)
            cpu = min(limit.cpu_us for limit in found)
            text += (
                f"\n\nBare loop, batch {batch}, two processes: {_number(rates[len(rates) // 2])}/s "
                f"({_number(rates[0])} to {_number(rates[-1])}), {_number(cpu)} µs of CPU."
            )
    return text


def _figure(cells: Sequence[Cell], label: str, work: str, connections: int) -> str:
    rate, p50, p99, foreign = (
        median_of(cells, label, work, connections, field) for field in ("per_s", "p50_ms", "p99_ms", "foreign_cores")
    )
    mark = "~" if foreign is not None and foreign > NOISY_CORES else ""
    return f"{mark}{_number(rate)} · {_number(p50)} · {_number(p99)}"


def _best_shapes(cells: Sequence[Cell]) -> str:
    columns = sorted({(cell.work, cell.connections) for cell in cells})
    peers = dict.fromkeys(cell.label.removesuffix(f" {cell.shape}") for cell in cells)
    rows = []
    for peer in peers:
        row = [peer]
        for work, count in columns:
            of_cell = [
                cell
                for cell in cells
                if cell.label.removesuffix(f" {cell.shape}") == peer and (cell.work, cell.connections) == (work, count)
            ]
            best = max(of_cell, key=lambda cell: cell.per_s, default=None)
            row.append(f"{_number(best.per_s)} ({best.shape})" if best else "")
        rows.append(row)
    note = (
        "Requests/s of the best of: 2 workers x 1 thread, 1 x 2, with batches of 8 (b8) and without (b1). One run each."
    )
    return f"{note}\n\n" + table(("server", *(f"{work} c{count}" for work, count in columns)), rows)


def _trials(trials: Sequence[Trial]) -> list[str]:
    parts = []
    for kind in dict.fromkeys(trial.kind for trial in trials):
        of_kind = [trial for trial in trials if trial.kind == kind]
        names = list(dict.fromkeys(name for trial in of_kind for name in trial.values))
        rows = [(trial.label, *(_value(trial.values.get(name)) for name in names)) for trial in of_kind]
        parts.append(f"### {kind.replace('_', ' ')}\n\n{table(('server', *names), rows)}")
    return parts


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_value(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list):
        return " ".join(_value(each) for each in value)
    return _number(value) if isinstance(value, float) else str("" if value is None else value)


def _number(value: float | None, unit: str = "") -> str:
    """Three significant digits and no exponent."""
    if value is None or math.isnan(value):
        return ""
    if value == 0:
        return f"0{unit}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(digits, 4)}f}{unit}" if abs(value) < 1000 else f"{value:,.0f}{unit}"
