"""Kill the entering of a form at every point where it forces something to disk, and report what each kill left.

    python killed_exports.py WORK_DIR

A child process is forked for every point, so torch is imported once. For each point one JSON line is printed: what a
verifying reader sees (`old`, `new`, or `mismatch`), and the same after recovery.
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
from tidegate.training_hooks.export.entering import enter
from tidegate.training_hooks.manifest import read_manifest
from tidegate.training_hooks.staging import exclusive, finish_interrupted_save


def seen_by_reader(directory: Path) -> str:
    """Verify like any reader: every listed file has the listed hash."""
    manifest = json.loads((directory / "manifest.json").read_bytes())
    for name, entry in manifest["files"].items():
        path = directory / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
            return "mismatch"
    assert torch.load(directory / "model.pth", weights_only=True)["weight"].tolist() == [0.0, 0.0, 0.0]
    return "new" if "forms" in manifest else "old"


def enter_and_die_at(directory: Path, form: Path, point: int) -> None:
    """Enter a form and kill this process, as the machine would, at the given fsync."""
    calls = 0
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == point:
            os.kill(os.getpid(), signal.SIGKILL)
        real_fsync(descriptor)

    os.fsync = fsync
    enter(directory, read_manifest(directory), [{"name": "onnx"}], {"forms/onnx/model.onnx": form})


def main(work_dir: Path) -> None:
    torch.set_num_threads(1)  # a forked child must not need threads that exist only in the parent
    form = work_dir / "form"
    form.write_bytes(b"form")
    for point in range(1, 1000):
        directory = work_dir / "model"
        shutil.rmtree(directory, ignore_errors=True)
        save_model({"weight": torch.zeros(3)}, model_dir=directory, labels=["a", "b"])
        child = os.fork()
        if child == 0:
            enter_and_die_at(directory, form, point)
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
                raise SystemExit("the export failed by itself")
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
