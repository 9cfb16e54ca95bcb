"""Kill save_model at every point where it forces something to disk, and report what each kill left behind.

    python killed_saves.py WORK_DIR

A child process is forked for every point, so torch is imported once. For each point one JSON line is printed:
the names present, what a verifying reader sees (`old`, `new`, or `mismatch`), and the same after recovery.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch

from tidegate.training_hooks import save_model
from tidegate.training_hooks.staging import exclusive, finish_interrupted_save


def save_old(directory: Path) -> None:
    save_model({"weight": torch.zeros(3)}, model_dir=directory, name="old", labels=["a", "b"])


def save_new(directory: Path) -> None:
    save_model({"weight": torch.ones(3)}, model_dir=directory, name="new", preprocessing={"mean": 1})


def seen_by_reader(directory: Path) -> str:
    """Verify like any reader: every listed file has the listed hash."""
    manifest = json.loads((directory / "manifest.json").read_bytes())
    for name, entry in manifest["files"].items():
        path = directory / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            return "mismatch"
    weight = torch.load(directory / "model.pth", weights_only=True)["weight"]
    assert weight.tolist() == [0.0, 0.0, 0.0] if manifest["name"] == "old" else [1.0, 1.0, 1.0]
    return str(manifest["name"])


def save_and_die_at(directory: Path, point: int) -> None:
    """Run save_new in this process and kill it, as the machine would, at the given fsync."""
    calls = 0
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == point:
            os.kill(os.getpid(), signal.SIGKILL)
        real_fsync(descriptor)

    os.fsync = fsync
    save_new(directory)


def main(work_dir: Path) -> None:
    torch.set_num_threads(1)  # a forked child must not need threads that exist only in the parent
    for point in range(1, 1000):
        directory = work_dir / "model"
        shutil.rmtree(directory, ignore_errors=True)
        save_old(directory)
        child = os.fork()
        if child == 0:
            save_and_die_at(directory, point)
            os._exit(0)
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
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
