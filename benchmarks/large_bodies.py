"""`python -m benchmarks.large_bodies`: the memory that a gigabyte of npy takes, there and back.

One worker. The proportional set size (PSS) of all processes of the server is read every 10 ms, from before the request
until the last byte of the answer is here; what counts is its peak beyond what the server holds at rest. Pages of the
spooled file that a process has mapped are part of it, and are named apart: the kernel can take them back.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context, resource_tracker
from pathlib import Path

import numpy as np

from benchmarks import machine, processes
from benchmarks.contestants import Start
from benchmarks.environments import BUILD, REQUIREMENTS
from benchmarks.processes import Server, free_ports

RESULTS = Path(__file__).parent / "results" / "large_bodies.md"
SCRIPT = REQUIREMENTS / "tidegate" / "large_bodies.py"
MIB = 1024 * 1024
PERIOD_S = 0.01
PIECE_BYTES = MIB
NPY = "application/x-npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a script takes its body, and what the server may hold for it: in bodies, or in MiB."""

    name: str
    script: str
    max_bodies: float | None = None
    max_mib: float | None = None


WAYS = (
    Way(name="bytes", script="`input_fn` on a `bytearray`; the default `output_fn`", max_bodies=2.2),
    Way(name="none", script="no function: the default ones", max_bodies=2.2),
    Way(name="file", script="`transform_fn(model, body: BinaryIO, …)`, which streams it back", max_mib=64.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the tree holds, in MiB; `mapped` are pages of files, `own` is all else."""

    own: float
    mapped: float

    @property
    def all(self) -> float:
        return self.own + self.mapped


@dataclass(slots=True, kw_only=True)
class Watch:
    """The samples of one request."""

    samples: list[Held] = field(default_factory=list)
    longest_gap_s: float = 0.0

    def peak(self, baseline: Held) -> Held:
        """The sample with the highest sum, beyond the baseline."""
        highest = max(self.samples, key=lambda held: held.all)
        return Held(own=highest.own - baseline.own, mapped=highest.mapped - baseline.mapped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """One body there and back."""

    way: Way
    body_mib: float
    peak: Held
    seconds: float
    samples: int
    longest_gap_s: float

    @property
    def reached(self) -> bool:
        if self.way.max_bodies is not None:
            return self.peak.all <= self.way.max_bodies * self.body_mib
        return self.way.max_mib is None or self.peak.all <= self.way.max_mib


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.large_bodies", description=__doc__)
    parser.add_argument("--mib", type=int, default=1024, help="of the body")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    processes.adopt_orphans()
    resource_tracker.ensure_running()  # before any server, with whose processes it would be ended
    body = make_body(options.mib)
    trips = [there_and_back(way, body) for way in WAYS]
    options.output.write_text(page(trips, machine.describe()), encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))
    return int(not all(trip.reached for trip in trips))


def make_body(mib: int) -> Path:
    """An npy file of `mib` MiB with its header, whose pages are all different."""
    path = BUILD / "bodies" / f"large-{mib}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    header_bytes = 128
    count = (mib * MIB - header_bytes) // 4
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count,))  # type: ignore[no-untyped-call]
    step = MIB
    for at in range(0, count, step):
        array[at : at + step] = np.arange(at, min(at + step, count), dtype=np.float32)
    array.flush()
    del array
    return path


def there_and_back(way: Way, body: Path) -> Trip:
    """Start a server, send the body, and watch."""
    with Server(_start(way)) as server:
        small = BUILD / "bodies" / "small.npy"
        np.save(small, np.zeros(1000, np.float32))
        server.wait_for_answer(small.read_bytes(), NPY)
        time.sleep(1.0)
        baseline = _held(_pids(server))
        started_s = time.monotonic()
        # The client has a process of its own, which the samples would otherwise have to wait for.
        with _watched(server) as watch, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as client:
            answer = client.submit(_ask, server.start.port, body).result()
        seconds = time.monotonic() - started_s
        if answer != _digest(body):
            raise SystemExit(f"{way.name}: the answer is not the body: {server.last_words()}")
        return Trip(
            way=way,
            body_mib=body.stat().st_size / MIB,
            peak=watch.peak(baseline),
            seconds=seconds,
            samples=len(watch.samples),
            longest_gap_s=watch.longest_gap_s,
        )


def _start(way: Way) -> Start:
    port = free_ports(1)
    folder = BUILD / "running" / f"large-{way.name}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "model" / "code").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / "model" / "code" / "inference.py")
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
    environment = {
        **kept,
        "SAGEMAKER_BASE_DIR": str(folder),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "TIDEGATE_HOST": "127.0.0.1",
        "TIDEGATE_WORKERS": "1",
        "TIDEGATE_MAX_BODY_BYTES": str(1024 * MIB),
        "TIDEGATE_TIMEOUT_S": "600",
        "BENCHMARK_WAY": way.name,
    }
    command = [sys.executable, "-P", "-m", "inference", "serve"]
    return Start(command=command, environment=environment, folder=folder, port=port)


def _ask(port: int, body: Path) -> str:
    """Send the body and return the digest of the answer, holding no more than a piece of either."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=900)
    headers = {"content-type": NPY, "accept": NPY, "content-length": str(body.stat().st_size)}
    with body.open("rb") as file:
        connection.request("POST", "/invocations", iter(lambda: file.read(PIECE_BYTES), b""), headers)
        response = connection.getresponse()
        digest = hashlib.sha256()
        while piece := response.read(PIECE_BYTES):
            digest.update(piece)
    connection.close()
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _watched(server: Server) -> Iterator[Watch]:
    # Looked up once: that takes longer than a period, and no process comes or goes with a request.
    watch, over, pids = Watch(), threading.Event(), _pids(server)

    def look() -> None:
        last_s = time.monotonic()
        while not over.wait(PERIOD_S):
            watch.samples.append(_held(pids))
            now_s = time.monotonic()
            watch.longest_gap_s = max(watch.longest_gap_s, now_s - last_s)
            last_s = now_s

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()


def _pids(server: Server) -> list[int]:
    return [process.pid for process in server.tree()]


def _held(pids: list[int]) -> Held:
    kib = {"Pss": 0, "Pss_File": 0}
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended
            continue
        for line in lines:
            key, _, rest = line.partition(":")
            if key in kib:
                kib[key] += int(rest.split()[0])
    return Held(own=(kib["Pss"] - kib["Pss_File"]) / 1024, mapped=kib["Pss_File"] / 1024)


def page(trips: list[Trip], described: dict[str, str]) -> str:
    """The report."""
    head = ("the script has", "goal", "peak beyond rest", "its own", "mapped pages of the file", "time", "reached")
    rows = [
        (
            trip.way.script,
            _goal(trip.way),
            f"{trip.peak.all:,.0f} MiB, {trip.peak.all / trip.body_mib:.2f} bodies",
            f"{trip.peak.own:,.0f} MiB",
            f"{trip.peak.mapped:,.0f} MiB",
            f"{trip.seconds:.1f} s",
            "yes" if trip.reached else "**no**",
        )
        for trip in trips
    ]
    every_s = max(trip.seconds / trip.samples for trip in trips)
    gap_s = max(trip.longest_gap_s for trip in trips)
    return "\n".join(
        [
            "# Large bodies",
            "",
            f"`python -m benchmarks.large_bodies`: {trips[0].body_mib:,.0f} MiB of npy there and back, one worker. The",
            "peak of the PSS of the server's processes beyond what they hold at rest, and what it is made of; wanted",
            f"every {PERIOD_S * 1000:.0f} ms, had every {every_s * 1000:.0f} ms on average (and once after "
            f"{gap_s * 1000:.0f} ms).",
            "The answer is compared with the body by its digest.",
            "",
            *(f"* {name}: {value}" for name, value in described.items()),
            "",
            *("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)),
            "",
        ]
    )


def _goal(way: Way) -> str:
    return f"at most {way.max_bodies:g} bodies" if way.max_bodies is not None else f"at most {way.max_mib:g} MiB"


if __name__ == "__main__":
    sys.exit(main())
