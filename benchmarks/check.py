"""`python -m benchmarks.check`: how long `check` of the digits archive takes beyond the import of torch.

The control is an interpreter that imports torch and ends, which comes twice in each round: the difference of the two is
what noise alone makes. The order within a round is random; a figure is the median over the rounds, and so is a
difference, of the rounds' own differences. CPU is that of all processes of a command together.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

TORCH, AGAIN, CHECK = "import torch", "import torch, again", "check"
GOAL_S = 3.0
TRAINING = Path(__file__).parents[1] / "examples" / "digits" / "train.py"


class Cost(NamedTuple):
    """Of a command, in seconds: on the clock, and of all cores together."""

    wall_s: float
    cpu_s: float


def archive(folder: Path) -> Path:
    """The digits archive, trained for one epoch."""
    directory = folder / "model"
    command = [sys.executable, str(TRAINING), "--epochs", "1", "--model-dir", str(directory)]
    subprocess.run([*command, "--output-data-dir", str(folder / "data")], check=True, capture_output=True)
    return directory


def commands(model_dir: Path) -> dict[str, list[str]]:
    """What is measured."""
    torch = [sys.executable, "-c", "import torch"]
    return {TORCH: torch, AGAIN: torch, CHECK: [sys.executable, "-m", "tidegate", "check", str(model_dir)]}


def measure(command: Sequence[str]) -> Cost:
    """Run a command to its end. Raises `CalledProcessError` where it fails."""
    before, started_s = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    cpu_s = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(time.perf_counter() - started_s, cpu_s)


def summary(rounds: Sequence[Mapping[str, Cost]]) -> str:
    """The medians, and what each takes beyond the control."""
    lines = [f"{'':<22}{'seconds':>10}{'CPU':>10}{'beyond':>10}{'CPU':>10}"]
    for name in rounds[0]:
        wall_s, cpu_s = (statistics.median(each[name][at] for each in rounds) for at in (0, 1))
        beyond = [statistics.median(each[name][at] - each[TORCH][at] for each in rounds) for at in (0, 1)]
        lines.append(f"{name:<22}{wall_s:>10.2f}{cpu_s:>10.2f}{beyond[0]:>10.2f}{beyond[1]:>10.2f}")
    lines.append(f"goal: {CHECK} takes {GOAL_S:g} s beyond {TORCH} at most")
    return "\n".join(lines)


def main() -> int:
    """Measure and print; returns 1 where the goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.check", description="What 'tidegate check' takes.")
    parser.add_argument("--rounds", type=int, default=9)
    rounds: list[dict[str, Cost]] = []
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measured = commands(archive(Path(folder)))
        for command in measured.values():
            measure(command)
        for _ in range(options.rounds):
            order = random.sample(list(measured), len(measured))
            costs = {name: measure(measured[name]) for name in order}
            rounds.append({name: costs[name] for name in measured})
    print(summary(rounds))
    beyond_s = statistics.median(each[CHECK].wall_s - each[TORCH].wall_s for each in rounds)
    return 0 if beyond_s <= GOAL_S else 1


if __name__ == "__main__":
    sys.exit(main())
