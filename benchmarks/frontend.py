"""How many requests one frontend can carry: its own CPU for each, beside workers whose functions do nothing.

The frontend is one process with one event loop, so a second of its CPU is all that it has in a second. On a machine
with few cores the workers and the load take theirs from it, which is why its limit is a quotient (a second by its CPU
a request) and not the rate that was reached. Ours only.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.bodies import Body
from benchmarks.contestants import BATCHED, PLAIN, Contestant, Shape, label_of, prepare
from benchmarks.environments import REQUIREMENTS, CannotInstall
from benchmarks.grid import Failure
from benchmarks.load import wrk
from benchmarks.processes import DidNotStart, Server, free_ports, watch_cpu

SCRIPT = REQUIREMENTS / "tidegate" / "nothing.py"
FEW, MANY = 64, 512
"""Connections: with many the frontend has always something to read."""
SHAPES = (PLAIN, BATCHED, Shape(workers=16))


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a frontend spent on requests of 1 KiB."""

    label: str
    workers: int
    connections: int
    repetition: int
    per_s: float
    """What the machine's cores let through, with workers and load beside the frontend."""
    p99_ms: float
    frontend_us: float
    """CPU of the frontend's process, for each answer."""
    workers_us: float
    """CPU of all other processes of the server, for each answer."""
    failed: int
    foreign_cores: float

    @property
    def limit_per_s(self) -> float:
        """Requests that a core's whole time is enough for."""
        return 1e6 / self.frontend_us


def run(
    bodies: dict[str, Body], *, repetitions: int, seconds: int, order: random.Random
) -> Iterator[Carried | Failure]:
    """Every shape in random order, as often as asked for."""
    for repetition in range(repetitions):
        for shape in order.sample(SHAPES, len(SHAPES)):
            yield from _one(shape, bodies["W0"], seconds=seconds, repetition=repetition)


def _one(shape: Shape, body: Body, *, seconds: int, repetition: int) -> Iterator[Carried | Failure]:
    label = label_of("tidegate", shape)
    contestant = Contestant(label=label, peer="tidegate", shape=shape)
    try:
        with Server(prepare(contestant, "W0", free_ports(1), script=SCRIPT)) as server:
            port, path = server.start.port, server.start.path
            server.wait_for_answer(body.data, body.content_type)
            server.wait_for_rest()
            wrk(port, path, body, connections=FEW, seconds=1)
            for connections in (FEW, MANY) if shape == PLAIN else (FEW,):
                own_s = server.first_process_cpu_s()
                with watch_cpu(server) as usage:
                    result = wrk(port, path, body, connections=connections, seconds=seconds)
                own_s = server.first_process_cpu_s() - own_s
                answered = max(1, result.answered)
                yield Carried(
                    label=label,
                    workers=shape.workers,
                    connections=connections,
                    repetition=repetition,
                    per_s=result.good_per_s,
                    p99_ms=result.p99_ms,
                    frontend_us=own_s / answered * 1e6,
                    workers_us=(usage.server_cpu_s - own_s) / answered * 1e6,
                    failed=result.failed,
                    foreign_cores=usage.foreign_cores,
                )
    except (DidNotStart, CannotInstall, subprocess.SubprocessError, OSError) as error:
        yield Failure(label=f"{label}, {shape.workers} workers", part="frontend", error=str(error))
