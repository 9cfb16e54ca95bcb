"""What the grid does not show, for every server: start, memory, a killed worker, overload, `/ping` under load.

Each trial starts its own server, is bounded in time, and gives one `Trial` with plain values.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import load
from benchmarks.bodies import Body
from benchmarks.contestants import WEIGHTS, WORK, Contestant, prepare
from benchmarks.environments import python_of
from benchmarks.processes import Server, free_ports, watch_cpu

CLIENTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """`values` are the trial's own; their names carry the units."""

    kind: str
    label: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long the trials take."""

    seconds: int
    starts: int


def footprint(contestant: Contestant, bodies: dict[str, Body], effort: Effort) -> Trial:
    """Start-up, and memory once every worker has answered the ResNet."""
    body = bodies["W2"]
    healthy, answered, pss, count = [], [], 0.0, 0
    for _ in range(effort.starts):
        with Server(prepare(contestant, "W2", free_ports(3))) as server:
            server.wait_for_answer(body.data, body.content_type)
            healthy.append(server.health_s)
            answered.append(server.answer_s)
            # Two clients at once, several times: servers that load their workers one after another get to the last.
            closed(server, body, connections=2 * contestant.shape.workers, seconds=2.0)
            pss, count = server.pss_mib()
    values = {
        "health_s": statistics.median(healthy),
        "answer_s": statistics.median(answered),
        "pss_mib": pss,
        "processes": count,
    }
    return Trial(kind="footprint", label=contestant.label, values=values)


def kill(contestant: Contestant, bodies: dict[str, Body], effort: Effort) -> Trial:
    """SIGKILL of the process that computes most, under a closed loop of eight clients on the ResNet."""
    body = bodies["W2"]
    with Server(prepare(contestant, "W2", free_ports(3))) as server:
        server.wait_for_answer(body.data, body.content_type)
        closed(server, body, connections=CLIENTS, seconds=1.0)

        async def run() -> tuple[load.Tally, float]:
            tally = load.Tally()
            clients = asyncio.create_task(
                load.run_closed_loop(
                    tally,
                    server.start.port,
                    server.start.path,
                    lambda _: body,
                    connections=CLIENTS,
                    seconds=effort.seconds + 2.0,
                    requests=20_000,
                )
            )
            await asyncio.sleep(1.0)
            victim = await asyncio.to_thread(server.busiest_pid, 1.0)
            os.kill(victim, signal.SIGKILL)
            killed = time.monotonic() - tally.started
            await asyncio.wait_for(clients, effort.seconds + 2 * load.ANSWER_TIMEOUT_S)
            return tally, killed

        tally, killed = asyncio.run(run())
    result = tally.result(effort.seconds)
    good = sorted(at for at, _, outcome in tally.ends if outcome == "200")
    after = [killed, *(at for at in good if at >= killed), killed + effort.seconds]
    values = {
        "failed": result.failed,
        "outcomes": result.outcomes,
        "longest_gap_s": max(later - earlier for earlier, later in itertools.pairwise(after)),
        "before_per_s": sum(at < killed for at in good) / killed,
        "after_per_s": [sum(killed + n <= at < killed + n + 1 for at in good) for n in range(effort.seconds)],
    }
    return Trial(kind="kill", label=contestant.label, values=values)


def overload(contestant: Contestant, bodies: dict[str, Body], effort: Effort) -> Trial:
    """The ResNet at 32 connections, at twice that rate in an open loop, and with 256 connections in a closed loop."""
    body = bodies["W2"]
    with Server(prepare(contestant, "W2", free_ports(3))) as server:
        server.wait_for_answer(body.data, body.content_type)
        port, path = server.start.port, server.start.path
        load.wrk(port, path, body, connections=32, seconds=1)
        with watch_cpu(server) as calm:
            at_32 = load.wrk(port, path, body, connections=32, seconds=effort.seconds)
        with watch_cpu(server) as opened:
            rate = 2 * at_32.good_per_s
            twice = asyncio.run(load.open_loop(port, path, body, per_s=rate, seconds=effort.seconds))
        with watch_cpu(server) as closed:
            at_256 = load.wrk(port, path, body, connections=256, seconds=effort.seconds, statuses=True)
    values = {
        "at_32_per_s": at_32.good_per_s,
        "open_offered_per_s": 2 * at_32.good_per_s,
        "open_goodput": twice.good_per_s / at_32.good_per_s,
        "open_outcomes": twice.outcomes,
        "closed_256_goodput": at_256.good_per_s / at_32.good_per_s,
        "closed_256_outcomes": at_256.outcomes,
        "foreign_cores": [calm.foreign_cores, opened.foreign_cores, closed.foreign_cores],
    }
    return Trial(kind="overload", label=contestant.label, values=values)


def ping_under_load(contestant: Contestant, bodies: dict[str, Body], effort: Effort) -> Trial:
    """`/ping` at 50 a second while the workers compute the ResNet for eight clients."""
    body = bodies["W2"]
    with Server(prepare(contestant, "W2", free_ports(3))) as server:
        server.wait_for_answer(body.data, body.content_type)
        port, path = server.start.port, server.start.path

        async def run() -> list[tuple[float, str]]:
            clients = load.closed_loop(port, path, lambda _: body, connections=CLIENTS, seconds=effort.seconds)
            _, answers = await asyncio.gather(
                clients, load.pings(port, seconds=effort.seconds, path=server.start.health)
            )
            return answers

        answers = asyncio.run(run())
    return Trial(kind="ping_under_load", label=contestant.label, values=latencies(answers))


def unavoidable_start(effort: Effort) -> Trial:
    """Import of torch and load of the ResNet in a bare interpreter; the interpreter's own start is not in it."""
    code = "import time; t = time.perf_counter(); import torch, work; work.load('W2'); print(time.perf_counter() - t)"
    environment = {"PYTHONPATH": str(WORK.parent), "BENCHMARK_WEIGHTS": str(WEIGHTS), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(python_of("base")), "-c", code]
    found = [
        float(subprocess.check_output(command, env=environment, text=True, timeout=60)) for _ in range(effort.starts)
    ]
    return Trial(kind="unavoidable_start", label="bare loop", values={"import_and_load_s": statistics.median(found)})


# --- shared by the trials


def closed(server: Server, body: Body, *, connections: int, seconds: float, requests: int = 10_000) -> load.Result:
    """A closed loop by our own driver."""
    port, path = server.start.port, server.start.path
    return asyncio.run(
        load.closed_loop(port, path, lambda _: body, connections=connections, seconds=seconds, requests=requests)
    )


def latencies(answers: list[tuple[float, str]]) -> dict[str, Any]:
    """The values of a trial on pings, from (latency in ms, outcome)."""
    good = sorted(latency for latency, outcome in answers if outcome == "200")
    return {
        "p50_ms": load.percentile(good, 50),
        "p99_ms": load.percentile(good, 99),
        "max_ms": good[-1] if good else None,
        "asked": len(answers),
        "failed": len(answers) - len(good),
    }


Run = Callable[[Contestant, dict[str, Body], Effort], Trial]
FOR_ALL: dict[str, Run] = {
    "footprint": footprint,
    "kill": kill,
    "overload": overload,
    "ping_under_load": ping_under_load,
}
