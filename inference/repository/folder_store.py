"""A repository in a folder of this machine, or of a file system that it has mounted."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from tidegate.inference.repository.listing import Entry, Listing
from tidegate.inference.repository.store import EntryChanged, StoreFailed

_CHUNK_BYTES = 1 << 20
_DEEPEST = 64


class FolderStore:
    """Links are followed: a version may be one to where its files are."""

    whole_objects = False

    def __init__(self, root: Path) -> None:
        self._root = root

    def address(self, path: str) -> str:
        """How people call it."""
        return str(self._root / path)

    def list_all(self) -> Listing:
        """Everything that is there. Raises `StoreFailed` where the folder itself cannot be read."""
        unreadable: dict[str, str] = {}
        entries: list[Entry] = []
        try:
            root = self._root.stat()
            if not stat.S_ISDIR(root.st_mode):
                raise StoreFailed(f"The repository {self._root} is no folder.")
            os.scandir(self._root).close()
        except FileNotFoundError:
            raise StoreFailed(f"The repository {self._root} does not exist.") from None
        except OSError as error:
            raise StoreFailed(f"The repository {self._root} cannot be read: {error.strerror}.") from None
        self._walk("", ((root.st_dev, root.st_ino),), entries, unreadable)
        entries.sort()
        return Listing(entries=tuple(entries), now_s=time.time(), unreadable=unreadable)

    def read(self, entry: Entry, offset: int = 0) -> Iterator[bytes]:
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

    def _walk(
        self, below: str, above: tuple[tuple[int, int], ...], entries: list[Entry], unreadable: dict[str, str]
    ) -> None:
        """Collect what is in one folder; `above` are the folders that lead to it, which a link must not enter again."""
        try:
            with os.scandir(self._root / below) as found:
                children = list(found)
        except FileNotFoundError:  # removed since the folder above was read
            return
        except OSError as error:
            unreadable[below.rstrip("/")] = error.strerror or str(error)
            return
        if not children and below:
            entries.append(Entry(below, 0, "", 0.0))
        for child in children:
            path = below + child.name
            try:
                facts = child.stat()
            except OSError as error:
                if child.is_symlink():
                    unreadable[path] = f"it is a link to what is not there ({error.strerror})"
                elif not isinstance(error, FileNotFoundError):
                    unreadable[path] = error.strerror or str(error)
                continue
            if stat.S_ISDIR(facts.st_mode):
                identity = (facts.st_dev, facts.st_ino)
                if identity in above or len(above) > _DEEPEST:
                    unreadable[path] = "its folders lead into each other"
                else:
                    self._walk(f"{path}/", (*above, identity), entries, unreadable)
            elif stat.S_ISREG(facts.st_mode):
                # The time of the last change of the file's facts cannot be set by whoever copies it, its own can.
                entries.append(Entry(path, facts.st_size, _tag(facts), facts.st_ctime))
            elif not child.name.startswith("."):
                unreadable[path] = "it is no regular file"


def _tag(facts: os.stat_result) -> str:
    return f"{facts.st_mtime_ns}-{facts.st_ino}"
