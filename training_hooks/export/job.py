"""What goes between `export` and the processes that it starts: one JSON file there, one back."""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_START = "import importlib, sys; sys.path.append(sys.argv[1]); importlib.import_module(sys.argv[2]).main(sys.argv[3:])"
_PACKAGE = __name__.rpartition(".")[0]
_ROOT = Path(__file__).absolute().parents[_PACKAGE.count(".") + 1]


class NotExported(Exception):
    """A form cannot be made or is not wanted; the text is one line that says why."""


def run(module: str, job: Mapping[str, Any], scratch: Path, *, threads: int, timeout_s: float) -> dict[str, Any]:
    """Run the `main` of a module of this package in a fresh process; return what it found.

    A fresh process, as the server will be one: nothing of the training script is loaded, the archive's code may claim
    the name `inference`, and what crashes (a package compiled for another processor) crashes alone.

    Raises:
        NotExported: the process says why it has no result, or died.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    job_file, outcome_file, log_file = (scratch / name for name in ("job.json", "outcome.json", "log.txt"))
    job_file.write_text(json.dumps(job), encoding="utf-8")
    # -P keeps this package's own directory off the path; -B keeps __pycache__ out of the artifact.
    command = [sys.executable, "-P", "-B", "-c", _START, str(_ROOT), f"{_PACKAGE}.{module}"]
    with log_file.open("wb") as log:
        try:
            done = subprocess.run(
                [*command, str(job_file), str(outcome_file)],
                check=False,
                timeout=timeout_s,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(threads, scratch),
            )
        except subprocess.TimeoutExpired:
            raise NotExported(f"it was not done within {timeout_s:g} s") from None
    if not outcome_file.exists():
        said = log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = f": {said[-1][:300]}" if said else ""
        raise NotExported(f"its process ended with status {done.returncode}{last}")
    outcome: dict[str, Any] = json.loads(outcome_file.read_bytes())
    if "error" in outcome:
        raise NotExported(outcome["error"])
    return outcome


def answered(arguments: list[str], work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Do the job of one file and write what came out of it, or why nothing did, into the other."""
    job_file, outcome_file = map(Path, arguments)
    try:
        outcome = work(json.loads(job_file.read_bytes()))
    except NotExported as problem:
        outcome = {"error": " ".join(str(problem).split())}
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        outcome = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    unfinished = outcome_file.with_suffix(".part")
    unfinished.write_text(json.dumps(outcome), encoding="utf-8")
    unfinished.replace(outcome_file)


def _environment(threads: int, scratch: Path) -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "PASSIVE",
        "TMPDIR": str(scratch),  # torch leaves what it unpacks
        # What is compiled here is gone with the scratch folder, and another run's cache decides nothing.
        "TORCHINDUCTOR_CACHE_DIR": str(scratch / "compiled"),
    }
