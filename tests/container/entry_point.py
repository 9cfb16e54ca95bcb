"""The real entry point of a training job in a process, without docker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from container.engine import ROOT

TRAIN = "import os, sys; from container.entrypoint import training; sys.exit(training.run(os.environ))"


def job(base_dir: Path, script: str, program: str = "train.py", **hyperparameters: object) -> Path:
    """Write a job of one script below `base_dir`, as the platform does; the line ends stay as they are."""
    (base_dir / "code").mkdir(parents=True)
    (base_dir / "code" / program).write_bytes(script.encode())
    (base_dir / "input/config").mkdir(parents=True, exist_ok=True)
    given = {name: json.dumps(value) for name, value in {"sagemaker_program": program, **hyperparameters}.items()}
    (base_dir / "input/config/hyperparameters.json").write_text(json.dumps(given))
    return base_dir


def start(
    base_dir: Path,
    *,
    before: Sequence[str] = (),
    program: str = TRAIN,
    new_session: bool = False,
    **environment: str,
) -> subprocess.Popen[str]:
    """Start the job of `base_dir`, without what a job of this machine's own may have told us; `before` its words."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAGEMAKER_", "SM_", "PET_"))}
    return subprocess.Popen(
        [*before, sys.executable, "-c", program],
        cwd=ROOT,
        env={**kept, **environment, "SAGEMAKER_BASE_DIR": str(base_dir)},
        start_new_session=new_session,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(base_dir: Path, *, timeout_s: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the job of `base_dir` to its end."""
    with start(base_dir, **environment) as process:
        output, errors = process.communicate(timeout=timeout_s)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
