"""The files of a model directory, as the rules of `check` look at them: names and sizes, read once, within bounds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MOST_FILES = 100_000
"""More are not looked at: a model has some dozens."""
MOST_TEXT_BYTES = 1 << 20
"""A longer file is no script and no requirements file, and is not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One file. `name` is below the root."""

    name: PurePosixPath
    size_bytes: int

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders that it is in, below the root."""
        return self.name.parts[:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A model directory. Symbolic links are not among its files, and not followed."""

    root: Path
    files: tuple[Listed, ...]
    unreadable: tuple[str, ...] = ()
    """Folders that this user may not look into."""
    complete: bool = True
    """Whether these are all files."""

    def has(self, *names: str) -> bool:
        """Whether one of these files is there."""
        return any(str(each.name) in names for each in self.files)

    def head(self, name: PurePosixPath, size_bytes: int) -> bytes:
        """The first bytes of a file; empty where it cannot be read."""
        try:
            with (self.root / name).open("rb") as file:
                return file.read(size_bytes)
        except OSError:
            return b""

    def text(self, name: PurePosixPath | str) -> str:
        """A short text; empty where it is none, or cannot be read."""
        data = self.head(PurePosixPath(name), MOST_TEXT_BYTES + 1)
        return "" if len(data) > MOST_TEXT_BYTES or b"\0" in data else data.decode("utf-8", errors="replace")


def list_files(root: Path, most: int = MOST_FILES) -> Listing:
    """The files below `root`, in the order of their names."""
    files: list[Listed] = []
    unreadable: list[str] = []
    complete = True
    for folder, folders, names in os.walk(root, onerror=lambda error: unreadable.append(_below(root, error))):
        folders.sort()
        for listed in _of_folder(root, Path(folder), sorted(names)):
            if len(files) == most:
                complete = False
                break
            files.append(listed)
        if not complete:
            break
    return Listing(root=root, files=tuple(files), unreadable=tuple(unreadable), complete=complete)


def _of_folder(root: Path, folder: Path, names: list[str]) -> Iterator[Listed]:
    for name in names:
        path = folder / name
        try:
            found = path.lstat()
        except OSError:
            continue
        if path.is_file() and not path.is_symlink():
            yield Listed(name=PurePosixPath(path.relative_to(root).as_posix()), size_bytes=found.st_size)


def _below(root: Path, error: OSError) -> str:
    return os.path.relpath(str(error.filename), root)
