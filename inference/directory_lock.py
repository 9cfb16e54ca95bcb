"""The lock of a directory that one process works in at a time: it ends with the process, however that ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_NAME = ".lock"


def take(root: Path) -> int | None:
    """Take a directory for as long as the descriptor is open; None where another process has it. Raises `OSError`."""
    lock = os.open(root / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def is_taken(root: Path) -> bool:
    """Whether a process works in a directory at this moment; not where it is not there, or cannot be written to."""
    try:
        lock = take(root)
    except OSError:
        return False
    if lock is not None:
        os.close(lock)
    return lock is None
