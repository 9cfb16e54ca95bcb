"""Folders for the life of the server, below TMPDIR."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tidegate.inference.errors import DeploymentError


def new_folder(what: str, prefix: str) -> tempfile.TemporaryDirectory[str]:
    """A folder for `what`, removed with all that is in it. Raises `DeploymentError` where none can be made."""
    try:
        return tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)
    except OSError as error:
        # Where no candidate can be written, Python's own text lists them all and there is no file name.
        tried = f"{Path(error.filename).parent}: {error.strerror}" if error.filename else error.strerror
        raise DeploymentError(
            f"{what} cannot be put anywhere ({tried}); set TMPDIR to a directory that can be written."
        ) from None
