"""Numbers in another type, without a silent loss: which of them the type cannot hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def in_type(numbers: Array, dtype: str) -> tuple[Array, npt.NDArray[np.bool_]]:
    """`numbers` (of a type bool, int or float) as `dtype`, and which of them that type cannot hold.

    A whole number type holds whole numbers within its range, bool 0 and 1, and a floating one whatever is within its
    range, rounded; of whole numbers only those that it has exactly.
    """
    wanted = np.dtype(dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        if wanted.kind == "b":
            return numbers == 1, ~((numbers == 0) | (numbers == 1))
        if wanted.kind == "f":
            found = numbers.astype(wanted)
            if numbers.dtype.kind == "f":
                return found, np.isinf(found) & np.isfinite(numbers)
            if numbers.dtype.kind == "b":
                return found, np.zeros(numbers.shape, bool)
            return found, np.isinf(found) | _differs(found, numbers)
        if numbers.dtype.kind == "b":
            return numbers.astype(wanted), np.zeros(numbers.shape, bool)
        limits = np.iinfo(wanted)
        if numbers.dtype.kind == "f":
            # As floats the upper limits of 64 bits are one more than they are.
            fits = (numbers >= float(limits.min)) & (numbers < float(limits.max) + (limits.bits < 64))
            fits &= numbers == np.trunc(numbers)
            return np.where(fits, numbers, 0).astype(wanted), ~fits
        fits = (numbers >= max(limits.min, np.iinfo(numbers.dtype).min)) & (
            numbers <= min(limits.max, np.iinfo(numbers.dtype).max)
        )
        return numbers.astype(wanted), ~fits


def _differs(floats: Array, whole: Array) -> npt.NDArray[np.bool_]:
    """Whether rounding has changed whole numbers; compared in the type with the most digits."""
    different: npt.NDArray[np.bool_] = floats.astype(np.longdouble) != whole.astype(np.longdouble)
    return different
