"""Repositories to publish into, looked at by code that shares nothing with the code under test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from .s3_server import BUCKET, S3


class Place(Protocol):
    """A repository that tests look into and write to."""

    address: str

    def files(self) -> dict[str, bytes]:
        """Every file, by its name relative to the repository."""

    def put(self, name: str, data: bytes) -> None:
        """Write one, as other tools would."""

    def remove(self, name: str) -> None:
        """Remove one."""


class FolderPlace:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.address = str(root)

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and not path.is_symlink()
        }

    def put(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def remove(self, name: str) -> None:
        (self.root / name).unlink()


class BucketPlace:
    """A prefix of a bucket, whose processes have the server's variables."""

    def __init__(self, s3: S3, prefix: str) -> None:
        self.s3 = s3
        self.prefix = f"{prefix}/"
        self.address = f"s3://{BUCKET}/{prefix}"

    def files(self) -> dict[str, bytes]:
        return self.s3.objects(self.prefix)

    def put(self, name: str, data: bytes) -> None:
        self.s3.client().put_object(Bucket=BUCKET, Key=self.prefix + name, Body=data)

    def remove(self, name: str) -> None:
        self.s3.client().delete_object(Bucket=BUCKET, Key=self.prefix + name)


def served(files: Mapping[str, bytes], model: str = "net") -> dict[str, str]:
    """What a server would make of each version of a model, by the rules of docs/guides/models.md.

    The content of `weights` where the version is whole; `broken` where its manifest speaks of other files; `foreign`
    where it has neither manifest nor mark, and would be served once it stays the same.
    """
    versions: dict[str, dict[str, bytes]] = {}
    for name, data in files.items():
        top, _, rest = name.partition("/")
        number, slash, file = rest.partition("/")
        if top == model and slash and number.isdecimal():
            versions.setdefault(number, {})[file] = data
    found = {}
    for number, parts in versions.items():
        if "manifest.json" in parts:
            found[number] = parts["weights"].decode() if _is_whole(parts) else "broken"
        elif ".unfinished" not in parts:
            found[number] = "foreign"
    return found


def _is_whole(parts: Mapping[str, bytes]) -> bool:
    listed = json.loads(parts["manifest.json"])["files"]
    return parts.keys() - {"manifest.json", ".unfinished"} == listed.keys() and all(
        len(parts[name]) == entry["size_bytes"] and hashlib.sha256(parts[name]).hexdigest() == entry["sha256"]
        for name, entry in listed.items()
    )


def write_model(directory: Path, weights: str) -> Path:
    """A model of three files, by other tools than ours."""
    for name, text in {"weights": weights, "code/inference.py": "# four functions", "empty": ""}.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory
