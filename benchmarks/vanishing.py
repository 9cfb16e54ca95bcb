"""Clients that leave in the middle, a thousand of each kind, and what of them is left in the server. Ours only."""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.frames import Frame, Opcode

from benchmarks.chunks import Broken, begin, whole
from benchmarks.contestants import Start
from benchmarks.environments import BUILD
from benchmarks.load import HOST
from benchmarks.open_streams import Figure, asked, start_of
from benchmarks.processes import Server

VANISHING, AT_ONCE, PLACES = 1_000, 30, 64
SETTLED_S = 30.0
MAX_BYTES = 64 * 1024 * 1024
"""Those of all bodies and of all that waits for its reader; one request of as many finds out whether any are held."""
MAX_GROWTH_MIB = 4.0
HALF = 100_000
"""Bytes of a message that is never whole."""
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a server has: its processes, their descriptors by what they are, the memory of all, its folder's files."""

    pids: frozenset[int]
    descriptors: Counter[str]
    pss_mib: float
    files: int

    @property
    def countable(self) -> tuple[frozenset[int], int, int]:
        """What must be the same before and after."""
        return self.pids, self.descriptors.total(), self.files


async def readers() -> list[Figure]:
    """Readers of streams: half of paced ones, half of a burst that they do not read."""
    kinds = (asked(kind="paced", chunks=10_000, pause_s=0.01), asked(kind="burst", chunks=10_000_000))
    question = asked(kind="paced", chunks=20, pause_s=0.05)

    async def leave(start: Start, number: int) -> None:
        reader = await begin(start.port, start.path, kinds[number % 2])
        try:
            await asyncio.wait_for(reader.begun, SETTLED_S)
            assert reader.transport is not None
            reader.transport.pause_reading()
            await asyncio.sleep(random.random() * 0.02)
        finally:
            reader.vanish()

    async def stay(start: Start) -> None:
        (await whole(start.port, start.path, question)).chunks()

    return [await _left_by("readers", leave, stay)]


async def talkers() -> list[Figure]:
    """WebSocket clients: they leave a dialogue, a burst that they do not read, half a frame, or half a message."""
    dialogue, burst, answered = (
        json.dumps({"messages": count, "pause_s": pause_s})
        for count, pause_s in ((10_000, 0.01), (10_000_000, 0), (1, 0))
    )
    half_a_frame = Frame(Opcode.BINARY, bytes(2 * HALF)).serialize(mask=True)[:-HALF]
    half_a_message = Frame(Opcode.BINARY, bytes(HALF), fin=False).serialize(mask=True)
    kinds = ((dialogue, b""), (burst, b""), (answered, half_a_frame), (answered, half_a_message))

    async def leave(start: Start, number: int) -> None:
        order, begun = kinds[number % len(kinds)]
        async with asyncio.timeout(SETTLED_S):
            connection = await _open(start)
            try:
                await connection.send(order)
                await connection.recv()
                if begun:
                    connection.transport.write(begun)
                else:
                    connection.transport.pause_reading()
                await asyncio.sleep(random.random() * 0.02)
            finally:
                await _vanish(connection)

    async def stay(start: Start) -> None:
        async with asyncio.timeout(SETTLED_S):
            connection = await _open(start)
            await connection.send(json.dumps({"messages": 20, "pause_s": 0.05}))
            for _ in range(20):
                await connection.recv()
            await connection.close()

    return [
        await _left_by(f"WebSocket clients of {kind} stream_fn", leave, stay, STREAM_FN=kind)
        for kind in ("a synchronous", "an asynchronous")
    ]


async def _left_by(
    who: str,
    leave: Callable[[Start, int], Awaitable[None]],
    stay: Callable[[Start], Awaitable[None]],
    **environment: str,
) -> Figure:
    """The figure of a thousand that `leave` after a first thousand, which have made the server as large as it gets.

    Afterwards as many as there are places `stay` at the same time.
    """
    folder = BUILD / "running" / "vanishing"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    start = start_of(
        "tidegate",
        TMPDIR=str(folder),
        TIDEGATE_MAX_STREAMS_PER_WORKER=str(PLACES),
        TIDEGATE_MAX_BODY_BYTES=str(MAX_BYTES),
        TIDEGATE_MAX_BYTES_IN_FLIGHT=str(MAX_BYTES),
        TIDEGATE_SPOOL_THRESHOLD_BYTES=str(MAX_BYTES),
        **environment,
    )
    together = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> bool:
        async with together:
            return await _fails(leave(start, number))

    with Server(start) as server:
        server.wait_for_answer(asked(kind="plain"), "application/json")
        in_vain = sum(await asyncio.gather(*(one(number) for number in range(VANISHING))))
        before = await _settled(server, folder, None)
        in_vain += sum(await asyncio.gather(*(one(number) for number in range(VANISHING))))
        after = await _settled(server, folder, before)
        refused = sum(await asyncio.gather(*(_fails(stay(start)) for _ in range(PLACES))))
        held = await asyncio.to_thread(_bytes_are_held, start)
    return figure(who, before, after, in_vain=in_vain, refused=refused, bytes_held=held)


def figure(who: str, before: Holding, after: Holding, *, in_vain: int, refused: int, bytes_held: bool) -> Figure:
    """The row of the report."""
    grown_mib = after.pss_mib - before.pss_mib
    more = after.descriptors - before.descriptors
    named = f" ({', '.join(f'{count} {what}' for what, count in sorted(more.items()))})" if more else ""
    return Figure(
        measure=f"{VANISHING:,} {who} vanish: left behind",
        goal="nothing",
        found=f"{len(before.pids - after.pids)} workers lost, "
        f"{after.descriptors.total() - before.descriptors.total():+} descriptors{named}, "
        f"{after.files - before.files:+} files, {'some' if bytes_held else 'no'} bytes of the budget, "
        f"{grown_mib:+.1f} MiB; {refused} of {PLACES} who came afterwards refused; "
        f"{in_vain} had waited for their first byte in vain",
        reached=(after.pids, after.files) == (before.pids, before.files)
        and after.descriptors.total() <= before.descriptors.total()
        and grown_mib <= MAX_GROWTH_MIB
        and not (refused or in_vain or bytes_held),
    )


async def _fails(client: Awaitable[None]) -> bool:
    try:
        await client
    except (Broken, TimeoutError, OSError, WebSocketException):
        return True
    return False


# --- WebSockets


async def _open(start: Start) -> ClientConnection:
    url = f"ws://{HOST}:{start.port}/invocations-bidirectional-stream"
    return await connect(url, proxy=None, open_timeout=SETTLED_S, compression=None, ping_interval=None)


async def _vanish(connection: ClientConnection) -> None:
    """Leave as a process that was killed does: with a reset."""
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
    connection.transport.abort()
    await connection.wait_closed()


# --- what a server holds


async def _settled(server: Server, folder: Path, wanted: Holding | None) -> Holding:
    """What the server holds when that changes no more, or is what it was before."""
    seen: list[Holding] = []
    for _ in range(int(SETTLED_S / 0.5)):
        await asyncio.sleep(0.5)
        seen.append(_holding(server, folder))
        last = [each.countable for each in seen[-4:]]
        if wanted is not None and last[-1] == wanted.countable and seen[-1].pss_mib - wanted.pss_mib <= MAX_GROWTH_MIB:
            break
        if wanted is None and len(last) == 4 and len(set(last)) == 1:
            break
    return seen[-1]


def _holding(server: Server, folder: Path) -> Holding:
    tree = server.tree()
    return Holding(
        pids=frozenset(process.pid for process in tree),
        descriptors=sum((_descriptors(process.pid) for process in tree), Counter()),
        pss_mib=server.pss_mib()[0],
        files=sum(path.is_file() for path in folder.rglob("*")),
    )


def _descriptors(pid: int) -> Counter[str]:
    """The open descriptors of a process, by what they are: `socket`, `anon_inode:[eventpoll]`, a file's path."""
    found: Counter[str] = Counter()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                found[re.sub(r":\[\d+\]$", "", str(descriptor.readlink()))] += 1
    return found


def _bytes_are_held(start: Start) -> bool:
    """Whether a request that takes every byte there is finds some of them taken."""
    connection = HTTPConnection(HOST, start.port, timeout=SETTLED_S)
    body = asked(kind="plain").ljust(MAX_BYTES)
    connection.request("POST", start.path, body, {"Content-Type": "application/json"})
    status = connection.getresponse().status
    connection.close()
    return status != 200
