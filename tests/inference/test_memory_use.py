"""What processes take that would be free without them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.processes import started
from tidegate.inference.memory_use import private_bytes
from tidegate.inference.settings import MIB

ROLLUP = """00400000-7ffc000 ---p 00000000 00:00 0    [rollup]
Rss:              999999 kB
Shared_Clean:       8000 kB
Private_Clean:       100 kB
Private_Dirty:        20 kB
Private_Hugetlb:    2048 kB
Swap:                  3 kB
SwapPss:               3 kB
"""


def test_what_is_private_or_swapped_counts_and_what_is_shared_does_not(tmp_path: Path):
    for pid in (1, 2):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "smaps_rollup").write_text(ROLLUP)
    assert private_bytes([1, 2, 3], tmp_path) == 2 * (100 + 20 + 2048 + 3) * 1024


TAKES_MEMORY = """
import mmap
input()
kept = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
kept.write(bytes([1]) * (32 << 20))
print("taken", flush=True)
input()
"""


def test_the_kernel_says_it_of_a_process():
    """A process of its own: what this one takes may be memory that it kept from earlier tests."""
    with started(
        [sys.executable, "-c", TAKES_MEMORY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        before = private_bytes([process.pid])
        process.stdin.write("\n")
        assert process.stdout.readline() == "taken\n"
        assert private_bytes([process.pid]) - before >= 32 * MIB
        process.stdin.write("\n")
    assert process.returncode == 0
