"""One run of the serving benchmark: prepare, measure in parts, write the results after each part."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks import bodies, grid, machine, probes, processes, trials
from benchmarks.contestants import MAIN, WEIGHTS, WORK, Contestant, shapes_of
from benchmarks.environments import CannotInstall, python_of, versions_in
from benchmarks.grid import Cell, Failure, Limit
from benchmarks.processes import DidNotStart
from benchmarks.report import Results, markdown
from benchmarks.trials import Effort, Trial

CONNECTIONS = (1, 8, 32)
PARTS = ("grid", *trials.FOR_ALL, *probes.FOR_US, "shapes")
DRAW = Path(__file__).parent / "peers" / "plot" / "draw.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure and for how long."""

    peers: tuple[str, ...]
    works: tuple[str, ...]
    parts: tuple[str, ...]
    repetitions: int
    seconds: int
    effort: Effort
    seed: int


def run(plan: Plan, output: Path, command: str) -> Results:
    """Measure `plan` and write `output`.md, .json and .png. What was measured before an interruption is written too."""
    processes.adopt_orphans()
    results = Results(
        command=command,
        machine=machine.describe(),
        settings={
            "repetitions": plan.repetitions,
            "seconds a cell": f"{plan.seconds} (ResNet {plan.seconds + 1}) after 1 s of warm-up",
            "seconds a trial": plan.effort.seconds,
            "order": f"random, seed {plan.seed}",
        },
    )
    _write_weights()
    made = bodies.make()
    results.settings |= {
        f"{work} body": f"{len(body.data)} bytes, sha256 {body.sha256[:12]}" for work, body in made.items()
    }
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
) -> Generator[Cell | Limit | Trial | Failure, None, None]:
    seconds = {"W0": plan.seconds, "W1": plan.seconds, "W2": plan.seconds + 1}
    order = random.Random(plan.seed)
    if "grid" in plan.parts:
        yield from grid.run(
            contestants,
            made,
            plan.works,
            connections=CONNECTIONS,
            repetitions=plan.repetitions,
            seconds=seconds,
            order=order,
        )
    yield from _try(contestants, made, plan.effort, plan.parts)
    if "shapes" in plan.parts:
        shaped = [
            each.in_shape(shape) for each in contestants if "again" not in each.label for shape in shapes_of(each.peer)
        ]
        for item in grid.run(
            shaped, made, plan.works, connections=CONNECTIONS, repetitions=1, seconds=seconds, order=order
        ):
            if not isinstance(item, Limit):
                yield item


def _try(
    contestants: Sequence[Contestant], made: dict[str, bodies.Body], effort: Effort, parts: Sequence[str]
) -> Iterator[Trial | Failure]:
    """The trials in `parts`, each for whom it is meant. A control is left out: it is the same server again."""
    if "footprint" in parts:
        yield trials.unavoidable_start(effort)
    for kind, trial in (trials.FOR_ALL | probes.FOR_US).items():
        if kind not in parts:
            continue
        for contestant in _meant_for(kind, contestants):
            try:
                yield trial(contestant, made, effort)
            except (DidNotStart, CannotInstall, subprocess.SubprocessError, OSError, TimeoutError) as error:
                yield Failure(label=contestant.label, part=kind, error=f"{type(error).__name__}: {error}")


def _meant_for(kind: str, contestants: Sequence[Contestant]) -> list[Contestant]:
    chosen = [
        each
        for each in contestants
        if "again" not in each.label and (kind in trials.FOR_ALL or each.peer == "tidegate")
    ]
    if kind == "overload":
        # Our queue of 1000 does not fill in these seconds; with TorchServe's 100 the shedding is seen too.
        short = (("TIDEGATE_QUEUE_SIZE", "100"),)
        ours = [each for each in chosen if each.peer == "tidegate"]
        chosen += [replace(each, label=f"{each.label}, queue of 100", environment=short) for each in ours]
    return chosen


def _keep(results: Results, item: Cell | Limit | Trial | Failure) -> None:
    if isinstance(item, Cell):
        # A label with its shape belongs to the table of shapes.
        (results.shape_cells if item.label.endswith(item.shape) else results.cells).append(item)
    elif isinstance(item, Limit):
        results.limits.append(item)
    elif isinstance(item, Trial):
        results.trials.append(item)
    else:
        results.failures.append(item)


def _line(item: Cell | Limit | Trial | Failure) -> str:
    if isinstance(item, Cell):
        return (
            f"{item.label:22} {item.work} c{item.connections:<3} {item.per_s:9.0f}/s  p50 {item.p50_ms:8.2f}  "
            f"p99 {item.p99_ms:8.2f} ms  {item.cpu_us:7.0f} µs CPU  failed {item.failed}  "
            f"foreign {item.foreign_cores:.2f}"
        )
    if isinstance(item, Limit):
        return f"{'bare loop':22} {item.work} b{item.batch:<3} {item.per_s:9.0f}/s  {item.cpu_us:.0f} µs CPU"
    if isinstance(item, Trial):
        return f"{item.label:22} {item.kind}: {item.values}"
    return f"{item.label:22} {item.part}: could not be measured: {item.error}"


def _write_weights() -> None:
    """The weights of both networks, once."""
    if all((WEIGHTS / f"{work}.pth").exists() for work in ("W1", "W2")):
        return
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    subprocess.run([str(python_of("base")), str(WORK), "weights", str(WEIGHTS)], check=True, timeout=120)
