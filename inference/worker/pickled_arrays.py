"""Numpy arrays and numbers as Studio.ML sent them: the bytes of a pickle, each as the character of that number.

`read` unpickles nothing: it looks at the description that `pickle_machine` makes of a pickle and builds the one array
or number (numpy's or Python's) of it, with numpy's `frombuffer`. What a description announces is compared with the
bytes that are there before memory is taken. Only numbers, booleans and texts of a fixed size come out.
"""

from __future__ import annotations

import math
import pickle
import re
from enum import Enum, auto
from typing import Any

import numpy as np

from tidegate.inference.worker.numpy_files import MAX_DIMENSIONS, Array, plain
from tidegate.inference.worker.pickle_machine import Call, Named, UnreadablePickle, follow

Value = Array | np.generic
KINDS = "biufcSU"
"""Of the dtypes that are read and written, as numpy has it: numbers, booleans and texts of a fixed size."""


class _Name(Enum):
    RECONSTRUCT = auto()
    FROM_BUFFER = auto()
    SCALAR = auto()
    NDARRAY = auto()
    DTYPE = auto()
    ENCODE = auto()
    BYTES = auto()


_NAMES = {
    # numpy 2 says _core where numpy 1 said core.
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Name.RECONSTRUCT for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Name.SCALAR for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _Name.FROM_BUFFER for core in ("core", "_core")},
    ("numpy", "ndarray"): _Name.NDARRAY,
    ("numpy", "dtype"): _Name.DTYPE,
    # Before protocol 3 there were no bytes: Python 3 writes a text and how to encode it, and for none an empty call.
    ("_codecs", "encode"): _Name.ENCODE,
    **{(module, "bytes"): _Name.BYTES for module in ("__builtin__", "builtins")},
}
"""All names that may occur. None of them is imported or called: each is a word of the description."""

_PROTOCOL = "\x80"
_BEGINS_WITH_A_NAME = re.compile(
    r"c[A-Za-z_][\w.]*\n[A-Za-z_][\w.]*\n(?:[()VSIJKMNLTUXR\]}]|p\d+\n|q.)", re.ASCII | re.S
)
_WORD = re.compile(rf"([{KINDS}])(\d{{1,9}})", re.ASCII)
_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}
_BYTES_OF_A_CHARACTER = 4
_LAST_CHARACTER = 0x10FFFF


def is_pickle(text: str) -> bool:
    """Whether a text is meant as a pickle: protocols 2 to 5 announce themselves, 0 and 1 begin with a name."""
    if text.startswith(_PROTOCOL):
        return True
    return text.startswith("c") and text.endswith(".") and _BEGINS_WITH_A_NAME.match(text) is not None


def read(text: str, max_decoded_bytes: int) -> Value:
    """The array or number of a pickle, with memory of its own, in C order and in this machine's byte order.

    A bool, int or float of Python comes as numpy's.

    Raises `UnreadablePickle`.
    """
    try:
        data = text.encode("latin-1")
    except UnicodeEncodeError:
        raise UnreadablePickle("it has characters that are no bytes (over U+00FF)") from None
    found = follow(data, _NAMES)
    if isinstance(found, Call):
        match found.function:
            case _Name.RECONSTRUCT:
                return _reconstructed(found, max_decoded_bytes)
            case _Name.FROM_BUFFER:
                return _from_buffer(found, max_decoded_bytes)
            case _Name.SCALAR:
                return _scalar(found)
    if isinstance(found, bool | int | float):
        return _number(found)
    raise UnreadablePickle("it holds something else than one numpy array or number")


def write(value: Value) -> str:
    """The array or number as a text that `pickle.loads(text.encode("latin-1"))` reads, also of Python 2 and numpy 1."""
    data = pickle.dumps(value, protocol=2)
    # Where it begins is the one place in which numpy 2 names itself by a name that numpy 1 does not know.
    ours, theirs = b"\x80\x02cnumpy._core.", b"\x80\x02cnumpy.core."
    return (theirs + data.removeprefix(ours) if data.startswith(ours) else data).decode("latin-1")


# --- the three ways in which numpy describes a value


def _reconstructed(call: Call, max_decoded_bytes: int) -> Array:
    match call.arguments, call.state:
        case (Named(what=_Name.NDARRAY), _, _), (1, tuple() as shape, dtype, bool() as by_column, data):
            return _array(data, _dtype(dtype), shape, "F" if by_column else "C", max_decoded_bytes)
    raise _other()


def _from_buffer(call: Call, max_decoded_bytes: int) -> Array:
    match call.arguments:
        case (data, dtype, tuple() as shape, "C" | "F" as order) if not call.has_state:
            return _array(data, _dtype(dtype), shape, order, max_decoded_bytes)
        case (data, dtype, tuple() as shape, "K", tuple() as axes) if not call.has_state:
            array = _array(data, _dtype(dtype), shape, "C", max_decoded_bytes)
            if not all(type(axis) is int for axis in axes) or sorted(axes) != list(range(array.ndim)):
                raise _other()
            return plain(array.transpose(axes))
    raise _other()


def _scalar(call: Call) -> np.generic:
    match call.arguments:
        case (dtype, data) if not call.has_state:
            return _array(data, _dtype(dtype), (), "C", 0)[()]  # type: ignore[return-value]  # of no dimension
    raise _other()


def _number(value: Any) -> np.generic:
    """A number of Python as numpy's of the same value, which the answer holds as a pickle again."""
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, float):
        return np.float64(value)
    if value > np.iinfo(np.int64).max:
        return np.uint64(_in_64_bits(value, np.uint64))
    return np.int64(_in_64_bits(value, np.int64))


def _in_64_bits(value: int, kind: type[np.integer[Any]]) -> int:
    if not np.iinfo(kind).min <= value <= np.iinfo(kind).max:
        raise UnreadablePickle("it has a whole number of more than 64 bits")
    return value


def _array(data: Any, dtype: np.dtype[Any], shape: tuple[Any, ...], order: Any, max_decoded_bytes: int) -> Array:
    raw = _bytes(data)
    if len(shape) > MAX_DIMENSIONS or not all(type(length) is int and length >= 0 for length in shape):
        raise UnreadablePickle("its shape is none that an array has")
    if dtype.itemsize * math.prod(shape) != len(raw):
        raise UnreadablePickle(f"its shape and dtype do not go with the {len(raw)} bytes that it holds")
    # An empty array may be (0, 2**60): nothing itself, and a petabyte for whoever sums it along its first axis.
    if not raw and dtype.itemsize * math.prod(length for length in shape if length) > max_decoded_bytes:
        raise UnreadablePickle("its shape is none that an array has")
    if dtype.kind == "b":  # any other byte than 0 and 1 would count as itself
        return np.reshape(np.frombuffer(raw, np.uint8) != 0, shape, order)
    if dtype.kind == "U":
        characters = np.frombuffer(raw, dtype.byteorder.replace("|", "=") + "u4")
        if characters.size and characters.max() > _LAST_CHARACTER:
            raise UnreadablePickle("it has a text that is none")
    flat = np.frombuffer(raw, dtype) if raw else np.empty(0, dtype)
    # A copy, because the bytes cannot be written to, and scripts may change what they get in place.
    return np.array(plain(np.reshape(flat, shape, order=order)))


# --- their parts


def _bytes(data: Any) -> bytes:
    if isinstance(data, bytes):
        return data
    if isinstance(data, Call) and not data.has_state:
        match data.function, data.arguments:
            case _Name.ENCODE, (str() as text, "latin1" | "latin-1"):
                try:
                    return text.encode("latin-1")
                except UnicodeEncodeError:
                    raise UnreadablePickle("it has characters that are no bytes (over U+00FF)") from None
            case _Name.BYTES, ():
                return b""
    raise _other()


def _dtype(call: Any) -> np.dtype[Any]:
    if not isinstance(call, Call) or call.function is not _Name.DTYPE or not call.arguments:
        raise _other()
    word = _word(call.arguments[0])
    if word.startswith("O"):
        raise UnreadablePickle("it holds Python objects (dtype O), which are never unpickled")
    match call.state:
        # A version, the byte order, a subtype, names and fields of a record, the size and alignment of one element.
        case (int(), order, None, None, None, int() as size, int(), int()):
            return _of_word(word, _word(order), size)
    raise UnreadablePickle(f"its dtype {word[:20]} is not one of numbers, booleans or texts of a fixed size")


def _of_word(word: str, order: str, size: int) -> np.dtype[Any]:
    found = _WORD.fullmatch(word)
    if found is not None and order in ("<", ">", "|"):
        kind, count = found[1], int(found[2])
        if count in _SIZES.get(kind, ()) or (kind in "SU" and count > 0 and size in (-1, _size(kind, count))):
            return np.dtype(f"{order}{kind}{count}")
    raise UnreadablePickle(f"its dtype {word[:20]} is not one of numbers, booleans or texts of a fixed size")


def _size(kind: str, count: int) -> int:
    return count * _BYTES_OF_A_CHARACTER if kind == "U" else count


def _word(value: Any) -> str:
    if isinstance(value, bytes):  # of Python 2
        value = value.decode("latin-1")
    if not isinstance(value, str):
        raise _other()
    return value


def _other() -> UnreadablePickle:
    return UnreadablePickle("it does not describe a numpy array or number as numpy does")
