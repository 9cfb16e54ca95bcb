"""Where things are in a model directory. Both rooms look there; neither needs the other for it."""

from __future__ import annotations

from pathlib import Path

CODE = "code"
MANIFEST = "manifest.json"
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
