"""The training of examples/stories as a process, as SageMaker runs it."""

import os
import subprocess
import sys
from pathlib import Path

STORIES = Path(__file__).parents[2] / "examples" / "stories"
CODE_DIR = STORIES / "code"


def train(work_dir: Path, *arguments: str) -> Path:
    """Train below `work_dir`; return the model directory."""
    model_dir = work_dir / "model"
    done = subprocess.run(
        [sys.executable, str(STORIES / "train.py"), *arguments],
        env=os.environ | {"SM_MODEL_DIR": str(model_dir), "SM_OUTPUT_DIR": str(work_dir / "output")},
        cwd=work_dir,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("epoch=")], done.stdout
    return model_dir
