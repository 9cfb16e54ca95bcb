"""Bodies as dictionaries of arrays, for models that `create_model` makes.

JSON objects, one to a body or to a line, and npz files. A value of JSON that is a list of numbers, or of booleans, with
rows of the same length is an array; any other value is what JSON has. Where the deployer allows it, a text that is
a pickled array is that array, and then the arrays of the answer are sent in the same way.
"""

from __future__ import annotations

import logging
from functools import cache
from itertools import chain
from typing import Any

import numpy as np

from tidegate.inference.errors import BadRequest, UnsupportedMediaType
from tidegate.inference.worker import pickled_arrays
from tidegate.inference.worker.content import JSON, JSON_LINES, NPZ, Reading, json_documents, not_read, split_media_type
from tidegate.inference.worker.numpy_files import Array, read_npz
from tidegate.inference.worker.pickle_machine import UnreadablePickle

log = logging.getLogger("tidegate.worker")

Dictionary = dict[str, Any]

_NUMBERS = (frozenset({int}), frozenset({float}), frozenset({int, float}), frozenset({bool}))


class PickledArrays(Dictionary):
    """A dictionary whose arrays came as pickles, or are to be answered as such."""


def read(body: str | bytes | bytearray, content_type: str | None, *, reading: Reading) -> Dictionary | list[Dictionary]:
    """The dictionary of a body; those of its lines where it is JSON Lines.

    Raises `BadRequest` and `UnsupportedMediaType`.
    """
    media_type, charset = split_media_type(content_type or "")
    if media_type == NPZ:
        data = body.encode() if isinstance(body, str) else body
        return dict(read_npz(data, reading.max_decoded_bytes))
    if media_type in (JSON, JSON_LINES):
        found = [_dictionary(value, what, reading) for what, value in json_documents(body, media_type, charset)]
        return found if media_type == JSON_LINES else found[0]
    raise UnsupportedMediaType(
        f"{not_read(media_type)}; this model takes a dictionary: {JSON} (an object), {JSON_LINES} or {NPZ}."
    )


def _dictionary(value: Any, what: str, reading: Reading) -> Dictionary:
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a string", type(None): "null"}.get(type(value), "a number or boolean")
        raise BadRequest(f"{what} must be a JSON object, which this model takes as a dictionary; it is {kind}.")
    if any(isinstance(each, str) and pickled_arrays.is_pickle(each) for each in value.values()):
        if reading.legacy_pickle:
            return PickledArrays((name, _value(each, name, reading)) for name, each in value.items())
        _tell_of_pickles()
    return {name: array_of(each) for name, each in value.items()}


@cache
def _tell_of_pickles() -> None:
    """Once: a client that was not changed sends them with each request."""
    log.warning(
        "A value of a request looks like a pickled array, and is handed to the model as the text that it is; "
        "TIDEGATE_LEGACY_PICKLE=on reads such values as arrays. This is said once."
    )


def _value(value: Any, name: str, reading: Reading) -> Any:
    if not isinstance(value, str) or not pickled_arrays.is_pickle(value):
        return array_of(value)
    try:
        return pickled_arrays.read(value, reading.max_decoded_bytes)
    except UnreadablePickle as error:
        raise BadRequest(f"'{name[:40]}' of the JSON object is a pickle that is not read: {error}.") from None


def array_of(value: Any) -> Any:
    """A list of numbers, or of booleans, whose rows have the same length, as an array; any other value as it is.

    Whole numbers are int64 (or uint64, where only that holds them all), others float64.
    """
    if not isinstance(value, list):
        return value
    shape = [len(value)]
    level = value
    while level and set(map(type, level)) == {list}:
        lengths = set(map(len, level))
        if len(lengths) != 1:
            return value
        shape.append(lengths.pop())
        level = list(chain.from_iterable(level))
    kinds = frozenset(map(type, level))
    if level and kinds not in _NUMBERS:
        return value
    return _numbers(level, shape, kinds, value)


def _numbers(flat: list[Any], shape: list[int], kinds: frozenset[type], value: list[Any]) -> Array | list[Any]:
    try:
        if int in kinds and float not in kinds:
            least, most = min(flat), max(flat)
            dtype = np.uint64 if least >= 0 and most > np.iinfo(np.int64).max else np.int64
            array: Array = np.array(flat, dtype=dtype)
        else:
            array = np.array(flat, dtype=bool if bool in kinds else np.float64)
        return array.reshape(shape)
    except (OverflowError, ValueError):  # a number, or so many dimensions, as numpy has none of
        return value
