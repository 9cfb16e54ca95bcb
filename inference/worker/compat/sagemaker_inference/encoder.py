"""Arrays, lists and numbers to bodies, as AWS's encoder writes them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from . import content_types, errors


def _array_to_json(array_like: Any) -> str:
    """JSON; arrays and tensors inside, at any depth, as lists."""

    def plain(value: Any) -> Any:
        if hasattr(value, "tolist"):
            return value.tolist()
        raise TypeError(f"a {type(value).__name__} cannot be written as JSON")

    return json.dumps(array_like, default=plain)


def _array_to_npy(array_like: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array_like)
    return file.getvalue()


def _array_to_csv(array_like: Any) -> str:
    """One row a line; of one dimension, one value a line. Raises `ValueError` for other dimensions."""
    text = io.StringIO()
    np.savetxt(text, array_like, fmt="%s", delimiter=",")
    return text.getvalue()


_encoder_map: dict[str, Callable[[Any], Any]] = {
    content_types.JSON: _array_to_json,
    content_types.CSV: _array_to_csv,
    content_types.NPY: _array_to_npy,
}
"""Scripts add types of their own here."""

SUPPORTED_CONTENT_TYPES = set(_encoder_map)


def encode(array_like: Any, content_type: str) -> Any:
    """`array_like` as a body: `str` for JSON and CSV, `bytes` for npy. Raises `UnsupportedFormatError`."""
    write = _encoder_map.get(content_type)
    if write is None:
        raise errors.UnsupportedFormatError(content_type)
    return write(array_like)
