"""What a file that is no model is instead, in words: what downloads, copies and full disks leave behind."""

from __future__ import annotations

from pathlib import Path

from tidegate.inference.model_files import onnx_header, zip_members

_STARTS = (
    (b"version https://git-lfs.github.com/spec/", "a pointer of Git LFS, whose file was not fetched"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"PK\x03\x04", "a zip that ends too early or is no model"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x93NUMPY", "a .npy array"),
    (b"\x7fELF", "a compiled library"),
    (b"<?xml", "an XML page"),
)
_HTML = (b"<!doctype html", b"<html")


def of_a_compiled_model(path: Path) -> str | None:
    """What a file is that cannot be read as ONNX, an exported program or a package; None where nothing says.

    Raises `OSError`.
    """
    if zip_members.names(path):
        return None
    return seen(path) or ("cut off" if onnx_header.is_cut_off(path) else None)


def seen(path: Path) -> str | None:
    """What the file is, as in "an HTML page"; None where nothing says. Raises `OSError`."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return "empty"
    if start.lstrip().lower().startswith(_HTML):
        return "an HTML page"
    if not start.strip(b"\0"):
        return "nothing but zeros where its header should be"
    return next((what for mark, what in _STARTS if start.startswith(mark)), None)
