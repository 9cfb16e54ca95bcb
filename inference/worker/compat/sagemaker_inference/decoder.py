"""Bodies to numpy arrays, with the shapes and dtypes that AWS's decoder gives."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from tidegate.inference.worker.numpy_files import plain

from . import content_types, errors

Array = npt.NDArray[Any]


def _json_to_numpy(string_like: str | bytes | bytearray, dtype: Any = None) -> Array:
    """JSON of any kind as an array; an object becomes a 0-dimensional array of Python objects."""
    return np.array(json.loads(string_like), dtype=dtype)


def _csv_to_numpy(string_like: str, dtype: Any = None) -> Array:
    """Numbers by columns: one row or one column is 1-D, columns of different kinds make a structured array."""
    return np.genfromtxt(io.StringIO(string_like), dtype=dtype, delimiter=",")


def _npy_to_numpy(npy_array: bytes | bytearray) -> Array:
    """One array, in C order and this machine's byte order, which torch needs and AWS's decoder did not give.

    Never unpickles, as that did: `ValueError` for an array of Python objects.
    """
    array: Array = np.load(io.BytesIO(npy_array), allow_pickle=False)
    return plain(array)


def _npz_to_sparse(npz_bytes: bytes | bytearray) -> Any:
    """A scipy sparse matrix; needs scipy, which the archive's requirements.txt may bring."""
    import scipy.sparse  # type: ignore[import-untyped]  # noqa: PLC0415 - not one of the server's dependencies

    return scipy.sparse.load_npz(io.BytesIO(npz_bytes))


_decoder_map: dict[str, Callable[[Any], Any]] = {
    content_types.JSON: _json_to_numpy,
    content_types.CSV: _csv_to_numpy,
    content_types.NPY: _npy_to_numpy,
    content_types.NPZ: _npz_to_sparse,
}
"""Scripts add types of their own here."""


def decode(obj: Any, content_type: str) -> Any:
    """The body `obj` as an array. Raises `UnsupportedFormatError` for a type without a decoder."""
    read = _decoder_map.get(content_type)
    if read is None:
        raise errors.UnsupportedFormatError(content_type)
    return read(obj)
