"""Locks of files that may be removed while somebody waits for them. They end with their process, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path


@contextmanager
def lock_of_name(path: Path, *, wait: bool = True, keep: bool = False) -> Iterator[int]:
    """The one lock of a name, with a descriptor of its file, which is removed at the end unless it is to be kept.

    Raises `BlockingIOError` where somebody has it and it is not waited for.
    """
    descriptor = _lock(path, wait=wait)
    try:
        yield descriptor
    finally:
        if not keep:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path, *, wait: bool) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BaseException:
            os.close(descriptor)
            raise
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def opened_and_locked(path: Path, *, exclusive: bool = False) -> BufferedReader | None:
    """A file to read, under a shared lock; None where it is not there, or was removed before the lock was had.

    `exclusive`: under a lock that nobody else has one beside; raises `BlockingIOError` where somebody has.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH)
    except BaseException:
        file.close()
        raise
    if not _is_at(file.fileno(), path):
        file.close()
        return None
    return file


def is_locked(path: Path) -> bool:
    """Whether somebody has a lock of this file."""
    try:
        file = opened_and_locked(path, exclusive=True)
    except BlockingIOError:
        return True
    if file is not None:
        file.close()
    return False


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file is still the one of this name: another process may have removed it while this one waited."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
