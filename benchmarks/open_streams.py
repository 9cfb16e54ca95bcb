"""Many streams at once, and plain requests beside them. Ours only."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import dataclass

from benchmarks import load
from benchmarks.bodies import Body
from benchmarks.chunks import begin, close
from benchmarks.contestants import Contestant, Shape, Start, prepare
from benchmarks.environments import BUILD, REQUIREMENTS, python_of
from benchmarks.processes import Server, free_ports

OPEN_STREAMS = 200
SETTLED_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row of the report."""

    measure: str
    goal: str
    found: str
    reached: bool | None


async def beside_plain_requests(seconds: int) -> list[Figure]:
    """Plain requests from eight clients without any stream, and with 200 that are open all the time."""
    # Each worker has room for its half of the streams.
    start = start_of("tidegate", workers=2, TIDEGATE_MAX_STREAMS_PER_WORKER=str(OPEN_STREAMS // 2 + 10))
    with Server(start) as server:
        server.wait_for_answer(asked(kind="plain"), "application/json")
        port, path = start.port, start.path
        body = _body(asked(kind="plain"))
        await load.closed_loop(port, path, lambda _: body, connections=8, seconds=1)
        alone = await load.closed_loop(port, path, lambda _: body, connections=8, seconds=seconds / 2)
        question = asked(kind="paced", chunks=10 * (seconds + 5), pause_s=0.1)
        readers = [await begin(port, path, question) for _ in range(OPEN_STREAMS)]
        await asyncio.gather(*(asyncio.wait_for(reader.begun, SETTLED_S) for reader in readers))
        beside = await load.closed_loop(port, path, lambda _: body, connections=8, seconds=seconds)
        still_open = sum(not reader.ended.done() for reader in readers)
        ended = await asyncio.gather(*(reader.ended for reader in readers), return_exceptions=True)
        broken = sum(isinstance(each, BaseException) for each in ended)
        for reader in readers:
            close(reader)
    return [
        Figure(
            measure=f"plain requests beside {OPEN_STREAMS} open streams, two workers, 8 clients",
            goal="0 failed",
            found=f"{beside.failed} failed of {beside.answered:,}; {beside.good_per_s:,.0f} a second, p99 "
            f"{beside.p99_ms:.1f} ms (without streams {alone.good_per_s:,.0f}, {alone.p99_ms:.1f} ms)",
            reached=beside.failed == 0,
        ),
        Figure(
            measure="the streams themselves",
            goal="all complete",
            found=f"{still_open} were open to the end of the load, {broken} broken",
            reached=still_open == OPEN_STREAMS and broken == 0,
        ),
    ]


# --- shared with the comparison


def start_of(kind: str, *, workers: int = 1, **environment: str) -> Start:
    """How to start one of the servers with its application; the environment is for ours."""
    port = free_ports(1)
    if kind == "tidegate":
        shape = Shape(workers=workers)
        contestant = Contestant(label=kind, peer="tidegate", shape=shape, environment=tuple(environment.items()))
        return prepare(contestant, "W0", port, script=REQUIREMENTS / "tidegate" / "streaming.py")
    folder = BUILD / "running" / f"uvicorn-{port}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(REQUIREMENTS / "uvicorn" / "streaming.py", folder)
    command = [str(python_of("uvicorn")), "-m", "uvicorn", "streaming:app", "--host", "127.0.0.1", "--port", str(port)]
    return Start(command=[*command, "--no-access-log"], environment={}, folder=folder, port=port)


def asked(**what: str | float) -> bytes:
    """A request's body."""
    return json.dumps(what).encode()


def _body(data: bytes) -> Body:
    return Body(data=data, content_type="application/json", file=BUILD / "bodies" / "plain.json")
