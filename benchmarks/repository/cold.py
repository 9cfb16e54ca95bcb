"""How long a small model takes from the disk to its first answer."""

from __future__ import annotations

import asyncio
import statistics

from benchmarks.load import percentile
from benchmarks.open_streams import Figure
from benchmarks.repository.clients import Asker, Ledger
from benchmarks.repository.models import fill, mark_of
from benchmarks.repository.server import place, serving, start_of, unload

GOAL_S = 0.1


def run(*, quick: bool) -> list[Figure]:
    """Ours beside TorchServe's, one load after the other, alternating."""
    folder = place("cold")
    known = fill(folder / "repository", 5 if quick else 20)
    ledger, warm = Ledger(), Ledger()
    start = start_of(folder, folder / "repository", TIDEGATE_MODEL_CACHE_DIR=folder / "cache")
    with serving(start) as server:
        asyncio.run(_ask_all(start.port, known, Ledger()))  # brings them to the disk
        for _ in range(2 if quick else 5):
            for name in known:
                unload(server, name)
                asyncio.run(_ask_all(start.port, [name], ledger))
                asyncio.run(_ask_all(start.port, [name], warm))
    ours = sorted(ledger.seconds)
    p50 = percentile(ours, 50)
    hits = statistics.median(warm.seconds)
    return [
        Figure(
            measure="cold load of a small model, from the disk to its first answer",
            goal=f"p50 ≤ {GOAL_S:g} s, all right",
            found=f"p50 {p50 * 1e3:.0f} ms, p90 {percentile(ours, 90) * 1e3:.0f} ms, of {len(ours)}; the next request "
            f"to it {hits * 1e3:.1f} ms; {len(ledger.wrong)} wrong, {ledger.failed} failed",
            reached=p50 <= GOAL_S and not ledger.wrong and not ledger.failed,
        )
    ]


async def _ask_all(port: int, known: list[str], ledger: Ledger) -> None:
    asker = Asker(port)
    for at, name in enumerate(known):
        ledger.note(await asker.invoke(name, at), name, at, {1: mark_of(name, 1)})
    asker.close()
