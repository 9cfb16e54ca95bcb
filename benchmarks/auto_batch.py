"""`python -m benchmarks.auto_batch`: a batch size that finds itself beside sizes that are set by hand.

Real servers (2 workers of one thread, 32 connections in a closed loop) of one script, whose call costs the same for any
number of requests (fixed), as much as they do one by one (linear), the same up to 15 and then far more (cliff), or what
the MLP 256-1024-1024-10 takes; the first three sleep, so that a machine of few cores can be measured. Every server has
its load for a second before it is measured, and `auto` for `--search`, in which it finds its size. Within a round all
servers of a cost come in random order, and a ratio is one to the size 1 of the same round; size 8 comes twice, as the
control.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import numpy as np

from benchmarks import load as loads
from benchmarks import machine
from benchmarks.archives import serving, written
from benchmarks.bodies import Body
from benchmarks.contestants import Start
from benchmarks.processes import Server, adopt_orphans

COSTS = ("fixed", "linear", "cliff", "mlp")
ONE, EIGHT, AGAIN, MANY, AUTO = "1", "8", "8, again", "32", "auto"
SIZES = (ONE, EIGHT, AGAIN, MANY, AUTO)
CONNECTIONS = 32
UNUSED = frozenset({"Java", "load"})
"""What the description of the machine has and nothing here uses: the load is our own driver's."""
RESULTS = Path(__file__).parent / "results" / "auto_batch.md"
SCRIPT = """
import os
import time

import numpy as np
import torch

COST = os.environ["AUTO_BATCH_COST"]
SECONDS = {
    "fixed": lambda n: 0.01,
    "linear": lambda n: 0.002 * n,
    "cliff": lambda n: 0.01 if n < 16 else 0.01 * n,
}

def model_fn(model_dir):
    layer = torch.nn.Linear
    return torch.nn.Sequential(layer(256, 1024), torch.nn.ReLU(), layer(1024, 1024), torch.nn.ReLU(), layer(1024, 10))

def input_fn(body, content_type):
    return torch.from_numpy(np.frombuffer(bytes(body), np.float32).reshape(1, 256))

def predict_fn(data, model):
    if COST in SECONDS:
        time.sleep(SECONDS[COST](len(data)))
        return data[:, :10]
    with torch.inference_mode():
        return model(data)

def output_fn(prediction, accept):
    return prediction.numpy().tobytes(), "application/octet-stream"
"""


class Measured(NamedTuple):
    """What one server did under load, and the size that it had in the end."""

    per_s: float
    p99_ms: float
    size: int


def archive(folder: Path) -> Path:
    """The script, in an archive that declares joining."""
    model = folder / "model"
    (model / "code").mkdir(parents=True)
    (model / "code" / "inference.py").write_text(SCRIPT, encoding="utf-8")
    manifest = {"format_version": 1, "files": {}, "batching": True}
    (model / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return model


def start(base_dir: Path, model: Path, cost: str, size: str) -> Start:
    """A server of the archive with batches of `size`."""
    settings = {
        "AUTO_BATCH_COST": cost,
        "TIDEGATE_WORKERS": "2",
        "TIDEGATE_THREADS_PER_WORKER": "1",
        "TIDEGATE_MAX_BATCH_SIZE": size.partition(",")[0],
    }
    return serving(base_dir, model, **settings)


def measure(starting: Start, body: Body, *, search_s: float, seconds: float) -> Measured:
    """Start, load for `search_s`, then measure."""
    with Server(starting) as server:
        server.wait_for_answer(body.data, body.content_type)
        for length_s in (search_s, seconds):
            driven = loads.closed_loop(
                starting.port, starting.path, lambda _: body, connections=CONNECTIONS, seconds=length_s
            )
            result = asyncio.run(driven)
        if result.failed:
            raise SystemExit(f"{result.failed} requests failed: {result.outcomes}")
        with urlopen(f"http://{loads.HOST}:{starting.port}/models/model") as answer:
            told = json.load(answer)
    size = told.get("batching", {}).get("max_batch_size", 0)
    return Measured(result.good_per_s, result.p99_ms, size)


def rows(cost: str, rounds: Sequence[Mapping[str, Measured]]) -> list[str]:
    """Of the table, one for each size: medians over the rounds of the ratios within each."""
    lines = []
    for size in SIZES:
        faster = statistics.median(each[size].per_s / each[ONE].per_s for each in rounds)
        later = statistics.median(each[size].p99_ms / each[ONE].p99_ms for each in rounds)
        per_s = statistics.median(each[size].per_s for each in rounds)
        found = ", ".join(str(each[size].size) for each in rounds) if size == AUTO else ""
        lines.append(f"| {cost} | {size} | {found} | {per_s:.0f} | {faster:.2f} | {later:.2f} |")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Print the table and write it where the results are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.auto_batch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--search", type=float, default=30.0, help="seconds of load before a server is measured")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--costs", default=",".join(COSTS))
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    adopt_orphans()
    told = "; ".join(f"{name}: {value}" for name, value in machine.describe().items() if name not in UNUSED)
    costs = [cost for cost in COSTS if cost in options.costs.split(",")]
    rounds: dict[str, list[dict[str, Measured]]] = {cost: [] for cost in costs}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model = archive(root)
        values = np.random.default_rng(0).standard_normal(256, dtype=np.float32)
        body = written(root, values.tobytes(), "application/octet-stream")
        for number in range(1, options.rounds + 1):
            for cost in costs:
                rounds[cost].append({})
                for size in random.sample(SIZES, len(SIZES)):
                    base_dir = root / f"{cost}-{number}-{SIZES.index(size)}"
                    starting = start(base_dir, model, cost, size)
                    # What is set by hand needs no search, only to be warm.
                    search_s = options.search if size == AUTO else min(options.search, 1.0)
                    rounds[cost][-1][size] = measure(starting, body, search_s=search_s, seconds=options.seconds)
            print(f"round {number} of {options.rounds}", file=sys.stderr, flush=True)
            # What is there is kept, if the next round is broken off.
            text = report(rounds, told, search_s=options.search, seconds=options.seconds)
            options.output.write_text(text, encoding="utf-8")
    print(text)
    return 0


def report(
    rounds: Mapping[str, Sequence[Mapping[str, Measured]]], told: str, *, search_s: float, seconds: float
) -> str:
    """The page: of each cost, all its rounds; `told` is what is said of the machine."""
    lines = [
        "# A batch size that finds itself",
        "",
        f"`python -m benchmarks.auto_batch --costs {','.join(rounds)}`, rounds: {len(next(iter(rounds.values())))}; "
        f"`auto` has {search_s:g} s of load before it is measured for {seconds:g} s. {told}.",
        "",
        "| cost of a call | size | found | requests/s | to size 1 | p99 to size 1 |",
        "| --- | --- | --- | --- | --- | --- |",
        *(row for cost, measured in rounds.items() for row in rows(cost, measured)),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
