"""What the grid does not show: start, memory, a killed worker, overload, `/ping`, hangs, batching, a further worker.

Each trial starts its own server, is bounded in time, and gives one `Trial` with plain values. Those that need a
handler that misbehaves are ours only; the others run for every server.
"""

# ruff: noqa: ARG001 - every trial takes the same arguments

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.bodies import Body
from benchmarks.contestants import WEIGHTS, WORK, Contestant, Shape, prepare
from benchmarks.environments import BUILD, REQUIREMENTS, CannotInstall, python_of
from benchmarks.grid import Failure
from benchmarks.processes import DidNotStart, Server, free_ports, watch_cpu

PROBE = REQUIREMENTS / "tidegate" / "probe.py"
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


# --- every server


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
            _closed(server, body, connections=2 * contestant.shape.workers, seconds=2.0)
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
        _closed(server, body, connections=CLIENTS, seconds=1.0)

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
    return Trial(kind="ping_under_load", label=contestant.label, values=_latencies(answers))


# --- ours


def ping_without_gil(contestant: Contestant, bodies: dict[str, Body], effort: Effort) -> Trial:
    """`/ping` while user code in every worker holds the GIL for ten seconds."""
    hold_s = 10
    with _probe(contestant) as server:
        port, path = server.start.port, server.start.path
        body = _asking({"hold_gil_s": hold_s})

        async def run() -> list[tuple[float, str]]:
            workers = contestant.shape.workers
            held = load.closed_loop(port, path, lambda _: body, connections=workers, seconds=60, requests=workers)
            _, answers = await asyncio.gather(held, load.pings(port, seconds=hold_s))
            return answers

        answers = asyncio.run(run())
    return Trial(kind="ping_without_gil", label=contestant.label, values=_latencies(answers))


def hang(contestant: Contestant, bodies: dict[str, Body], effort: Effort) -> Trial:
    """One request in a hundred is `while True`; two workers, a deadline of two seconds, eight clients."""
    requests = 400
    with _probe(contestant, TIDEGATE_TIMEOUT_S="2") as server:
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


def batching(contestant: Contestant, bodies: dict[str, Body], effort: Effort) -> Trial:
    """Batch size 1 and 8 on a predict_fn that sleeps 10 ms however large the batch is; 32 connections."""
    body, rates = _asking({"sleep_ms": 10}), {}
    for batch in (1, 8):
        shape = replace(contestant.shape, batch=batch)
        with _probe(replace(contestant, shape=shape)) as server:
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
        with _probe(alone, BENCHMARK_STAMPS=str(stamps)) as server:
            request = _asking({})
            _closed(server, request, connections=1, seconds=0.2)
            first = json.loads(stamps.read_text().splitlines()[0])
            killed = time.monotonic()
            os.kill(first["pid"], signal.SIGKILL)
            answered = _closed(server, request, connections=1, seconds=30, requests=1)
            ended = time.monotonic()
            last = json.loads(stamps.read_text().splitlines()[-1])
            if answered.failed or last["pid"] == first["pid"]:
                raise DidNotStart(f"no further worker answered: {answered.outcomes}")
            beyond.append(ended - killed - (last["loaded"] - last["imported"]))
    values = {"beyond_imports_and_model_fn_s": statistics.median(beyond), "all_s": beyond}
    return Trial(kind="further_worker", label=contestant.label, values=values)


def unavoidable_start(effort: Effort) -> Trial:
    """Import of torch and load of the ResNet in a bare interpreter; the interpreter's own start is not in it."""
    code = "import time; t = time.perf_counter(); import torch, work; work.load('W2'); print(time.perf_counter() - t)"
    environment = {"PYTHONPATH": str(WORK.parent), "BENCHMARK_WEIGHTS": str(WEIGHTS), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(python_of("base")), "-c", code]
    found = [
        float(subprocess.check_output(command, env=environment, text=True, timeout=60)) for _ in range(effort.starts)
    ]
    return Trial(kind="unavoidable_start", label="bare loop", values={"import_and_load_s": statistics.median(found)})


Run = Callable[[Contestant, dict[str, Body], Effort], Trial]
FOR_ALL: dict[str, Run] = {
    "footprint": footprint,
    "kill": kill,
    "overload": overload,
    "ping_under_load": ping_under_load,
}
FOR_US: dict[str, Run] = {
    "ping_without_gil": ping_without_gil,
    "hang": hang,
    "batching": batching,
    "further_worker": further_worker,
}


def run(
    contestants: Sequence[Contestant], bodies: dict[str, Body], effort: Effort, parts: Sequence[str]
) -> Iterator[Trial | Failure]:
    """The trials in `parts`, each for whom it is meant. A control is left out: it is the same server again."""
    if "footprint" in parts:
        yield unavoidable_start(effort)
    for kind, trial in (FOR_ALL | FOR_US).items():
        if kind not in parts:
            continue
        for contestant in _meant_for(kind, contestants):
            try:
                yield trial(contestant, bodies, effort)
            except (DidNotStart, CannotInstall, subprocess.SubprocessError, OSError, TimeoutError) as error:
                yield Failure(label=contestant.label, part=kind, error=f"{type(error).__name__}: {error}")


def _meant_for(kind: str, contestants: Sequence[Contestant]) -> list[Contestant]:
    chosen = [
        each for each in contestants if "again" not in each.label and (kind in FOR_ALL or each.peer == "tidegate")
    ]
    if kind == "overload":
        # Our queue of 1000 does not fill in these seconds; with TorchServe's 100 the shedding is seen too.
        short = (("TIDEGATE_QUEUE_SIZE", "100"),)
        ours = [each for each in chosen if each.peer == "tidegate"]
        chosen += [replace(each, label=f"{each.label}, queue of 100", environment=short) for each in ours]
    return chosen


# --- shared by the trials


class _probe(Server):  # noqa: N801 - reads as a function where it is used
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
    return Body(data=data, content_type="application/json", file=Path(file))


def _closed(server: Server, body: Body, *, connections: int, seconds: float, requests: int = 10_000) -> load.Result:
    port, path = server.start.port, server.start.path
    return asyncio.run(
        load.closed_loop(port, path, lambda _: body, connections=connections, seconds=seconds, requests=requests)
    )


def _latencies(answers: list[tuple[float, str]]) -> dict[str, Any]:
    good = sorted(latency for latency, outcome in answers if outcome == "200")
    return {
        "p50_ms": load.percentile(good, 50),
        "p99_ms": load.percentile(good, 99),
        "max_ms": good[-1] if good else None,
        "asked": len(answers),
        "failed": len(answers) - len(good),
    }
