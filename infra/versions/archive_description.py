"""What an archive says about itself, read from its bytes as they pass by. Nothing in it is unpacked to disk."""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, cast

from tidegate.infra.configuration import ConfigurationError

_MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveDescription:
    """Digests are hexadecimal SHA-256. `metrics` are the numbers that the training script saved with the model."""

    sha256: str
    size_bytes: int
    manifest_sha256: str
    metrics: Mapping[str, float]
    # Of the request that the archive carries as its example; None without one.
    example_content_type: str | None


def describe(file: IO[bytes], name: str) -> ArchiveDescription:
    """Read a `model.tar.gz` from its first byte to its last. Raises `ConfigurationError` where it is none."""
    source = _Measured(file)
    manifest: bytes | None = None
    try:
        with tarfile.open(fileobj=cast(IO[bytes], source), mode="r|gz") as archive:
            for member in archive:
                if member.isfile() and member.name.removeprefix("./") == _MANIFEST:
                    manifest = _content(archive, member)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ConfigurationError(f"{name} is no model.tar.gz: {error}; pack it with 'tidegate pack'") from None
    while source.read(_CHUNK_BYTES):
        pass
    if manifest is None:
        raise ConfigurationError(f"{name} has no {_MANIFEST}; pack it with 'tidegate pack'")
    try:
        content = json.loads(manifest)
        metrics = {str(key): float(value) for key, value in content.get("metrics", {}).items()}
        content_type = content.get("example", {}).get("request", {}).get("content_type")
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{name} has a broken {_MANIFEST}: {error}; pack it anew") from None
    return ArchiveDescription(
        sha256=source.digest.hexdigest(),
        size_bytes=source.size_bytes,
        manifest_sha256=hashlib.sha256(manifest).hexdigest(),
        metrics=metrics,
        example_content_type=None if content_type is None else str(content_type),
    )


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    if member.size > _MAX_MANIFEST_BYTES:
        raise tarfile.ReadError(f"{_MANIFEST} has {member.size} bytes")
    file = archive.extractfile(member)
    return b"" if file is None else file.read()


class _Measured:
    """Passes bytes on, and counts and hashes them."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size)
        self.digest.update(chunk)
        self.size_bytes += len(chunk)
        return chunk
