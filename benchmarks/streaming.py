"""`python -m benchmarks.streaming`: streams beside those of a bare uvicorn application, and what leaving clients leave.

One worker and one torch thread (two workers for the open streams), uvicorn with one process, `uvicorn, again` as the
control. Servers stay up, rounds come in random order, ratios are formed within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks import load, machine, open_streams, processes, vanishing
from benchmarks.chunks import Broken, Reader, whole
from benchmarks.open_streams import Figure, asked, start_of
from benchmarks.processes import Server

KINDS = ("uvicorn", "uvicorn, again", "tidegate")
RESULTS = Path(__file__).parent / "results" / "streaming.md"
CHUNKS, CHUNK_BYTES = 10_000, 20
STREAMS = 10


@dataclass(slots=True, kw_only=True)
class Round:
    """What one server did in one round."""

    per_s: float
    first_ms: list[float] = field(default_factory=list)
    later_ms: list[float] = field(default_factory=list)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=10, help="of the plain requests beside the open streams")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    processes.adopt_orphans()
    described = machine.describe()
    figures = compared(_rounds(options.rounds))
    beside = partial(open_streams.beside_plain_requests, options.seconds)
    for part in (beside, vanishing.readers, vanishing.talkers):
        options.output.write_text(page(figures, described, options.rounds), encoding="utf-8")
        figures += asyncio.run(part())
    options.output.write_text(page(figures, described, options.rounds), encoding="utf-8")
    print(options.output.read_text(encoding="utf-8"))
    return int(any(figure.reached is False for figure in figures))


# --- beside uvicorn


def _rounds(count: int) -> list[dict[str, Round]]:
    with contextlib.ExitStack() as stack:
        servers = {}
        for kind in random.sample(KINDS, len(KINDS)):
            server = stack.enter_context(Server(start_of(kind)))
            server.wait_for_answer(asked(kind="burst", chunks=1), "application/json")
            asyncio.run(_round(server))  # warms up
            servers[kind] = server
        rounds = []
        for number in range(count):
            order = random.sample(KINDS, len(KINDS))
            rounds.append({kind: asyncio.run(_round(servers[kind])) for kind in order})
            print(f"round {number + 1} of {count}", file=sys.stderr)
        return rounds


async def _round(server: Server) -> Round:
    """Bursts one after the other, then ten paced streams at a time."""
    port, path = server.start.port, server.start.path
    rates = []
    for _ in range(3):
        rates.append(_rate(await whole(port, path, asked(kind="burst", chunks=CHUNKS))))
    result = Round(per_s=statistics.median(rates))

    async def client() -> None:
        await asyncio.sleep(random.random() * 0.02)  # streams that begin together would queue for the same moment
        for _ in range(5):
            reader = await whole(port, path, asked(kind="paced", chunks=10, pause_s=0.02))
            taken_ms = _taken_ms(reader)
            result.first_ms.append(taken_ms[0])
            result.later_ms += taken_ms[1:]

    await asyncio.gather(*(client() for _ in range(STREAMS)))
    return result


def _rate(reader: Reader) -> float:
    """Chunks of the generator in a second, from the request to the last byte. The server may have joined them."""
    if (size := sum(len(chunk.data) for chunk in reader.chunks())) != CHUNKS * CHUNK_BYTES:
        raise Broken(f"{size} bytes instead of {CHUNKS * CHUNK_BYTES}")
    return CHUNKS / ((reader.pieces[-1][0] - reader.asked_ns) / 1e9)


def _taken_ms(reader: Reader) -> list[float]:
    """For each chunk, the time from just before it was yielded to its arrival."""
    return [
        (chunk.arrived_ns - int(stamp)) / 1e6 for chunk in reader.chunks() for stamp in chunk.data.decode().splitlines()
    ]


def compared(rounds: Sequence[Mapping[str, Round]]) -> list[Figure]:
    """Rates as ratios within a round, latencies over all rounds."""
    figures = []
    for kind in KINDS:
        ratios = [each[kind].per_s / each[KINDS[0]].per_s for each in rounds]
        low, ratio, high = statistics.quantiles(ratios, n=4)
        ours = kind == "tidegate"
        figures.append(
            Figure(
                measure=f"{CHUNKS:,} chunks of {CHUNK_BYTES} bytes from one generator: {kind}",
                goal="≥ 0.8 x uvicorn" if ours else "",
                found=f"{statistics.median(each[kind].per_s for each in rounds):,.0f} a second, {ratio:.2f} x "
                f"({low:.2f} to {high:.2f})",
                reached=ratio >= 0.8 if ours else None,
            )
        )
    for kind in KINDS:
        first = sorted(latency for each in rounds for latency in each[kind].first_ms)
        later = sorted(latency for each in rounds for latency in each[kind].later_ms)
        p99 = load.percentile(first, 99)
        ours = kind == "tidegate"
        figures.append(
            Figure(
                measure=f"{STREAMS} streams, first chunk, yielded to the client's socket: {kind}",
                goal="p99 ≤ 5 ms" if ours else "",
                found=f"p50 {load.percentile(first, 50):.2f} ms, p99 {p99:.2f} ms of {len(first)}; later chunks "
                f"p50 {load.percentile(later, 50):.2f} ms, p99 {load.percentile(later, 99):.2f} ms",
                reached=p99 <= 5 if ours else None,
            )
        )
    return figures


# --- the page


def page(figures: Sequence[Figure], described: Mapping[str, str], rounds: int) -> str:
    """The page benchmarks/results/streaming.md."""
    verdicts = {None: "", True: "reached", False: "**missed**"}
    rows = [f"| {each.measure} | {each.goal} | {each.found} | {verdicts[each.reached]} |" for each in figures]
    told = ", ".join(f"{name}: {value}" for name, value in described.items() if name != "Java")
    return "\n".join(
        [
            "# Streams",
            "",
            f"Made by `python -m benchmarks.streaming`: {rounds} rounds, medians of the ratios, their middle half.  ",
            told,
            "",
            "| measure | goal | found | verdict |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
