"""Plain tensors of declared names, types and shapes; what differs is refused before the model sees it.

JSON        {"x": [[…]], …}, or the array alone where there is one tensor ▶
JSON Lines  one record of this in each line                              ▶  names ▶ type ▶ shape ▶ a tensor,
CSV         (records, columns), of one tensor                            ▶  or several by name
npy, npz    the array of one tensor; arrays by name                      ▶
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tidegate.inference.declarations.tensors import TensorInput, Tensors
from tidegate.inference.errors import BadRequest, UnsupportedMediaType
from tidegate.inference.worker.content import (
    CSV,
    JSON,
    JSON_LINES,
    NPY,
    NPZ,
    OCTETS,
    as_text,
    csv_rows,
    json_documents,
    not_read,
    split_media_type,
)
from tidegate.inference.worker.declared.casting import Array, in_type
from tidegate.inference.worker.declared.cells import plain_number
from tidegate.inference.worker.declared.taken import Taken
from tidegate.inference.worker.encoding import to_array
from tidegate.inference.worker.numpy_files import is_npy, read_npy, read_npz

READABLE = (JSON, JSON_LINES, CSV, NPY, NPZ)
READABLE_OF_SEVERAL = (JSON, JSON_LINES, NPZ)
"""Bodies that name tensors."""


def read(
    body: str | bytes | bytearray | memoryview, content_type: str, declared: Tensors, *, max_decoded_bytes: int
) -> Taken:
    """What the model is given for a body. Raises `BadRequest` and `UnsupportedMediaType`."""
    named, counted = _named(body, content_type, declared, max_decoded_bytes)
    tensors = fitting(named, declared)
    needed = sum(tensor.nbytes for tensor in tensors.values())
    if needed > max_decoded_bytes:
        raise BadRequest(f"The tensors take {needed} bytes; the limit is {max_decoded_bytes}.")
    records = counted or _records(tensors, declared)
    data: Any = tensors if len(tensors) > 1 else next(iter(tensors.values()))
    return Taken(data=data, records=records, one_alone=False)


def fitting(named: Mapping[str, Any], declared: Tensors) -> dict[str, torch.Tensor]:
    """The tensors in their types, as the model takes them; arrays or tensors by name. Raises `BadRequest`."""
    names = [each.name for each in declared.inputs]
    for name in named:
        if name not in names:
            near = difflib.get_close_matches(name[:80], names, 1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {_listed(names)}."
            raise BadRequest(f"This model takes no tensor '{name[:40]}'; {hint}")
    if missing := next((name for name in names if name not in named), None):
        raise BadRequest(f"The tensor '{missing}' is missing; this model takes {_listed(names)}.")
    lengths: dict[str, tuple[int, str]] = {}
    return {each.name: torch.from_numpy(_fitting(named[each.name], each, lengths)) for each in declared.inputs}


def _fitting(value: Any, wanted: TensorInput, lengths: dict[str, tuple[int, str]]) -> Array:
    """`lengths` has what the named dimensions of the tensors before this one were, and where."""
    what = f"The tensor '{wanted.name}'"
    array = value if isinstance(value, np.ndarray) else None if isinstance(value, list) else to_array(value)
    if array is None or array.dtype.kind not in "fiub":
        raise BadRequest(f"{what} holds {'texts' if array is None else array.dtype}; send {wanted.dtype}.")
    if array.ndim != len(wanted.shape):
        raise BadRequest(
            f"{what} has the shape {array.shape}, of {array.ndim} dimensions; this model takes {wanted.described()}."
        )
    if 0 in array.shape:
        raise BadRequest(f"{what} has the shape {array.shape}, which holds nothing; this model takes at least one.")
    for at, (length, meant) in enumerate(zip(array.shape, wanted.shape, strict=True)):
        if isinstance(meant, int) and length != meant:
            raise BadRequest(
                f"{what} has the shape {array.shape}; this model takes {wanted.described()}, so the length of "
                f"dimension {at} must be {meant}."
            )
        if isinstance(meant, str):
            other, where = lengths.setdefault(meant, (length, wanted.name))
            if other != length:
                raise BadRequest(
                    f"{what} has the shape {array.shape}, and '{where}' another length of '{meant}': {other}, not "
                    f"{length}."
                )
    found, odd = in_type(array, wanted.dtype)
    if odd.any():
        first = tuple(int(each) for each in np.argwhere(odd)[0])
        raise BadRequest(f"{what} holds {array[first].item()} at {list(first)}, which {wanted.dtype} cannot hold.")
    # Its own memory, which user code may write to.
    return np.ascontiguousarray(found if found is not array else array.copy())


def _records(tensors: Mapping[str, torch.Tensor], declared: Tensors) -> int:
    """How many records there are: the length of a first dimension that is free in every tensor; else 0."""
    if any(isinstance(each.shape[0], int) for each in declared.inputs):
        return 0
    lengths = {len(tensor) for tensor in tensors.values()}
    return lengths.pop() if len(lengths) == 1 else 0


# --- bodies


def _named(
    body: str | bytes | bytearray | memoryview, content_type: str, declared: Tensors, max_decoded_bytes: int
) -> tuple[dict[str, Any], int]:
    """The arrays of a body by name, and how many records it counts by its form; 0 where it does not."""
    media_type, charset = split_media_type(content_type)
    raw = body.encode() if isinstance(body, str) else body
    if media_type == NPZ:
        return dict(read_npz(bytearray(raw) if isinstance(raw, memoryview) else raw, max_decoded_bytes)), 0
    if media_type == NPY or (media_type == OCTETS and is_npy(raw)):
        return {_alone(declared, media_type): read_npy(raw)}, 0
    if media_type == CSV:
        return {_alone(declared, media_type): (rows := _csv(as_text(body, charset)))}, len(rows)
    if media_type == JSON:
        ((where, value),) = json_documents(body, media_type, charset)
        return _of_json(value, where, declared), 0
    if media_type == JSON_LINES:
        lines = [_of_json(value, where, declared) for where, value in json_documents(body, media_type, charset)]
        return _stacked(lines), len(lines)
    raise UnsupportedMediaType(
        f"{not_read(media_type)}; this model takes tensors as {JSON}, {JSON_LINES}, {CSV}, {NPY} or {NPZ}."
    )


def _alone(declared: Tensors, media_type: str) -> str:
    names = [each.name for each in declared.inputs]
    if len(names) > 1:
        raise UnsupportedMediaType(
            f"Content-Type '{media_type}' has one array, and this model takes {_listed(names)}; send {NPZ} or {JSON}."
        )
    return names[0]


def _of_json(value: Any, where: str, declared: Tensors) -> dict[str, Any]:
    if not isinstance(value, dict):
        if len(declared.inputs) > 1:
            raise BadRequest(f"{where} must be an object of {_listed([each.name for each in declared.inputs])}.")
        value = {declared.inputs[0].name: value}
    numbers = {each.name: each.dtype for each in declared.inputs if each.dtype != "bool"}
    return {name: _array(each, f"{where}, '{name[:40]}',", numbers.get(name)) for name, each in value.items()}


def _array(value: Any, what: str, dtype: str | None = None) -> Array:
    """The array of what JSON has; of a numeric `dtype` true and false are no numbers."""
    try:
        array = np.array(value)
    except (ValueError, OverflowError, RecursionError):
        array = None
    if array is None or array.dtype.kind not in "fiub":
        raise BadRequest(f"{what} is not an array of numbers whose rows all have the same length.")
    # Among others than 0 and 1 there is no true and no false to look for.
    if dtype is not None and ((array == 0) | (array == 1)).any() and _holds_bools(value):
        raise BadRequest(f"{what} holds true or false, and this model takes {dtype}; send 1 or 0.")
    return array


def _holds_bools(value: Any) -> bool:
    if not isinstance(value, list):
        return isinstance(value, bool)
    if value and isinstance(value[0], list):
        return any(map(_holds_bools, value))
    return bool in set(map(type, value))


def _stacked(lines: list[dict[str, Array]]) -> dict[str, Array]:
    first = lines[0]
    for number, line in enumerate(lines):
        if line.keys() != first.keys():
            raise BadRequest(f"Record {number} of the JSON Lines body does not have the same tensors as the first.")
        for name, array in line.items():
            if array.shape != first[name].shape:
                raise BadRequest(
                    f"Record {number} of the JSON Lines body has '{name[:40]}' of the shape {array.shape}, and the "
                    f"first of {first[name].shape}; the records of one request are one batch."
                )
    return {name: np.stack([line[name] for line in lines]) for name in first}


def _csv(text: str) -> Array:
    rows = list(csv_rows(text))
    if not rows:
        raise BadRequest("The CSV body is empty.")
    width = len(rows[0][1])
    for number, row in rows:
        if len(row) != width:
            raise BadRequest(f"Line {number} of the CSV body has {len(row)} cells, and the first has {width}.")
        for cell in row:
            if not _is_number(cell):
                raise BadRequest(f"Line {number} of the CSV body holds {cell[:40]!r}, which is not a number.")
    return _array([[plain_number(cell) for cell in row] for _, row in rows], "The CSV body")


def _is_number(cell: str) -> bool:
    try:
        plain_number(cell)
    except ValueError:
        return False
    return True


def _listed(names: list[str]) -> str:
    return ", ".join(f"'{name[:40]}'" for name in names[:20]) + (" and more" if len(names) > 20 else "")
