"""`python -m benchmarks.allocator`: what keeping freed memory is worth to batches of a ResNet-18 on a CPU.

Each measurement is a process of its own, because the allocator cannot be set back. "as it is" comes twice in each
round: the ratio of the two is what noise alone makes. The order within a round is random.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

import torch

from benchmarks import work
from tidegate.inference.worker.allocator import keep_freed_memory

BATCH = 8
KINDS = ("as it is", "as it is, again", "kept")


def measure(kind: str, seconds: float) -> float:
    """CPU seconds an image in this process: `seconds` of float32 batches of shape (BATCH, 3, 224, 224)."""
    if kind == "kept" and not keep_freed_memory():
        raise SystemExit("this C library's allocator has nothing to set, or a variable sets it already")
    torch.set_num_threads(1)
    model = work.resnet18().eval()
    images = torch.randn(BATCH, 3, 224, 224)
    with torch.inference_mode():
        for _ in range(3):
            model(images)
        batches, used_s, end_s = 0, time.process_time(), time.monotonic() + seconds
        while time.monotonic() < end_s:
            model(images)
            batches += 1
    return (time.process_time() - used_s) / (batches * BATCH)


def summary(rounds: Sequence[Mapping[str, float]]) -> str:
    """The medians, and the medians of the ratios within a round."""
    base = KINDS[0]
    lines = []
    for kind in KINDS:
        each_ms = statistics.median(one[kind] * 1000 for one in rounds)
        ratio = statistics.median(one[kind] / one[base] for one in rounds)
        lines.append(f"{kind:<16} {each_ms:7.2f} ms of CPU an image   {ratio:.3f} x")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.allocator", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--measure", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.measure, options.seconds))
        return
    rounds: list[dict[str, float]] = []
    for number in range(options.rounds):
        found: dict[str, float] = {}
        for kind in random.sample(KINDS, len(KINDS)):
            command = [
                sys.executable,
                "-m",
                "benchmarks.allocator",
                "--measure",
                kind,
                "--seconds",
                str(options.seconds),
            ]
            done = subprocess.run(command, env=os.environ, check=True, stdout=subprocess.PIPE, text=True)
            found[kind] = float(done.stdout)
        rounds.append(found)
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    print(summary(rounds))


if __name__ == "__main__":
    main()
