"""Models that tell who they are, and repositories of them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from benchmarks.environments import REQUIREMENTS

SCRIPT = REQUIREMENTS / "repository" / "inference.py"
SMALL = 256
"""Marks of a small model: a kilobyte of weights."""


def mark_of(name: str, version: int, content: int = 0) -> int:
    """What every weight of one content of one version is; a float holds it exactly."""
    return int.from_bytes(hashlib.sha256(f"{name}/{version}/{content}".encode()).digest()[:2]) + 1


def model_dir(place: Path, mark: int, marks: int = SMALL) -> Path:
    """A model as a training job leaves it: weights and code, `4 * marks` bytes of the former."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "code").mkdir(parents=True)
    shutil.copy(SCRIPT, place / "code" / "inference.py")
    torch.save({"marks": torch.full((marks,), float(mark))}, place / "model.pth")
    return place


def write_version(place: Path, mark: int, marks: int = SMALL) -> None:
    """A version as `publish` leaves it, for thousands of them: its files, and the manifest last."""
    model_dir(place, mark, marks)
    write_manifest(place)


def write_manifest(place: Path) -> None:
    """Name, size and SHA-256 of every file."""
    files: dict[str, Any] = {}
    for path in sorted(each for each in place.rglob("*") if each.is_file()):
        content = path.read_bytes()
        listed = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        files[path.relative_to(place).as_posix()] = listed
    unfinished = place / ".manifest.new"
    unfinished.write_text(json.dumps({"format_version": 1, "files": files}))
    unfinished.rename(place / "manifest.json")


def names(count: int) -> list[str]:
    """Of so many models."""
    return [f"m{number:05}" for number in range(count)]


def fill(repository: Path, count: int, marks: int = SMALL) -> list[str]:
    """A repository of models with one version each; returns their names."""
    shutil.rmtree(repository, ignore_errors=True)
    for name in names(count):
        write_version(repository / name / "1", mark_of(name, 1), marks)
    return names(count)


def fill_with_copies(repository: Path, count: int, own: int) -> list[str]:
    """As `fill`, with `own` models that are different; the files of all others are links to those of the last of them,
    with what it answers."""
    known = fill(repository, min(own, count))
    last = repository / known[-1] / "1"
    files = [path.relative_to(last) for path in last.rglob("*") if path.is_file()]
    for name in names(count)[own:]:
        version = repository / name / "1"
        for path in files:
            (version / path).parent.mkdir(parents=True, exist_ok=True)
            os.link(last / path, version / path)
    return names(count)
