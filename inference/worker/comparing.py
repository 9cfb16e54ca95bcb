"""Whether two predictions are the same one, at any depth, and whether several of them can prove anything.

Floating-point numbers are compared within a tolerance, because a batch of another size sums in another order.
Everything else, such as whole numbers and labels, is compared by equality, and so are the types. What has no usable
equality counts as different.
"""

from __future__ import annotations

import cmath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import Any

import numpy as np
import torch

from tidegate.inference.worker import collate


class Likeness(IntEnum):
    """How much alike two values are; `CLOSE` is within the tolerance, but not the same."""

    SAME = 0
    CLOSE = 1
    DIFFERENT = 2


class Evidence(Enum):
    """What equal predictions of one batch say about joining."""

    NONE = auto()
    WEAK = auto()
    """They differ from each other, but only in labels or whole numbers, which a small disturbance leaves alone."""
    STRONG = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How far apart two floating-point numbers may be."""

    rtol: float
    atol: float


FULL = Tolerance(rtol=1e-4, atol=1e-5)
HALF = Tolerance(rtol=1e-2, atol=1e-2)
"""For numbers that were computed with a mantissa of ten bits or fewer."""


def tolerance_of(model: Any) -> Tolerance:
    """The tolerance for what `model` computes, whatever type its predictions have in the end."""
    modules = [model] if isinstance(model, torch.nn.Module) else list(_modules_in(model))
    return HALF if any(_is_half(tensor.dtype) for module in modules for tensor in module.parameters()) else FULL


def likeness(one: Any, other: Any, tolerance: Tolerance = FULL) -> Likeness:
    """Compare two values of any type."""
    if type(one) is not type(other):
        return Likeness.DIFFERENT
    if isinstance(one, torch.Tensor):
        return _tensors(one, other, tolerance)
    if isinstance(one, np.ndarray | np.generic):
        return _arrays(np.asarray(one), np.asarray(other), tolerance)
    if isinstance(one, float | complex):
        return _numbers(one, other, tolerance)
    if isinstance(one, Mapping):
        same_keys = list(one) == list(other)  # their order is the order of what is written
        return _worst((one[key], other[key], tolerance) for key in one) if same_keys else Likeness.DIFFERENT
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return Likeness.DIFFERENT
        return _worst((a, b, tolerance) for a, b in zip(one, other, strict=True))
    try:
        return Likeness.SAME if bool(one == other) else Likeness.DIFFERENT
    except Exception:  # such as that of a table, whose equality is a table
        return Likeness.DIFFERENT


def evidence(predictions: Sequence[Any], records: Sequence[int], tolerance: Tolerance = FULL) -> Evidence:
    """What it says that these predictions, of inputs with so many records, are the same joined and one by one.

    Nothing, where all of them are the same: a mixed-up or blurred batch would look like that too. Nothing either where
    some of their numbers differ, but by less than the tolerance: a wrong number would not be noticed.
    """
    found = Evidence.NONE
    for column in zip(*(_columns(prediction) for prediction in predictions), strict=True):
        first = column[0]
        compared = [
            likeness(*_heads(first, each, min(records[0], count)), tolerance)
            for each, count in zip(column[1:], records[1:], strict=True)
        ]
        if Likeness.DIFFERENT in compared:
            if found is not Evidence.STRONG:
                found = Evidence.STRONG if _holds_floats(first) else Evidence.WEAK
        elif Likeness.CLOSE in compared:
            return Evidence.NONE
    return found


def copied(prediction: Any) -> Any:
    """A copy that stays what it is when user code changes the original in place; unknown objects are shared."""
    if type(prediction) is torch.Tensor:
        return prediction.detach().clone()
    if isinstance(prediction, np.ndarray):
        return prediction.copy()
    if type(prediction) is list:
        return [copied(each) for each in prediction]
    if isinstance(prediction, tuple):
        return collate.tuple_like(prediction, tuple(copied(each) for each in prediction))
    if isinstance(prediction, Mapping):
        return collate.like(prediction, {key: copied(value) for key, value in prediction.items()})
    return prediction


def _worst(pairs: Iterable[tuple[Any, Any, Tolerance]]) -> Likeness:
    found = Likeness.SAME
    for one, other, tolerance in pairs:
        found = max(found, likeness(one, other, tolerance))
        if found is Likeness.DIFFERENT:
            break
    return found


def _tensors(one: torch.Tensor, other: torch.Tensor, tolerance: Tolerance) -> Likeness:
    if one.dtype != other.dtype or one.shape != other.shape or one.device != other.device or one.layout != other.layout:
        return Likeness.DIFFERENT
    one, other = one.detach(), other.detach()
    if torch.equal(one, other):
        return Likeness.SAME
    if not (one.is_floating_point() or one.is_complex()):
        return Likeness.DIFFERENT
    wide = torch.complex128 if one.is_complex() else torch.float64
    limits = HALF if _is_half(one.dtype) else tolerance
    # Not on the device: some have no double precision, and these are small.
    wanted, got = one.cpu().to(wide), other.cpu().to(wide)
    close = torch.allclose(got, wanted, rtol=limits.rtol, atol=limits.atol, equal_nan=True)
    return Likeness.CLOSE if close else Likeness.DIFFERENT


def _arrays(one: np.ndarray, other: np.ndarray, tolerance: Tolerance) -> Likeness:
    if one.dtype != other.dtype or one.shape != other.shape:
        return Likeness.DIFFERENT
    if one.dtype.hasobject:
        return likeness(one.ravel().tolist(), other.ravel().tolist(), tolerance)
    if one.tobytes() == other.tobytes():
        return Likeness.SAME
    if one.dtype.kind not in "fc":
        return Likeness.DIFFERENT
    limits = HALF if one.dtype.itemsize <= 2 else tolerance
    wide = np.complex128 if one.dtype.kind == "c" else np.float64
    close = np.allclose(other.astype(wide), one.astype(wide), rtol=limits.rtol, atol=limits.atol, equal_nan=True)
    return Likeness.CLOSE if close else Likeness.DIFFERENT


def _numbers(one: complex, other: complex, tolerance: Tolerance) -> Likeness:
    if one == other or (cmath.isnan(one) and cmath.isnan(other)):
        return Likeness.SAME
    if not (cmath.isfinite(one) and cmath.isfinite(other)):
        return Likeness.DIFFERENT
    close = abs(one - other) <= tolerance.atol + tolerance.rtol * abs(one)
    return Likeness.CLOSE if close else Likeness.DIFFERENT


def _columns(prediction: Any) -> Iterator[Any]:
    """The sequences with a part for each record that `collate.split` cuts."""
    if isinstance(prediction, Mapping):
        for member in prediction.values():
            yield from _columns(member)
    elif isinstance(prediction, tuple):
        for member in prediction:
            yield from _columns(member)
    else:
        yield prediction


def _heads(one: Any, other: Any, records: int) -> tuple[Any, Any]:
    """The first records of both: inputs of two and of three equal records say no more than equal inputs."""
    share = min(len(one), len(other), records) if records else 0
    return one[:share], other[:share]


def _holds_floats(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.is_floating_point() or value.is_complex()
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "fc"
    if isinstance(value, Mapping):
        return any(map(_holds_floats, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_holds_floats, value))
    return isinstance(value, float | complex)


def _is_half(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point and dtype.itemsize <= 2


def _modules_in(model: Any) -> Iterator[torch.nn.Module]:
    members = model.values() if isinstance(model, Mapping) else model if isinstance(model, list | tuple) else ()
    return (member for member in members if isinstance(member, torch.nn.Module))
