"""One run of the serving benchmark: prepare, measure in parts, write the results after each part."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import bodies, frontend, grid, machine, probes, processes, trials
from benchmarks.contestants import MAIN, WEIGHTS, WORK, Contestant, with_two_threads
from benchmarks.environments import CannotInstall, python_of, versions_in
from benchmarks.footprint import BareStart, Footprint
from benchmarks.frontend import Carried
from benchmarks.grid import Cell, Failure, Limit
from benchmarks.processes import DidNotStart
from benchmarks.report import Results, markdown
from benchmarks.trials import Effort, Trial

PARTS = ("grid", "frontend", *trials.FOR_ALL, *probes.FOR_US, "shapes")
USUAL_PARTS = ("grid", "frontend", "kill", "overload", "hang", "vanishing")
"""What the goals are about, and the frontend alone."""
TWO_THREADS = "1x2 "
TRIALS_OF = ("all", "us")
Item = Cell | Footprint | Limit | BareStart | Carried | Trial | Failure
DRAW = Path(__file__).parent / "peers" / "plot" / "draw.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure and for how long."""

    peers: tuple[str, ...]
    works: tuple[str, ...]
    parts: tuple[str, ...]
    trials_of: str
    """Whether a trial that every server can go through is for "all", or for "us" alone."""
    repetitions: int
    seconds: int
    effort: Effort
    seed: int
    once: tuple[str, ...] = ()
    """Peers of whom the grid measures the first repetition alone."""


def run(plan: Plan, output: Path, command: str, *, add: bool = False) -> Results:
    """Measure `plan` and write `output`.md, .json and .png. What was measured before an interruption is written too.

    With `add` what is there already is kept beside it.
    """
    processes.adopt_orphans()
    results = Results(
        command=command,
        machine=machine.describe(),
        settings={
            "repetitions": plan.repetitions,
            "seconds a cell": f"{plan.seconds} (ResNet {plan.seconds + 1}, above one connection {plan.seconds + 2})",
            "seconds a trial": plan.effort.seconds,
            "order": f"random, seed {plan.seed}",
        },
    )
    _write_weights()
    made = bodies.make()
    results.settings |= {
        f"{work} body": f"{len(body.data)} bytes, sha256 {body.sha256[:12]}" for work, body in made.items()
    }
    if add:
        results = _beside(read(output.with_suffix(".json")), results)
    try:
        contestants = _installable(plan, results)
        # Closed whatever happens: a generator that is only forgotten may leave its server running.
        with contextlib.closing(_measure(plan, contestants, made)) as items:
            for item in items:
                _keep(results, item)
                print(_line(item), flush=True)
    finally:
        write(results, output)
    return results


def read(file: Path) -> Results:
    """What a run has written."""
    raw = json.loads(file.read_text())
    kinds = {
        "cells": Cell,
        "limits": Limit,
        "footprints": Footprint,
        "bare_starts": BareStart,
        "carried": Carried,
        "shape_cells": Cell,
        "trials": Trial,
        "failures": Failure,
    }
    records: dict[str, Any] = {name: [kind(**each) for each in raw.get(name, [])] for name, kind in kinds.items()}
    return Results(
        command=raw["command"], machine=raw["machine"], settings=raw["settings"], versions=raw["versions"], **records
    )


def _beside(earlier: Results, now: Results) -> Results:
    """The earlier results, to be added to."""
    earlier.command += f"`, then `{now.command}"
    for name, value in now.machine.items():
        if name in ("revision", "date") and earlier.machine.get(name) != value:
            earlier.machine[name] = f"{earlier.machine.get(name)}, then {value}"
    return earlier


def write(results: Results, output: Path) -> None:
    """The results beside each other: for people, for programs, and drawn where that can be installed."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(asdict(results), indent=1) + "\n")
    output.with_suffix(".md").write_text(markdown(results))
    if results.cells:
        with contextlib.suppress(CannotInstall, subprocess.SubprocessError):
            command = [
                str(python_of("plot")),
                str(DRAW),
                str(output.with_suffix(".json")),
                str(output.with_suffix(".png")),
            ]
            subprocess.run(command, check=True, timeout=120)
    print(f"written: {output.with_suffix('.md')}", flush=True)


def _installable(plan: Plan, results: Results) -> list[Contestant]:
    """The servers of the plan whose environment can be made; the others are reported."""
    chosen = []
    for contestant in MAIN:
        if contestant.peer not in plan.peers:
            continue
        try:
            results.versions[contestant.peer] = versions_in(contestant.peer)
            chosen.append(contestant)
        except (CannotInstall, subprocess.SubprocessError) as error:
            results.failures.append(Failure(label=contestant.label, part="install", error=str(error)))
    return chosen


def _measure(
    plan: Plan, contestants: Sequence[Contestant], made: dict[str, bodies.Body]
) -> Generator[Item, None, None]:
    order = random.Random(plan.seed)
    if "grid" in plan.parts:
        yield from grid.run(
            contestants,
            made,
            plan.works,
            repetitions=plan.repetitions,
            seconds=plan.seconds,
            order=order,
            once=plan.once,
        )
    if "frontend" in plan.parts and "tidegate" in plan.peers:
        yield from frontend.run(made, repetitions=plan.repetitions, seconds=plan.seconds, order=order)
    yield from _try(contestants, made, plan)
    if "shapes" in plan.parts:
        shaped = [each for peer in dict.fromkeys(each.peer for each in contestants) for each in with_two_threads(peer)]
        # Threads are torch's: the no-op has no use for them.
        works = [work for work in plan.works if work != "W0"]
        for item in grid.run(shaped, made, works, repetitions=plan.repetitions, seconds=plan.seconds, order=order):
            if isinstance(item, Cell | Failure):
                yield item


def _try(contestants: Sequence[Contestant], made: dict[str, bodies.Body], plan: Plan) -> Iterator[Trial | Failure]:
    """The trials of the plan, each for whom it is meant."""
    for kind, trial in (trials.FOR_ALL | probes.FOR_US).items():
        if kind not in plan.parts:
            continue
        for contestant in meant_for(kind, contestants, trials_of=plan.trials_of):
            try:
                yield trial(contestant, made, plan.effort)
            except (DidNotStart, CannotInstall, subprocess.SubprocessError, OSError, TimeoutError) as error:
                yield Failure(label=contestant.label, part=kind, error=f"{type(error).__name__}: {error}")


def meant_for(kind: str, contestants: Sequence[Contestant], *, trials_of: str) -> list[Contestant]:
    """Who goes through a trial. A control does not: it is the same server again."""
    for_all = kind in trials.FOR_ALL and trials_of == "all"
    chosen = [each for each in contestants if not each.is_control and (for_all or each.peer == "tidegate")]
    if kind in probes.IN_ONE_SHAPE:
        chosen = chosen[:1]
    if kind == "overload":
        # Our queue of 1000 does not fill in these seconds; with TorchServe's 100 the shedding is seen too.
        short = (("TIDEGATE_QUEUE_SIZE", "100"),)
        ours = [each for each in chosen if each.peer == "tidegate"]
        chosen += [replace(each, label=f"{each.label}, queue of 100", environment=short) for each in ours]
    return chosen


def _keep(results: Results, item: Item) -> None:
    if isinstance(item, Cell):
        (results.shape_cells if item.shape.startswith(TWO_THREADS) else results.cells).append(item)
    elif isinstance(item, Limit):
        results.limits.append(item)
    elif isinstance(item, Footprint):
        results.footprints.append(item)
    elif isinstance(item, BareStart):
        results.bare_starts.append(item)
    elif isinstance(item, Carried):
        results.carried.append(item)
    elif isinstance(item, Trial):
        results.trials.append(item)
    else:
        results.failures.append(item)


def _line(item: Item) -> str:
    if isinstance(item, Cell):
        return (
            f"{item.label:24} {item.work} c{item.connections:<3} {item.per_s:9.0f}/s  p50 {item.p50_ms:8.2f}  "
            f"p99 {item.p99_ms:8.2f} ms  {item.cpu_us:7.0f} µs CPU  failed {item.failed}  "
            f"foreign {item.foreign_cores:.2f}"
        )
    if isinstance(item, Limit):
        return f"{'bare loop':24} {item.work} b{item.batch:<3} {item.per_s:9.0f}/s  {item.cpu_us:.0f} µs CPU"
    if isinstance(item, Trial):
        return f"{item.label:24} {item.kind}: {item.values}"
    if isinstance(item, Footprint):
        return (
            f"{item.label:24} answer after {item.answer_s:.2f} s, at rest {item.rest_mib:.0f} MiB, "
            f"under the ResNet {item.loaded_mib:.0f} MiB"
        )
    if isinstance(item, BareStart):
        return f"{'bare loop':24} import and load {item.import_and_load_s:.2f} s"
    if isinstance(item, Carried):
        return (
            f"{item.label:24} {item.workers} workers c{item.connections:<4} {item.per_s:9.0f}/s  "
            f"frontend {item.frontend_us:.1f} µs CPU"
        )
    return f"{item.label:24} {item.part}: could not be measured: {item.error}"


def _write_weights() -> None:
    """The weights of both networks, once."""
    if all((WEIGHTS / f"{work}.pth").exists() for work in ("W1", "W2")):
        return
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    subprocess.run([str(python_of("base")), str(WORK), "weights", str(WEIGHTS)], check=True, timeout=120)
