"""The results as Markdown: what most want to know first, then every figure with the noise it was taken in. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contestants import BATCHED, CONTROL, US, US_BATCHED, label_of
from benchmarks.goals import ENOUGH_ROUNDS, Verdict, judge
from benchmarks.grid import Cell
from benchmarks.measured import WORK_NAMES, Measured, median, quotients
from benchmarks.trials import Trial

NOISY_CORES = 0.3
"""A figure whose run shared the machine with more than this is marked with `~`: it is a lower bound."""


@dataclass(slots=True, kw_only=True)
class Results(Measured):
    """Everything one run measured, and where."""

    command: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    versions: dict[str, dict[str, str]] = field(default_factory=dict)


def markdown(results: Results) -> str:
    """The whole report."""
    parts = ["# Serving benchmark", _machine(results)]
    if results.cells:
        parts += ["## Requests a second", _rates(results)]
    parts += ["## Goals", _goals(judge(results))]
    if results.cells:
        parts += ["## Requests/s of tidegate over each peer (paired, median)", *_ratios(results), _control(results)]
    parts += [f"## {work}: {name}\n\n{text}" for work, name in WORK_NAMES.items() if (text := _figures(results, work))]
    if results.footprints:
        parts += ["## Start and memory, with the ResNet", _footprints(results)]
    if results.carried:
        parts += ["## The frontend alone", _frontend(results)]
    if results.shape_cells:
        parts += ["## Each at its best shape", _best_shapes(results)]
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


# --- what most want to know


def _rates(run: Measured) -> str:
    """One row for each server, those that predict each request alone first."""
    columns = _columns(run.cells)
    most = [(work, max(count for of_work, count in columns if of_work == work)) for work in _works(run.cells)]
    rows = []
    most_rounds = len({cell.repetition for cell in run.cells})
    for label in sorted(_labels(run.cells), key=_is_batched):
        name = f"**{label}**" if label in (US, US_BATCHED) else label
        done = len({cell.repetition for cell in run.cells if cell.label == label})
        name += f" ({done} of {most_rounds} rounds)" if done < most_rounds else ""
        rates = [_rate(run, label, work, count) for work, count in columns]
        cpu = [_number(median(run.cell(label, work, count, "cpu_us"))) for work, count in most]
        rows.append((name, *rates, *cpu))
    for batch in (1, BATCHED.batch):
        at_most = [median(run.limit(work, batch)) if (work, count) in most else None for work, count in columns]
        if any(at_most):
            rows.append((f"bare loop, batch {batch}", *map(_number, at_most), *("" for _ in most)))
    head = ("server", *(f"{WORK_NAMES[work]} c{count}" for work, count in columns))
    head += tuple(f"{WORK_NAMES[work]} c{count}: CPU µs" for work, count in most)
    note = "Medians; cN is N connections; CPU is that of the whole server for one request."
    return f"{note} `~`: others used the machine too.\n\n{table(head, rows)}"


def _goals(verdicts: Sequence[Verdict]) -> str:
    words = {True: "reached", False: "**missed**", None: "not measured"}
    text = table(
        ("measure", "goal", "found", "verdict"),
        [(each.measure, each.goal, each.found, words[each.reached]) for each in verdicts],
    )
    fewest = min((each.rounds for each in verdicts if each.rounds is not None), default=ENOUGH_ROUNDS)
    if fewest < ENOUGH_ROUNDS:
        text += (
            f"\n\nThe goals are about medians of at least {ENOUGH_ROUNDS} rounds. Here some are of {fewest}: "
            "a sign, no result."
        )
    return text


def _ratios(run: Measured) -> list[str]:
    """Ours beside all that predict each request alone, and ours in batches beside each server as it is fastest."""
    labels = [label for label in _labels(run.cells) if label not in (US, US_BATCHED)]
    alone = [label for label in labels if not _is_batched(label)]
    at_best = [each for each in labels if each != CONTROL and label_of(each, BATCHED) not in labels]
    tables = []
    for ours, peers in ((US, alone), (US_BATCHED, at_best)):
        columns = _columns([cell for cell in run.cells if cell.label == ours])
        if not columns or not peers:
            continue
        rows = [
            (peer, *(_number(median(_over(run, ours, peer, work, count)), " x") for work, count in columns))
            for peer in peers
        ]
        tables.append(table((f"{ours} over", *(f"{work} c{count}" for work, count in columns)), rows))
    return tables


def _control(run: Measured) -> str:
    ratios = [
        ratio
        for work, count in _columns(run.cells)
        if (ratio := median(_over(run, US, CONTROL, work, count))) is not None
    ]
    if not ratios:
        return ""
    return (
        f"The control is the same server under a second name: its ratios, which would all be 1 on a quiet machine, "
        f"go from {min(ratios):.2f} to {max(ratios):.2f}. A difference within that range says nothing."
    )


# --- every figure


def _figures(run: Measured, work: str) -> str:
    cells = [cell for cell in run.cells if cell.work == work]
    if not cells:
        return ""
    counts = sorted({cell.connections for cell in cells})
    head = ("server", *(f"c{count}: req/s · p50 · p99 ms" for count in counts), "CPU µs/req at the most", "errors")
    rows = []
    for label in _labels(cells):
        of_label = [cell for cell in cells if cell.label == label]
        errors: dict[str, int] = {}
        for cell in of_label:
            # Our own driver counts all outcomes, wrk only those that are none.
            for outcome, count in cell.outcomes.items():
                if outcome != "200":
                    errors[outcome] = errors.get(outcome, 0) + count
        rows.append(
            (
                f"{label} ({of_label[0].shape})",
                *(_figure(run, label, work, count) for count in counts),
                _number(median(run.cell(label, work, counts[-1], "cpu_us"))),
                ", ".join(f"{outcome}: {count}" for outcome, count in errors.items()) or "0",
            )
        )
    text = table(head, rows)
    for batch in (1, BATCHED.batch):
        found = [limit for limit in run.limits if (limit.work, limit.batch) == (work, batch)]
        if found:
            rates = sorted(limit.per_s for limit in found)
            cpu = min(limit.cpu_us for limit in found)
            text += (
                f"\n\nBare loop, batch {batch}, two processes: {_number(median(rates))}/s "
                f"({_number(rates[0])} to {_number(rates[-1])}), {_number(cpu)} µs of CPU."
            )
    return text


def _rate(run: Measured, label: str, work: str, connections: int) -> str:
    foreign = median(run.cell(label, work, connections, "foreign_cores"))
    mark = "~" if foreign is not None and foreign > NOISY_CORES else ""
    return f"{mark}{_number(median(run.cell(label, work, connections)))}"


def _figure(run: Measured, label: str, work: str, connections: int) -> str:
    p50, p99 = (median(run.cell(label, work, connections, what)) for what in ("p50_ms", "p99_ms"))
    return f"{_rate(run, label, work, connections)} · {_number(p50)} · {_number(p99)}"


def _footprints(run: Measured) -> str:
    fields = ("health_s", "answer_s", "rest_mib", "loaded_mib")
    head = ("server", "first 200 of the health path, s", "first answer, s", "at rest, MiB", "under load, MiB")
    rows = [
        (label, *(_number(median(run.footprint(label, what))) for what in fields), f"{processes:.0f}")
        for label in sorted({each.label for each in run.footprints})
        if (processes := median(run.footprint(label, "processes"))) is not None
    ]
    bare = _number(median(run.bare_start()))
    note = f"Medians. Import of torch and load in a bare interpreter: {bare} s." if bare else "Medians."
    return f"{note} Memory is the PSS of the whole tree.\n\n{table((*head, 'processes'), rows)}"


def _frontend(run: Measured) -> str:
    rows = []
    for label, workers, connections in sorted({(each.label, each.workers, each.connections) for each in run.carried}):
        found = [
            each
            for each in run.carried
            if (each.label, each.workers, each.connections) == (label, workers, connections)
        ]
        values = [
            median([getattr(each, what) for each in found])
            for what in ("frontend_us", "limit_per_s", "workers_us", "per_s", "p99_ms")
        ]
        failed = sum(each.failed for each in found)
        rows.append((label, str(workers), str(connections), *map(_number, values), str(failed)))
    head = ["server", "workers", "connections", "frontend: CPU µs a request", "its limit on one core, req/s"]
    head += ["workers: CPU µs a request", "reached here, req/s", "p99, ms", "failed"]
    note = (
        "Functions that do nothing, bodies of 1 KiB. The frontend is one process: the limit is a second by its CPU for "
        "a request. What was reached here shares the cores with workers and load."
    )
    return f"{note}\n\n{table(head, rows)}"


def _best_shapes(run: Measured) -> str:
    """Of each peer the shape with the best median, in each column; those of the grid compete."""
    columns = _columns(run.shape_cells)
    found: dict[tuple[str, str, int], dict[str, list[float]]] = {}
    for cell in (*run.cells, *run.shape_cells):
        if cell.label != CONTROL:
            of_cell = found.setdefault((_peer(cell.label), cell.work, cell.connections), {})
            of_cell.setdefault(cell.shape, []).append(cell.per_s)
    rows = []
    for peer in sorted({_peer(cell.label) for cell in run.shape_cells}):
        row = [peer]
        for work, count in columns:
            rates = {shape: median(each) or 0.0 for shape, each in found.get((peer, work, count), {}).items()}
            best = max(rates, key=lambda shape: rates[shape], default=None)
            row.append(f"{_number(rates[best])} ({best})" if best else "")
        rows.append(row)
    tried = ", ".join(sorted({shape for each in found.values() for shape in each}))
    note = f"Requests/s at the best of what was tried ({tried}): workers x threads of each, b is the largest batch."
    return f"{note}\n\n" + table(("server", *(f"{work} c{count}" for work, count in columns)), rows)


def _trials(trials: Sequence[Trial]) -> list[str]:
    parts = []
    for kind in dict.fromkeys(trial.kind for trial in trials):
        of_kind = [trial for trial in trials if trial.kind == kind]
        names = list(dict.fromkeys(name for trial in of_kind for name in trial.values))
        rows = [(trial.label, *(_value(trial.values.get(name)) for name in names)) for trial in of_kind]
        parts.append(f"### {kind.replace('_', ' ')}\n\n{table(('server', *names), rows)}")
    return parts


# --- shared


def _labels(cells: Sequence[Cell]) -> list[str]:
    return sorted({cell.label for cell in cells})


def _works(cells: Sequence[Cell]) -> list[str]:
    return sorted({cell.work for cell in cells})


def _columns(cells: Sequence[Cell]) -> list[tuple[str, int]]:
    return sorted({(cell.work, cell.connections) for cell in cells})


def _is_batched(label: str) -> bool:
    return label.endswith(label_of("", BATCHED))


def _peer(label: str) -> str:
    return label.removesuffix(label_of("", BATCHED))


def _over(run: Measured, label: str, peer: str, work: str, connections: int) -> list[float]:
    return quotients(run.cell(label, work, connections), run.cell(peer, work, connections))


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
