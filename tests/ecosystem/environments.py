"""One virtual environment for each version of the SageMaker SDK, below build/, made once from its pinned list.

The SDK's two versions shut each other out, and both would pull their dozens of packages into ours.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
HERE = REPOSITORY / "build" / "ecosystem"
TRAINING_PACKAGES = ("scikit-learn", "scipy", "joblib", "threadpoolctl", "narwhals", "cloudpickle")
"""What examples/digits/train.py needs and the image has not."""


def python_of(version: str) -> Path:
    """The interpreter of the environment of `v3` or `v2`; made where it is not there or its list has changed."""
    requirements = Path(__file__).with_name(f"requirements-{version}.txt")
    home = HERE / version
    python, stamp = home / "bin" / "python", home / "made-from"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(home, ignore_errors=True)
        _run(sys.executable, "-m", "venv", "--without-pip", str(home))
        pip = (sys.executable, "-m", "pip", "--python", str(python))
        _run(*pip, "install", "--quiet", "--no-deps", "--requirement", str(requirements))
        stamp.write_text(wanted)
    return python


def training_wheels() -> Path:
    """A folder with the wheels of `TRAINING_PACKAGES` for the image's Python, in the versions that are pinned here."""
    folder = HERE / "wheels"
    pinned = dict(
        line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line
    )
    missing = [
        f"{name}=={pinned[name]}"
        for name in TRAINING_PACKAGES
        if not list(folder.glob(f"{name.replace('-', '_')}-{pinned[name]}-*.whl"))
    ]
    if missing:
        places = ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]
        platforms = [word for place in places for word in ("--platform", place)]
        exact = ["--no-deps", "--only-binary", ":all:", "--python-version", "3.11", *platforms]
        _run(sys.executable, "-m", "pip", "download", "--quiet", *exact, "--dest", str(folder), *missing)
    return folder


def _run(*words: str) -> None:
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}"
