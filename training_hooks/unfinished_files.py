"""Files and directories in the making: hidden, beside what they become, and left alone while their process lives.

A lock (flock) on the file says that its process lives. The system drops it however the process ends, so no process
number, which another process may bear by now, has to be trusted. Some shared file systems keep locks on one machine:
what another machine left is abandoned only when nothing was written to it for an hour.
"""

import contextlib
import fcntl
import glob
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

UNTOUCHED_S = 3600.0

_HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:32] or "localhost"
_NAME = re.compile(r"\..+\.([A-Za-z0-9-]+)\.[0-9a-f]{12}\.tmp", re.DOTALL)


@contextlib.contextmanager
def unfinished(target: Path) -> Iterator[Path]:
    """Yield the path of a new, locked file beside `target`; at the end it is removed, unless it was renamed.

    What killed processes left of earlier files for `target` is removed first.
    """
    remove_abandoned(target.parent, f".{glob.escape(target.name)}.*.tmp")
    path, descriptor = _create(target)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextlib.contextmanager
def unfinished_directory(parent: Path, purpose: str) -> Iterator[Path]:
    """Yield a new, locked directory in `parent`; at the end it is removed, unless it was renamed.

    Who writes to it for long touches it now and then, for those who do not see the lock.
    """
    while True:
        path = hidden_name(parent, purpose)
        path.mkdir(parents=True)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # another process removed it between its creation and its lock
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if path.is_dir():
            break
        os.close(descriptor)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(descriptor)


def hidden_name(parent: Path, purpose: str) -> Path:
    """A name that nothing bears, and that `remove_abandoned` knows."""
    return parent / f".{purpose}.{_HOST}.{secrets.token_hex(6)}.tmp"


def remove_abandoned(directory: Path, pattern: str) -> None:
    """Remove the files and directories in the making that match `pattern` and whose process does not live any more."""
    for path in directory.glob(pattern):
        try:
            is_directory = stat.S_ISDIR(path.lstat().st_mode)
            descriptor = os.open(path, (os.O_RDONLY if is_directory else os.O_RDWR) | os.O_NOFOLLOW)
        except OSError:
            continue  # finished or removed in the meantime, or not ours
        try:
            if not _is_abandoned(path, descriptor):
                continue
            if is_directory:
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _create(target: Path) -> tuple[Path, int]:
    while True:
        path = hidden_name(target.parent, target.name)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)  # another process removed it between its creation and its lock


def _is_abandoned(path: Path, descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        locks_hold = False  # a file system without locks
    else:
        named = _NAME.fullmatch(path.name)
        locks_hold = named is None or named[1] == _HOST
    return locks_hold or time.time() - os.fstat(descriptor).st_mtime > UNTOUCHED_S
