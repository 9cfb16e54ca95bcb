"""A model's versions change while it is asked two hundred times a second."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.load import percentile
from benchmarks.open_streams import Figure
from benchmarks.processes import DidNotStart, Server
from benchmarks.repository.clients import Asker, Ledger
from benchmarks.repository.models import mark_of, model_dir
from benchmarks.repository.server import models, place, serving, start_of
from tidegate.training_hooks.publishing.actions import publish, retire, set_label

PER_S = 200
MODEL = "m"
BEYOND_S = 1.0
"""What the goal allows beyond the interval and the load."""
WAIT_S = 30.0
INTERVAL_S = 2.0


@dataclass(slots=True, kw_only=True)
class Crowd:
    """Two hundred requests a second, each at its fixed moment, for one key of the model."""

    port: int
    version: object = None
    falls: bool = False
    """Whether a lower version may come after a higher one."""
    ledger: Ledger = field(default_factory=Ledger)
    marks: dict[int, int] = field(default_factory=dict)
    first: dict[int, float] = field(default_factory=dict)
    """When each version answered first."""
    seen: int = 0
    """The version of the newest answer."""
    backwards: list[str] = field(default_factory=list)

    async def go_on(self, enough: asyncio.Event) -> None:
        """Until it is enough, and every answer is there."""
        idle: list[Asker] = []
        running: set[asyncio.Task[None]] = set()
        started, number = time.monotonic(), 0
        while not enough.is_set():
            await asyncio.sleep(max(0.0, started + number / PER_S - time.monotonic()))
            asker = idle.pop() if idle else Asker(self.port)
            task = asyncio.create_task(self._one(asker, number, idle))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
        await asyncio.gather(*running)
        for asker in idle:
            asker.close()

    async def _one(self, asker: Asker, at: int, idle: list[Asker]) -> None:
        before = self.seen
        try:
            reply = await asker.invoke(MODEL, at, self.version)
        except (OSError, EOFError, ValueError) as error:
            self.ledger.outcomes[type(error).__name__] += 1
            return
        idle.append(asker)
        version = self.ledger.note(reply, MODEL, at, self.marks)
        if version is None:
            return
        self.first.setdefault(version, time.monotonic())
        if version < before and not self.falls:
            self.backwards.append(f"{version} answered a request that was sent after an answer of {before}")
        self.seen = version if self.falls else max(self.seen, version)


@dataclass(slots=True, kw_only=True)
class Switches:
    """What the switches took, from the moment that the change is in the repository to the first new answer."""

    beyond_s: list[float] = field(default_factory=list)
    """More than the interval and the load."""
    visible_s: list[float] = field(default_factory=list)


def run(*, quick: bool) -> list[Figure]:
    """Without any switch as the control; by new numbers; by a label; unloading first; by removal."""
    count = 3 if quick else 12
    still = _run("load-first", _still, 3 if quick else 15)
    figures = [_figure("no switch: the control", *still, still[0])]
    for what, order, deed, times in (
        ("a new version is published", "load-first", _publish, count),
        ("a label moves to another version", "load-first", _label, max(2, count // 2)),
        (
            "the newest version is retired (two intervals: two listings must agree)",
            "load-first",
            _retire,
            max(2, count // 2),
        ),
        ("a new version is published, `unload-first`", "unload-first", _publish, max(2, count // 2)),
    ):
        figures.append(_figure(what, *_run(order, deed, times), still[0]))
    return figures


Deed = Callable[["There", int], Awaitable[None]]


def _run(order: str, deed: Deed, times: int) -> tuple[Crowd, Switches]:
    folder = place("switching")
    # Before the load, whose clients share this process.
    for version in range(1, times + 2):
        model_dir(folder / "sources" / str(version), mark_of(MODEL, version))
    versions = {_retire: times + 1, _label: 2}.get(deed, 1)
    for version in range(1, versions + 1):
        _bring(folder, version)
    if deed is _label:
        set_label(folder / "repository", MODEL, 1, "stable")
    start = start_of(
        folder,
        folder / "repository",
        TIDEGATE_RELOAD_INTERVAL_S=INTERVAL_S,
        TIDEGATE_RELOAD_ORDER=order,
        TIDEGATE_MODEL_CACHE_DIR=folder / "cache",
    )
    with serving(start) as server:
        crowd = Crowd(port=start.port, version="stable" if deed is _label else None, falls=deed in (_retire, _label))
        crowd.marks = {version: mark_of(MODEL, version) for version in range(1, versions + 1)}
        there = There(folder=folder, server=server, crowd=crowd, intervals=2 if deed is _retire else 1)
        asyncio.run(_beside(deed, there, times))
    return crowd, there.switches


@dataclass(slots=True, kw_only=True)
class There:
    """Where versions are changed, and who asks for them."""

    folder: Path
    server: Server
    crowd: Crowd
    intervals: int = 1
    """Listings that have to agree: a removal is believed after two."""
    switches: Switches = field(default_factory=Switches)

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    async def follow(self, change: Callable[[], object], version: int) -> None:
        """Change something, and wait until this version answers."""
        await asyncio.sleep(random.random() * INTERVAL_S)  # else each would come just after a listing
        self.crowd.first.pop(version, None)
        await asyncio.to_thread(change)
        changed_s = time.monotonic()
        await _until(lambda: version in self.crowd.first, f"version {version} answers")
        seconds = self.crowd.first[version] - changed_s
        said = await asyncio.to_thread(models, self.server, MODEL)
        load_s = next((each["load_s"] or 0.0 for each in said["versions"] if each["version"] == version), 0.0)
        self.switches.visible_s.append(seconds)
        self.switches.beyond_s.append(seconds - load_s - self.intervals * INTERVAL_S)


async def _beside(deed: Deed, there: There, times: int) -> None:
    enough, crowd = asyncio.Event(), there.crowd
    going_on = asyncio.create_task(crowd.go_on(enough))
    try:
        await _until(lambda: crowd.ledger.outcomes["200"] > PER_S, "the model answers")
        crowd.ledger.seconds.clear()
        await deed(there, times)
        await asyncio.sleep(1.0)
    finally:
        enough.set()
        await going_on


def _bring(folder: Path, version: int) -> None:
    publish(folder / "sources" / str(version), folder / "repository", MODEL, version=version)


async def _until(condition: Callable[[], object], what: str) -> None:
    ends_s = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > ends_s:
            raise DidNotStart(f"gave up after {WAIT_S:g} s waiting until {what}")
        await asyncio.sleep(0.002)


# --- what happens to the versions


async def _still(_: There, times: int) -> None:
    await asyncio.sleep(times)


async def _publish(there: There, times: int) -> None:
    for version in range(2, times + 2):
        there.crowd.marks[version] = mark_of(MODEL, version)
        await there.follow(partial(_bring, there.folder, version), version)


async def _label(there: There, times: int) -> None:
    for number in range(times):
        version = 2 - number % 2
        await there.follow(partial(set_label, there.repository, MODEL, version, "stable"), version)


async def _retire(there: There, times: int) -> None:
    for version in range(times, 0, -1):
        await there.follow(partial(retire, there.repository, MODEL, version + 1), version)


def _figure(what: str, crowd: Crowd, switches: Switches, control: Crowd) -> Figure:
    ledger, ordered, usual = crowd.ledger, sorted(crowd.ledger.seconds), sorted(control.ledger.seconds)
    p99, p99_usual = percentile(ordered, 99), percentile(usual, 99)
    seen = f"{len(switches.visible_s)} switches; " if switches.visible_s else ""
    if switches.beyond_s:
        visible = sorted(switches.visible_s)
        seen += f"visible after {percentile(visible, 50):.2f} s (longest {visible[-1]:.2f}), which is "
        seen += f"{max(switches.beyond_s):+.2f} s to interval + load at most; "
    return Figure(
        measure=f"{PER_S} requests/s, interval {INTERVAL_S:g} s: {what}",
        goal="0 failed, 0 wrong, never backwards, visible within interval + load + 1 s" if switches.visible_s else "",
        found=f"{seen}{ledger.told()}, {len(ledger.wrong)} wrong, {len(crowd.backwards)} backwards; p50 "
        f"{percentile(ordered, 50) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms ({p99 / p99_usual:.2f} x without), longest "
        f"{ordered[-1] * 1e3:.0f} ms",
        reached=_is_reached(crowd, switches),
    )


def _is_reached(crowd: Crowd, switches: Switches) -> bool:
    whole = not (crowd.ledger.failed or crowd.ledger.wrong or crowd.backwards)
    return whole and all(each <= BEYOND_S for each in switches.beyond_s)
