"""Reading saved artifacts with code that shares nothing with the code under test."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import torch


def manifest_of(directory: Path) -> dict[str, Any]:
    """Return manifest.json."""
    manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def mismatches(directory: Path) -> list[str]:
    """Return the listed files that are missing or differ from the manifest: what a reader has to check."""
    wrong = []
    for name, entry in manifest_of(directory)["files"].items():
        path = directory / name
        data = path.read_bytes() if path.is_file() else None
        if data is None or len(data) != entry["size_bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            wrong.append(name)
    return wrong


def weights_of(directory: Path) -> dict[str, Any]:
    """Load model.pth as data."""
    state: dict[str, Any] = torch.load(directory / "model.pth", weights_only=True)
    return state


def names_below(directory: Path) -> list[str]:
    """Return the relative names of all files and directories, sorted."""
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*"))


def unpacked(archive: Path, directory: Path) -> Path:
    """Extract an archive of our own, and return the directory."""
    with tarfile.open(archive) as tar:
        tar.extraction_filter = lambda member, _: member
        tar.extractall(directory)  # noqa: S202
    return directory
