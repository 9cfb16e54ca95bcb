"""A prediction, or the answer of a script's own function, as the named outputs of the open inference protocol."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np
import torch

from tidegate.inference.errors import BadRequest
from tidegate.inference.worker import encoding, numpy_files, tensor_data
from tidegate.inference.worker.content import JSON, NPY, NPZ, decode_text, split_media_type
from tidegate.inference.worker.tensor_data import BYTES, Output


def outputs_of(prediction: Any, single: str = "output_0") -> list[Output]:
    """The outputs that a prediction has: the members of a dict by their keys, of a tuple by their names or numbers.

    What is no tensor is JSON, as one element of BYTES. Raises `HandlerFailed` for what JSON cannot hold either.
    """
    if isinstance(prediction, Mapping):
        return [_output(str(key), value) for key, value in prediction.items()]
    if isinstance(prediction, tuple):
        names = getattr(prediction, "_fields", None) or [f"output_{i}" for i in range(len(prediction))]
        return [_output(name, value) for name, value in zip(names, prediction, strict=True)]
    return [_output(single, prediction)]


def outputs_of_body(body: Any, content_type: str) -> list[Output]:
    """The outputs that the answer of a script's own function has, by its type; of other types it is one of BYTES."""
    if not isinstance(body, str | bytes | bytearray | memoryview):
        return outputs_of(body)
    data = body.encode() if isinstance(body, str) else bytes(body)
    media_type, charset = split_media_type(content_type)
    try:
        if media_type == JSON:
            return outputs_of(json.loads(decode_text(data, charset)))
        if media_type == NPY:
            return outputs_of(numpy_files.read_npy(bytearray(data)))
        if media_type == NPZ:
            return outputs_of(numpy_files.read_npz(data, max_decoded_bytes=sys.maxsize))
    except (ValueError, RecursionError, BadRequest):
        pass  # it is not what its type says, and is sent as it is
    return [_one_element("output_0", data, content_type)]


def _output(name: str, value: Any) -> Output:
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.kind in "biuf":
            return tensor_data.numbers(name, np.asarray(value))
        if value.dtype.kind in "SUO" and all(isinstance(item, str | bytes) for item in value.ravel()):
            return Output(name, BYTES, value.shape, _texts(value.ravel()))
        value = value.tolist()
    if isinstance(value, torch.Tensor):
        return tensor_data.numbers(name, value)
    items = value if isinstance(value, list | tuple) else [value]
    if items and all(isinstance(item, torch.Tensor) for item in items):
        if len({(item.shape, item.dtype, item.device) for item in items}) == 1:
            return tensor_data.numbers(name, torch.stack(list(items)))
    elif items and all(isinstance(item, np.ndarray) for item in items):
        if len({(item.shape, item.dtype) for item in items}) == 1 and items[0].dtype.kind in "biuf":
            return tensor_data.numbers(name, np.stack(items))
    elif (regular := _regular(name, items)) is not None:
        return regular
    return _one_element(name, encoding.encode(value, JSON), JSON)


def _one_element(name: str, data: bytes, content_type: str) -> Output:
    return Output(name, BYTES, (1,), [data], content_type)


def _texts(items: Iterable[str | bytes]) -> list[bytes]:
    return [item if isinstance(item, bytes) else item.encode(errors="replace") for item in items]


def _regular(name: str, items: list[Any] | tuple[Any, ...]) -> Output | None:
    """Numbers, or texts, in rows of equal lengths; None for anything else."""
    shape, flat = [len(items)], list(items)
    while flat and all(isinstance(item, list | tuple) for item in flat):
        if len({len(item) for item in flat}) > 1:
            return None
        shape.append(len(flat[0]))
        flat = list(chain.from_iterable(flat))
    flat = [item.item() if isinstance(item, np.generic) else item for item in flat]
    kinds = set(map(type, flat))
    if kinds and kinds <= {str, bytes}:
        return Output(name, BYTES, tuple(shape), _texts(flat))
    dtype = np.bool_ if kinds == {bool} else np.int64 if kinds == {int} else np.float64
    if not (kinds == {bool} or kinds <= {int, float}):
        return None
    try:
        return tensor_data.numbers(name, np.array(flat, dtype).reshape(shape))
    except OverflowError:
        return None
