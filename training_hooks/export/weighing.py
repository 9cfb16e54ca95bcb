"""How long a form takes to open and how much memory it needs, in a process of its own that holds nothing else."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .backends import open_form
from .candidates import CANDIDATES, EAGER
from .job import answered
from .look import enter, resident_bytes
from .structure import Flat


def main(arguments: list[str]) -> None:
    """Weigh the form of the job and write what came out of it."""
    answered(arguments, weigh)


def weigh(job: Mapping[str, Any]) -> dict[str, Any]:
    """Open the form as a server would, from its file alone, and let it answer once."""
    torch.set_num_threads(job["threads"])
    candidate = CANDIDATES[job["candidate"]]
    inputs = torch.load(job["inputs"], weights_only=True)
    before, started = resident_bytes(), time.perf_counter()
    network = None
    if candidate.kind == EAGER:
        call = enter(job)
        network = Flat(call.module, call.layout)
    with torch.inference_mode():
        opened = open_form(candidate, network, Path(job["file"]), threads=job["threads"], copied=False)
        load_s = time.perf_counter() - started
        opened(inputs)
    return {"load_s": round(load_s, 3), "memory_bytes": max(0, resident_bytes() - before)}
