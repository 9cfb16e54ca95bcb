"""What this machine is, as far as a form may require something of it."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """`device` is `cpu` or `cuda`; `processor` has the flags of the kernel's list, none where there is no such list."""

    device: str
    machine: str
    processor: frozenset[str]
    cuda_capability: str | None
    torch: str
    package: Callable[[str], str | None]
    """The version of an installed package."""


def this_machine(place: torch.device) -> Machine:
    """The machine of a worker whose model is on `place`."""
    on_gpu = place.type == "cuda"
    return Machine(
        device=place.type,
        machine=platform.machine(),
        processor=flags_in(_read(_CPUINFO)),
        cuda_capability="{}.{}".format(*torch.cuda.get_device_capability(place)) if on_gpu else None,
        torch=str(torch.__version__),
        package=_installed,
    )


def flags_in(cpuinfo: str) -> frozenset[str]:
    """The features of a processor, by /proc/cpuinfo: `flags` on x86, `Features` on ARM."""
    for line in cpuinfo.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip().lower() in ("flags", "features"):
            return frozenset(value.split())
    return frozenset()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except (PackageNotFoundError, ValueError):
        return None
