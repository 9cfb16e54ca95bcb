"""What the grid does not show, for every server: a killed worker, overload, `/ping` under load.

Each trial starts its own server, is bounded in time, and gives one `Trial` with plain values.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks import load
from benchmarks.bodies import Body
from benchmarks.contestants import Contestant, prepare
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
    "kill": kill,
    "overload": overload,
    "ping_under_load": ping_under_load,
}
