"""The folder `kept` of a state directory: its being there is the mark that the cloud remembers.

kept/
  snapshot       the whole state but the objects of S3, as of one moment (snapshot_file.py)
  objects.log    what became of each object of S3, record after record (kept_objects.py)
  objects/       their contents, one file each
  journal        the changes that were begun and have no answer yet (journal.py)
  metrics        the metrics of this cloud's own services, line by line (metrics/kept_metrics.py)

Reading a pickle runs code, so this folder is read only if it is ours and nobody else can enter it.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from tidegate.local_cloud.keep.errors import KeepError, reason

_MODE = 0o700


@dataclass(frozen=True, slots=True)
class KeptDirectory:
    """The folder and the places in it."""

    path: Path

    @property
    def snapshot(self) -> Path:
        return self.path / "snapshot"

    @property
    def object_log(self) -> Path:
        return self.path / "objects.log"

    @property
    def objects(self) -> Path:
        return self.path / "objects"

    @property
    def journal(self) -> Path:
        return self.path / "journal"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics"

    @property
    def is_there(self) -> bool:
        return os.path.lexists(self.path)

    def make(self) -> None:
        """Makes the folder, unless it is there. Raises :class:`KeepError`."""
        try:
            self.path.mkdir(mode=_MODE, exist_ok=True)
            self.check()
            self.objects.mkdir(mode=_MODE, exist_ok=True)
        except OSError as error:
            raise KeepError(f"what is to be kept cannot be written: {reason(error)}") from error

    def check(self) -> None:
        """Raises :class:`KeepError` for a folder that somebody else could have written to."""
        found = os.lstat(self.path)
        if not stat.S_ISDIR(found.st_mode):
            raise KeepError(f"{self.path} is not a directory, so nothing is read from it; move it away")
        if found.st_uid != os.geteuid():
            raise KeepError(f"{self.path} belongs to another user (id {found.st_uid}), so nothing is read from it")
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise KeepError(
                f"{self.path} is open to other users (mode {stat.S_IMODE(found.st_mode):o}), so nothing is read from"
                f" it; if all in it is yours: chmod 700 {self.path}"
            )
