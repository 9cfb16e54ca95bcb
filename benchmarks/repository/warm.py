"""What a loaded model of a repository costs a request, beside a server that has that one model and no repository."""

from __future__ import annotations

import contextlib
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load
from benchmarks.bodies import Body
from benchmarks.open_streams import Figure
from benchmarks.processes import Server
from benchmarks.repository.models import fill, mark_of, model_dir
from benchmarks.repository.server import place, serving, start_of

CONNECTIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A server, and how its model is asked for."""

    server: Server
    attributes: str = ""
    path: str = "/invocations"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one load of one server gave."""

    per_s: float
    frontend_us: float
    """CPU of the process that answers HTTP, a request."""
    failed: int


def run(*, quick: bool) -> list[Figure]:
    """A single-model server, the same again as the control, and a repository's model in three ways."""
    folder = place("warm")
    known = fill(folder / "repository", 10)
    name = known[0]
    fill(folder / "one", 1)
    with contextlib.ExitStack() as stack:
        single = [_single(stack, folder / each, name) for each in ("single", "again")]
        several = stack.enter_context(serving(start_of(_made(folder / "several"), folder / "repository")))
        one = stack.enter_context(serving(start_of(_made(folder / "only"), folder / "one")))
        ways = {
            "a single-model server": Way(server=single[0]),
            "the same again: the control": Way(server=single[1]),
            "a repository of ten, by header": Way(server=several, attributes=f"model={name}"),
            "a repository of ten, by path": Way(server=several, path=f"/models/{name}/versions/1/invoke"),
            "a repository of one, without a name": Way(server=one),
        }
        rounds = measured(ways, body(folder), count=3 if quick else 10, seconds=1 if quick else 2)
    return figures(rounds, list(ways), goal=0.95)


def body(folder: Path) -> Body:
    """What is asked."""
    file = folder / "body.json"
    file.write_bytes(b'{"at": 1}')
    return Body(data=file.read_bytes(), content_type="application/json", file=file)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _single(stack: contextlib.ExitStack, folder: Path, name: str) -> Server:
    model_dir(_made(folder) / "model", mark_of(name, 1))
    return stack.enter_context(serving(start_of(folder, None)))


def measured(ways: Mapping[str, Way], asked: Body, *, count: int, seconds: int) -> list[dict[str, Block]]:
    """Rounds of all of them in random order, after one that warms up."""
    rounds = []
    for _ in range(count + 1):
        order = random.sample(list(ways), len(ways))
        rounds.append({each: _block(ways[each], asked, seconds) for each in order})
    return rounds[1:]


def _block(way: Way, asked: Body, seconds: int) -> Block:
    before_s = way.server.first_process_cpu_s()
    result = load.wrk(
        way.server.start.port, way.path, asked, connections=CONNECTIONS, seconds=seconds, attributes=way.attributes
    )
    used_s = way.server.first_process_cpu_s() - before_s
    failed = result.failed + result.outcomes.get("lost", 0)
    return Block(per_s=result.good_per_s, frontend_us=used_s / max(result.answered, 1) * 1e6, failed=failed)


def figures(rounds: Sequence[Mapping[str, Block]], ways: Sequence[str], *, goal: float) -> list[Figure]:
    """Each way over the first, as ratios within a round; the second is the control, the goal is for the others."""
    first = ways[0]
    found = []
    for way in ways:
        ratio = [each[way].per_s / each[first].per_s for each in rounds]
        cpu_us = statistics.median(each[way].frontend_us for each in rounds)
        cpu = [each[way].frontend_us / each[first].frontend_us for each in rounds]
        failed = sum(each[way].failed for each in rounds)
        judged = way not in ways[:2]
        found.append(
            Figure(
                measure=f"warm, {CONNECTIONS} connections: {way}",
                goal=f"≥ {goal:g} x, 0 failed" if judged else "",
                found=f"{statistics.median(each[way].per_s for each in rounds):,.0f} a second, "
                f"{_middle(ratio)}; the frontend's CPU {cpu_us:.1f} µs a request, {_middle(cpu)}; {failed} failed, "
                f"{len(rounds)} rounds",
                reached=statistics.median(ratio) >= goal and not failed if judged else None,
            )
        )
    return found


def _middle(ratios: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} x ({low:.2f} to {high:.2f})"
