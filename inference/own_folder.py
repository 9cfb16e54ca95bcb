"""A folder for the life of this process, below TMPDIR; what a killed one left is removed by the next.

A folder is held by a lock on itself, which ends with its process however that ends: one that nobody holds is nobody's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def own_folder(prefix: str) -> Iterator[Path]:
    """A new folder of ours alone, whose name begins with `prefix`. Raises `OSError` where none can be made."""
    remove_left_over(prefix)
    folder, lock = _new(prefix)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_left_over(prefix: str) -> None:
    """Remove this user's folders of that prefix that no process holds."""
    with suppress(OSError), os.scandir(tempfile.gettempdir()) as found:
        for each in found:
            if not each.name.startswith(prefix):
                continue
            with suppress(OSError):
                if each.is_dir(follow_symlinks=False) and each.stat(follow_symlinks=False).st_uid == os.getuid():
                    _remove_unless_held(Path(each.path))


def _new(prefix: str) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        try:
            lock = _hold(folder)
        except FileNotFoundError:
            continue  # until it is held, another start may take it for left over
        except OSError:
            # NFS has no such locks: there nobody can hold a folder, and nobody takes one for left over.
            return folder, os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        if lock is not None:
            return folder, lock


def _remove_unless_held(folder: Path) -> None:
    lock = _hold(folder)
    if lock is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _hold(folder: Path) -> int | None:
    """Lock the folder of that name; None where another process has it, or has just removed it. Raises `OSError`."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.lstat(folder)):
            return lock
    except OSError as error:
        os.close(lock)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            return None
        raise
    os.close(lock)
    return None
