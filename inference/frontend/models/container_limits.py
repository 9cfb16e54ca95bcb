"""What this container may use: its CPU cores and its memory, by its control group (cgroup).

Both versions are read: hosts with Amazon Linux 2, which most of SageMaker's host images are, give a container
version 1, those with Amazon Linux 2023 give it version 2. Inside a container its own group is at the root of the mount.
"""

from __future__ import annotations

import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
WORKER_BYTES = 64 * 1024 * 1024
"""What a worker takes beside its model: forked, it shares torch with its parent."""


def usable_cores(cgroups: Path = CGROUPS) -> int:
    """The CPU cores that this container may use: its affinity, or less where its cgroup has a quota; at least 1."""
    cores = len(os.sched_getaffinity(0))
    quota = _cpu_quota(cgroups)
    return max(1, min(cores, int(quota))) if quota is not None else cores


def free_memory_bytes(cgroups: Path = CGROUPS) -> int:
    """The memory that this container may still take: what its cgroup leaves, or the machine where that is less."""
    free = _left_in_cgroup(cgroups)
    available = _available_bytes()
    return available if free is None else min(free, available)


def copies_that_fit(wanted: int, model_bytes: int, free_bytes: int) -> int:
    """How many of `wanted` workers the memory holds, going by the size of the model's files; at least 1."""
    return max(1, min(wanted, free_bytes // (model_bytes + WORKER_BYTES)))


def _cpu_quota(cgroups: Path) -> float | None:
    """In cores; None where there is no limit."""
    limit = _text(cgroups / "cpu.max")
    if limit is not None:
        quota, _, period = limit.partition(" ")
        return None if quota == "max" else int(quota) / int(period)
    quota_us, period_us = _number(cgroups / "cpu/cpu.cfs_quota_us"), _number(cgroups / "cpu/cpu.cfs_period_us")
    if quota_us is None or quota_us <= 0 or not period_us:
        return None  # version 1 says -1 where there is none
    return quota_us / period_us


def _left_in_cgroup(cgroups: Path) -> int | None:
    """None where there is no limit. Files that the kernel may drop from its cache are no use of memory."""
    limit, used = _number(cgroups / "memory.max"), _number(cgroups / "memory.current")
    statistics, cached = cgroups / "memory.stat", "inactive_file"
    if used is None:
        limit = _number(cgroups / "memory/memory.limit_in_bytes")  # a number beyond all memory where there is none
        used = _number(cgroups / "memory/memory.usage_in_bytes")
        statistics, cached = cgroups / "memory/memory.stat", "total_inactive_file"
    if limit is None or used is None:
        return None
    return max(limit - used + _statistic(statistics, cached), 0)


def _statistic(path: Path, name: str) -> int:
    for line in (_text(path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return 0


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text is not None and text.removeprefix("-").isdecimal() else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
