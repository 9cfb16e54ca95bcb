"""The trials that need a handler that misbehaves: ours only, with the script `peers/tidegate/probe.py`."""

# ruff: noqa: ARG001 - every trial takes the same arguments

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import statistics
import sys
import time
from dataclasses import replace
from typing import Any

from benchmarks import load
from benchmarks.bodies import Body
from benchmarks.chunks import begin
from benchmarks.contestants import Contestant, Shape, prepare
from benchmarks.environments import BUILD, REQUIREMENTS
from benchmarks.processes import DidNotStart, Server, free_ports
from benchmarks.trials import CLIENTS, Effort, Run, Trial, closed, latencies

PROBE = REQUIREMENTS / "tidegate" / "probe.py"


class Probe(Server):
    """Our server with the script that misbehaves, once it answers."""

    def __init__(self, contestant: Contestant, **environment: str) -> None:
        changed = replace(contestant, environment=tuple(environment.items()))
        super().__init__(prepare(changed, "W0", free_ports(3), script=PROBE))

    def __enter__(self) -> Server:
        super().__enter__()
        try:
            body = _asking({})
            self.wait_for_answer(body.data, body.content_type)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self


def _asking(what: dict[str, Any]) -> Body:
    data = json.dumps(what).encode()
    file = BUILD / "bodies" / f"probe-{'-'.join(what) or 'nothing'}.json"
    file.write_bytes(data)
    return Body(data=data, content_type="application/json", file=file)


def ping_without_gil(contestant: Contestant, bodies: dict[str, Body], effort: Effort) -> Trial:
    """`/ping` while user code in every worker holds the GIL for ten seconds."""
    hold_s = 10
    with Probe(contestant) as server:
        port, path = server.start.port, server.start.path
        body = _asking({"hold_gil_s": hold_s})

        async def run() -> list[tuple[float, str]]:
            workers = contestant.shape.workers
            held = load.closed_loop(port, path, lambda _: body, connections=workers, seconds=60, requests=workers)
            _, answers = await asyncio.gather(held, load.pings(port, seconds=hold_s))
            return answers

        answers = asyncio.run(run())
    return Trial(kind="ping_without_gil", label=contestant.label, values=latencies(answers))


def hang(contestant: Contestant, bodies: dict[str, Body], effort: Effort) -> Trial:
    """One request in a hundred is `while True`; two workers, a deadline of two seconds, eight clients."""
    requests = 400
    with Probe(contestant, TIDEGATE_TIMEOUT_S="2") as server:
        harmless, endless = _asking({"sleep_ms": 5}), _asking({"spin": 1})
        kinds: dict[str, dict[str, int]] = {"harmless": {}, "endless": {}}

        async def run() -> None:
            sent = iter(range(requests))

            async def client() -> None:
                connection = load.Connection(server.start.port)
                tally = load.Tally()
                for number in sent:
                    kind = "endless" if number % 100 == 50 else "harmless"
                    body = endless if kind == "endless" else harmless
                    outcome = await tally.ask(connection, load.encode(server.start.path, body))
                    kinds[kind][outcome] = kinds[kind].get(outcome, 0) + 1
                connection.close()

            await asyncio.wait_for(asyncio.gather(*(client() for _ in range(CLIENTS))), 120)

        asyncio.run(run())
    return Trial(kind="hang", label=contestant.label, values=kinds)


def vanishing(contestant: Contestant, bodies: dict[str, Body], effort: Effort) -> Trial:
    """Clients that reset their connection while their request of 20 ms waits or runs, beside eight that stay."""
    leaving, together = 300, asyncio.Semaphore(30)
    harmless, slow = _asking({"sleep_ms": 5}), _asking({"sleep_ms": 20})
    with Probe(contestant) as server:
        port, path = server.start.port, server.start.path
        closed(server, harmless, connections=CLIENTS, seconds=0.5)
        server.wait_for_rest()
        pids, descriptors = server.held()

        async def leave() -> None:
            async with together:
                reader = await begin(port, path, slow.data)
                await asyncio.sleep(random.random() * 0.03)
                reader.vanish()

        async def run() -> load.Result:
            gone = asyncio.gather(*(leave() for _ in range(leaving)))
            stayed = await load.closed_loop(port, path, lambda _: harmless, connections=CLIENTS, seconds=2.0)
            await gone
            return stayed

        stayed = asyncio.run(run())
        server.wait_for_rest()
        later_pids, later_descriptors = server.held()
        afterwards = closed(server, harmless, connections=CLIENTS, seconds=30.0, requests=CLIENTS)
    values = {
        "left": leaving,
        "stayed": stayed.outcomes,
        "afterwards": afterwards.outcomes,
        "lost_processes": len(pids - later_pids),
        "more_descriptors": later_descriptors - descriptors,
    }
    return Trial(kind="vanishing", label=contestant.label, values=values)


def batching(contestant: Contestant, bodies: dict[str, Body], effort: Effort) -> Trial:
    """Batch size 1 and 8 on a predict_fn that sleeps 10 ms however large the batch is; 32 connections."""
    body, rates = _asking({"sleep_ms": 10}), {}
    for batch in (1, 8):
        shape = replace(contestant.shape, batch=batch)
        with Probe(replace(contestant, shape=shape)) as server:
            port, path = server.start.port, server.start.path
            load.wrk(port, path, body, connections=32, seconds=1)
            rates[batch] = load.wrk(port, path, body, connections=32, seconds=effort.seconds).good_per_s
    values = {"batch_1_per_s": rates[1], "batch_8_per_s": rates[8], "factor": rates[8] / rates[1]}
    return Trial(kind="batching", label=contestant.label, values=values)


def further_worker(contestant: Contestant, bodies: dict[str, Body], effort: Effort) -> Trial:
    """From the SIGKILL of the only worker to the first answer of its successor, less its imports and its model_fn."""
    stamps = BUILD / "running" / "stamps.jsonl"
    beyond = []
    for _ in range(effort.starts):
        stamps.unlink(missing_ok=True)
        alone = replace(contestant, shape=Shape(workers=1, threads=1))
        with Probe(alone, BENCHMARK_STAMPS=str(stamps)) as server:
            request = _asking({})
            closed(server, request, connections=1, seconds=0.2)
            first = json.loads(stamps.read_text().splitlines()[0])
            killed = time.monotonic()
            os.kill(first["pid"], signal.SIGKILL)
            answered = closed(server, request, connections=1, seconds=30, requests=1)
            ended = time.monotonic()
            last = json.loads(stamps.read_text().splitlines()[-1])
            if answered.failed or last["pid"] == first["pid"]:
                raise DidNotStart(f"no further worker answered: {answered.outcomes}")
            beyond.append(ended - killed - (last["loaded"] - last["imported"]))
    values = {"beyond_imports_and_model_fn_s": statistics.median(beyond), "all_s": beyond}
    return Trial(kind="further_worker", label=contestant.label, values=values)


IN_ONE_SHAPE = frozenset({"batching", "further_worker"})
"""Those that choose the shape themselves."""
FOR_US: dict[str, Run] = {
    "ping_without_gil": ping_without_gil,
    "hang": hang,
    "vanishing": vanishing,
    "batching": batching,
    "further_worker": further_worker,
}
