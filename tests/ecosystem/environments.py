"""One virtual environment for each version of the SageMaker SDK, for transformers, mlflow, tensorflow, and for clients.

They lie below build/, each made once from its pinned list.

The SDK's two versions shut each other out, and all would pull their dozens of packages into ours.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.installing import install

REPOSITORY = Path(__file__).parents[2]
HERE = REPOSITORY / "build" / "ecosystem"
TRAINING_PACKAGES = ("scikit-learn", "scipy", "joblib", "threadpoolctl", "narwhals", "cloudpickle")
"""What examples/digits/train.py needs and the image has not."""


def python_of(name: str, *, sees_ours: bool = False) -> Path:
    """The interpreter of the environment `name`, such as `v3`; made where it is not there or its list has changed.

    With `sees_ours` it imports what is installed here, too: torch need not be there twice.
    """
    requirements = Path(__file__).with_name(f"requirements-{name}.txt")
    home = HERE / name
    python, stamp = home / "bin" / "python", home / "made-from"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    with _alone(name):
        if not stamp.is_file() or stamp.read_text() != wanted:
            shutil.rmtree(home, ignore_errors=True)
            _run(sys.executable, "-m", "venv", "--without-pip", str(home))
            install(python, "--no-deps", "--requirement", str(requirements))
            stamp.write_text(wanted)
    if sees_ours:
        site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
        line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        (site / "ours.pth").write_text(line, encoding="utf-8")
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


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Several processes of one test run want the same environment: one makes it, the others wait."""
    HERE.mkdir(parents=True, exist_ok=True)
    with (HERE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(*words: str) -> None:
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}"
