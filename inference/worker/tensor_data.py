"""The contents of a tensor as the open inference protocol has them: a JSON array, or bytes of the binary extension.

A tensor of numbers is a `torch.Tensor` with the dtype that its datatype names. One of BYTES, which torch lacks, is a
list of `bytes`, nested as its shape says. What does not fit the announced datatype, shape or size is the client's
mistake, and is found before memory is taken for it: `BadRequest`.

Source of datatypes and layouts: https://github.com/kserve/open-inference-protocol, and Triton's binary tensor data
extension (docs/protocol/extension_binary_data.md of triton-inference-server/server).
"""

from __future__ import annotations

import math
from itertools import chain
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
import torch

from tidegate.inference.errors import BadRequest, HandlerFailed
from tidegate.inference.worker.numpy_files import Array

BYTES = "BYTES"
_DTYPES = {
    "BOOL": (torch.bool, "u1"),
    "UINT8": (torch.uint8, "u1"),
    "UINT16": (torch.uint16, "<u2"),
    "UINT32": (torch.uint32, "<u4"),
    "UINT64": (torch.uint64, "<u8"),
    "INT8": (torch.int8, "i1"),
    "INT16": (torch.int16, "<i2"),
    "INT32": (torch.int32, "<i4"),
    "INT64": (torch.int64, "<i8"),
    "FP16": (torch.float16, "<f2"),
    "FP32": (torch.float32, "<f4"),
    "FP64": (torch.float64, "<f8"),
    "BF16": (torch.bfloat16, "<i2"),  # numpy has no such numbers: they travel as their bits
}
"""The dtype of each datatype in memory, and its bytes: little-endian, row after row, without gaps."""
_WIRE = {name: np.dtype(layout) for name, (_, layout) in _DTYPES.items()}
_NAMES = {dtype: name for name, (dtype, _) in _DTYPES.items()}
DATATYPES = (*_DTYPES, BYTES)
_FLOATING = frozenset({"FP16", "FP32", "FP64", "BF16"})
_LENGTH = Struct("<I")
_MAX_DIMENSIONS = 32

Value = torch.Tensor | list[Any] | bytes
"""A tensor of numbers; or one of BYTES: nested lists of bytes, or the bytes of a tensor without dimensions."""


class Head(NamedTuple):
    """What an input announces."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many elements it has. One of Python's integers, which do not overflow."""
        return math.prod(self.shape)

    @property
    def item_bytes(self) -> int:
        """What an element takes in memory; of BYTES, what the place for it takes."""
        return 8 if self.datatype == BYTES else _WIRE[self.datatype].itemsize


class Output(NamedTuple):
    """One tensor of an answer; its elements row after row, BYTES as `bytes`."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    elements: Array | list[bytes]
    content_type: str = ""
    """Of what type the one element is, where it is a body."""


def head_of(name: str, datatype: Any, shape: Any) -> Head:
    """What an input announces, checked. Raises `BadRequest`."""
    what = f"The input '{name[:80]}'"
    if not (isinstance(datatype, str) and (datatype in _DTYPES or datatype == BYTES)):
        raise BadRequest(f"{what} has the datatype {_shown(datatype)}; there are {', '.join(DATATYPES)}.")
    if not (isinstance(shape, list) and all(type(length) is int and 0 <= length < 2**63 for length in shape)):
        raise BadRequest(f"{what} has the shape {_shown(shape)}; it must be a list of whole numbers, none below 0.")
    if len(shape) > _MAX_DIMENSIONS:
        raise BadRequest(f"{what} has {len(shape)} dimensions; there may be {_MAX_DIMENSIONS}.")
    head = Head(name, datatype, tuple(shape))
    # With a 0 among them the others may be anything, and numpy multiplies them nonetheless.
    if math.prod(max(length, 1) for length in shape) * head.item_bytes >= 2**63:
        raise BadRequest(f"{what} has the shape {_shown(shape)}, which no tensor has.")
    return head


def datatype_of(dtype: torch.dtype) -> str:
    """The protocol's name of a dtype; empty where it has none."""
    return _NAMES.get(dtype, "")


# --- what comes in


def from_json(head: Head, data: Any) -> Value:
    """The tensor of a JSON array, flat or nested as the shape says. Raises `BadRequest`."""
    flat = _flat(head, data)
    kinds = set(map(type, flat))
    if head.datatype == BYTES:
        _demand(kinds <= {str}, head, "strings")
        try:
            return _nested(head.shape, [text.encode() for text in flat])
        except UnicodeEncodeError:
            raise BadRequest(f"The input '{head.name[:80]}' holds a string that is not Unicode text.") from None
    dtype, _ = _DTYPES[head.datatype]
    if dtype is torch.bool:
        _demand(kinds <= {bool}, head, "true and false")
        return torch.tensor(flat, dtype=dtype).reshape(head.shape)
    try:
        if head.datatype in _FLOATING:
            _demand(kinds <= {int, float}, head, "numbers")
            wide = np.array(flat, np.float64)
            tensor = torch.from_numpy(wide).to(dtype)
            # A number just above the largest is rounded to it, so what counts is what became of it.
            beyond = not np.abs(wide).max(initial=0) <= torch.finfo(dtype).max
            if beyond and torch.isinf(tensor).sum() != np.isinf(wide).sum():
                raise OverflowError
        else:
            _demand(kinds <= {int}, head, "whole numbers")
            tensor = torch.from_numpy(np.array(flat, _WIRE[head.datatype].newbyteorder("=")))
    except OverflowError:
        raise BadRequest(f"The input '{head.name[:80]}' holds a number that {head.datatype} cannot hold.") from None
    return tensor.reshape(head.shape)


def _demand(fits: bool, head: Head, wanted: str) -> None:
    if not fits:
        raise BadRequest(f"The data of the input '{head.name[:80]}' must be {wanted}, because it is {head.datatype}.")


def _flat(head: Head, data: Any) -> list[Any]:
    what = f"The data of the input '{head.name[:80]}'"
    if type(data) is not list:
        raise BadRequest(f"{what} must be a list.")
    lengths = [len(data)]
    while data and type(data[0]) is list:
        rows = {len(row) if type(row) is list else -1 for row in data}
        if len(rows) > 1 or -1 in rows:
            raise BadRequest(f"{what} has rows of different lengths.")
        lengths.append(len(data[0]))
        data = list(chain.from_iterable(data))
    if len(data) != head.elements or (data and len(lengths) > 1 and tuple(lengths) != head.shape):
        raise BadRequest(f"{what} is of the shape {lengths}, and the shape {list(head.shape)} is announced.")
    return data  # type: ignore[no-any-return]


def from_bytes(head: Head, raw: memoryview) -> Value:
    """The tensor of the bytes that follow the JSON. It shares their memory where it may. Raises `BadRequest`."""
    if head.datatype == BYTES:
        return _nested(head.shape, _elements(head, raw))
    wire = _WIRE[head.datatype]
    if head.elements * wire.itemsize != len(raw):
        raise BadRequest(
            f"The input '{head.name[:80]}' has {len(raw)} bytes of data; {head.datatype} of the shape "
            f"{list(head.shape)} takes {head.elements * wire.itemsize}."
        )
    array: Array = np.frombuffer(raw, wire) if len(raw) else np.empty(0, wire)
    if not (array.flags.aligned and array.flags.writeable):
        array = array.copy()
    array = array.astype(wire.newbyteorder("="), copy=False)
    if head.datatype == "BOOL":
        if array.size and array.max() > 1:
            raise BadRequest(f"The input '{head.name[:80]}' is BOOL and holds bytes other than 0 and 1.")
        array = array.view(np.bool_)
    tensor = torch.from_numpy(array)
    return (tensor.view(torch.bfloat16) if head.datatype == "BF16" else tensor).reshape(head.shape)


def _elements(head: Head, raw: memoryview) -> list[bytes]:
    """Each element is its length in four bytes, and so many bytes."""
    what = f"The data of the input '{head.name[:80]}'"
    if head.elements * _LENGTH.size > len(raw):
        raise BadRequest(f"{what} has {len(raw)} bytes, which is too short for {head.elements} elements of BYTES.")
    elements: list[bytes] = []
    at = 0
    while at < len(raw) and len(elements) < head.elements:
        end = at + _LENGTH.size
        if end <= len(raw):
            (length,) = _LENGTH.unpack_from(raw, at)
            at, end = end, end + length
        if end > len(raw):
            raise BadRequest(f"{what} ends within the element {len(elements)}.")
        elements.append(bytes(raw[at:end]))
        at = end
    if at != len(raw) or len(elements) != head.elements:
        raise BadRequest(f"{what} holds not the {head.elements} elements that the shape {list(head.shape)} announces.")
    return elements


def _nested(shape: tuple[int, ...], elements: list[bytes]) -> list[Any] | bytes:
    if not shape:
        return elements[0]
    nested: list[Any] = elements
    for length in reversed(shape[1:] if elements else ()):
        nested = [nested[at : at + length] for at in range(0, len(nested), length)]
    return nested


# --- what goes out


def numbers(name: str, value: torch.Tensor | Array) -> Output:
    """A tensor of numbers as an output. Raises `HandlerFailed` for numbers that the protocol has not."""
    tensor = value if isinstance(value, torch.Tensor) else _tensor(name, value)
    if tensor.dtype not in _NAMES:
        raise _no_datatype(name, tensor.dtype)
    tensor = tensor.detach().cpu()
    flat = (tensor.to_dense() if tensor.layout != torch.strided else tensor).resolve_neg().reshape(-1)
    datatype = _NAMES[tensor.dtype]
    bits = flat.view(torch.int16) if datatype == "BF16" else flat
    return Output(name, datatype, tuple(value.shape), bits.contiguous().numpy())


def _tensor(name: str, array: Array) -> torch.Tensor:
    try:
        return torch.from_numpy(np.require(array.astype(array.dtype.newbyteorder("="), copy=False), None, ["C", "W"]))
    except TypeError:
        raise _no_datatype(name, array.dtype) from None


def _no_datatype(name: str, dtype: object) -> HandlerFailed:
    return HandlerFailed(
        f"The output '{name}' is of the type {dtype}, which the open inference protocol has not; it has "
        f"{', '.join(DATATYPES)}."
    )


def to_json(output: Output) -> list[Any]:
    """The elements as JSON has them. Raises `BadRequest` for bytes that JSON cannot hold."""
    if isinstance(output.elements, np.ndarray):
        array = output.elements
        if output.datatype == "BF16":
            return torch.from_numpy(array).view(torch.bfloat16).tolist()
        return array.tolist()  # type: ignore[no-any-return]
    try:
        return [element.decode() for element in output.elements]
    except UnicodeDecodeError:
        raise BadRequest(
            f"The output '{output.name}' holds bytes that are not UTF-8, which JSON cannot hold: ask for it with the "
            'parameter "binary_data": true.'
        ) from None


def to_bytes(output: Output) -> bytes:
    """The elements as the binary extension has them."""
    if isinstance(output.elements, np.ndarray):
        return output.elements.astype(_WIRE[output.datatype], copy=False).tobytes()
    return b"".join(part for element in output.elements for part in (_LENGTH.pack(len(element)), element))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:79] + "…"
