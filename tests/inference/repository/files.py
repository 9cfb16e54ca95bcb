"""Models as files: what publishing writes, and what other people's tools do."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path


def manifest_for(files: Mapping[str, bytes]) -> bytes:
    """A manifest.json that lists these files."""
    facts = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        for name, content in files.items()
    }
    return json.dumps({"format_version": 1, "files": facts}).encode()


def published(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files of a version with the manifest that commits them, which comes last."""
    return {**files, "manifest.json": manifest_for(files)}


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder, in their order."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def archive_of(files: Mapping[str, bytes]) -> bytes:
    """A model.tar.gz that holds these files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()
