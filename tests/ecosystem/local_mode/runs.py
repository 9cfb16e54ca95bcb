"""Runs the SDK in a process and an environment of its own, as a user would, against containers of the image.

python -m tests.ecosystem.local_mode.runs      writes the transcript of version 3 into docs/local-mode.md
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from container.engine import Engine, find
from tests.contract.running import free_port
from tests.ecosystem.environments import REPOSITORY, python_of, training_wheels

PAGE = REPOSITORY / "docs" / "local-mode.md"
LIMIT_S = 600
EPOCHS = 6
ASKED = 4
NETWORK = "sagemaker-local"

FIT = """
import argparse
import os

import torch

from tidegate.training_hooks import save_model

parser = argparse.ArgumentParser()
parser.add_argument("--slope", type=float)
net = torch.nn.Linear(1, 1)
torch.nn.init.constant_(net.weight, parser.parse_args().slope)
save_model(net, model_dir=os.environ["SM_MODEL_DIR"], name="small")
"""
"""A script of which the ModelTrainer is given the folder."""

TOGETHER = """
import json, os, pathlib
import torch.distributed as dist

dist.init_process_group("gloo")
told = [None] * dist.get_world_size()
dist.all_gather_object(told, os.environ["SM_CURRENT_HOST"])
if dist.get_rank() == 0:
    pathlib.Path(os.environ["SM_MODEL_DIR"], "hosts.json").write_text(json.dumps(told))
dist.destroy_process_group()
"""
"""A script whose processes tell each other the names of their hosts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run of an SDK's `version` found, and the labels that the digits it asked about really have."""

    version: str
    found: dict[str, Any]
    labels: list[str]
    output: str

    @property
    def transcript(self) -> list[str]:
        return list(self.found["transcript"])


@contextmanager
def local_mode(version: str, engine: Engine, image: str) -> Iterator[Outcome]:
    """A run of sdk_`version`.py, done; its containers, its network and its folder are gone afterwards."""
    python = python_of(version)
    before = _containers(engine), _has_network(engine)
    with tempfile.TemporaryDirectory(prefix="tidegate-local-mode-") as folder:
        work = Path(folder)
        try:
            job, labels = _job(work, image)
            (work / "job.json").write_text(json.dumps(job))
            script = Path(__file__).with_name(f"sdk_{version}.py")
            kept = {
                key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "SAGEMAKER_", "SM_"))
            }
            done = subprocess.run(
                [str(python), "-P", str(script), str(work / "job.json")],
                env={
                    **kept,
                    "PYTHONPATH": os.pathsep.join([str(script.parent), str(script.parents[1])]),
                    "HOME": str(work),
                    "TMPDIR": str(work),
                },
                cwd=work,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=LIMIT_S,
                check=False,
            )
            assert done.returncode == 0, done.stdout[-8000:]
            found = json.loads((work / "found.json").read_text())
            yield Outcome(version=version, found=found, labels=labels, output=done.stdout)
        finally:
            _clean_up(engine, *before)
            # What the containers wrote is root's.
            if os.getuid() != 0:
                engine.run("run", "--rm", "--volume", f"{work}:/work", image, "chmod", "-R", "a+rwX", "/work")


def _job(work: Path, image: str) -> tuple[dict[str, Any], list[str]]:
    """What a script of the SDK is told, and the labels of the digits that it asks about."""
    digits = load_digits()
    source = work / "source"
    example = REPOSITORY / "examples" / "digits"
    shutil.copytree(example / "code", source / "code", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(example / "train.py", source)
    shutil.copytree(training_wheels(), source / "wheels")
    (source / "requirements.txt").write_text("--no-index\n--find-links wheels\nscikit-learn\n")
    (work / "small").mkdir()
    (work / "small" / "fit.py").write_text(FIT)
    (work / "small" / "together.py").write_text(TOGETHER)
    (work / "channel").mkdir()
    np.savez(work / "channel" / "digits.npz", images=digits.images, labels=digits.target)
    asked = digits.images[:ASKED].tolist()
    job = {
        "image": image,
        "port": free_port(),
        "epochs": EPOCHS,
        "environment": {"PIP_NO_COMPILE": "1"},  # bytes of a package that one script imports once
        "work": str(work),
        "source": str(source),
        "small_source": str(work / "small"),
        "channel": str(work / "channel"),
        "body": json.dumps(asked),
        "batch": [json.dumps(each) for each in asked],
    }
    return job, [str(label) for label in digits.target[:ASKED]]


def _containers(engine: Engine) -> set[str]:
    return set(engine.run("ps", "--all", "--quiet", "--no-trunc", "--filter", f"network={NETWORK}").split())


def _has_network(engine: Engine) -> bool:
    return NETWORK in engine.run("network", "ls", "--format", "{{.Name}}").split()


def _clean_up(engine: Engine, containers: set[str], had_network: bool) -> None:
    """Remove what the SDK leaves: containers that have ended, and its network."""
    if ours := _containers(engine) - containers:
        engine.run("rm", "--force", "--volumes", *ours)
    if not had_network and _has_network(engine):
        engine.run("network", "rm", NETWORK)


def without_numbers(text: str) -> str:
    """The text with every number as `#`: what is left must be the same in every run."""
    return re.sub(r"\d+(\.\d+)?", "#", text)


def page_transcript() -> str:
    """The transcript that docs/local-mode.md holds."""
    found = re.search(
        r"<!-- transcript:begin -->\n```\n(.*?)\n```\n<!-- transcript:end -->", PAGE.read_text(), re.DOTALL
    )
    assert found is not None, f"{PAGE} has no transcript"
    return found[1]


def main() -> None:
    """Write the page's transcript anew."""
    image = sys.argv[1] if len(sys.argv) > 1 else "tidegate:cpu"
    with local_mode("v3", find(), image) as outcome:
        text = "\n".join(outcome.transcript)
    PAGE.write_text(PAGE.read_text().replace(page_transcript(), text))
    print(text)


if __name__ == "__main__":
    main()
