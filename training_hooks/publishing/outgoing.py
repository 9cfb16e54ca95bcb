"""What is published: the files of one version, measured, and the manifest that goes last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tidegate.training_hooks.errors import ArtifactError
from tidegate.training_hooks.manifest import FileEntry, HashingReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One version on its way.

    Attributes:
        files: the path of each file, by the name that it has in the model.
        entries: what the manifest says of each, as it was read and verified before.
        manifest: its bytes.
    """

    files: Mapping[str, Path]
    entries: Mapping[str, FileEntry]
    manifest: bytes

    @property
    def size_bytes(self) -> int:
        """Of the files, without the manifest."""
        return sum(entry.size_bytes for entry in self.entries.values())


def check_read(path: Path, reader: HashingReader, expected: FileEntry) -> None:
    """Raise `ArtifactError` where what was read for the repository is not what was read for the manifest."""
    if reader.sha256.hexdigest() != expected.sha256:
        raise ArtifactError(f"{path} changed while it was published; publish again when nothing writes to it")
