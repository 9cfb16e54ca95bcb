"""Ten thousand models known and ten in use: what those cost that nobody asks for."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.open_streams import Figure
from benchmarks.processes import Server
from benchmarks.repository import warm
from benchmarks.repository.clients import Asker, Ledger
from benchmarks.repository.models import fill, fill_with_copies, mark_of, names
from benchmarks.repository.server import models, place, serving, start_of
from tests.inference.repository.s3_proxy import S3, Proxy

IN_USE = 10
MOST_SHARE = 0.02
BUCKET = "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A server that nobody asks."""

    seconds: float
    cores: float
    by_process: str
    interval_s: float
    note: str
    listings: int | None = None


def run(*, quick: bool) -> list[Figure]:
    """A folder of ten thousand beside one of ten; then as much of it as moto's S3 bears."""
    count, seconds, interval_s = (1000, 9, 2.0) if quick else (10_000, 60, 10.0)
    return [*_folder(count, seconds, interval_s, quick=quick), *_bucket(count // 5, seconds, interval_s)]


def _folder(count: int, seconds: int, interval_s: float, *, quick: bool) -> list[Figure]:
    folder = place("many")
    fill_with_copies(folder / "many", count, IN_USE)
    fill(folder / "few", IN_USE)
    figures = []
    idle = {}
    with contextlib.ExitStack() as stack:
        servers = {}
        for what in ("few", "again", "many"):
            (folder / f"at-{what}").mkdir()
            start = start_of(
                folder / f"at-{what}",
                folder / ("many" if what == "many" else "few"),
                TIDEGATE_RELOAD_INTERVAL_S=interval_s,
            )
            began = time.monotonic()
            # One after the other: each server's tree is all that was not there before it.
            servers[what] = stack.enter_context(serving(start))
            known_s = time.monotonic() - began
            use(servers[what])
            if what != "again":
                idle[what] = idle_of(servers[what], seconds)
        asked = warm.body(folder)
        ways = {
            f"{IN_USE} models known": warm.Way(server=servers["few"], attributes=f"model={names(1)[0]}"),
            "the same again: the control": warm.Way(server=servers["again"], attributes=f"model={names(1)[0]}"),
            f"{count:,} models known": warm.Way(server=servers["many"], attributes=f"model={names(1)[0]}"),
        }
        rounds = warm.measured(ways, asked, count=3 if quick else 10, seconds=1 if quick else 2)
        figures += warm.figures(rounds, list(ways), goal=0.95)
    for what, each in idle.items():
        known = count if what == "many" else IN_USE
        figures.append(idle_figure(f"idle, a folder of {known:,} models", each))
    figures.append(
        Figure(
            measure=f"start with {count:,} models in a folder",
            goal="",
            found=f"healthy after {known_s:.1f} s",
            reached=None,
        )
    )
    shutil.rmtree(folder)
    return figures


def use(server: Server) -> None:
    """Have ten models loaded."""
    ledger = Ledger()

    async def ask() -> None:
        asker = Asker(server.start.port)
        for name in names(IN_USE):
            ledger.note(await asker.invoke(name, 1), name, 1, {1: mark_of(name, 1)})
        asker.close()

    asyncio.run(ask())
    if ledger.wrong or ledger.failed:
        raise SystemExit(f"{ledger.told()}, wrong: {ledger.wrong[:3]}")


def idle_of(server: Server, seconds: int, proxy: Proxy | None = None) -> Idle:
    """The CPU of the whole tree over some time, from the end of a listing on."""
    time.sleep(min(seconds, 30) / 2)  # the first listing reads everything, and is not what comes again
    interval_s = float(models(server)["repository"]["interval_s"])
    before, started = server.cpu_by_pid(), time.monotonic()
    listings = _listings(proxy)
    time.sleep(max(float(seconds), 3 * interval_s))
    after, elapsed_s = server.cpu_by_pid(), time.monotonic() - started
    used = {pid: cpu_s - before.get(pid, 0.0) for pid, cpu_s in after.items()}
    said = models(server)["repository"]
    listed = None if proxy is None else (_listings(proxy) or 0) - (listings or 0)
    names_of = {each.pid: _kind(each.pid) for each in server.tree()}
    shares: dict[str, float] = {}
    for pid, cpu_s in used.items():
        shares[names_of.get(pid, "gone")] = shares.get(names_of.get(pid, "gone"), 0.0) + cpu_s / elapsed_s
    return Idle(
        seconds=elapsed_s,
        cores=sum(used.values()) / elapsed_s,
        by_process=", ".join(f"{name} {share:.2%}" for name, share in sorted(shares.items()) if share >= 0.0001),
        interval_s=float(said["interval_s"]),
        note=str(said["note"]),
        listings=listed,
    )


def _kind(pid: int) -> str:
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"tidegate.inference.repository" in command:
            return "the repository's process"
        return "the frontend" if b"serve" in command.split(b"\0") else "workers and their parent"
    return "gone"


def _listings(proxy: Proxy | None) -> int | None:
    return None if proxy is None else sum(asked.is_first_page for asked in list(proxy.asked))


def idle_figure(what: str, idle: Idle) -> Figure:
    """What it came to."""
    listings, rare = "", True
    note = f"; said in /models: {idle.note}" if idle.note else ""
    if idle.listings is not None:
        rare = idle.listings <= idle.seconds / idle.interval_s + 1
        listings = f"; {idle.listings} listings in {idle.seconds:.0f} s"
    return Figure(
        measure=what,
        goal=f"≤ {MOST_SHARE:.0%} of a core, ≤ 1 listing an interval",
        found=f"{idle.cores:.2%} of a core over {idle.seconds:.0f} s ({idle.by_process}); interval "
        f"{idle.interval_s:g} s{listings}{note}",
        reached=idle.cores <= MOST_SHARE and rare,
    )


# --- S3


def _bucket(count: int, seconds: int, interval_s: float) -> list[Figure]:
    folder = place("many-s3")
    known = fill(folder / "few", IN_USE)
    with S3() as s3, Proxy(s3.port) as proxy:
        s3.client().create_bucket(Bucket=BUCKET)
        began = time.monotonic()
        _upload(s3, folder / "few", known, count)
        print(f"{count:,} models uploaded in {time.monotonic() - began:.0f} s", file=sys.stderr)
        start = start_of(
            folder,
            f"s3://{BUCKET}/models",
            TIDEGATE_RELOAD_INTERVAL_S=interval_s,
            **proxy.environment,
        )
        with serving(start) as server:
            use(server)
            idle = idle_of(server, seconds, proxy)
    shutil.rmtree(folder)
    return [idle_figure(f"idle, {count:,} models in moto's S3 (two objects each)", idle)]


def _upload(s3: S3, few: Path, known: list[str], count: int) -> None:
    """The ten with all their files; of the others a weight file and a manifest, which nobody asks for."""
    client = s3.client()
    for name in known:
        for path in (few / name).rglob("*"):
            if path.is_file():
                key = f"models/{path.relative_to(few).as_posix()}"
                client.put_object(Bucket=BUCKET, Key=key, Body=path.read_bytes())
    script = b"def model_fn(model_dir):\n    return None\n"
    manifest = json.dumps(
        {
            "format_version": 1,
            "files": {"inference.py": {"sha256": hashlib.sha256(script).hexdigest(), "size_bytes": len(script)}},
        }
    ).encode()

    def put(name: str) -> None:
        client.put_object(Bucket=BUCKET, Key=f"models/{name}/1/inference.py", Body=script)
        client.put_object(Bucket=BUCKET, Key=f"models/{name}/1/manifest.json", Body=manifest)

    with ThreadPoolExecutor(4) as uploads:
        list(uploads.map(put, names(count)[len(known) :]))
