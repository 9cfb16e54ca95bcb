"""The directory that revisions are fetched into: what is whole, what is unfinished, what is on its way out.

    NAME/VERSION-digest/        a revision, whole: it came here by a rename
    .whole/NAME/VERSION-digest  what it is, as JSON; written after the rename, removed before the revision is
    .partial/NAME/VERSION-digest/…  what is being fetched, or was when its process ended
    .trash/N/                   what is being removed
    .lock                       held by the process that works here

A process that is killed at any moment leaves one of these, and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from threading import Lock

from tidegate.inference import directory_lock
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.repository.messages import Kept

_FORMAT = 1
"""Of the marks; a revision of another is fetched again."""
_FOLDER = re.compile(r"(?P<version>[0-9]+)-(?P<digest>[0-9a-f]+)", re.ASCII)


class InUse(Exception):
    """Another process works in this directory."""


class CacheDirectory:
    """Takes the directory for this process; raises `InUse` or `OSError`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._whole, self._partial, self._trash = root / ".whole", root / ".partial", root / ".trash"
        root.mkdir(parents=True, exist_ok=True)
        # Never closed: the lock is this process's for as long as it lives, and ends with it.
        self._lock = directory_lock.take(root)
        if self._lock is None:
            raise InUse(f"{root} is in use by another server: set TIDEGATE_MODEL_CACHE_DIR to a directory for each.")
        for folder in (self._whole, self._partial, self._trash):
            folder.mkdir(exist_ok=True)
        self._numbers = count()
        self._moving = Lock()
        """A model's folder is made for its first version and removed after its last, by different threads."""

    def directory(self, revision: Revision) -> Path:
        """Where a revision is when it is whole."""
        return self.root / revision.name / _folder(revision)

    def partial(self, revision: Revision) -> Path:
        """Where it is until then: a folder that is there, with what an earlier try left. Raises `OSError`."""
        folder = self._partial / revision.name / _folder(revision)
        with self._moving:
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def size_bytes(self, revision: Revision) -> int | None:
        """What a whole revision takes; None where it is not here."""
        marked = _read_mark(self._mark(revision), revision) if self.directory(revision).is_dir() else None
        return None if marked is None else sum(marked.values())

    def sweep(self) -> Iterator[Kept]:
        """Remove what an earlier life left behind and tell what it left whole."""
        self.empty_trash()
        for directory in self.root.glob("[!.]*/*"):
            found = _FOLDER.fullmatch(directory.name)
            if found is None:
                continue
            revision = Revision(name=directory.parent.name, version=int(found["version"]), digest=found["digest"])
            marked, there = _read_mark(self._mark(revision), revision), sizes(directory)
            # A machine that lost its power may have the names of files and not all of their bytes. What user code left
            # beside them is no fault, and counts.
            if marked is not None and marked.items() <= there.items():
                yield Kept(revision=revision, directory=str(directory), size_bytes=sum(there.values()))
            else:
                self.discard(directory)
        self.empty_trash()

    def place(self, revision: Revision, built: Path) -> int:
        """Make what was built the revision's directory; returns its bytes. Raises `OSError`."""
        target, taken = self.directory(revision), sizes(built)
        if target.exists():  # a process ended between the rename and the mark
            self.discard(target)
        with self._moving:
            target.parent.mkdir(exist_ok=True)
            built.rename(target)
        try:
            self._write_mark(revision, taken)
        except OSError:
            self.delete(self.discard(target))
            raise
        return sum(taken.values())

    def _write_mark(self, revision: Revision, files: Mapping[str, int]) -> None:
        mark = self._mark(revision)
        mark.parent.mkdir(exist_ok=True)
        new = mark.with_name(f"{mark.name}.new")
        new.write_text(json.dumps({"format": _FORMAT, **asdict(revision), "files": files}), encoding="utf-8")
        new.replace(mark)

    def discard(self, directory: Path) -> Path | None:
        """Take a directory out of its place at once; its bytes are free after `empty_trash` or `delete`.

        Raises `ValueError` for what is no directory of this cache.
        """
        inside = directory.relative_to(self.root)
        if len(inside.parts) < 2 or ".." in inside.parts or inside.parts[0] in (".whole", ".trash"):
            raise ValueError(f"{directory} is no model's directory")
        if inside.parts[0] != ".partial":
            (self._whole / inside).unlink(missing_ok=True)
        while True:
            away = self._trash / str(next(self._numbers))
            if not away.exists():
                break
        with self._moving:
            try:
                directory.rename(away)
            except FileNotFoundError:
                return None
            with suppress(OSError):
                directory.parent.rmdir()  # the model's folder, after its last version
        return away

    def delete(self, away: Path | None) -> bool:
        """Free the bytes of what was discarded, if anything was; returns whether nothing of it is left."""
        if away is not None:
            shutil.rmtree(away, ignore_errors=True)
        return away is None or not away.exists()

    def empty_trash(self) -> None:
        """Free the bytes of all that was discarded."""
        for away in self._trash.iterdir():
            self.delete(away)

    def leftovers(self, running: Collection[Revision]) -> list[Path]:
        """What was begun and not finished, and is none of `running`."""
        busy = {self._partial / revision.name / _folder(revision) for revision in running}
        return [folder for folder in self._partial.glob("*/*") if folder not in busy]

    def _mark(self, revision: Revision) -> Path:
        return self._whole / revision.name / _folder(revision)


def sizes(directory: Path) -> dict[str, int]:
    """The bytes of every file below a directory, as far as they can be seen."""
    found: dict[str, int] = {}
    for folder, _, files in os.walk(directory):
        for name in files:
            path = os.path.join(folder, name)  # noqa: PTH118 - there may be tens of thousands
            with suppress(FileNotFoundError):
                found[os.path.relpath(path, directory)] = os.lstat(path).st_size
    return found


def _folder(revision: Revision) -> str:
    return f"{revision.version}-{revision.digest}"


def _read_mark(mark: Path, revision: Revision) -> dict[str, int] | None:
    """The files of a revision with their sizes; None where there is no mark of it."""
    try:
        fields = json.loads(mark.read_bytes())
        files = fields.pop("files")
    except (OSError, ValueError, KeyError, AttributeError):
        return None
    if fields != {"format": _FORMAT, **asdict(revision)} or not isinstance(files, dict):
        return None
    return files
