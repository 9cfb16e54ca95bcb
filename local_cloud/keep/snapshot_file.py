"""The picture on disk: a line of JSON that says who wrote it and what follows, and then a pickle.

It is written beside the old one, brought to the disk and put in its place, so that there is always a whole one. It is
read only by what wrote it: a pickle holds objects of moto and of this project, whose classes are others in another
version.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidegate.local_cloud.keep.errors import KeepError, reason

_KIND = "state of a local cloud"
_LONGEST_HEADER = 64 * 1024
_WAY_OUT = "nothing was deleted; `tidegate cloud down --delete` removes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a file holds: its pickle, and what its first line says beside who wrote it."""

    payload: bytes
    notes: Mapping[str, Any]


@functools.cache
def writer() -> Mapping[str, str]:
    """Whose pickles can be read: the versions, and a digest of the sources of the local cloud."""
    digest = hashlib.sha256()
    home = Path(__file__).parents[1]
    for source in sorted(home.rglob("*.py")):
        digest.update(str(source.relative_to(home)).encode() + b"\0" + source.read_bytes() + b"\0")
    return {
        "tidegate": _version("tidegate"),
        "local_cloud": digest.hexdigest()[:16],
        "moto": _version("moto"),
        "python": ".".join(platform.python_version_tuple()[:2]),
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # it only lies in the working directory
        return "not installed"


def write(path: Path, picture: Picture) -> None:
    """Puts a picture in the place of the one that is there. Raises OSError; the old one is then as it was."""
    header = {
        "kind": _KIND,
        "writer": writer(),
        "bytes": len(picture.payload),
        "sha256": hashlib.sha256(picture.payload).hexdigest(),
        "notes": picture.notes,
    }
    draft = path.with_suffix(".draft")
    try:
        descriptor = os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps(header).encode() + b"\n")
            file.write(picture.payload)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path) -> Picture | None:
    """The picture; None where there is none. Raises :class:`KeepError` for one that cannot be trusted."""
    try:
        with path.open("rb") as file:
            first, payload = file.readline(_LONGEST_HEADER), file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeepError(f"the kept state cannot be read: {reason(error)}") from error
    header = _header(path, first)
    if header["writer"] != writer():
        raise KeepError(
            f"{path} was written by {_named(header['writer'])}, and this is {_named(writer())}: start it with those"
            f" versions; {_WAY_OUT}"
        )
    if len(payload) != header["bytes"]:
        raise KeepError(f"{path} is damaged: it has {len(payload)} of {header['bytes']} bytes; {_WAY_OUT}")
    if hashlib.sha256(payload).hexdigest() != header["sha256"]:
        raise KeepError(f"{path} is damaged: its bytes are not those that were written; {_WAY_OUT}")
    return Picture(payload=payload, notes=header["notes"])


def notes(path: Path) -> Mapping[str, Any]:
    """What the first line says; empty where there is no picture, or none that can be read."""
    try:
        with path.open("rb") as file:
            found: Mapping[str, Any] = _header(path, file.readline(_LONGEST_HEADER))["notes"]
            return found
    except (OSError, KeepError):
        return {}


def _header(path: Path, line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
        known = header["kind"] == _KIND
        _ = header["writer"], header["bytes"], header["sha256"], header["notes"]
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise KeepError(f"{path} is damaged: it does not begin as the state of a local cloud does; {_WAY_OUT}")
    return dict(header)


def _named(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
