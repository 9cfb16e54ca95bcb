"""`python -m benchmarks.no_op_cpu BEFORE AFTER`: what a no-op costs in two checkouts of this project.

A server of each checkout runs all the time, and one more of BEFORE: the ratio of the two is what noise alone makes.
Each round loads all three in random order; the figures are the CPU of the process that answers HTTP, and that of the
workers, divided by the answers. The servers are started anew several times, because no start is quite like another.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from benchmarks import bodies, load, processes
from benchmarks.contestants import Contestant, Shape, prepare
from benchmarks.processes import Server, free_ports

KINDS = ("before", "before, again", "after")


class Cost(NamedTuple):
    """CPU seconds for one answer."""

    frontend: float
    workers: float


class Failed(Exception):
    """A request was not answered with 200: the checkouts cannot be compared."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.no_op_cpu", description=__doc__)
    parser.add_argument("before", type=Path, help="a checkout, such as git worktree makes it")
    parser.add_argument("after", type=Path)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8, help="of each start")
    parser.add_argument("--seconds", type=int, default=1, help="of each measurement")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8, help="the largest")
    options = parser.parse_args()
    checkouts = {"before": options.before, "before, again": options.before, "after": options.after}
    processes.adopt_orphans()
    body = bodies.make()["W0"]
    rounds: list[dict[str, Cost]] = []
    for number in range(options.starts):
        with contextlib.ExitStack() as stack:
            servers = {}
            for kind in random.sample(KINDS, len(KINDS)):
                server = stack.enter_context(_server(kind, checkouts[kind].resolve(), Shape(batch=options.batch)))
                server.wait_for_answer(body.data, body.content_type)
                load.wrk(server.start.port, server.start.path, body, connections=options.connections, seconds=1)
                servers[kind] = server
            for _ in range(options.rounds):
                order = random.sample(KINDS, len(KINDS))
                rounds.append(
                    {
                        kind: _measure(servers[kind], body, connections=options.connections, seconds=options.seconds)
                        for kind in order
                    }
                )
        print(f"start {number + 1} of {options.starts}", file=sys.stderr)
    for kind in ("before", "after"):
        print(f"{kind}: {_revision(checkouts[kind])}")
    print(f"{len(rounds)} rounds, {options.connections} connections, batches of at most {options.batch}")
    for side in Cost._fields:
        print(f"{side}:")
        print(summary([{kind: getattr(cost, side) for kind, cost in each.items()} for each in rounds]))
    print("both:")
    print(summary([{kind: sum(cost) for kind, cost in each.items()} for each in rounds]))


def summary(rounds: Sequence[Mapping[str, float]]) -> str:
    """The medians; of the ratios within a round the median and the middle half; and the best quarter.

    Others on the machine only ever make a request dearer, so the best quarter is what they disturb least.
    """
    lines = []
    for kind in KINDS:
        ratios = [one[kind] / one[KINDS[0]] for one in rounds]
        low, middle, high = statistics.quantiles(ratios, n=4)
        best_us, each_us, _ = (value * 1e6 for value in statistics.quantiles([one[kind] for one in rounds], n=4))
        best_of_base_us = statistics.quantiles([one[KINDS[0]] for one in rounds], n=4)[0] * 1e6
        lines.append(
            f"{kind:<14} {each_us:7.1f} us of CPU a request   {middle:.3f} x   ({low:.3f} to {high:.3f})   "
            f"best quarter {best_us:.1f} us   {best_us / best_of_base_us:.3f} x"
        )
    return "\n".join(lines)


def _server(kind: str, checkout: Path, shape: Shape) -> Server:
    start = prepare(Contestant(label=kind, peer="tidegate", shape=shape), "W0", free_ports(3))
    # The server's module had a short name before there was one installed name.
    module = "tidegate.inference" if (checkout / "tidegate" / "inference").is_dir() else "inference"
    environment = {**start.environment, "PYTHONPATH": str(checkout)}
    return Server(replace(start, command=[start.command[0], "-m", module, "serve"], environment=environment))


def _measure(server: Server, body: bodies.Body, *, connections: int, seconds: int) -> Cost:
    """What one answer costs. Raises `Failed`."""
    before_s, others_before_s = server.first_process_cpu_s(), server.other_processes_cpu_s()
    result = load.wrk(server.start.port, server.start.path, body, connections=connections, seconds=seconds)
    used_s, others_used_s = server.first_process_cpu_s() - before_s, server.other_processes_cpu_s() - others_before_s
    if result.failed or not result.answered:
        raise Failed(f"{result.outcomes}: {server.last_words()}")
    return Cost(used_s / result.answered, others_used_s / result.answered)


def _revision(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or str(checkout)


if __name__ == "__main__":
    main()
