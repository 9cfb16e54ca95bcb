"""Many inputs to one batch, and one prediction back to its parts.

What can be joined: tensors and arrays of at least two dimensions (the first counts the records), lists of records, and
tuples and dicts of these whose members agree on the number of records. Flat sequences of numbers are left alone: they
may be one record, and joining two of them would make a third one that nobody sent.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

Signature = tuple[Hashable, int]
"""What must be equal for two inputs to be joined, and how many records one holds."""


class NotSplittable(Exception):
    """The prediction does not have a part for each record."""


def signature(data: Any) -> Signature | None:
    """The signature of `data`, or None where it must be predicted alone."""
    if isinstance(data, torch.Tensor):
        if data.dim() < 2 or data.shape[0] == 0 or data.is_sparse:
            return None
        return ("tensor", data.dtype, str(data.device), data.shape[1:], data.requires_grad), data.shape[0]
    if isinstance(data, np.ndarray):
        if data.ndim < 2 or data.shape[0] == 0:
            return None
        return ("array", data.dtype.str, data.shape[1:]), data.shape[0]
    if type(data) is list:
        if not data or any(isinstance(record, int | float | complex) for record in data):
            return None
        return ("list",), len(data)
    if type(data) is tuple:
        return _joint("tuple", list(enumerate(data)))
    if type(data) is dict:
        return _joint("dict", list(data.items()))
    return None


def _joint(kind: str, members: list[tuple[Any, Any]]) -> Signature | None:
    signatures = [(key, signature(value)) for key, value in members]
    found = [(key, each) for key, each in signatures if each is not None]
    if not found or len(found) < len(signatures) or len({each[1] for _, each in found}) != 1:
        return None
    return (kind, tuple((key, each[0]) for key, each in found)), found[0][1][1]


def join(inputs: Sequence[Any]) -> Any:
    """One input that holds the records of all `inputs`, which have equal signatures, in their order."""
    first = inputs[0]
    if isinstance(first, torch.Tensor):
        return torch.cat(list(inputs))
    if isinstance(first, np.ndarray):
        return np.concatenate(inputs)
    if isinstance(first, list):
        return [record for each in inputs for record in each]
    if isinstance(first, tuple):
        return tuple(join(members) for members in zip(*inputs, strict=True))
    return {key: join([each[key] for each in inputs]) for key in first}


def split(prediction: Any, sizes: Sequence[int]) -> list[Any]:
    """The parts of `prediction` that belong to inputs of `sizes` records. Raises `NotSplittable`."""
    if isinstance(prediction, torch.Tensor | np.ndarray):
        if not prediction.shape or prediction.shape[0] != sum(sizes):
            raise NotSplittable(f"it has the shape {tuple(prediction.shape)} for {sum(sizes)} records")
        return _slices(prediction, sizes)
    if isinstance(prediction, list):
        if len(prediction) != sum(sizes):
            raise NotSplittable(f"it is a list of {len(prediction)} for {sum(sizes)} records")
        return _slices(prediction, sizes)
    if isinstance(prediction, tuple):
        members = [split(member, sizes) for member in prediction]
        return [tuple(parts) for parts in zip(*members, strict=True)] if members else _refuse(prediction, sizes)
    if isinstance(prediction, Mapping):
        named = {key: split(member, sizes) for key, member in prediction.items()}
        return [{key: parts[i] for key, parts in named.items()} for i in range(len(sizes))]
    return _refuse(prediction, sizes)


def _slices(sequence: Any, sizes: Sequence[int]) -> list[Any]:
    parts, at = [], 0
    for size in sizes:
        parts.append(sequence[at : at + size])
        at += size
    return parts


def _refuse(prediction: Any, sizes: Sequence[int]) -> list[Any]:
    raise NotSplittable(f"it is a {type(prediction).__name__} for {sum(sizes)} records")
