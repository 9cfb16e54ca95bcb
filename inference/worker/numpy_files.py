"""The arrays of npy and npz bodies, which come from clients.

Nothing here unpickles. Sizes that a header announces are compared with the bytes that are there before memory is
taken for them. What cannot be read is the client's mistake: `BadRequest`, in words that are not numpy's own where
those are about Python or about options of `numpy.load`.
"""

from __future__ import annotations

import io
import lzma
import math
import struct
import zipfile
import zlib
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tidegate.inference.errors import BadRequest

Array = npt.NDArray[Any]
Body = bytes | bytearray | memoryview

_START_BYTES = 1 << 16
"""What surely holds the header of an npy file: numpy reads none of more than 10,000 characters."""
MAX_DIMENSIONS = 32


def is_npy(body: Body) -> bool:
    """Whether the body begins as an npy file does."""
    return bytes(body[: len(np.lib.format.MAGIC_PREFIX)]) == np.lib.format.MAGIC_PREFIX


def read_npy(body: Body) -> Array:
    """The array of an npy body, contiguous and in this machine's byte order. Raises `BadRequest`.

    It shares the memory of a body that may be written to: a gigabyte is not copied.
    """
    what = "The npy body"
    start = io.BytesIO(body[:_START_BYTES])
    shape, fortran_order, dtype = _npy_header(start, what)
    _demand_numbers(shape, dtype, len(body), what)
    at, count = start.tell(), math.prod(shape)
    fits = 0 < count * dtype.itemsize <= len(body) - at and len(shape) <= MAX_DIMENSIONS
    if isinstance(body, bytes) or not fits:
        return _npy(io.BytesIO(body), len(body), what)
    array = np.frombuffer(body, dtype, count, at).reshape(shape, order="F" if fortran_order else "C")
    return plain(array if array.flags.aligned else array.copy())


def plain(array: Array) -> Array:
    """The same numbers in C order and in this machine's byte order, which torch and scripts expect."""
    return array.astype(array.dtype.newbyteorder("="), order="C", copy=False)


def read_npz(body: bytes | bytearray, max_decoded_bytes: int) -> dict[str, Array]:
    """The arrays of an npz body, by name. Raises `BadRequest`, also where they unpack to more than the limit."""
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > max_decoded_bytes:
                raise BadRequest(f"The npz body unpacks to {total} bytes; the limit is {max_decoded_bytes}.")
            if not members:
                raise BadRequest("The npz body holds no array.")
            arrays = {member.filename.removesuffix(".npy"): _member(archive, member) for member in members}
    except (
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
        *(NotImplementedError, RuntimeError, EOFError, OSError, ValueError),
    ) as error:
        raise unreadable("The npz body", error) from None
    if arrays.keys() >= {"format", "shape"} and arrays["format"].dtype.kind in "SU":
        raise BadRequest(
            "The npz body is a sparse matrix, as scipy.sparse.save_npz writes it, which this model does not read; send "
            "its .toarray() by numpy.savez."
        )
    return arrays


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    what = f"{member.filename[:40]!r} in the npz body"
    return _npy(io.BytesIO(archive.read(member)), member.file_size, what)


def _npy(file: IO[bytes], size: int, what: str) -> Array:
    """The array of a file that holds `size` bytes; `what` begins the sentence of a refusal."""
    shape, _, dtype = _npy_header(file, what)
    _demand_numbers(shape, dtype, size, what)
    try:
        file.seek(0)
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    except (OverflowError, TypeError):  # a length that no array has
        raise _damaged(what) from None
    except (ValueError, EOFError, OSError) as error:
        raise unreadable(what, error) from None
    return plain(array)


def _demand_numbers(shape: tuple[int, ...], dtype: np.dtype[Any], size: int, what: str) -> None:
    if dtype.hasobject:
        raise BadRequest(f"{what} holds Python objects, which are never unpickled; send numbers.")
    # In Python's integers, which do not overflow, and before numpy takes the memory that the header asks for.
    if dtype.itemsize * math.prod(shape) > size:
        raise BadRequest(f"{what} announces more numbers in its header than it holds.")


def _npy_header(file: IO[bytes], what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    if file.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
        raise BadRequest(f"{what} is not what numpy.save writes: it does not begin as an npy file does.")
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read(file)
    except Exception:
        # The header is a Python literal of at most 10,000 characters, and a broken one makes numpy raise whatever
        # Python's parser raises, in words about syntax trees: SyntaxError, TokenError, RecursionError, MemoryError.
        raise _damaged(what) from None
    if any(length < 0 for length in shape):
        raise _damaged(what)
    return shape, fortran_order, dtype


def _damaged(what: str) -> BadRequest:
    return BadRequest(f"{what} cannot be read: its header is damaged, cut off or too long.")


def unreadable(what: str, error: Exception) -> BadRequest:
    """The refusal of a body, with the reason of the library that reads it."""
    reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    return BadRequest(f"{what} cannot be read: {reason}.")
