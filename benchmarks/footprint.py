"""How a server starts and what memory it takes, beside what no server can avoid."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from benchmarks.contestants import WEIGHTS, WORK
from benchmarks.environments import python_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Of one start with the ResNet."""

    label: str
    shape: str
    repetition: int
    health_s: float
    """From the start to the first 200 of the health path."""
    answer_s: float
    """From the start to the first answer."""
    rest_mib: float
    """PSS of the tree after the first answers of every worker, once nothing computes."""
    loaded_mib: float
    """The largest PSS of the tree after a cell."""
    processes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BareStart:
    """What a start takes without any server; the interpreter's own is not in it."""

    repetition: int
    import_and_load_s: float


def bare_start(repetition: int) -> BareStart:
    """Import torch and load the ResNet in a bare interpreter."""
    code = "import time; t = time.perf_counter(); import torch, work; work.load('W2'); print(time.perf_counter() - t)"
    environment = {"PYTHONPATH": str(WORK.parent), "BENCHMARK_WEIGHTS": str(WEIGHTS), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.check_output([str(python_of("base")), "-c", code], env=environment, text=True, timeout=60)
    return BareStart(repetition=repetition, import_and_load_s=float(done))
