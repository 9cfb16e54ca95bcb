"""How long a small model takes from the disk to its first answer."""

from __future__ import annotations

import asyncio
import contextlib
import statistics

from benchmarks.environments import CannotInstall
from benchmarks.load import percentile
from benchmarks.open_streams import Figure
from benchmarks.processes import DidNotStart, Server
from benchmarks.repository.clients import Asker, Ledger
from benchmarks.repository.models import fill, mark_of
from benchmarks.repository.registrations import registration_s, start_of_torchserve
from benchmarks.repository.server import place, serving, start_of, unload, wait_until_healthy

GOAL_S = 0.1


def run(*, quick: bool) -> list[Figure]:
    """Ours and TorchServe's in turn, each model's load after another's."""
    folder = place("cold")
    known = fill(folder / "repository", 5 if quick else 20)
    ledger, warm, theirs = Ledger(), Ledger(), list[float]()
    excuse = ""
    with contextlib.ExitStack() as stack:
        start = start_of(folder, folder / "repository", TIDEGATE_MODEL_CACHE_DIR=folder / "cache")
        ours = stack.enter_context(serving(start))
        asyncio.run(_ask_all(start.port, known, Ledger()))  # brings them to the disk
        torchserve = None
        try:
            torchserve = stack.enter_context(Server(start_of_torchserve(folder / "torchserve", known)))
            wait_until_healthy(torchserve)
            registration_s(torchserve.start, known[0])
        except (CannotInstall, DidNotStart, OSError) as error:
            torchserve, excuse = None, str(error)
        for number in range(1 if quick else 3):
            for name in known:
                _load(ours, name, ledger, warm)
                if torchserve is not None and number == 0:
                    theirs.append(registration_s(torchserve.start, name))
    return [_ours(ledger, warm, theirs), _theirs(theirs, excuse)]


def _load(server: Server, name: str, ledger: Ledger, warm: Ledger) -> None:
    unload(server, name)
    asyncio.run(_ask_all(server.start.port, [name], ledger))
    asyncio.run(_ask_all(server.start.port, [name], warm))


def _ours(ledger: Ledger, warm: Ledger, theirs: list[float]) -> Figure:
    ours = sorted(ledger.seconds)
    p50 = percentile(ours, 50)
    beside = f", {statistics.median(theirs) / p50:.0f} times as fast as TorchServe's" if theirs else ""
    next_ms = statistics.median(warm.seconds) * 1e3
    return Figure(
        measure="cold load of a small model, from the disk to its first answer",
        goal=f"p50 ≤ {GOAL_S:g} s, all right",
        found=f"p50 {p50 * 1e3:.0f} ms, p90 {percentile(ours, 90) * 1e3:.0f} ms, of {len(ours)}{beside}; the next "
        f"request to it {next_ms:.1f} ms; {len(ledger.wrong)} wrong, {ledger.failed} failed",
        reached=p50 <= GOAL_S and not ledger.wrong and not ledger.failed,
    )


def _theirs(theirs: list[float], excuse: str) -> Figure:
    ordered = sorted(theirs)
    found = f"not measured: {excuse}"
    if theirs:
        p50, p90 = (percentile(ordered, each) * 1e3 for each in (50, 90))
        found = f"p50 {p50:,.0f} ms, p90 {p90:,.0f} ms, of {len(theirs)}"
    return Figure(measure="the same by TorchServe: registration and first answer", goal="", found=found, reached=None)


async def _ask_all(port: int, known: list[str], ledger: Ledger) -> None:
    asker = Asker(port)
    for at, name in enumerate(known):
        ledger.note(await asker.invoke(name, at), name, at, {1: mark_of(name, 1)})
    asker.close()
