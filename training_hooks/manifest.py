"""manifest.json: what an artifact holds, written last, so that its presence means that all the rest is there."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .arguments import kind_of
from .errors import ArtifactError
from .file_tree import check_relative_name

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1
MAX_MANIFEST_BYTES = 64 << 20

_CHUNK_BYTES = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Readable(Protocol):
    """What can be read in order."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, at most `size`; all that are left for -1, none at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """What the manifest says about one file."""

    sha256: str
    size_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Return the entry as it stands in manifest.json."""
        return {"sha256": self.sha256, "size_bytes": self.size_bytes}


def measure_file(path: Path, on_read: Callable[[int], object] = lambda _: None) -> FileEntry:
    """Hash a file in pieces; `on_read` is told the number of bytes of each piece."""
    digest = hashlib.sha256()
    size_bytes = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
            on_read(len(chunk))
    return FileEntry(sha256=digest.hexdigest(), size_bytes=size_bytes)


class HashingReader:
    """Hashes and reports what somebody else reads through it, once and in order."""

    def __init__(self, file: Readable, on_read: Callable[[int], object]) -> None:
        self.sha256 = hashlib.sha256()
        self._file = file
        self._on_read = on_read

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size`."""
        data = self._file.read(size)
        self.sha256.update(data)
        self._on_read(len(data))
        return data


def dump_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Return the manifest's bytes: UTF-8 JSON, sorted keys, so that equal manifests are equal files."""
    return (json.dumps(manifest, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read and check `manifest.json` of a model directory.

    Raises:
        ArtifactError: when it is missing, not JSON, of another format version, or names files outside the directory.
    """
    path = directory / MANIFEST_NAME
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ArtifactError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes: this is no manifest")
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{directory} has no {MANIFEST_NAME}") from None
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"{path} cannot be read as JSON: {error}") from None
    if not isinstance(manifest, dict):
        raise ArtifactError(f"{path} is {kind_of(manifest)}; a manifest is an object")
    if "format_version" not in manifest:
        raise ArtifactError(
            f'{path} has no "format_version"; write "format_version": {FORMAT_VERSION} into it, or give the file '
            "another name if it is another tool's"
        )
    if manifest["format_version"] != FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has the format version {manifest['format_version']!r}; this release knows {FORMAT_VERSION}, and a "
            "manifest of something else cannot have this name"
        )
    listed_files(manifest, path)
    return manifest


def section(manifest: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object that stands under `key`; an empty one where there is none, as in what a person wrote."""
    value = manifest.get(key)
    return value if isinstance(value, dict) else {}


def listed_files(manifest: Mapping[str, Any], path: Path) -> dict[str, FileEntry]:
    """Return the manifest's `files`, checked; none where a person wrote it. `path` names the manifest in errors."""
    files = manifest.get("files", {})
    if not isinstance(files, dict):
        raise ArtifactError(f"{path}: 'files' is {kind_of(files)}; it must be an object")
    entries: dict[str, FileEntry] = {}
    for name, entry in files.items():
        check_relative_name(name)
        sha256 = entry.get("sha256") if isinstance(entry, dict) else None
        size_bytes = entry.get("size_bytes") if isinstance(entry, dict) else None
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise ArtifactError(f"{path} gives no SHA-256 for {name!r}")
        if not isinstance(size_bytes, int) or isinstance(size_bytes, bool) or size_bytes < 0:
            raise ArtifactError(f"{path} gives no size for {name!r}")
        entries[name] = FileEntry(sha256=sha256, size_bytes=size_bytes)
    return entries


def verify_file(name: str, path: Path, expected: FileEntry, on_read: Callable[[int], object] = lambda _: None) -> None:
    """Raise `ArtifactError` unless the file is the one the manifest speaks of (size first, it is cheaper)."""
    if not path.is_file():
        raise ArtifactError(f"{name!r} is listed in {MANIFEST_NAME} but missing from {path.parent}")
    size_bytes = path.stat().st_size
    if size_bytes != expected.size_bytes:
        raise ArtifactError(f"{path} has {size_bytes} bytes, but {MANIFEST_NAME} says {expected.size_bytes}")
    if measure_file(path, on_read) != expected:
        raise ArtifactError(f"{path} has changed since it was saved: its SHA-256 is not the one in {MANIFEST_NAME}")
