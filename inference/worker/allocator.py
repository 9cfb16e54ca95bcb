"""How the C library's allocator is set in a worker: what a batch has freed, the next one uses again.

A worker that has nothing to do for a while gives it back: what is kept is kept for the next batch, and there is none.
"""

from __future__ import annotations

import ctypes
import os

KEPT_BYTES = 256 * 1024 * 1024
ARENAS = 4
"""How many pools threads share. Each keeps up to 64 MiB, which `malloc_trim` does not give back either, and glibc would
make eight for each core: a stream_fn with large frames in a thread for each client left a gigabyte behind."""
# malloc.h of glibc
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_ARENAS_VARIABLE = "MALLOC_ARENA_MAX"
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Have this process keep up to `KEPT_BYTES` of freed memory instead of giving it back; whether that was done.

    glibc maps whatever is larger than 32 MiB anew at every allocation, so each batch of a convolutional net on a CPU
    would have the kernel clear its activations again: `python -m benchmarks.allocator` says what that costs. Where the
    deployer has set the allocator, or the C library has no such knobs (musl), all stays as it is.
    """
    if any(name in os.environ for name in _VARIABLES):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and _ARENAS_VARIABLE not in os.environ:
        mallopt(_M_ARENA_MAX, ARENAS)
    return mallopt is not None and bool(
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES) and mallopt(_M_MMAP_THRESHOLD, KEPT_BYTES)
    )


class FreedMemory:
    """What batches and conversations have freed: each sets `used`, and `give_back` is called when none has come."""

    def __init__(self, *, kept: bool) -> None:
        """`kept` is what `keep_freed_memory` says: an allocator that is set otherwise is left alone."""
        self.used = kept
        self._kept = kept

    def give_back(self) -> None:
        """Give it to the system, once for all that was freed since the last time."""
        used, self.used = self.used, False  # first: a conversation may end meanwhile, in another thread
        if used and self._kept:
            give_back_freed_memory()


def give_back_freed_memory() -> None:
    """Give the system what has been freed, all at once: a whole model was. musl does that by itself."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
