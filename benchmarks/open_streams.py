"""Many streams at once: plain requests beside them, and readers that leave in the middle. Ours only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import load
from benchmarks.bodies import Body
from benchmarks.chunks import Broken, begin, close, whole
from benchmarks.contestants import Contestant, Shape, Start, prepare
from benchmarks.environments import BUILD, REQUIREMENTS, python_of
from benchmarks.processes import Server, free_ports

OPEN_STREAMS, VANISHING = 200, 1_000
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a server has: its processes, their descriptors, the memory of all, the files of its folder."""

    pids: frozenset[int]
    descriptors: int
    pss_mib: float
    files: int


async def vanishing() -> list[Figure]:
    """Readers that leave in the middle: half of paced streams, half of a burst that they do not read."""
    folder = BUILD / "running" / "vanishing"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = start_of("tidegate", TIDEGATE_MAX_STREAMS_PER_WORKER="32", TMPDIR=str(folder))
    with Server(start) as server:
        server.wait_for_answer(asked(kind="plain"), "application/json")
        silent = await _leave(start, 100)
        before = await _settled(server, folder, None)
        silent += await _leave(start, VANISHING)
        after = await _settled(server, folder, before)
        # Every place for a stream is free again, where as many as there are can be open at once.
        question = asked(kind="paced", chunks=20, pause_s=0.05)
        streams = await asyncio.gather(
            *(whole(start.port, start.path, question) for _ in range(32)), return_exceptions=True
        )
        refused = sum(isinstance(each, BaseException) or not each.chunks() for each in streams)
    return [
        Figure(
            measure=f"{VANISHING:,} readers vanish: left behind",
            goal="nothing",
            found=f"{len(before.pids - after.pids)} workers lost, {after.descriptors - before.descriptors:+} "
            f"descriptors, {after.files - before.files:+} files, {after.pss_mib - before.pss_mib:+.1f} MiB; "
            f"{refused} of 32 new streams refused; {silent} readers had waited for their first byte in vain",
            reached=(after.pids, after.files) == (before.pids, before.files)
            and after.descriptors <= before.descriptors
            and after.pss_mib - before.pss_mib <= 4
            and not refused
            and not silent,
        )
    ]


async def _leave(start: Start, count: int) -> int:
    """`count` readers, thirty at a time, that reset their connection after the first bytes; how many got none."""
    kinds = (asked(kind="paced", chunks=10_000, pause_s=0.01), asked(kind="burst", chunks=10_000_000))
    together = asyncio.Semaphore(30)

    async def one(number: int) -> bool:
        async with together:
            reader = await begin(start.port, start.path, kinds[number % 2])
            try:
                await asyncio.wait_for(reader.begun, SETTLED_S)
            except (Broken, TimeoutError):
                return True
            else:
                assert reader.transport is not None
                reader.transport.pause_reading()
                await asyncio.sleep(random.random() * 0.02)
                return False
            finally:
                reader.vanish()

    return sum(await asyncio.gather(*(one(number) for number in range(count))))


async def _settled(server: Server, folder: Path, wanted: Holding | None) -> Holding:
    """What the server holds when that changes no more, or is what it was before."""
    seen: list[Holding] = []
    for _ in range(int(SETTLED_S / 0.5)):
        await asyncio.sleep(0.5)
        seen.append(_holding(server, folder))
        last = [(each.pids, each.descriptors, each.files) for each in seen[-4:]]
        if wanted is not None and last[-1] == (wanted.pids, wanted.descriptors, wanted.files):
            break
        if wanted is None and len(last) == 4 and len(set(last)) == 1:
            break
    return seen[-1]


def _holding(server: Server, folder: Path) -> Holding:
    tree = server.tree()
    descriptors = 0
    for process in tree:
        with contextlib.suppress(psutil.Error):
            descriptors += process.num_fds()
    return Holding(
        pids=frozenset(process.pid for process in tree),
        descriptors=descriptors,
        pss_mib=server.pss_mib()[0],
        files=sum(path.is_file() for path in folder.rglob("*")),
    )


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
