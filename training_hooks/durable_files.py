"""Writing files so that they survive a crash: data first, then the name, then the directory."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .unfinished_files import unfinished


def write_file(path: Path, data: bytes) -> None:
    """Write a new file and force it to disk; the parent directory is created, an existing file is an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_file(path: Path) -> None:
    """Force the content of a file that something else wrote to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Force the names in a directory to disk, where the file system knows how to."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems answer EINVAL here; the rename itself stays atomic on them.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_into_place(source: Path, target: Path) -> None:
    """Rename atomically over whatever file holds the target name; the parent directory is created."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.replace(target)
    sync_directory(target.parent)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; when the block ends well, it takes the target's name.

    Readers of `target` see the old content or the whole new content. When the block raises, the temporary
    file is removed and the target stays as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(target) as temporary:
        yield temporary
        sync_file(temporary)
        move_into_place(temporary, target)


def write_first(target: Path, data: bytes) -> bool:
    """Write a file that appears whole or not at all; return False where there is one already, which stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with unfinished(target) as temporary:
        temporary.write_bytes(data)
        sync_file(temporary)
        try:
            target.hardlink_to(temporary)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            try:
                write_file(target, data)
            except FileExistsError:
                return False
    sync_directory(target.parent)
    return True
