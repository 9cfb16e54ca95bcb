"""What a server really holds, looked at from outside every 10 ms: workers, directories, and what it says itself.

A process of its own: the clients share the machine, and would keep a thread of theirs waiting.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from benchmarks.processes import Server

PERIOD_S = 0.01
ASK_EVERY = 10
"""Samples between two readings of `/metrics`, which take the server's own time."""


@dataclass(slots=True, kw_only=True)
class Samples:
    """The highest of everything, and how often it was looked at."""

    count: int = 0
    longest_gap_s: float = 0.0
    asked: int = 0
    most: dict[str, int] = field(default_factory=dict)

    def take(self, **found: int) -> None:
        """One look."""
        for name, value in found.items():
            self.most[name] = max(value, self.most.get(name, 0))


@contextlib.contextmanager
def sampled(server: Server, cache: Path) -> Iterator[Samples]:
    """Watch until the block ends; the samples are complete then."""
    fork_server = _fork_server(server)
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(
        target=_watch, args=(there, fork_server, cache, server.start.port), daemon=True
    )
    process.start()
    there.close()
    here.recv()
    samples = Samples()
    try:
        yield samples
    finally:
        here.send("enough")
        found: Samples = here.recv()
        process.join()
        for name in Samples.__slots__:
            setattr(samples, name, getattr(found, name))


def _fork_server(server: Server) -> int:
    """The parent of all workers: the child of the server that has torch, and not the repository's process."""
    for child in psutil.Process(server.pid).children():
        if not any("tidegate.inference.repository" in part for part in child.cmdline()):
            return int(child.pid)
    raise LookupError("the server has no fork server")


def _watch(pipe: Connection, fork_server: int, cache: Path, port: int) -> None:
    samples = Samples()
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    pipe.send("ready")
    last_s = time.monotonic()
    while not pipe.poll(PERIOD_S):
        now_s = time.monotonic()
        samples.longest_gap_s, last_s = max(samples.longest_gap_s, now_s - last_s), now_s
        samples.count += 1
        samples.take(workers=workers_of(fork_server), **on_disk(cache))
        if samples.count % ASK_EVERY == 0:
            samples.asked += 1
            samples.take(**_said(connection))
    pipe.send(samples)


def workers_of(fork_server: int) -> int:
    """Processes that live below it. One that has ended and is not waited for yet holds no memory."""
    count = 0
    with contextlib.suppress(OSError):
        for pid in Path(f"/proc/{fork_server}/task/{fork_server}/children").read_text().split():
            with contextlib.suppress(OSError):
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                count += state not in "ZX"
    return count


def on_disk(cache: Path) -> dict[str, int]:
    """Directories of models, with those that come and go, and the bytes in them.

    Those count that two looks have found, wherever they were moved meanwhile: they were there at one moment.
    """
    first, second = _look(cache), _look(cache)
    both = first.keys() & second.keys()
    return {"directories": len(both), "disk_bytes": sum(min(first[each], second[each]) for each in both)}


def _look(cache: Path) -> dict[int, int]:
    models = [place for name in _names(cache) if not name.startswith(".") for place in _below(cache / name)]
    partials = [place for model in _below(cache / ".partial") for place in _below(model)]
    found = {}
    for place in (*_below(cache / ".trash"), *models, *(_content(partial) for partial in partials)):
        with contextlib.suppress(OSError):
            number, size_bytes = place.stat().st_ino, _bytes(place)
            if size_bytes:  # what a fetch works in stays for a moment after its content has moved to its place
                found[number] = size_bytes
    return found


def _content(partial: Path) -> Path:
    """What of an unfinished fetch is going to be renamed."""
    return content if (content := partial / "content").exists() else partial


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - a glob fails where a folder goes meanwhile
    except OSError:
        return []


def _below(folder: Path) -> list[Path]:
    return [folder / name for name in _names(folder)]


def _bytes(folder: Path) -> int:
    total = 0
    for place, _, files in os.walk(folder):
        for name in files:
            with contextlib.suppress(OSError):
                total += os.lstat(f"{place}/{name}").st_size
    return total


def _said(connection: HTTPConnection) -> dict[str, int]:
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if line.startswith("tidegate_repository_"))
    return {
        "said_loaded": int(float(samples['tidegate_repository_models{where="memory"}'])),
        "said_loaded_bytes": int(float(samples['tidegate_repository_bytes{where="memory"}'])),
        "said_on_disk": int(float(samples['tidegate_repository_models{where="disk"}'])),
        "said_disk_bytes": int(float(samples['tidegate_repository_bytes{where="disk"}'])),
    }
