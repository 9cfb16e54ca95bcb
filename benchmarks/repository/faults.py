"""What goes wrong around a server, one thing after the other, while it is asked and while new versions come."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.open_streams import Figure
from benchmarks.processes import DidNotStart, Server
from benchmarks.repository.clients import Asker, Ledger
from benchmarks.repository.models import mark_of, names, write_version
from benchmarks.repository.server import metrics, place, serving, start_of, wait_until_healthy
from tests.inference.repository.s3_proxy import (
    BROKEN,
    CAPTIVE_PORTAL,
    EMPTY_LISTING,
    FORBIDDEN,
    S3,
    SLOW_DOWN,
    Asked,
    Fault,
    Proxy,
    always,
    no_fault,
    of_weights,
)

MODELS = 6
LOADED, ON_DISK = 3, 4
CLIENTS = 4
MARKS = 50_000
INTERVAL_S = 1.0
RECOVERY_S = 120.0
BUCKET = "models"


@dataclass(slots=True, kw_only=True)
class World:
    """A bucket, a server of it behind the proxy, and clients that go on asking."""

    folder: Path
    s3: S3
    proxy: Proxy
    server: Server
    cache: Path
    marks: dict[str, dict[int, int]] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)

    def publish(self, name: str) -> None:
        """The next version, past the proxy: its files, and the manifest last."""
        version = max(self.marks.get(name, {0: 0})) + 1
        mark = mark_of(name, version)
        self.marks.setdefault(name, {})[version] = mark
        new = self.folder / "new"
        write_version(new, mark, MARKS)
        client = self.s3.client()
        files = sorted(
            (path for path in new.rglob("*") if path.is_file()), key=lambda path: path.name == "manifest.json"
        )
        for path in files:
            key = f"{name}/{version}/{path.relative_to(new).as_posix()}"
            client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())

    async def publish_all(self) -> None:
        """One more of each."""
        for name in names(MODELS):
            await asyncio.to_thread(self.publish, name)

    async def ask(self, asker: Asker, name: str, at: int) -> int | None:
        """The version that answers, if one does and it is right."""
        try:
            reply = await asker.invoke(name, at)
        except (OSError, EOFError, ValueError) as error:
            self.ledger.outcomes[type(error).__name__] += 1
            await asyncio.sleep(0.05)
            return None
        if reply.status != 200:
            await asyncio.sleep(0.05)
        return self.ledger.note(reply, name, at, self.marks[name])

    @contextlib.asynccontextmanager
    async def asked(self) -> AsyncIterator[None]:
        """Clients go on, until the block ends."""
        enough = asyncio.Event()

        async def client(number: int) -> None:
            asker, source = Asker(self.server.start.port), random.Random(number)
            while not enough.is_set():
                await self.ask(asker, source.choice(names(MODELS)), source.randrange(1000))
                await asyncio.sleep(0.01)
            asker.close()

        clients = [asyncio.create_task(client(number)) for number in range(CLIENTS)]
        try:
            yield
        finally:
            enough.set()
            await asyncio.gather(*clients)

    async def recovery_s(self) -> float | None:
        """How long until the newest version of every model answers; None: it does not."""
        started, left, asker = time.monotonic(), set(names(MODELS)), Asker(self.server.start.port)
        while left and time.monotonic() - started < RECOVERY_S:
            for name in sorted(left):
                if await self.ask(asker, name, 1) == max(self.marks[name]):
                    left.discard(name)
            await asyncio.sleep(0.1)
        asker.close()
        return None if left else time.monotonic() - started


Happening = Callable[[World, float], Awaitable[None]]
"""Makes something go wrong for so long, and leaves it in order."""


def _in_store(fault: Callable[[Asked], Fault | None]) -> Happening:
    async def happen(world: World, seconds: float) -> None:
        world.proxy.fault = fault
        await world.publish_all()
        await asyncio.sleep(seconds)
        world.proxy.fault = no_fault

    return happen


def _reads(asked: Asked) -> bool:
    return asked.method == "GET" and bool(asked.key)


def _now_and_then(fault: Fault) -> Callable[[Asked], Fault | None]:
    source = random.Random(7)
    return lambda asked: fault if _reads(asked) and source.random() < 0.5 else None


# --- what is killed, in the middle of a download


async def _stall(world: World) -> None:
    """Have downloads begin and not end."""
    world.proxy.fault = always(Fault(stall_at=150_000), of_weights)
    await world.publish_all()
    for _ in range(200):
        await asyncio.sleep(0.05)
        if any(path.stat().st_size for path in world.cache.glob(".partial/*/*/content/model.pth")):
            return
    raise DidNotStart("no download began")


async def _kill_repository(world: World, seconds: float) -> None:
    await _stall(world)
    for child in psutil.Process(world.server.pid).children():
        if any("tidegate.inference.repository" in part for part in child.cmdline()):
            child.kill()
    world.proxy.fault = no_fault
    await asyncio.sleep(seconds)


async def _kill_server(world: World, seconds: float) -> None:
    await _stall(world)
    os.kill(world.server.pid, signal.SIGKILL)
    world.proxy.fault = no_fault
    await asyncio.to_thread(world.server.start_again)
    await asyncio.to_thread(wait_until_healthy, world.server)
    await asyncio.sleep(seconds)


async def _kill_fork_server(world: World, seconds: float) -> None:
    for child in psutil.Process(world.server.pid).children():
        if not any("tidegate.inference.repository" in part for part in child.cmdline()):
            child.kill()
    await world.publish_all()
    await asyncio.sleep(seconds)


async def _fill_disk(world: World, seconds: float) -> None:
    filler = world.cache / ".filler"
    filler.touch()
    taken = os.statvfs(world.cache)
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while taken.f_bavail > 10 and file.write(bytes(1 << 16)):
            file.flush()
    await world.publish_all()
    await asyncio.sleep(seconds)
    filler.unlink()


HAPPENINGS: dict[str, Happening] = {
    "S3 answers after 1.5 s": _in_store(always(Fault(delay_s=1.5))),
    "S3 breaks off every other download after 150,000 bytes": _in_store(_now_and_then(Fault(truncate_at=150_000))),
    "S3 says 403 to everything": _in_store(always(FORBIDDEN)),
    "S3 says 403 to every download": _in_store(always(FORBIDDEN, _reads)),
    "S3 says 500 to everything": _in_store(always(BROKEN)),
    "S3 asks for fewer requests (503 SlowDown) at everything": _in_store(always(SLOW_DOWN)),
    "S3 lists nothing": _in_store(always(EMPTY_LISTING, lambda asked: asked.lists)),
    "something answers in place of S3 with a web page": _in_store(always(CAPTIVE_PORTAL)),
    "the disk is full": _fill_disk,
    "SIGKILL of the repository's process in the middle of downloads": _kill_repository,
    "SIGKILL of the workers' parent": _kill_fork_server,
    "SIGKILL of the server in the middle of downloads, and its start on the same cache": _kill_server,
}


def run(*, quick: bool) -> list[Figure]:
    """All of them in one life of a server, but for the last, which ends it; the control is that nothing happens."""
    folder = place("faults")
    cache = folder / "cache"
    cache.mkdir()
    with _small_disk(cache) as limited, S3() as s3, Proxy(s3.port) as proxy:
        s3.client().create_bucket(Bucket=BUCKET)
        start = start_of(
            folder,
            f"s3://{BUCKET}",
            TIDEGATE_RELOAD_INTERVAL_S=INTERVAL_S,
            TIDEGATE_MODEL_CACHE_DIR=cache / "models",
            TIDEGATE_MAX_LOADED_MODELS=LOADED,
            TIDEGATE_MAX_DISK_MODELS=ON_DISK,
            TIDEGATE_TIMEOUT_S=20,
            **proxy.environment,
        )
        with serving(start) as server:
            world = World(folder=folder, s3=s3, proxy=proxy, server=server, cache=cache / "models")
            return asyncio.run(_all(world, 2.0 if quick else 15.0, limited=limited))


async def _all(world: World, seconds: float, *, limited: bool) -> list[Figure]:
    await world.publish_all()
    if await world.recovery_s() is None:
        raise SystemExit(f"the models do not come: {world.ledger.told()}")

    async def nothing(world: World, seconds: float) -> None:
        await world.publish_all()
        await asyncio.sleep(seconds)

    figures = []
    for what, happening in {"nothing: the control": nothing, **HAPPENINGS}.items():
        if happening is _fill_disk and not limited:
            figures.append(
                Figure(measure=what, goal="", found="not tried: no small disk can be mounted here", reached=None)
            )
            continue
        figures.append(await _figure(world, what, happening, seconds))
        print(f"{figures[-1].measure}: {figures[-1].found}", file=sys.stderr)
    return figures


async def _figure(world: World, what: str, happening: Happening, seconds: float) -> Figure:
    world.ledger = during = Ledger()
    async with world.asked():
        await happening(world, seconds)
    world.ledger = after = Ledger()
    recovery_s = await world.recovery_s()
    known = (await asyncio.to_thread(metrics, world.server))['models{where="known"}']
    lost = MODELS - int(known) + sum(ledger.outcomes["404 model_not_found"] for ledger in (during, after))
    wrong = during.wrong + after.wrong
    found = f"{during.told()}; {len(wrong)} wrong, {lost} lost; "
    if recovery_s is None:
        found += f"no recovery within {RECOVERY_S:g} s: {after.told()}"
    else:
        found += f"the newest version of all {MODELS} answers {recovery_s:.1f} s after it ended"
    if wrong:
        found += f"; {wrong[0]}"
    return Figure(
        measure=what,
        goal="0 wrong, 0 lost, recovery without a hand",
        found=found,
        reached=not wrong and lost == 0 and recovery_s is not None,
    )


@contextlib.contextmanager
def _small_disk(cache: Path) -> Iterator[bool]:
    """A file system of 32 MiB for the cache, where this user may mount one."""
    command = [shutil.which("mount") or "mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(cache)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run([shutil.which("umount") or "umount", "-l", str(cache)], check=True)
