"""Clients that ask for every model of a repository, far more than the limits allow at one time."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import percentile
from benchmarks.open_streams import Figure
from benchmarks.repository.clients import Asker, Ledger
from benchmarks.repository.models import fill, mark_of
from benchmarks.repository.sampling import PERIOD_S, Samples, sampled
from benchmarks.repository.server import metrics, place, serving, start_of

CLIENTS = 8
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the server may hold."""

    models: int = 2
    directories: int = 4
    memory_bytes: int = 0
    disk_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What one scan saw."""

    clients: int
    limits: Limits
    ledger: Ledger
    samples: Samples
    seconds: float
    loads: int


def run(*, quick: bool) -> list[Figure]:
    """The scan of many clients, and as the control that of one."""
    folder = place("scan")
    count, mib = (12, 2) if quick else (200, 20)
    known = fill(folder / "repository", count, mib * MIB // 4)
    limits = Limits(memory_bytes=(2 * mib + 300) * MIB, disk_bytes=(9 * mib // 2) * MIB)
    alone = _scan(folder, known, limits, clients=1)
    crowd = _scan(folder, known, limits, clients=CLIENTS)
    shutil.rmtree(folder)  # gigabytes
    return [_figure(each, f"{count} models of {mib} MB", alone) for each in (alone, crowd)]


def _scan(folder: Path, known: list[str], limits: Limits, *, clients: int) -> Scan:
    cache = folder / f"cache-{clients}"
    start = start_of(
        folder,
        folder / "repository",
        TIDEGATE_MODEL_CACHE_DIR=cache,
        TIDEGATE_MAX_LOADED_MODELS=limits.models,
        TIDEGATE_MAX_LOADED_BYTES=limits.memory_bytes,
        TIDEGATE_MAX_DISK_MODELS=limits.directories,
        TIDEGATE_MAX_DISK_BYTES=limits.disk_bytes,
    )
    ledger = Ledger()
    with serving(start) as server, sampled(server, cache) as samples:
        started = time.monotonic()
        asyncio.run(_all(start.port, known, ledger, clients))
        seconds = time.monotonic() - started
        loads = int(metrics(server)['loads_total{result="loaded"}'])
    return Scan(clients=clients, limits=limits, ledger=ledger, samples=samples, seconds=seconds, loads=loads)


async def _all(port: int, known: list[str], ledger: Ledger, clients: int) -> None:
    async def client(number: int) -> None:
        asker, source = Asker(port), random.Random(number)
        for name in source.sample(known, len(known)):
            at = source.randrange(1000)
            ledger.note(await asker.invoke(name, at), name, at, {1: mark_of(name, 1)})
        asker.close()

    await asyncio.gather(*(client(number) for number in range(clients)))


def excesses(samples: Samples, limits: Limits) -> list[str]:
    """Which limits were exceeded, as seen from outside or as the server says."""
    bounds = {
        "workers": limits.models,
        "said_loaded": limits.models,
        "said_loaded_bytes": limits.memory_bytes,
        "directories": limits.directories,
        "said_on_disk": limits.directories,
        "disk_bytes": limits.disk_bytes,
        "said_disk_bytes": limits.disk_bytes,
    }
    return [
        f"{name} {samples.most[name]:,} of {bound:,}" for name, bound in bounds.items() if samples.most[name] > bound
    ]


def _figure(scan: Scan, what: str, control: Scan) -> Figure:
    samples, limits, ledger, most = scan.samples, scan.limits, scan.ledger, scan.samples.most
    beyond = excesses(samples, limits)
    per_s = scan.loads / scan.seconds
    ordered = sorted(ledger.seconds)
    found = [
        f"at most {most['workers']} workers, {most['directories']} directories with "
        f"{most['disk_bytes'] / MIB:,.0f} of {limits.disk_bytes / MIB:,.0f} MiB",
        f"the server says at most {most['said_loaded']} loaded with {most['said_loaded_bytes'] / MIB:,.0f} of "
        f"{limits.memory_bytes / MIB:,.0f} MiB",
        f"exceeded: {', '.join(beyond) or 'none'}",
        f"{ledger.told()}, {len(ledger.wrong)} wrong",
        f"{scan.loads:,} loads, {per_s:.1f} a second ({per_s / (control.loads / control.seconds):.2f} x one client), "
        f"p50 {percentile(ordered, 50):.2f} s, longest {percentile(ordered, 100):.2f} s",
        f"{samples.count:,} looks, wanted every {PERIOD_S * 1e3:.0f} ms, had every "
        f"{scan.seconds / samples.count * 1e3:.0f} ms, and {samples.asked:,} readings of /metrics",
    ]
    return Figure(
        measure=f"scan over {what}, limits {limits.models} in memory and {limits.directories} on disk, "
        f"{scan.clients} {'client' if scan.clients == 1 else 'clients'}",
        goal="limits never exceeded, all answers right",
        found="; ".join(found),
        reached=not (beyond or ledger.wrong or ledger.failed),
    )
