"""The benchmark of `check` subtracts each round's own control, and runs what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.check import AGAIN, CHECK, TORCH, Cost, commands, measure, summary


def test_a_difference_is_the_median_of_the_rounds_own_differences() -> None:
    """A slow round slows its control too, and says nothing about the command."""
    rounds = [
        {TORCH: Cost(1.0, 1.0), AGAIN: Cost(1.1, 1.0), CHECK: Cost(1.5, 1.25)},
        {TORCH: Cost(9.0, 1.0), AGAIN: Cost(9.0, 1.0), CHECK: Cost(9.5, 1.25)},
        {TORCH: Cost(2.0, 1.0), AGAIN: Cost(1.9, 1.0), CHECK: Cost(8.0, 1.25)},
    ]
    lines = {line[:22].strip(): line[22:].split() for line in summary(rounds).splitlines()}
    assert lines[CHECK] == ["8.00", "1.25", "0.50", "0.25"]
    assert lines[AGAIN] == ["1.90", "1.00", "0.00", "0.00"]


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        measure([sys.executable, "-c", "raise SystemExit(1)"])
    cost = measure([sys.executable, "-c", "sum(range(10**6))"])
    assert cost.wall_s > 0
    assert cost.cpu_s > 0


def test_the_control_comes_twice() -> None:
    measured = commands(Path("model"))
    assert measured[TORCH] == measured[AGAIN]
    assert measured[CHECK][1:] == ["-m", "tidegate", "check", "model"]
