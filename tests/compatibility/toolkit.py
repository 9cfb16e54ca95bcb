"""The AWS toolkit from PyPI, in a folder of its own below build/: beside our environment, where it would hide our own.

python -m tests.compatibility.toolkit    install it now, so that the tests need no network later
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ("sagemaker-inference==1.10.1", "sagemaker-pytorch-inference==2.0.25")
"""The last releases. Without their dependencies: what they import of those is in our environment already."""

ROOT = Path(__file__).parents[2]


def folder() -> Path:
    """The folder to put on PYTHONPATH; installs it where it is missing. Raises `RuntimeError` with what pip said."""
    place = ROOT / "build" / "-".join(["toolkit", *(package.rpartition("==")[2] for package in PACKAGES)])
    if place.is_dir():
        return place
    partial = place.with_name(f"{place.name}.{os.getpid()}")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-user",
            "--no-deps",
            "--target",
            str(partial),
            *PACKAGES,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        shutil.rmtree(partial, ignore_errors=True)
        raise RuntimeError(f"the AWS toolkit cannot be installed from PyPI: {done.stderr.strip()}")
    try:
        partial.rename(place)
    except OSError:  # somebody else was faster
        shutil.rmtree(partial, ignore_errors=True)
    return place


if __name__ == "__main__":
    print(folder())
