"""`python -m benchmarks.model_loader`: what `get_prediction` costs beside the bare call of its generator.

The generator is the one of examples/paint with the weights that it is born with, the map 256 x 256 in eight colours.
"the bare generator" comes twice in each round: the ratio of the two is what noise alone makes. The order within a round
is random; a figure is the median over the calls of a round, and a ratio the median of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from tidegate.inference.images import data_uri, writing
from tidegate.model_loader import ModelLoader

SIDE = 256
COLOURS = ("#6699dd", "#eeeeee", "#777777", "#1f4d25", "#88bb44", "#265f90", "#e0c890", "#b0705a")
BARE, AGAIN, PREDICTION = "the bare generator", "the bare generator, again", "get_prediction"
CODE = Path(__file__).parents[1] / "examples" / "paint" / "code"
CONFIGURATION = f"""
paint:
  architecture: generator:Generator
  arguments: {{classes: {len(COLOURS)}, width: 16}}
  weights: model.pth
  palette: {{colours: [{", ".join(f'"{colour}"' for colour in COLOURS)}]}}
"""


def loaded(folder: Path) -> ModelLoader:
    """The generator of the example, seeded."""
    os.environ["MODEL_CODE_PATH"] = str(CODE)
    (folder / "runs.yaml").write_text(CONFIGURATION, encoding="utf-8")
    sys.path.append(str(CODE))
    from generator import Generator  # noqa: PLC0415 - the example's code is found from here

    torch.manual_seed(0)
    torch.save(Generator(classes=len(COLOURS), width=16).state_dict(), folder / "model.pth")
    return ModelLoader("paint", configurations=folder / "runs.yaml", device="cpu")


def drawn_map(loader: ModelLoader) -> str:
    """Areas around a few seeds each, as somebody draws them, as a data URI."""
    generator = np.random.default_rng(0)
    seeds = generator.integers(0, SIDE, (24, 2))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    nearest = ((rows[..., None] - seeds[:, 0]) ** 2 + (columns[..., None] - seeds[:, 1]) ** 2).argmin(-1)
    return data_uri.write(writing.image(loader.palette.paint(nearest % len(COLOURS))), "image/png")


class Cost(NamedTuple):
    """Of a call, in seconds: on the clock, and of all cores together."""

    wall_s: float
    cpu_s: float


def measure(call: Callable[[], object], calls: int) -> Cost:
    """The median of each."""
    walls: list[float] = []
    cpus: list[float] = []
    for _ in range(calls):
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        call()
        walls.append(time.perf_counter() - wall_s)
        cpus.append(time.process_time() - cpu_s)
    return Cost(statistics.median(walls), statistics.median(cpus))


def summary(rounds: Sequence[Mapping[str, Cost]]) -> str:
    """The medians, and the medians of the ratios within a round."""
    lines = []
    for kind in (BARE, AGAIN, PREDICTION):
        wall_ms, cpu_ms = (statistics.median(one[kind][what] * 1000 for one in rounds) for what in (0, 1))
        wall, cpu = (statistics.median(one[kind][what] / one[BARE][what] for one in rounds) for what in (0, 1))
        lines.append(f"{kind:<26} {wall_ms:8.2f} ms {wall:.3f} x   of CPU {cpu_ms:8.2f} ms {cpu:.3f} x")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model_loader", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=10, help="of each kind in a round")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        loader = loaded(Path(folder))
        uri = drawn_map(loader)
        labels = torch.from_numpy(loader.labels(loader.image_of(uri)).astype(np.int64)).unsqueeze(0)

        def bare() -> object:
            with torch.inference_mode():
                return loader.network(labels)

        kinds: dict[str, Callable[[], object]] = {
            BARE: bare,
            AGAIN: bare,
            PREDICTION: lambda: loader.get_prediction(uri),
        }
        rounds: list[dict[str, Cost]] = []
        for number in range(options.rounds + 1):
            found = {kind: measure(kinds[kind], options.calls) for kind in random.sample(list(kinds), len(kinds))}
            if number:  # the first one warms up
                rounds.append(found)
    print(f"{SIDE} x {SIDE}, {len(COLOURS)} classes, torch with {torch.get_num_threads()} threads")
    print(summary(rounds))


if __name__ == "__main__":
    main()
