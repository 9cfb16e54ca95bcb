"""`python -m benchmarks.formats`: one network as an archive of each format, each served by the real server.

A small and a larger network of work.py with random weights, as a state dict (.pth), safetensors, TorchScript, ONNX, a
program of torch.export and a package of AOTInductor (where there is a C++ compiler). Each archive holds its own file
and no other, so it is the format that is measured. ONNX and AOTInductor are the files that `export` writes.

In each round the archives come in random order, and each is alone on the machine: `check` tells how long its load
takes; then a server with one worker and one torch thread is asked by one client, and by eight with batches of up to
eight. The .pth archive comes twice, and the ratio of the two is what noise makes. Ratios are those within a round;
a figure is the median over the rounds. The difference is the largest of an answer's numbers to eager torch, over
records that were sent one at a time, eight in a request, and eight requests at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch

from benchmarks import load as loads
from benchmarks import machine
from benchmarks.archives import (
    AGAIN,
    FORMATS,
    NETWORKS,
    NPY,
    PTH,
    TOGETHER,
    Archives,
    Sample,
    as_npy,
    foreign_environment,
    of_every_format,
    serving,
)
from benchmarks.bodies import Body
from benchmarks.processes import Server, watch_cpu

RESULTS = Path(__file__).parent / "results" / "formats.md"
ONE_THREAD = {"TIDEGATE_THREADS_PER_WORKER": "1"}


class Figures(NamedTuple):
    """Of one archive in one round. Memory is the proportional set size of the worker, and of all processes."""

    load_s: float
    p50_ms: float
    per_s: float
    cpu_ms: float
    worker_mib: float
    all_mib: float
    difference: float


# --- what is measured


def measure(model_dir: Path, base_dir: Path, sample: Sample, seconds: int) -> Figures:
    """Load, serve and ask an archive. Raises `SystemExit` for any answer that is not 200."""
    load_s = loaded_in(model_dir)
    start = serving(base_dir, model_dir, **ONE_THREAD)
    body = sample.body
    with Server(start) as server:
        server.wait_for_answer(body.data, body.content_type)
        difference = largest_difference(start.port, sample)
        answered(start.port, body, TOGETHER, 1)
        one = answered(start.port, body, 1, seconds)
        with watch_cpu(server) as usage:
            many = answered(start.port, body, TOGETHER, seconds)
        if one.failed or many.failed:
            raise SystemExit(f"{model_dir.name}: {one.outcomes} {many.outcomes}")
        return Figures(
            load_s=load_s,
            p50_ms=one.p50_ms,
            per_s=many.good_per_s,
            cpu_ms=usage.server_cpu_s / many.answered * 1e3,
            worker_mib=worker_mib(server),
            all_mib=server.pss_mib()[0],
            difference=difference,
        )


def answered(port: int, body: Body, connections: int, seconds: int) -> loads.Result:
    """A closed loop that waits for the last answer: on a busy machine a batch may take longer than `seconds`."""
    return asyncio.run(
        loads.closed_loop(port, "/invocations", lambda _: body, connections=connections, seconds=seconds)
    )


def loaded_in(model_dir: Path) -> float:
    """Seconds from a process that has torch to a model that has answered the example, as the server tells them."""
    trust = {"TIDEGATE_TRUST_COMPILED_MODEL": "on", **ONE_THREAD}
    command = [sys.executable, "-m", "tidegate", "check", str(model_dir), "--json"]
    done = subprocess.run(command, env=foreign_environment() | trust, stdout=subprocess.PIPE, text=True, check=False)
    report = json.loads(done.stdout)
    if not report["ok"]:
        raise SystemExit(f"{model_dir.name}: {report['error']}")
    return float(report["load"]["load_s"])


def worker_mib(server: Server) -> float:
    """Memory of the process that has the model: the child of the fork server."""
    workers = [each for each in server.tree() if psutil.Process(each.ppid()).ppid() == server.pid]
    return float(sum(each.memory_full_info().pss for each in workers) / 2**20)


def largest_difference(port: int, sample: Sample) -> float:
    """Of the server's answers to eager torch's."""
    parts = sample.records.split(1)
    with ThreadPoolExecutor(TOGETHER) as clients:
        at_once = list(clients.map(lambda part: ask(port, part), parts))
    one_by_one, together = ([ask(port, part) for part in each] for each in (parts, sample.records.split(TOGETHER)))
    found = [torch.cat(each) for each in (at_once, one_by_one, together)]
    return max(float((each - sample.expected).abs().max()) for each in found)


def ask(port: int, records: torch.Tensor) -> torch.Tensor:
    """The answer to records, as a tensor. Raises `SystemExit` where it is none."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/invocations", as_npy(records), {"Content-Type": NPY})
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise SystemExit(answer.decode(errors="replace"))
    return torch.from_numpy(np.load(BytesIO(answer), allow_pickle=False))


# --- what is told


HEAD = """\
| format | load, s | p50 at 1, ms | to .pth | answers/s at 8 | to .pth | CPU of an answer, ms | to .pth | worker, MiB \
| all processes, MiB | largest difference |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def table(rounds: Sequence[Mapping[str, Figures]]) -> str:
    """A line for each format: medians, and ratios to the .pth archive of the same round."""
    return "\n".join([HEAD, *(line(name, rounds) for name in FORMATS if name in rounds[0])])


def line(name: str, rounds: Sequence[Mapping[str, Figures]]) -> str:
    """The line of one format."""

    def median(field: str) -> float:
        return statistics.median(getattr(each[name], field) for each in rounds)

    def ratio(field: str) -> str:
        ratios = sorted(getattr(each[name], field) / getattr(each[PTH], field) for each in rounds)
        return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"

    cells = [
        name,
        f"{median('load_s'):.2f}",
        f"{median('p50_ms'):.2f}",
        ratio("p50_ms"),
        f"{median('per_s'):.1f}",
        ratio("per_s"),
        f"{median('cpu_ms'):.2f}",
        ratio("cpu_ms"),
        f"{median('worker_mib'):.0f}",
        f"{median('all_mib'):.0f}",
        f"{max(each[name].difference for each in rounds):.1e}",
    ]
    return f"| {' | '.join(cells)} |"


def page(
    command: str, options: argparse.Namespace, described: Mapping[str, str], done: int, parts: Sequence[str]
) -> str:
    """The whole page of results that `command` gave, after `done` rounds."""
    ended = " ".join(f"{each:.2f}" for each in os.getloadavg())
    told = "; ".join(f"{name}: {value}" for name, value in described.items())
    return f"""\
# One network in every format

`{command}`: {done} of {options.rounds} rounds of {options.seconds} s in random order, one server at a time \
with one worker and one torch thread, batches of at most eight, random weights of float32. {told}; \
load average at the end: {ended}.

* **load** is from a process that has imported torch to a model that has answered the archive's example.
* **to .pth** is the ratio to the .pth archive within a round: its median, and from where to where it went.
  `{AGAIN}` is the same archive once more: as far as its ratios are off 1, a difference says nothing.
* **memory** is the proportional set size after the load: the worker has its share of what it and the fork server have
  in common, torch itself above all.
* **largest difference** is to eager torch, of answers that were asked for one at a time, eight in a request, and by
  eight clients at once.

{chr(10).join(parts)}"""


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the tables, and write them where the results are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.formats", description=__doc__)
    parser.add_argument("--models", default=",".join(NETWORKS), help="default: %(default)s")
    parser.add_argument("--formats", default=",".join(FORMATS), help="beside .pth and its control; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    command = shlex.join([*parser.prog.split(), *(sys.argv[1:] if arguments is None else arguments)])
    formats = list(dict.fromkeys([PTH, AGAIN, *options.formats.split(",")]))
    if unknown := [*(set(formats) - set(FORMATS)), *(set(options.models.split(",")) - set(NETWORKS))]:
        parser.error(f"{', '.join(unknown)}: there are {', '.join(FORMATS)} of {', '.join(NETWORKS)}")
    described = {name: value for name, value in machine.describe().items() if name not in ("load", "Java", "revision")}
    with tempfile.TemporaryDirectory(prefix="formats-") as scratch:
        folder = Path(scratch)
        made = {name: of_every_format(folder / name, NETWORKS[name], formats) for name in options.models.split(",")}
        rounds: dict[str, list[dict[str, Figures]]] = {name: [] for name in made}
        for number in range(options.rounds):
            for name, archives in made.items():
                rounds[name].append(one_round(archives, folder / f"{name}-{number}", options))
            # After each round, so that one who stops it has what was measured until then.
            parts = [part(name, rounds[name], archives.missing) for name, archives in made.items()]
            text = page(command, options, described, number + 1, parts)
            options.output.write_text(text, encoding="utf-8")
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    print(text)


def part(model: str, rounds: Sequence[Mapping[str, Figures]], missing: Sequence[str]) -> str:
    """What there is of one network."""
    return "\n".join([f"## {model}", "", table(rounds), "", *(f"{sentence}." for sentence in missing)])


def one_round(archives: Archives, folder: Path, options: argparse.Namespace) -> dict[str, Figures]:
    """Each archive, in random order."""
    order = random.sample(list(archives.model_dirs), len(archives.model_dirs))
    return {
        name: measure(archives.model_dirs[name], folder / name.strip("."), archives.sample, options.seconds)
        for name in order
    }


if __name__ == "__main__":
    main()
