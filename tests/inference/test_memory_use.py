"""What processes take that would be free without them."""

from __future__ import annotations

import os
from pathlib import Path

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


def test_the_kernel_says_it_of_this_process():
    before = private_bytes([os.getpid()])
    kept = bytearray(os.urandom(1)) * (32 * MIB)
    assert private_bytes([os.getpid()]) - before > 16 * MIB
    assert kept
