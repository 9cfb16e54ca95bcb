"""The grid: every server, every work, 1, 8 and 32 connections, in random order, several times over.

A block is one start of one server for one work; within it the connection counts come in random order, each after a
warm-up. In a repetition every block comes once, in random order, with the bare loop among them, so that a ratio is
always taken between numbers of one repetition.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.bodies import Body
from benchmarks.contestants import WEIGHTS, WORK, Contestant, as_sent, prepare
from benchmarks.environments import CannotInstall, python_of
from benchmarks.load import wrk
from benchmarks.processes import DidNotStart, Server, free_ports, watch_cpu

LIMIT = "bare loop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One measurement of one server."""

    label: str
    shape: str
    work: str
    connections: int
    repetition: int
    per_s: float
    p50_ms: float
    p99_ms: float
    answered: int
    failed: int
    outcomes: dict[str, int]
    cpu_us: float
    """Server CPU per answer, over its whole process tree."""
    foreign_cores: float
    stolen_cores: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The bare in-process loop: two processes with one thread each."""

    work: str
    batch: int
    repetition: int
    per_s: float
    cpu_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A server that could not be measured, and why."""

    label: str
    part: str
    error: str


def run(
    contestants: Sequence[Contestant],
    bodies: dict[str, Body],
    works: Sequence[str],
    *,
    connections: Sequence[int],
    repetitions: int,
    seconds: dict[str, int],
    order: random.Random,
) -> Iterator[Cell | Limit | Failure]:
    """Every cell as it is measured."""
    for repetition in range(repetitions):
        blocks: list[tuple[Contestant | None, str]] = [(each, work) for each in contestants for work in works]
        blocks += [(None, work) for work in works]
        order.shuffle(blocks)
        for contestant, work in blocks:
            if contestant is None:
                for batch in (1, 8):
                    yield bare_loop(
                        work, bodies[work], batch=batch, seconds=float(seconds[work]), repetition=repetition
                    )
                continue
            counts = list(connections)
            order.shuffle(counts)
            yield from block(contestant, work, bodies[work], counts, seconds=seconds[work], repetition=repetition)


def block(
    contestant: Contestant, work: str, body: Body, connections: Sequence[int], *, seconds: int, repetition: int
) -> Iterator[Cell | Failure]:
    """One start of one server, and its cells."""
    body = as_sent(contestant, body)
    try:
        with Server(prepare(contestant, work, free_ports(3))) as server:
            server.wait_for_answer(body.data, body.content_type)
            wrk(server.start.port, server.start.path, body, connections=8, seconds=1)
            for count in connections:
                wrk(server.start.port, server.start.path, body, connections=count, seconds=1)
                with watch_cpu(server) as usage:
                    result = wrk(server.start.port, server.start.path, body, connections=count, seconds=seconds)
                yield Cell(
                    label=contestant.label,
                    shape=str(contestant.shape),
                    work=work,
                    connections=count,
                    repetition=repetition,
                    per_s=result.good_per_s,
                    p50_ms=result.p50_ms,
                    p99_ms=result.p99_ms,
                    answered=result.answered,
                    failed=result.failed,
                    outcomes=result.outcomes,
                    cpu_us=usage.server_cpu_s / max(1, result.answered) * 1e6,
                    foreign_cores=usage.foreign_cores,
                    stolen_cores=usage.stolen_cores,
                )
    except (DidNotStart, CannotInstall, subprocess.SubprocessError, OSError) as error:
        yield Failure(label=contestant.label, part=f"grid {work}", error=str(error))


def bare_loop(work: str, body: Body, *, batch: int, seconds: float, repetition: int, processes: int = 2) -> Limit:
    """The work without any server, in as many processes as the servers have workers."""
    command = [str(python_of("base")), str(WORK), "loop", work, str(body.file), str(batch), str(seconds)]
    environment = {"OMP_NUM_THREADS": "1", "BENCHMARK_WEIGHTS": str(WEIGHTS), "PYTHONDONTWRITEBYTECODE": "1"}
    loops = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]
    try:
        for each in loops:
            assert each.stdout is not None
            each.stdout.readline()
        for each in loops:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        found: list[dict[str, Any]] = [json.loads(each.communicate(timeout=seconds + 60)[0]) for each in loops]
    finally:
        for each in loops:
            each.kill()
            each.wait()
    return Limit(
        work=work,
        batch=batch,
        repetition=repetition,
        per_s=sum(each["per_s"] for each in found),
        cpu_us=sum(each["cpu_us"] for each in found) / len(found),
    )


def as_json(item: Cell | Limit | Failure) -> dict[str, Any]:
    return asdict(item)
