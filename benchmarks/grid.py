"""The grid: every server, every work, one and several connections, in random order, several times over.

A block is one start of one server for one work; within it the connection counts come in random order, after a warm-up.
In a repetition every block comes once, in random order, with the bare loop among them, so that a ratio is always taken
between numbers of one repetition. A block of the ResNet also tells how the server started and what memory it took.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bodies import Body
from benchmarks.contestants import WEIGHTS, WORK, Contestant, as_sent, prepare
from benchmarks.environments import CannotInstall, python_of
from benchmarks.footprint import BareStart, Footprint, bare_start
from benchmarks.load import Result, Tally, run_closed_loop, wrk
from benchmarks.processes import DidNotStart, Server, free_ports, watch_cpu

CONNECTIONS = {"W0": (1, 32), "W1": (1, 32), "W2": (1, 8, 32)}
WARM_UP_S, FIRST_ANSWERS_S = 0.5, 0.7
"""With the ResNet: of each cell, within its loop; and before the memory at rest is looked at."""


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
    repetitions: int,
    seconds: int,
    order: random.Random,
    once: Collection[str] = (),
) -> Iterator[Cell | Footprint | Limit | BareStart | Failure]:
    """Every cell as it is measured; of the peers in `once` those of the first repetition alone."""
    for repetition in range(repetitions):
        chosen = [each for each in contestants if repetition == 0 or each.peer not in once]
        blocks: list[tuple[Contestant | None, str]] = [(each, work) for each in chosen for work in works]
        blocks += [(None, work) for work in works]
        order.shuffle(blocks)
        for contestant, work in blocks:
            if contestant is None:
                for batch in (1, 8):
                    length_s = seconds_of(work, 8, seconds)
                    yield bare_loop(work, bodies[work], batch=batch, seconds=length_s, repetition=repetition)
                if work == "W2":
                    yield bare_start(repetition)
                continue
            counts = list(CONNECTIONS[work])
            order.shuffle(counts)
            yield from block(contestant, work, bodies[work], counts, seconds=seconds, repetition=repetition)


def seconds_of(work: str, connections: int, seconds: int) -> int:
    """The ResNet's cells are longer: a batch of eight takes a good part of a second."""
    if work != "W2":
        return seconds
    return seconds + (1 if connections == 1 else 2)


def block(
    contestant: Contestant, work: str, body: Body, connections: Sequence[int], *, seconds: int, repetition: int
) -> Iterator[Cell | Footprint | Failure]:
    """One start of one server, its cells, and after those of the ResNet its footprint."""
    body = as_sent(contestant, body)
    try:
        with Server(prepare(contestant, work, free_ports(3))) as server:
            server.wait_for_answer(body.data, body.content_type)
            rest_mib, loaded_mib, count_of_processes = 0.0, 0.0, 0
            if work == "W2":
                server.wait_for_rest()
                # Two clients for each worker, so that all have answered: a first answer makes a process larger.
                _closed(server, body, connections=2 * contestant.shape.workers, seconds=FIRST_ANSWERS_S)
                server.wait_for_rest()
                rest_mib, count_of_processes = server.pss_mib()
            else:
                wrk(server.start.port, server.start.path, body, connections=max(connections), seconds=1)
            for count in connections:
                length_s = seconds_of(work, count, seconds)
                with watch_cpu(server) as usage:
                    result, answered = _load(server, body, work, connections=count, seconds=length_s)
                if work == "W2":
                    loaded_mib = max(loaded_mib, server.pss_mib()[0])
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
                    cpu_us=usage.server_cpu_s / max(1, answered) * 1e6,
                    foreign_cores=usage.foreign_cores,
                    stolen_cores=usage.stolen_cores,
                )
            if work == "W2":
                yield Footprint(
                    label=contestant.label,
                    shape=str(contestant.shape),
                    repetition=repetition,
                    health_s=server.health_s,
                    answer_s=server.answer_s,
                    rest_mib=rest_mib,
                    loaded_mib=loaded_mib,
                    processes=count_of_processes,
                )
    except (DidNotStart, CannotInstall, subprocess.SubprocessError, OSError) as error:
        yield Failure(label=contestant.label, part=f"grid {work}", error=str(error))


def _load(server: Server, body: Body, work: str, *, connections: int, seconds: int) -> tuple[Result, int]:
    """What a closed loop saw, and how many answers the server's CPU went into.

    wrk leaves when its time is up, whatever it has asked: nothing at thousands of answers a second, and up to a third
    of those of the ResNet. There our own driver counts in the middle of a load, and waits for all answers at its end.
    """
    port, path = server.start.port, server.start.path
    if work != "W2":
        result = wrk(port, path, body, connections=connections, seconds=seconds)
        return result, result.answered
    tally = _closed(server, body, connections=connections, seconds=WARM_UP_S + seconds)
    return tally.steady(WARM_UP_S, WARM_UP_S + seconds), len(tally.ends)


def _closed(server: Server, body: Body, *, connections: int, seconds: float) -> Tally:
    """By our own driver, until every request has ended."""
    tally, start = Tally(), server.start
    asyncio.run(
        run_closed_loop(tally, start.port, start.path, lambda _: body, connections=connections, seconds=seconds)
    )
    return tally


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
