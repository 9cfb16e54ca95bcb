"""What a file that is no model is instead, in words: what downloads, copies and full disks leave behind."""

from __future__ import annotations

import json
import os
import pickle
import struct
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
_LENGTH = struct.Struct("<Q")
_MOST_HEADER_BYTES = 100_000_000
"""What safetensors reads."""
_MOST_READ_BYTES = 16 * 1024 * 1024
_HTML = (b"<!doctype html", b"<html")


def of_a_compiled_model(path: Path) -> str | None:
    """What a file is that cannot be read as ONNX, an exported program or a package; None where nothing says.

    Raises `OSError`.
    """
    if zip_members.names(path):
        return None
    return seen(path) or _pickled(path) or ("cut off" if onnx_header.is_cut_off(path) else None)


def of_safetensors(path: Path) -> str | None:
    """What a file is that cannot be read as safetensors; None where its header is sound. Raises `OSError`.

    Source: the format's page, https://huggingface.co/docs/safetensors.
    """
    if what := seen(path):
        return what
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_LENGTH.size + 1)
        if start[_LENGTH.size :] != b"{":
            return _pickled(path) or ("cut off" if size <= _LENGTH.size else None)
        (length,) = _LENGTH.unpack_from(start)
        if length > _MOST_HEADER_BYTES:
            return f"damaged: its header would have {length} bytes"
        if _LENGTH.size + length > size:
            return f"cut off: it has {size} bytes, and its header alone {length}"
        if length > _MOST_READ_BYTES:
            return None
        file.seek(_LENGTH.size)
        needed = _LENGTH.size + length + _end_of_tensors(file.read(length))
    return f"cut off: it has {size} of {needed} bytes" if needed > size else None


def _end_of_tensors(header: bytes) -> int:
    """Where the last tensor ends, counted from the end of the header; 0 where the header does not say."""
    try:
        tensors = [facts for name, facts in json.loads(header).items() if name != "__metadata__"]
        return max((int(facts["data_offsets"][1]) for facts in tensors), default=0)
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError):
        return 0


def _pickled(path: Path) -> str | None:
    """A pickle of any protocol since 2, which begins with its number and ends with a full stop."""
    with path.open("rb") as file:
        start = file.read(2)
        file.seek(-1, os.SEEK_END)
        end = file.read(1)
    whole = len(start) == 2 and start[0] == 0x80 and 2 <= start[1] <= pickle.HIGHEST_PROTOCOL and end == b"."
    return "a pickle, which could run code while it is read" if whole else None


def seen(path: Path) -> str | None:
    """What the file is, as in "an HTML page"; None where nothing says. Raises `OSError`."""
    with path.open("rb") as file:
        return of_its_start(file.read(64))


def of_its_start(start: bytes) -> str | None:
    """The same of a file's first 64 bytes or more."""
    if not start:
        return "empty"
    if start.lstrip().lower().startswith(_HTML):
        return "an HTML page"
    if not start.strip(b"\0"):
        return "nothing but zeros where its header should be"
    return next((what for mark, what in _STARTS if start.startswith(mark)), None)
