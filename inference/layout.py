"""Where things are in a model directory. Both rooms look there; neither needs the other for it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

CODE = "code"
MANIFEST = "manifest.json"
FORMAT_VERSION = 1
"""Of the manifest, in an entry of this name: only ours have one, and another version is not read."""
MLMODEL = "MLmodel"
REQUIREMENTS = "requirements.txt"
WHEELS = "wheels"
LIBRARIES = "lib"


def model_root(model_dir: Path) -> Path:
    """The directory that holds the model's files.

    An archive that was packed with its folder around it holds exactly one directory; TorchServe looked inside, and so
    do we, unless it is `code/` itself. Raises `OSError` where the directory cannot be read.
    """
    entries = [entry for entry in model_dir.iterdir() if not entry.name.startswith(".")]
    if len(entries) == 1 and entries[0].is_dir() and entries[0].name != CODE:
        return entries[0]
    return model_dir


def linked(model_dir: Path, limit: int = 3) -> str:
    """A sentence that names symbolic links in the directory, at most `limit` of them; empty where there are none."""
    links = list(islice(_links(model_dir), limit))
    if not links:
        return ""
    names = ", ".join(f"{path.relative_to(model_dir)} (to {path.readlink()})" for path in links)
    return (
        f"{model_dir} holds symbolic links, which SageMaker does not take in an archive: {names}; pack the files that "
        "they lead to (tar -h)."
    )


def _links(model_dir: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(model_dir):
        folders.sort()
        yield from (path for name in sorted([*folders, *files]) if (path := Path(folder, name)).is_symlink())


def unfit(model_dir: Path, limit: int = 3) -> str:
    """A sentence that names what cannot be read as a file, at most `limit` of it; empty where there is nothing such.

    That is a FIFO or a device, which a reader may wait for without end, and a directory where a file is looked for.
    """
    found = list(islice(_unfit(model_dir), limit))
    if not found:
        return ""
    names = ", ".join(f"{path.relative_to(model_dir)} (a {what})" for path, what in found)
    return f"{model_dir} holds what must be a regular file and is none: {names}; put the file there, or take it away."


def _unfit(model_dir: Path) -> Iterator[tuple[Path, str]]:
    try:
        root = model_root(model_dir)
    except OSError:
        return  # the worker says why
    for name in (MANIFEST, f"{CODE}/{REQUIREMENTS}"):
        with suppress(PermissionError):  # who reads it says so
            if (root / name).is_dir():
                yield root / name, "directory"
    for folder, folders, files in os.walk(model_dir):
        folders.sort()
        for path in (Path(folder, name) for name in sorted(files)):
            if (what := _special(path)) is not None:
                yield path, what


def _special(path: Path) -> str | None:
    try:
        found = path.stat()
    except OSError:
        return None
    if stat.S_ISFIFO(found.st_mode):
        return "FIFO"
    # The null device, by which containers hide files, reads as an empty one.
    is_device = stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)
    return "device" if is_device and found.st_rdev != Path(os.devnull).stat().st_rdev else None
