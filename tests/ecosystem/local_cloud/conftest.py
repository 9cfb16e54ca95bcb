"""One run of each version of the SDK against a local cloud of its own; the tests read what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.ecosystem.environments import REPOSITORY, python_of
from tidegate.local_cloud import LocalCloud

LIMIT_S = 600
HERE = Path(__file__).parent

SCRIPT = """
import torch

def model_fn(model_dir):
    return torch.load(f"{model_dir}/model.pth")

def predict_fn(data, factor):
    return torch.as_tensor(data, dtype=torch.float32) * factor
"""

TRAINING = """
import argparse, os, pathlib

parser = argparse.ArgumentParser()
parser.add_argument("--factor", type=float)
factor = parser.parse_args().factor
rows = pathlib.Path(os.environ["SM_CHANNEL_TRAIN"], "rows.csv").read_text().split()
print(f"rows={len(rows)}; product={factor * len(rows)}", flush=True)
pathlib.Path(os.environ["SM_MODEL_DIR"], "factor").write_text(str(factor * len(rows)))
"""

PROCESSING = """
import os, pathlib, sys

# The directory that plays /opt/ml, also where the kernel gives a process none of its own.
pathlib.Path(os.environ["SAGEMAKER_BASE_DIR"], "processing/out/words").write_text(" ".join(sys.argv[1:]))
print("processing", flush=True)
"""

AS_A_USER = """
set -e
eval "$("$TIDEGATE_PYTHON" -m tidegate.local_cloud up)"
exec "$@"
"""


@pytest.fixture(scope="session", params=["v3", "v2"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What sdk_VERSION.py found, in a shell that has evaluated the lines of `up` and has nothing else of AWS."""
    work = tmp_path_factory.mktemp(f"sdk-{request.param}")
    (work / "code").mkdir()
    (work / "code" / "inference.py").write_text(SCRIPT)
    (work / "code" / "train.py").write_text(TRAINING)
    (work / "process.py").write_text(PROCESSING)
    torch.save(torch.tensor(2.0), work / "model.pth")
    with tarfile.open(work / "model.tar.gz", "w:gz") as archive:
        archive.add(work / "model.pth", "model.pth")
    python, cloud = python_of(request.param), LocalCloud(work / "cloud")
    script = [str(python), "-P", str(HERE / f"sdk_{request.param}.py")]
    try:
        run_as_a_user(cloud, work, [*script, "model.tar.gz", "code", "found.json"])
        yield json.loads((work / "found.json").read_text())
    finally:
        cloud.down()


def run_as_a_user(cloud: LocalCloud, work: Path, command: list[str], *, limit_s: float = LIMIT_S) -> None:
    """Runs a command in `work`, in a shell that has evaluated the lines of `up` and has nothing else of AWS."""
    done = subprocess.run(
        ["bash", "-c", AS_A_USER, "bash", *command],  # noqa: S607
        cwd=work,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(work),
            "TMPDIR": str(work),
            "LOCAL_CLOUD_DIR": str(cloud.directory),
            "TIDEGATE_PYTHON": sys.executable,
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), str(REPOSITORY)]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
