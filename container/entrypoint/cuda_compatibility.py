"""CUDA forward compatibility: a newer CUDA than the host's driver was made for.

NVIDIA's package `cuda-compat` (in `nvidia/cuda` base images, or by apt from NVIDIA's repository) brings the user-mode
half of a newer driver in /usr/local/cuda/compat. It must be found before the host's own, and only where the host's is
older: on a newer host it would be a step back. SageMaker's GPU hosts since `al2-ami-sagemaker-inference-gpu-2-1` leave
this to the image. The loader reads LD_LIBRARY_PATH when a process starts, so it must be set in the environment of the
process that loads CUDA: a worker, or the training script, both children of this one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import MutableMapping
from pathlib import Path

log = logging.getLogger("tidegate.cuda")

COMPATIBILITY_DIR = Path("/usr/local/cuda/compat")
KERNEL_DRIVER = Path("/proc/driver/nvidia/version")

Version = tuple[int, ...]


def apply(
    environment: MutableMapping[str, str], directory: Path = COMPATIBILITY_DIR, kernel_driver: Path = KERNEL_DRIVER
) -> None:
    """Put `directory` first on LD_LIBRARY_PATH where its driver is newer than the host's."""
    host, ours = host_version(kernel_driver), compatibility_version(directory)
    if host is None or ours is None or host >= ours:
        return
    others = [path for path in environment.get("LD_LIBRARY_PATH", "").split(":") if path and path != str(directory)]
    environment["LD_LIBRARY_PATH"] = ":".join([str(directory), *others])


def host_version(kernel_driver: Path = KERNEL_DRIVER) -> Version | None:
    """The version of the host's kernel driver, such as (550, 163, 1); None where there is no such driver."""
    try:
        text = kernel_driver.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", text)
    return _version(found[1]) if found else None


def compatibility_version(directory: Path = COMPATIBILITY_DIR) -> Version | None:
    """The version of the driver that the image brings: libcuda.so.1 is a link to libcuda.so.580.65.06."""
    versions = [
        found for path in directory.glob("libcuda.so.*.*") if (found := _version(path.name[len("libcuda.so.") :]))
    ]
    return max(versions, default=None)


def _version(text: str) -> Version | None:
    parts = text.split(".")
    return tuple(int(part) for part in parts) if all(part.isdigit() for part in parts) else None
