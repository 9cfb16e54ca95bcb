"""How an artifact comes into its directory: staged beside it, then renamed into place, all or nothing.

How a save goes, and what holds when it is interrupted at each point:

1. check    everything the caller gave is checked and converted      nothing was written
2. stage    all files are written and synced below `.save-…/`, its   the previous artifact is untouched
            own manifest last
3. commit   the files are renamed into place, manifest.json last     who verifies the manifest sees the previous
                                                                     artifact or a mismatch, never a mixture
4. tidy     files of the previous artifact that are no longer        the new artifact is complete
            listed are removed

Several files cannot be renamed in one step, and `/opt/ml/model` is a mount point that cannot be swapped as a whole. So
a kill during step 3 (a few renames) leaves a directory that the server refuses; the complete staging directory is
still there, and the next save or `pack` on the directory finishes the renames. It finishes step 4 as well, because
what a killed one left would lie beside the new model and be packed with it.
"""

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from .durable_files import move_into_place, sync_directory, sync_file, write_file
from .errors import ArtifactError
from .file_tree import STAGING_PREFIX
from .manifest import MANIFEST_NAME, dump_manifest, listed_files, measure_file, read_manifest

_UNCOMMITTED = STAGING_PREFIX + "manifest"  # no file of an artifact bears such a name
_OBSOLETE = STAGING_PREFIX + "obsolete"
_BUSY = "another process is saving or packing {}; in distributed training call save_model on rank 0"
_OTHER_READER_S = 2.0  # the renames by which another reader finishes an interrupted save


class Stage:
    """A directory that becomes an artifact. What is added here is listed; what user code leaves beside it is not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []

    def write(self, name: str, data: bytes) -> None:
        """Add a file of these bytes."""
        write_file(self.path / name, data)
        self.names.append(name)

    def take(self, name: str) -> None:
        """Add the file that something else wrote under this name."""
        sync_file(self.path / name)
        self.names.append(name)


@contextlib.contextmanager
def staging(target: Path, manifest: dict[str, Any]) -> Iterator[Stage]:
    """Yield an empty stage; when the block has filled it, it becomes the artifact in `target`, with `manifest`.

    The block may change the manifest, to which size and SHA-256 of each file are added. When it raises, the previous
    artifact stays as it was.
    """
    target.mkdir(parents=True, exist_ok=True)
    with exclusive(target):
        finish_interrupted_save(target)
        stage = Stage(Path(tempfile.mkdtemp(prefix=STAGING_PREFIX, dir=target)))
        try:
            yield stage
            _check_room(target, stage.names)
            manifest["files"] = {name: measure_file(stage.path / name).as_json() for name in sorted(stage.names)}
            write_file(stage.path / _UNCOMMITTED, dump_manifest(manifest))
            sync_directory(stage.path)
        except BaseException:
            shutil.rmtree(stage.path, ignore_errors=True)
            raise
        # From here on the staging directory is complete: an interruption is finished, not undone, by the next call.
        move_into_place(stage.path / _UNCOMMITTED, stage.path / MANIFEST_NAME)
        _commit(stage.path, target)


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold the directory's lock: one save at a time. The lock is on the directory itself and leaves no file."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtifactError(_BUSY.format(directory)) from None
        except OSError:
            pass  # a file system without locks; the renames stay atomic one by one
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reading(directory: Path) -> Iterator[None]:
    """Keep saves away from a directory while it is read, by any number of processes; one that was killed is finished.

    Raises:
        ArtifactError: another process is saving.
    """
    deadline = time.monotonic() + _OTHER_READER_S
    while any(directory.glob(STAGING_PREFIX + "*")):
        try:
            with exclusive(directory):
                finish_interrupted_save(directory)
        except ArtifactError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)  # another reader that finishes it, or a save
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ArtifactError(_BUSY.format(directory)) from None
                time.sleep(0.05)
            except OSError:
                break  # a file system without locks; a file that changes is found by its hash
        yield
    finally:
        os.close(descriptor)


def finish_interrupted_save(target: Path) -> None:
    """Finish the renames of a save that was killed in the middle of them, and remove what other kills left.

    The caller holds the lock. Afterwards the directory holds one complete artifact, or none if there never was one.
    """
    for stage in sorted(target.glob(STAGING_PREFIX + "*")):
        if (stage / MANIFEST_NAME).is_file():
            _commit(stage, target)
        elif (stage / _OBSOLETE).is_file():
            _tidy(stage, target)
        else:
            shutil.rmtree(stage)


def _commit(stage: Path, target: Path) -> None:
    """Move the staged files to their names, the manifest last; each step may already have been done."""
    new = listed_files(read_manifest(stage), stage / MANIFEST_NAME)
    try:
        old = listed_files(read_manifest(target), target / MANIFEST_NAME)
    except ArtifactError:
        old = {}  # none yet, or not one of ours: nothing to tidy
    (stage / _OBSOLETE).unlink(missing_ok=True)  # of a kill in the middle of writing it
    write_file(stage / _OBSOLETE, json.dumps(sorted(old.keys() - new.keys())).encode())
    for file_name in new:
        if (stage / file_name).exists():
            move_into_place(stage / file_name, target / file_name)
    move_into_place(stage / MANIFEST_NAME, target / MANIFEST_NAME)
    _tidy(stage, target)


def _tidy(stage: Path, target: Path) -> None:
    """Remove the files of the previous artifact that the new one does not list, and last the stage itself."""
    for file_name in json.loads((stage / _OBSOLETE).read_bytes()):
        (target / file_name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # not empty: something else lives there
            for parent in [*Path(file_name).parents][:-1]:
                (target / parent).rmdir()
    shutil.rmtree(stage)


def _check_room(target: Path, file_names: Collection[str]) -> None:
    """Find before the first rename what would stop a later one."""
    for file_name in [*file_names, MANIFEST_NAME]:
        path = target / file_name
        if path.is_dir():
            raise ArtifactError(f"{path} is a directory; a file of that name has to be written")
        for parent in path.relative_to(target).parents:
            if (target / parent).exists() and not (target / parent).is_dir():
                raise ArtifactError(f"{target / parent} is a file; a directory of that name has to be made")
