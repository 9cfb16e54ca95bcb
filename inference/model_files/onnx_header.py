"""Whether a file is an ONNX model: a protobuf whose outermost fields are those of `ModelProto`.

No field is read, only its number and length, so a file of any size costs a few seeks.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_FIELDS = {
    1: _VARINT,  # ir_version
    2: _BYTES,  # producer_name
    3: _BYTES,  # producer_version
    4: _BYTES,  # domain
    5: _VARINT,  # model_version
    6: _BYTES,  # doc_string
    7: _BYTES,  # graph
    8: _BYTES,  # opset_import
    14: _BYTES,  # metadata_props
    20: _BYTES,  # training_info
    25: _BYTES,  # functions
    26: _BYTES,  # configuration
}
"""Of onnx.proto: the numbers of ModelProto's fields, and how each is written."""
_NEEDED = {1, 7}
_MAX_FIELDS = 100_000
_MAX_VARINT_BYTES = 10
_TOO_LONG = 0
"""In the place of a field's number, which is never 0: its length goes beyond the end of the file."""


def is_onnx(path: Path) -> bool:
    """Whether the file's fields are a model's, and end where the file does."""
    size = path.stat().st_size
    seen: set[int] = set()
    with path.open("rb") as file:
        for _ in range(_MAX_FIELDS):
            if file.tell() == size:
                return seen >= _NEEDED
            field = _skipped(file, size)
            if not field:
                return False
            seen.add(field)
    return False


def is_cut_off(path: Path) -> bool:
    """Whether the file begins as a model does, and ends within one of its fields or before the graph."""
    size = path.stat().st_size
    seen: set[int] = set()
    with path.open("rb") as file:
        for _ in range(_MAX_FIELDS):
            if file.tell() == size:
                return 1 in seen and not seen >= _NEEDED
            field = _skipped(file, size)
            if not field:
                return (field == _TOO_LONG or file.tell() == size) and 1 in seen
            seen.add(field)
    return False


def _skipped(file: BinaryIO, size: int) -> int | None:
    """The number of the field that begins here, after which the file then is; None where none of a model does.

    `_TOO_LONG` where it does not end in the file.
    """
    tag = _varint(file)
    if tag is None or _FIELDS.get(tag >> 3) != tag & 7:
        return None
    length = _varint(file)
    if length is None:
        return None
    if tag & 7 == _BYTES:
        if length > size - file.tell():
            return _TOO_LONG
        file.seek(length, os.SEEK_CUR)
    return tag >> 3


def _varint(file: BinaryIO) -> int | None:
    value = 0
    for at in range(_MAX_VARINT_BYTES):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << (7 * at)
        if byte[0] < 0x80:
            return value
    return None
