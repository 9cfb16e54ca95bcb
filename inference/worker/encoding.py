"""Predictions to bodies, for scripts that leave encoding to the server."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tidegate.inference.errors import HandlerFailed, NotAcceptable, one_line
from tidegate.inference.worker import pickled_arrays
from tidegate.inference.worker.content import CSV, JSON, JSON_LINES, NPY, NPZ, WRITABLE
from tidegate.inference.worker.dictionaries import PickledArrays
from tidegate.inference.worker.numpy_files import Array

_LONGEST_KEY_BYTES = 0xFFFF - len(".npy")
"""Of a member of a zip."""


def encode(prediction: Any, media_type: str, *, records: int = 0, by_record: bool = False) -> bytes:
    """The prediction as bytes of `media_type`.

    CSV and JSON Lines have one line for each of the `records` of the body, where they were counted (0: they were not).
    `by_record` says that the prediction is the model's own for these records: it has a part for each, or is refused.
    Otherwise a script made it, and its shape says which lines there are; only a flat one for one record is one line.
    Raises `NotAcceptable`, or `HandlerFailed` for what no type can hold.
    """
    if media_type == JSON:
        return _write_json(to_plain(prediction))
    if media_type == JSON_LINES:
        return b"".join(_write_json(row) + b"\n" for row in _lines(prediction, records, by_record=by_record))
    if media_type == CSV:
        return _write_csv(_lines(prediction, records, by_record=by_record))
    if media_type == NPY:
        return _write_npy(_numeric(prediction, "npy"))
    if media_type == NPZ:
        return _write_npz(prediction)
    raise NotAcceptable(f"Accept '{media_type}' cannot be answered; this model writes {', '.join(WRITABLE)}.")


def _lines(prediction: Any, records: int, *, by_record: bool) -> list[Any]:
    if by_record and records:
        parts = _parts(prediction, records)
        if parts is None:
            raise NotAcceptable(
                f"The prediction has no part for each of the {records} records that were sent, so that it cannot be "
                "one line for each; accept JSON."
            )
        return parts
    plain = to_plain(prediction)
    is_flat = isinstance(plain, list) and not any(isinstance(item, list | dict) for item in plain)
    return plain if isinstance(plain, list) and not (records == 1 and is_flat) else [plain]


def _parts(prediction: Any, records: int) -> list[Any] | None:
    """What belongs to each record, plain; None where there is no such part. Dicts and tuples are cut by member."""
    if isinstance(prediction, torch.Tensor | np.ndarray | list) and _length(prediction) == records:
        return list(to_plain(prediction))
    if isinstance(prediction, Mapping):
        named = {key: _parts(member, records) for key, member in prediction.items()}
        if named and all(member is not None for member in named.values()):
            return [{key: member[i] for key, member in named.items() if member is not None} for i in range(records)]
    if isinstance(prediction, tuple):
        members = [_parts(member, records) for member in prediction]
        if members and all(member is not None for member in members):
            return [[member[i] for member in members if member is not None] for i in range(records)]
        if len(prediction) == records:
            return list(to_plain(prediction))
    return [to_plain(prediction)] if records == 1 else None


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list) or value.ndim else None


def to_bytes(body: Any) -> bytes:
    """What a function returned as a body, or as a piece of one, as bytes; tensors as `torch.save` writes them.

    Raises `HandlerFailed`.
    """
    if isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, torch.Tensor):
        return _saved(body)
    try:
        return json.dumps(body).encode()
    except (TypeError, ValueError) as error:
        raise HandlerFailed(
            f"output_fn returned a {type(body).__name__}; it must return bytes, str, a tensor or what JSON can hold "
            f"({one_line(error)})."
        ) from error


def to_plain(value: Any) -> Any:
    """Tensors and arrays, also inside dicts, lists and tuples, as lists and numbers.

    Raises `HandlerFailed` for what has items and is none of these, such as a set or a generator.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().tolist()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        _demand_different(value, _json_key, "JSON")
        each = _to_pickle if isinstance(value, PickledArrays) else to_plain
        return {key: each(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, Iterable) and not isinstance(value, str):
        raise Unsendable(value, "a str" if isinstance(value, bytes | bytearray | memoryview) else "a list")
    return value


def _json_key(key: Any) -> str:
    """What `json.dumps` writes for a key."""
    return key if isinstance(key, str) else json.dumps(key, default=str)


def _demand_different(named: Mapping[Any, Any], written: Callable[[Any], str], kind: str) -> None:
    """Raise `HandlerFailed` where two keys are written alike, so that whoever reads the body would lose one."""
    if all(type(key) is str for key in named):
        return
    seen: dict[str, Any] = {}
    for key in named:
        name = written(key)
        if name in seen:
            raise HandlerFailed(
                f"The prediction has the keys {seen[name]!r:.80} and {key!r:.80}, which {kind} cannot tell apart."
            )
        seen[name] = key


def _to_pickle(value: Any) -> Any:
    """An array or one of numpy's numbers as the text of its pickle, which Studio.ML sent; any other value as it is."""
    if np.ma.is_masked(value):
        return to_plain(value)
    if isinstance(value, np.generic) and value.dtype.kind in pickled_arrays.KINDS:
        return pickled_arrays.write(value)
    if isinstance(value, torch.Tensor | np.ndarray) and (array := to_array(value)).dtype.kind in pickled_arrays.KINDS:
        return pickled_arrays.write(array)
    return to_plain(value)


def to_array(value: Any) -> Array:
    """The value as an array with its own dtype; bfloat16, which numpy lacks, becomes float32."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value.resolve_conj().resolve_neg()
        value = value.numpy()
    array: Array = np.asarray(value)
    return array


def _write_json(plain: Any) -> bytes:
    try:
        return json.dumps(plain, default=_refuse).encode()
    except (TypeError, ValueError) as error:  # a key, or a list that holds itself
        raise HandlerFailed(f"The prediction cannot be written as JSON: {error}.") from error


def _refuse(value: Any) -> Any:
    raise Unsendable(value, "a number, str, list or dict")


class Unsendable(HandlerFailed):
    """A value that no body can hold: `fault` is the sentence without a way out, `instead` what can be made of it."""

    def __init__(self, value: Any, instead: str) -> None:
        self.instead = instead
        self.fault = f"The prediction holds a value of the type {type(value).__name__}, which cannot be sent"
        super().__init__(f"{self.fault}; make {instead} of it in predict_fn, or define an output_fn.")


def _write_csv(rows: Sequence[Any]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        cells = row if isinstance(row, list) else [row]
        if any(isinstance(cell, list | dict) for cell in cells):
            raise NotAcceptable(
                "The prediction holds objects, or has more than two dimensions, which CSV cannot hold; accept JSON."
            )
        writer.writerow(cells)
    return text.getvalue().encode()


def _numeric(value: Any, kind: str) -> Array:
    if _is_masked(value):
        raise NotAcceptable(f"The prediction has masked numbers, which {kind} cannot hold; accept JSON.")
    try:
        array = to_array(value)
    except ValueError:  # rows of different lengths
        array = None
    if array is None or array.dtype.hasobject:
        to_plain(value)  # raises for what no other type could hold either
        raise NotAcceptable(f"The prediction is not an array of numbers, which {kind} could hold; accept JSON.")
    return array


def _is_masked(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_masked, value))
    return isinstance(value, np.ma.MaskedArray) and bool(np.ma.is_masked(value))


def _write_npy(array: Array) -> bytes:
    file = io.BytesIO()
    if array.dtype.fields or not array.dtype.itemsize or not array.flags.c_contiguous:
        np.save(file, array, allow_pickle=False)
        return file.getvalue()
    # What np.save writes, with one copy of the numbers instead of two.
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    return b"".join((file.getvalue(), array.reshape(-1).view(np.uint8).data))


def _write_npz(prediction: Any) -> bytes:
    """The arrays of a dict under its keys; those of a tuple, or the one array, under numpy.savez's own names."""
    if isinstance(prediction, Mapping):
        _demand_different(prediction, str, "npz")
        named = {str(key): value for key, value in prediction.items()}
    else:
        members = prediction if isinstance(prediction, tuple) else (prediction,)
        named = {f"arr_{i}": member for i, member in enumerate(members)}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, value in named.items():
            _demand_member(name)
            # Not numpy.savez: it has no room for a key called "file", and its bytes differ with the time of day.
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), _write_npy(_numeric(value, "npz")))
    return file.getvalue()


def _demand_member(name: str) -> None:
    """Raise `NotAcceptable` for a key that a zip would cut off or refuse."""
    try:
        fits = "\0" not in name and len(name.encode()) <= _LONGEST_KEY_BYTES
    except UnicodeEncodeError:  # half a character
        fits = False
    if not fits:
        raise NotAcceptable(f"The prediction has the key {name!r:.80}, which npz cannot hold; accept JSON.")


def _saved(tensor: torch.Tensor) -> bytes:
    # As TorchServe sent it.
    file = io.BytesIO()
    torch.save(tensor, file)
    return file.getvalue()
