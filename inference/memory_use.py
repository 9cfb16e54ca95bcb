"""What processes take: the memory that they share with nobody, asked for workers and by a worker."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

PROCESSES = Path("/proc")
_OWN = ("Private_Clean:", "Private_Dirty:", "Private_Hugetlb:", "Swap:")


def private_bytes(pids: Iterable[int], processes: Path = PROCESSES) -> int:
    """The memory of processes that would be free if they ended: a forked worker shares torch with its parent.

    Swapped pages count, as they come back. A process that is gone counts nothing. The kernel walks the page tables for
    this, which takes it a millisecond for some hundred MB: call it in a thread.
    """
    return sum(_private_bytes(processes / str(pid) / "smaps_rollup") for pid in pids)


def _private_bytes(rollup: Path) -> int:
    try:
        lines = rollup.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_OWN))
