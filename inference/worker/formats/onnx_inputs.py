"""What a client gave, as the arrays that an ONNX model declares, or the reason why it is not taken.

onnxruntime itself refuses a wrong rank, size or number of inputs. It does not see what a cast would lose, and that two
inputs have different lengths where the model gives them the same name, such as "batch": there it computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tidegate.inference.worker.encoding import to_array
from tidegate.inference.worker.misfit import InputRefused
from tidegate.inference.worker.numpy_files import Array

STRINGS = "tensor(string)"
_NOT_TOLD_APART = 2**24
"""From here on float32, which the numbers of a JSON body are read as, is one number for several: 2^24 and 2^24 + 1."""


def checked(value: Any, name: str, dtype: torch.dtype | None, type_: str) -> Array:
    """`value` as an array of the type that the input `name` declares, `dtype` in torch's terms where it has any.

    Raises `InputRefused` where it is no such tensor, or where the cast would change it.
    """
    if type_ == STRINGS:
        return strings(value, name)
    return cast_to(value, name, None if dtype is None else torch.empty(0, dtype=dtype).numpy().dtype)


def cast_to(value: Any, name: str, wanted: Any) -> Array:
    """Numbers as an array of the dtype `wanted`, where that changes nothing. Raises `InputRefused`."""
    try:
        array = to_array(value)
    except (ValueError, TypeError):  # rows of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        raise InputRefused(f"the input '{name}' takes numbers, which were not given")
    return array if wanted is None else _cast(array, name, np.dtype(wanted))


def strings(value: Any, name: str) -> Array:
    """Texts as an array of them. Raises `InputRefused`."""
    array: Array
    if isinstance(value, torch.Tensor):
        raise InputRefused(f"the input '{name}' takes strings, and numbers were given")
    try:
        array = np.array(value, dtype=object)
        texts = [each.decode() if isinstance(each, bytes) else each for each in array.flat]
    except UnicodeDecodeError:
        raise InputRefused(f"the input '{name}' takes strings, and bytes were given that are no UTF-8 text") from None
    if not all(isinstance(text, str) for text in texts):
        raise InputRefused(f"the input '{name}' takes strings, which were not given")
    made: Array = np.array(texts, dtype=object).reshape(array.shape)
    return made


def demand_one_length(arrays: Mapping[str, Array], shapes: Mapping[str, Sequence[Any]]) -> None:
    """Refuse inputs that differ where the model gives their dimensions one name. Raises `InputRefused`."""
    seen: dict[str, tuple[str, int]] = {}
    for name, array in arrays.items():
        if len(shapes[name]) != array.ndim:
            continue  # the model says nothing of the rank, or onnxruntime refuses it
        for dimension, length in zip(shapes[name], array.shape, strict=True):
            if not isinstance(dimension, str):
                continue
            other, first = seen.setdefault(dimension, (name, length))
            if first != length:
                raise InputRefused(
                    f"the inputs '{other}' and '{name}' have {first} and {length} as their '{dimension}', which must "
                    "be the same"
                )


def _cast(array: Array, name: str, wanted: np.dtype[Any]) -> Array:
    if array.dtype == wanted:
        return array
    with np.errstate(all="ignore"):  # what does not survive is told apart below
        cast = array.astype(wanted)
    if array.dtype.kind == "f" and wanted.kind == "f":
        # Precision is the model's own: a client's numbers are float64 by default.
        kept = bool((np.isfinite(cast) == np.isfinite(array)).all())
    else:
        # A cast that wraps around comes back as it was, so the range is looked at by itself, both ways.
        ranges = _fits(array, wanted) and _fits(cast, array.dtype)
        kept = ranges and bool((cast.astype(array.dtype) == array).all())
    given = str(array.dtype)
    if not kept:
        raise InputRefused(
            f"the input '{name}' is of {wanted}, to which these numbers of {given} cannot be cast as they are"
        )
    if array.dtype == np.float32 and wanted.kind in "iu" and (np.abs(array) >= _NOT_TOLD_APART).any():
        raise InputRefused(
            f"the input '{name}' is of {wanted}, and float32, as which these numbers were read, does not tell "
            f"whole numbers from {_NOT_TOLD_APART} on apart; send them as {wanted}"
        )
    return cast


def _fits(array: Array, wanted: np.dtype[Any]) -> bool:
    """Whether all numbers lie in the range of a whole type; of any other type nothing is said."""
    if wanted.kind not in "iu" or not array.size:
        return True
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return False
    limits = np.iinfo(wanted)
    # As numbers of Python, which do not wrap.
    return limits.min <= int(array.min()) and int(array.max()) <= limits.max
