"""One model of a bucket, an archive or a folder, for a server that serves nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidegate.inference.errors import some_of
from tidegate.inference.layout import CODE, MANIFEST
from tidegate.inference.repository.file_names import files_fault
from tidegate.inference.repository.layout import ARCHIVE
from tidegate.inference.repository.listing import Entry
from tidegate.inference.repository.s3_store import S3Store
from tidegate.inference.repository.store import NotThere, Store
from tidegate.inference.repository.transfer import Transfer

_OF_A_JOB = "output/model.tar.gz"
"""Where a training job leaves its model, below the job's own prefix."""


class NoModel(Exception):
    """There is none at the address; the text is one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAt:
    """A model that was found, and can be brought to the disk."""

    store: Store
    files: Mapping[str, Entry]
    """By their names in the model; the archive alone where it is one."""
    is_archive: bool = False

    @property
    def address(self) -> str:
        """What people call the archive, or the folder."""
        return self.store.address(next(iter(self.files)) if self.is_archive else "")

    @property
    def size_bytes(self) -> int:
        """What it takes as it lies there."""
        return sum(entry.size_bytes for entry in self.files.values())

    def bring(self, folder: Path, progress: Callable[[int], None]) -> None:
        """Write the files below `folder`. Raises `StoreFailed` and `OSError`.

        `progress` is called often, with the bytes that have come.
        """
        before = 0
        transfer = Transfer(self.store, check=lambda have: progress(before + have), wait=time.sleep)
        for name, entry in self.files.items():
            transfer.bring(entry, folder / name, None)
            before += entry.size_bytes


def find(address: str) -> ModelAt:
    """The model at `s3://bucket/key.tar.gz` or `s3://bucket/prefix/`. Raises `NoModel` and `StoreFailed`."""
    above, _, name = address.removeprefix("s3://").rpartition("/")
    if name and above:
        store = S3Store.open(f"s3://{above}", connections=1)
        try:
            return ModelAt(store=store, files={name: store.find(name)}, is_archive=True)
        except NotThere:
            if name.endswith(ARCHIVE):
                raise
    return _below(S3Store.open(address, connections=1))


def _below(store: Store) -> ModelAt:
    files = {entry.path: entry for entry in store.list_all().entries if not entry.path.endswith("/")}
    where = store.address("")
    archive = archive_among(files)
    if archive:
        return ModelAt(store=store, files={archive: files[archive]}, is_archive=True)
    if fault := no_model_fault(files):
        raise NoModel(f"{where} {fault}")
    return ModelAt(store=store, files=files)


def archive_among(files: Mapping[str, Entry]) -> str:
    """The one file of a folder that is the whole model, empty where the files themselves are it."""
    if len(files) == 1 and (only := next(iter(files))).endswith(ARCHIVE) and "/" not in only:
        return only
    # A job has other folders, of its profiler say.
    of_a_job = _OF_A_JOB in files and all("/" in name and not name.startswith(f"{CODE}/") for name in files)
    return _OF_A_JOB if of_a_job else ""


def no_model_fault(files: Mapping[str, Entry]) -> str:
    """Why the files of a folder are no model, in words that follow its name."""
    if not files:
        return "holds nothing."
    if fault := files_fault(files):
        return f"cannot be brought here: {fault}"
    if MANIFEST in files:
        return ""
    folders = sorted({name.partition("/")[0] for name in files if "/" in name})
    loose = [name for name in files if "/" not in name]
    if folders and all(folder.isdecimal() for folder in folders) and CODE not in folders:
        return (
            f"holds versions, not one model: name one of them ({some_of([f'{folder}/' for folder in folders])}), or "
            "serve them all by TIDEGATE_MODEL_REPOSITORY."
        )
    if not folders and all(name.endswith(ARCHIVE) for name in loose):
        return (
            f"holds several archives: name one of them ({some_of(loose)}), or serve them all by "
            "TIDEGATE_MODEL_REPOSITORY."
        )
    return ""
