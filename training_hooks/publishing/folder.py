"""A repository in a folder: a version comes and goes by one rename, so nobody ever sees half of one.

publish   files, then manifest.json, into NAME/.publishing.…   ─ rename ─▶   NAME/VERSION
retire    NAME/VERSION   ─ rename ─▶   NAME/.retired.…, which is then removed

What a killed process leaves bears a hidden name, and the next publish or retire of that model removes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from tidegate.training_hooks.durable_files import replacing, sync_directory, write_file
from tidegate.training_hooks.errors import ArtifactError
from tidegate.training_hooks.manifest import MANIFEST_NAME, HashingReader
from tidegate.training_hooks.unfinished_files import hidden_name, remove_abandoned, unfinished_directory

from .contents import (
    PublishedModel,
    State,
    Stored,
    check_takes_versions,
    exists_already,
    is_one_model,
    models_of,
    no_version,
    numbers_of,
    state_of,
)
from .names import ARCHIVE_SUFFIX, LABELS_NAME, LAST_VERSION, is_hidden
from .outgoing import Outgoing, check_read
from .version_labels import dump_labels, labels_of, may_retire, read_labels, without_label, without_version

_COPIED_BYTES = 1 << 20
_TOUCHED_BYTES = 256 << 20  # so that another machine, which may not see the lock, sees that the copy goes on
_LOCK_S = 30.0


class Folder:
    """The repository in `root`, which is made by the first publish."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.address = str(root)

    def models(self) -> tuple[PublishedModel, ...]:
        """Everything that is there."""
        if not self._root.is_dir():
            raise ArtifactError(f"there is no repository {self._root}")
        stored: dict[str, Stored] = {}
        labels_files: dict[str, bytes] = {}
        for directory, names, files in os.walk(self._root, followlinks=True):
            names[:] = [name for name in names if not is_hidden(name)]
            for file in files:
                path = Path(directory, file)
                with contextlib.suppress(FileNotFoundError):  # retired meanwhile
                    found = path.stat()
                    name = path.relative_to(self._root).as_posix()
                    stored[name] = Stored(found.st_size, datetime.fromtimestamp(found.st_mtime, UTC))
                    if file == LABELS_NAME and name.count("/") <= 1:
                        labels_files[name.rpartition("/")[0]] = path.read_bytes()
        return models_of(stored, labels_files)

    def publish(self, name: str, version: int | None, model: Outgoing, on_bytes: Callable[[int], object]) -> int:
        """Copy a model; it is there when this returns its number, and not before."""
        self._check_is_repository()
        directory = self._root / name
        if (self._root / f"{name}{ARCHIVE_SUFFIX}").exists():
            raise ArtifactError(f"{directory}{ARCHIVE_SUFFIX} is an unversioned model; publish under another name")
        directory.mkdir(parents=True, exist_ok=True)
        try:
            names = _names_in(directory)
            check_takes_versions(name, str(directory), names)
            if version is not None and version in numbers_of(names) and not _is_empty(directory / str(version)):
                raise exists_already(str(directory), version)
            remove_abandoned(directory, ".*.tmp")
            with unfinished_directory(directory, "publishing") as stage:
                _copy(model, stage, on_bytes)
                return self._give_number(stage, directory, version)
        finally:
            with contextlib.suppress(OSError):  # not empty, as it should be
                directory.rmdir()

    def retire(self, name: str, version: int, *, drop_labels: bool) -> None:
        """Take a version away, all at once."""
        directory = self._existing(name)
        remove_abandoned(directory, ".*.tmp")
        with _locked(directory):
            path = self._version_path(directory, version)
            labels = _labels(directory)
            if drop_labels and labels_of(labels, version):
                labels = without_version(labels, version)
                _write_labels(directory, labels)
            may_retire(labels, str(directory), version)
            _write(directory / LAST_VERSION, f"{max(version, _last_version(directory))}\n".encode())
            gone = hidden_name(directory, "retired")
            path.rename(gone)
            sync_directory(directory)
        if gone.is_dir():
            shutil.rmtree(gone, ignore_errors=True)
        else:
            gone.unlink(missing_ok=True)

    def set_label(self, name: str, version: int, label: str) -> None:
        """Let a label mean a version that is there."""
        directory = self._existing(name)
        with _locked(directory):
            self._version_path(directory, version)
            _write_labels(directory, _labels(directory) | {label: version})

    def remove_label(self, name: str, label: str) -> None:
        """Let a label mean nothing any more."""
        directory = self._existing(name)
        with _locked(directory):
            _write_labels(directory, without_label(_labels(directory), label, str(directory)))

    def labels(self, name: str) -> dict[str, int]:
        """The labels of a model; none where there is no such model."""
        return _labels(self._root / name)

    def shares_code(self) -> bool:
        """Whether the repository has a script for models that bring none."""
        return (self._root / "code" / "inference.py").is_file()

    def _check_is_repository(self) -> None:
        if self._root.is_dir() and is_one_model(_names_in(self._root)):
            raise ArtifactError(f"{self._root} is a model itself; give the folder above it as the repository")

    def _existing(self, name: str) -> Path:
        if not self._root.is_dir():
            raise ArtifactError(f"there is no repository {self._root}")
        self._check_is_repository()
        directory = self._root / name
        if not directory.is_dir():
            raise ArtifactError(f"{self._root} has no model {name!r} with versions")
        return directory

    def _version_path(self, directory: Path, version: int) -> Path:
        folder, archive = directory / str(version), directory / f"{version}{ARCHIVE_SUFFIX}"
        if folder.is_dir() and state_of(_names_in(folder)) in (State.PUBLISHED, State.FOREIGN):
            return folder
        if archive.is_file():
            return archive
        raise no_version(str(directory), version, _names_in(directory))

    def _give_number(self, stage: Path, directory: Path, version: int | None) -> int:
        while True:
            number = version
            if number is None:
                taken = numbers_of(_names_in(directory))
                number = max([0, *taken, _last_version(directory)]) + 1
            try:
                # Only an empty folder is ever replaced by a rename of a folder: of two publishers, one gets the number.
                stage.rename(directory / str(number))
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise
                if version is not None:
                    raise exists_already(str(directory), version) from None
                continue
            sync_directory(directory)
            sync_directory(self._root)
            return number


def _copy(model: Outgoing, stage: Path, on_bytes: Callable[[int], object]) -> None:
    untouched_bytes = 0

    def copied(count: int) -> None:
        nonlocal untouched_bytes
        on_bytes(count)
        untouched_bytes += count
        if untouched_bytes >= _TOUCHED_BYTES:
            untouched_bytes = 0
            os.utime(stage)

    for name, path in model.files.items():
        target = stage / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as file, target.open("xb") as copy:
            reader = HashingReader(file, copied)
            shutil.copyfileobj(reader, copy, _COPIED_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
        check_read(path, reader, model.entries[name])
        size_bytes = target.stat().st_size
        if size_bytes != model.entries[name].size_bytes:
            raise ArtifactError(f"{target} has {size_bytes} bytes after it was copied from {path}; publish again")
    write_file(stage / MANIFEST_NAME, model.manifest)
    for folder in [stage, *(path for path in stage.rglob("*") if path.is_dir())]:
        sync_directory(folder)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold the model's lock, for what changes its labels or takes a version away."""
    deadline = time.monotonic() + _LOCK_S
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ArtifactError(f"another process holds {directory} for {_LOCK_S:.0f} s; try again") from None
                time.sleep(0.01)
                continue
            except OSError:
                pass  # a file system without locks; each file is still replaced as a whole
            break
        yield
    finally:
        os.close(descriptor)


def _labels(directory: Path) -> dict[str, int]:
    try:
        data = (directory / LABELS_NAME).read_bytes()
    except FileNotFoundError:
        data = None
    return read_labels(data, str(directory))


def _write_labels(directory: Path, labels: dict[str, int]) -> None:
    _write(directory / LABELS_NAME, dump_labels(labels))


def _write(path: Path, data: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _last_version(directory: Path) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int((directory / LAST_VERSION).read_bytes())
    return 0


def _names_in(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208 - names are what is asked for
    except FileNotFoundError:  # removed meanwhile
        return []


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not _names_in(path)
