"""A repository in a folder of this machine, or of a file system that it has mounted."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Generator
from pathlib import Path

from tidegate.inference.repository.listing import Entry, Listing
from tidegate.inference.repository.store import EntryChanged, StoreFailed

_CHUNK_BYTES = 1 << 20
_OF_WHAT_IT_IS = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL)
"""Errors of a link that leads nowhere or around, and of what is no file: they stay."""


class FolderStore:
    """Links are followed: a version may be one to where its files are."""

    whole_objects = False

    def __init__(self, root: Path) -> None:
        self._root = root
        self._prefix = f"{root}/"

    def address(self, path: str) -> str:
        """How people call it."""
        return str(self._root / path)

    def list_all(self) -> Listing:
        """Everything that is there. Raises `StoreFailed` where the folder itself cannot be read."""
        unreadable: dict[str, str] = {}
        entries: list[Entry] = []
        try:
            os.scandir(self._root).close()
        except FileNotFoundError:
            raise StoreFailed(f"The repository {self._root} does not exist.") from None
        except NotADirectoryError:
            raise StoreFailed(f"The repository {self._root} is not a folder.") from None
        except OSError as error:
            raise StoreFailed(f"The repository {self._root} cannot be read: {error.strerror}.") from None
        passing = frozenset(self._walk(entries, unreadable))
        entries.sort()
        return Listing(entries=tuple(entries), now_s=time.time(), unreadable=unreadable, passing=passing)

    def read(self, entry: Entry, offset: int = 0) -> Generator[bytes, None, None]:
        """The content of a listed file from `offset` on, in pieces. Raises `StoreFailed`."""
        path = self._root / entry.path
        try:
            # Not to hang where somebody put a pipe in the file's place.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise EntryChanged(f"{path} is gone.") from None
        except OSError as error:
            raise StoreFailed(f"{path} cannot be read: {error.strerror}.") from None
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            self._check(descriptor, entry, path)
            try:
                file.seek(offset)
                left = entry.size_bytes - offset
                while left > 0 and (piece := file.read(min(_CHUNK_BYTES, left))):
                    # What was written over meanwhile must not be taken for what was listed.
                    self._check(descriptor, entry, path)
                    left -= len(piece)
                    yield piece
            except OSError as error:
                raise StoreFailed(f"{path} cannot be read: {error.strerror}.") from None
        if left:
            raise EntryChanged(f"{path} became shorter while it was read.")

    def _check(self, descriptor: int, entry: Entry, path: Path) -> None:
        found = os.fstat(descriptor)
        if (found.st_size, _tag(found)) != (entry.size_bytes, entry.tag):
            raise EntryChanged(f"{path} has changed since it was listed.")

    def _walk(self, entries: list[Entry], unreadable: dict[str, str]) -> set[str]:
        """Collect what is there, in no order; returns what of the unreadable may be readable later.

        There are tens of thousands of files: strings, and no needless stat.
        """
        folders, passing = [""], set()
        while folders:
            below = folders.pop()
            try:
                with os.scandir(self._prefix + below) as found:
                    children = list(found)
            except FileNotFoundError:  # removed since the folder above was read
                continue
            except OSError as error:
                unreadable[below.rstrip("/")] = error.strerror or str(error)
                passing.add(below.rstrip("/"))
                continue
            if not children and below:
                entries.append(Entry(below, 0, "", 0.0))
            for child in children:
                path = below + child.name
                try:
                    if self._is_folder(child, path):
                        folders.append(f"{path}/")
                    elif (entry := _entry(child, path)) is not None:
                        entries.append(entry)
                except OSError as error:
                    if child.is_symlink() or not isinstance(error, FileNotFoundError):
                        unreadable[path] = error.strerror or str(error)
                        if error.errno not in _OF_WHAT_IT_IS:
                            passing.add(path)
        return passing

    def _is_folder(self, child: os.DirEntry[str], path: str) -> bool:
        """Raises `OSError` for a link that leads nowhere, or to a folder on the way to it, which would have no end."""
        if not child.is_dir():
            return False
        if child.is_symlink():
            target = os.path.realpath(self._prefix + path)
            while path:
                path = path.rpartition("/")[0]
                if f"{os.path.realpath(self._prefix + path)}/".startswith(f"{target}/"):
                    raise OSError(errno.ELOOP, "it links to a folder that contains it")
        return True


def _entry(child: os.DirEntry[str], path: str) -> Entry | None:
    """What a file is; None for hidden ones that are none. Raises `OSError`."""
    facts = child.stat()
    if stat.S_ISREG(facts.st_mode):
        # Whoever copies a file can set its time, but not the time of the last change of what is known about it.
        return Entry(path, facts.st_size, _tag(facts), facts.st_ctime)
    if child.name.startswith("."):
        return None
    raise OSError(errno.EINVAL, "it is not a regular file")


def _tag(facts: os.stat_result) -> str:
    return f"{facts.st_mtime_ns}-{facts.st_ino}"
