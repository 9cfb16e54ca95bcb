"""container/wheels: every wheel of the image, fetched by this machine's own pip.

Where packages come from, through which proxy and with which certificate is this machine's business and is known to its
pip. So pip fetches here, and the build installs from the folder without a network: no address, credential or
certificate of this machine can get into an image that way.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

# The base images of container/Dockerfile are Debian 12, with glibc 2.36: it runs wheels of every older glibc.
PLATFORM_TAGS = (
    *(f"manylinux_2_{minor}" for minor in range(36, 4, -1)),
    "manylinux2014",
    "manylinux2010",
    "manylinux1",
)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PYTHON = "3.11"
ABIS = ("cp311", "abi3", "none")
# Pip's names of the machines that docker calls so.
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}


class WheelsMissing(Exception):
    """pip cannot fetch a wheel; the text is pip's own reason."""


def machine(platform: str | None) -> str:
    """The machine that an image for docker's `platform` runs on; without one it is like this one."""
    here = os.uname().machine
    return MACHINES[platform] if platform else MACHINES.get(f"linux/{here}", here)


def fetch_locked(folder: Path, lock: Path, machine: str) -> None:
    """Fill `folder` with the wheels of a lock, unless they are there already. Raises `WheelsMissing`.

    `machine` is one as pip has it; a folder may hold wheels for several, and the build takes those of its own.
    """
    if not _covers(folder, lock, machine):
        _download(folder, machine, ["--no-deps", "--require-hashes", "--requirement", str(lock)])


def fetch_torch_for_cpu(folder: Path, torch: str, index: str | None, machine: str) -> None:
    """Fetch a CPU build of the requirement `torch`, unless one of its version is there. Raises `WheelsMissing`.

    It comes from `index` where one is given; else from where this machine's pip looks, else from PyTorch's own index.
    """
    name, _, version = torch.partition("==")
    if version and any(folder.glob(f"torch-{version.partition('+')[0]}+*_{machine}.whl")):
        return
    if index is not None or "+" in version or not version:
        _download(folder, machine, ["--no-deps", *(["--index-url", index] if index else []), torch])
        return
    cpu_build = f"{name}=={version}+cpu"
    try:
        _download(folder, machine, ["--no-deps", cpu_build])
    except WheelsMissing:
        _download(folder, machine, ["--no-deps", "--index-url", CPU_INDEX, cpu_build])


def fetch_torch_with_cuda(folder: Path, torch: str, index: str | None, machine: str) -> None:
    """Fetch the requirement `torch` and the CUDA packages that it pins. Raises `WheelsMissing`."""
    _download(folder, machine, [*(["--extra-index-url", index] if index else []), torch])


def _covers(folder: Path, lock: Path, machine: str) -> bool:
    fitting = [*folder.glob(f"*_{machine}.whl"), *folder.glob("*-any.whl")]
    there = {_key(*path.name.split("-")[:2]) for path in fitting}
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return bool(pins) and all(_key(name, version) in there for name, version in pins)


def _key(name: str, version: str) -> tuple[str, str]:
    return re.sub(r"[-_.]+", "-", name).lower(), version


def _download(folder: Path, machine: str, words: Sequence[str]) -> None:
    target = ["--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp"]
    for abi in ABIS:
        target += ["--abi", abi]
    for tag in PLATFORM_TAGS:
        target += ["--platform", f"{tag}_{machine}"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run(
        [*pip, "--dest", str(folder), *target, *words],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise WheelsMissing(said[-1] if said else done.stderr.strip()[-1000:])
