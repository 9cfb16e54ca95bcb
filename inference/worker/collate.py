"""Many inputs to one batch, and one prediction back to its parts.

What can be joined: tensors and arrays of at least two dimensions (the first counts the records), lists of records, and
tuples and mappings of these whose members agree on the number of records. Flat sequences of numbers are left alone:
they may be one record, and joining two of them would make a third one that was never sent. Whether what can be joined
may be is another question, which `joining` answers: the first dimension may be time, or the height of an image.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

_NUMBERS = (int, float, complex, np.generic)
_VALUES = frozenset({int, float, bool, str, bytes, type(None)})
"""Types that are no view of anything: a list of them is its own however long it is."""

Signature = tuple[Hashable, int]
"""What must be equal for two inputs to be joined, and how many records one holds."""


class NotSplittable(Exception):
    """The prediction does not have a part for each record."""


def signature(data: Any) -> Signature | None:
    """The signature of `data`, or None where it must be predicted alone."""
    # Exact types: a subclass, such as a masked array, may mean something that joining would lose.
    if type(data) is torch.Tensor:
        if data.layout != torch.strided or data.is_nested or data.is_quantized or data.dim() < 2 or not data.shape[0]:
            return None
        if data.__dict__:  # what the script has hung on it would be lost
            return None
        return ("tensor", data.dtype, str(data.device), data.shape[1:], data.requires_grad), data.shape[0]
    if type(data) is np.ndarray:
        if data.ndim < 2 or data.shape[0] == 0:
            return None
        return ("array", data.dtype.str, data.shape[1:]), data.shape[0]
    if type(data) is list:
        if not data or any(isinstance(record, _NUMBERS) for record in data):
            return None
        return ("list", frozenset(map(_kind, data))), len(data)
    if type(data) is tuple:
        return _joint(tuple, list(enumerate(data)))
    if isinstance(data, Mapping):
        return _joint(type(data), list(data.items()))
    return None


def _kind(record: Any) -> Any:
    """What records of one list must have in common with those of another: a word is no row, and a row no object."""
    if isinstance(record, torch.Tensor | np.ndarray):
        return type(record), str(record.dtype), record.ndim
    if isinstance(record, Mapping):
        return type(record), frozenset(record)
    if isinstance(record, list | tuple):
        return type(record), type(record[0]) if record else None
    return type(record)


def _joint(kind: type, members: list[tuple[Any, Any]]) -> Signature | None:
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
    return like(first, {key: join([each[key] for each in inputs]) for key in first})


def like(original: Mapping[Any, Any], members: dict[Any, Any]) -> Any:
    """`members` in a mapping of the type of `original` (a tokenizer's, a model's output), or as the dict that they are.

    Other attributes of `original` are left behind: they were about its own records.
    """
    if type(original) is dict:
        return members
    try:
        return type(original)(members)  # type: ignore[call-arg]
    except Exception:  # it is made in another way
        return members


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
        if not members:
            return _refuse(prediction, sizes)
        return [tuple_like(prediction, parts) for parts in zip(*members, strict=True)]
    if isinstance(prediction, Mapping):
        named = {key: split(member, sizes) for key, member in prediction.items()}
        return [like(prediction, {key: parts[i] for key, parts in named.items()}) for i in range(len(sizes))]
    return _refuse(prediction, sizes)


def outline(prediction: Any) -> Any:
    """How many entries each member of a prediction has, as `split` would count them."""
    if isinstance(prediction, torch.Tensor | np.ndarray):
        return prediction.shape[0] if prediction.shape else None
    if isinstance(prediction, list):
        return len(prediction)
    if isinstance(prediction, tuple):
        return tuple(map(outline, prediction))
    if isinstance(prediction, Mapping):
        return {key: outline(value) for key, value in prediction.items()}
    return None


def tuple_like(original: tuple[Any, ...], parts: tuple[Any, ...]) -> Any:
    """A named tuple stays one: output_fn may ask it by name."""
    return type(original)(*parts) if hasattr(original, "_fields") else parts


def _slices(sequence: Any, sizes: Sequence[int]) -> list[Any]:
    parts, at = [], 0
    for size in sizes:
        parts.append(owned(sequence[at : at + size]))
        at += size
    return parts


def owned(part: Any) -> Any:
    """`part` with memory of its own: a view has that of the whole batch, which torch.save would send to one client."""
    if isinstance(part, torch.Tensor):
        strided = part.layout == torch.strided
        return part.clone() if strided and part.untyped_storage().nbytes() > part.nbytes else part
    if isinstance(part, np.ndarray):
        return part.copy() if part.base is not None else part
    if type(part) is list and not _VALUES.issuperset(map(type, part)):
        return [owned(each) for each in part]
    if isinstance(part, tuple):
        return tuple_like(part, tuple(map(owned, part)))
    if type(part) is dict:
        return {key: owned(member) for key, member in part.items()}
    return part


def _refuse(prediction: Any, sizes: Sequence[int]) -> list[Any]:
    raise NotSplittable(f"it is a {type(prediction).__name__} for {sum(sizes)} records")
