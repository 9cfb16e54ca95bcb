"""How far an answer is from the expected one, as one number: what is left of the tolerance can be seen by it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from tidegate.inference.worker.content import JSON, JSON_LINES, NPY, split_media_type


def largest_difference(wanted: bytes, got: bytes, media_type: str) -> float | None:
    """The largest distance between two numbers at the same place of two bodies of one type.

    None where there are no numbers to compare, or the bodies are not alike in form. NaN beside NaN is no distance.
    """
    kind = split_media_type(media_type)[0]
    try:
        if kind == NPY:
            one, other = (np.lib.format.read_array(io.BytesIO(body), allow_pickle=False) for body in (wanted, got))
            return _largest(_of_arrays(one, other))
        if kind == JSON:
            return _largest(_of_values(json.loads(wanted), json.loads(got)))
        if kind == JSON_LINES:
            return _largest(_of_values(*([json.loads(line) for line in body.splitlines()] for body in (wanted, got))))
    except (ValueError, OverflowError, TypeError, RecursionError):
        return None
    return None


def _largest(distances: Iterator[float]) -> float | None:
    return max((each for each in distances if each == each), default=None)  # noqa: PLR0124 - NaN is not itself


def _of_arrays(one: np.ndarray, other: np.ndarray) -> Iterator[float]:
    if one.shape != other.shape or one.dtype.kind not in "biufc" or other.dtype.kind not in "biufc" or not one.size:
        return
    with np.errstate(invalid="ignore"):
        apart = np.abs(one.astype(np.complex128) - other.astype(np.complex128))
    if not np.isnan(apart).all():
        yield float(np.nanmax(apart))


def _of_values(one: Any, other: Any) -> Iterator[float]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() & other.keys():
            yield from _of_values(one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list):
        for first, second in zip(one, other, strict=False):
            yield from _of_values(first, second)
    elif _is_number(one) and _is_number(other):
        yield float(abs(one - other)) if one != other else 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
