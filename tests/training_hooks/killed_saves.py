"""Kill save_model at every point where it forces something to disk, or at any moment, and report what each kill left.

    python killed_saves.py WORK_DIR OLD_FORM NEW_FORM [KILLS]

A form is `state_dict`, `safetensors`, or one of them with `+parts`. A child process is forked for every kill, so torch
is imported once. For each one JSON line is printed: what a verifying reader sees (`old`, `new`, or `mismatch`), and the
same after recovery, with the names present. With KILLS there are so many, at random moments.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tidegate.training_hooks import save_model
from tidegate.training_hooks.staging import exclusive, finish_interrupted_save

NAMES = ("a", "b", "c", "d")


def form(name: str) -> dict[str, Any]:
    kind, _, parts = name.partition("+")
    return {"format": kind, "max_shard_size": 8 if parts else None}  # two numbers in a file


def save_old(directory: Path, how: str) -> None:
    state = {name: torch.zeros(1) for name in NAMES}
    save_model(state, model_dir=directory, name="old", labels=["a", "b"], **form(how))


def save_new(directory: Path, how: str) -> None:
    state = {name: torch.ones(1) for name in NAMES}
    save_model(state, model_dir=directory, name="new", preprocessing={"mean": 1}, **form(how))


def weights_in(directory: Path, weights: dict[str, str]) -> dict[str, torch.Tensor]:
    """Read the weights by code that shares nothing with the code under test."""
    files = {weights["file"]}
    if weights["file"].endswith(".index.json"):
        weight_map = json.loads((directory / weights["file"]).read_bytes())["weight_map"]
        assert sorted(weight_map) == sorted(NAMES)
        files = set(weight_map.values())
    state: dict[str, torch.Tensor] = {}
    for name in files:
        is_safe = name.endswith(".safetensors")
        state |= load_file(directory / name) if is_safe else torch.load(directory / name, weights_only=True)
    return state


def seen_by_reader(directory: Path) -> str:
    """Verify like any reader: every listed file has the listed hash."""
    manifest = json.loads((directory / "manifest.json").read_bytes())
    for name, entry in manifest["files"].items():
        path = directory / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            return "mismatch"
    numbers = {name: tensor.item() for name, tensor in weights_in(directory, manifest["weights"]).items()}
    assert numbers == dict.fromkeys(NAMES, 0.0 if manifest["name"] == "old" else 1.0)
    return str(manifest["name"])


def die_at_fsync(point: int) -> None:
    """Kill this process, as the machine would, at the given fsync."""
    calls = 0
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == point:
            os.kill(os.getpid(), signal.SIGKILL)
        real_fsync(descriptor)

    os.fsync = fsync


def main(work_dir: Path, old: str, new: str, kills: int) -> None:
    torch.set_num_threads(1)  # a forked child must not need threads that exist only in the parent
    moments = random.Random(0)  # noqa: S311 - when to kill is no secret
    duration_s = 0.0
    for point in range(1, kills + 1 if kills else 1000):
        directory = work_dir / "model"
        shutil.rmtree(directory, ignore_errors=True)
        began = time.monotonic()
        save_old(directory, old)
        duration_s = max(duration_s, time.monotonic() - began)
        child = os.fork()
        if child == 0:
            if not kills:
                die_at_fsync(point)
            save_new(directory, new)
            os._exit(0)
        if kills:
            time.sleep(moments.uniform(0, duration_s))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status)
        report = {"killed": killed, "seen": seen_by_reader(directory)}
        with exclusive(directory):
            finish_interrupted_save(directory)
        report |= {
            "recovered": seen_by_reader(directory),
            "names": sorted(path.name for path in directory.iterdir()),
        }
        print(json.dumps(report), flush=True)
        if not killed:
            if os.waitstatus_to_exitcode(status):
                raise SystemExit("the save failed by itself")
            if not kills:
                return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 0)
