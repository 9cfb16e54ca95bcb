"""What the server does with declared tables and tensors where the archive's own code has no `input_fn`.

Loaded in the process that answers an example, by path, as `default_functions.py` is. The contract tests hold it to the
server.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

JSON, JSON_LINES, CSV, NPY, NPZ = (
    *("application/json", "application/jsonlines", "text/csv"),
    *("application/x-npy", "application/x-npz"),
)


class NotDone(Exception):
    """What is done here does not reach that far; the text is the end of a sentence."""


def table(body: str | bytes, content_type: str, declared: Mapping[str, Any]) -> tuple[Any, None, int, bool]:
    """Return what the model is given for records, no size, how many there are, and whether one is by itself."""
    columns = declared["columns"]
    names = [column["name"] for column in columns]
    if content_type == NPY and isinstance(body, bytes):
        array = np.atleast_2d(np.load(io.BytesIO(body), allow_pickle=False))
        rows, alone = (array.astype(np.uint8) if array.dtype.kind == "b" else array).tolist(), False
    elif content_type == CSV:
        rows, alone = _csv(str(body), names, declared)
    elif content_type in (JSON, JSON_LINES):
        rows, alone = _json(_documents(body, content_type), names, declared)
    else:
        raise NotDone(f"records are not read here as {content_type}; define input_fn, or give the response")
    if not rows or any(len(row) != len(names) for row in rows):
        raise NotDone(f"the records of the example have not the {len(names)} columns that are declared")
    tensors = [
        torch.tensor(
            [_value(row[at], column, as_text=content_type == CSV) for row in rows],
            dtype=getattr(torch, column.get("dtype", "float32")),
        )
        for at, column in enumerate(columns)
    ]
    if declared.get("as") == "columns":
        return {name: tensor[:, None] for name, tensor in zip(names, tensors, strict=True)}, None, len(rows), alone
    return torch.stack(tensors, 1), None, len(rows), alone


def tensors(body: str | bytes, content_type: str, declared: Sequence[Mapping[str, Any]]) -> tuple[Any, None, int, bool]:
    """Return the tensor that the model is given, or several by name, no size, and how many records there are."""
    names = [each["name"] for each in declared]
    named: Any
    if content_type == NPZ and isinstance(body, bytes):
        named = dict(np.load(io.BytesIO(body), allow_pickle=False))
    elif content_type == NPY and isinstance(body, bytes):
        named = {names[0]: np.load(io.BytesIO(body), allow_pickle=False)}
    elif content_type in (JSON, JSON_LINES):
        found = [_by_name(each, names) for each in _documents(body, content_type)]
        named = found[0] if content_type == JSON else {name: [each[name] for each in found] for name in found[0]}
    else:
        raise NotDone(f"tensors are not read here as {content_type}; define input_fn, or give the response")
    if set(named) != set(names):
        raise NotDone(f"the tensors of the example are {', '.join(map(repr, named))}, and not those that are declared")
    lengths: dict[str, int] = {}
    made = {each["name"]: _tensor(named[each["name"]], each, lengths) for each in declared}
    counts = {len(tensor) for tensor in made.values()}
    free = len(counts) == 1 and not any(isinstance(each["shape"][0], int) for each in declared)
    return made if len(made) > 1 else next(iter(made.values())), None, counts.pop() if free else 0, False


def _csv(text: str, names: list[str], declared: Mapping[str, Any]) -> tuple[list[list[Any]], bool]:
    rows = [
        row for row in csv.reader(io.StringIO(text, newline="")) if any(cell.strip() for cell in row) or len(row) > 1
    ]
    header = declared.get("header", "auto")
    first = [cell.strip() for cell in rows[0]] if rows else []
    if header == "required" or (header == "auto" and set(first) & set(names)):
        rows = [_ordered(dict(zip(first, row, strict=True)), names, declared) for row in rows[1:]]
    return rows, len(rows) == 1


def _json(documents: list[Any], names: list[str], declared: Mapping[str, Any]) -> tuple[list[list[Any]], bool]:
    records, alone = documents, len(documents) == 1
    if alone and isinstance(documents[0], list) and any(isinstance(each, dict | list) for each in documents[0]):
        records, alone = documents[0], False
    return [_ordered(each, names, declared) if isinstance(each, dict) else each for each in records], alone


def _ordered(record: dict[str, Any], names: list[str], declared: Mapping[str, Any]) -> list[Any]:
    others = [name for name in record if name not in names]
    if others and declared.get("others") != "ignore":
        raise NotDone(f"the example has the column {others[0]!r}, which is not declared")
    if absent := [name for name in names if name not in record]:
        raise NotDone(f"the example lacks the column {absent[0]!r}")
    return [record[name] for name in names]


def _value(cell: Any, column: Mapping[str, Any], *, as_text: bool) -> float | int | bool:
    dtype = column.get("dtype", "float32")
    value = _read(cell.strip(), dtype) if as_text else cell
    name, missing = column["name"], column.get("missing", "refuse")
    if value is None or value != value:  # noqa: PLR0124 - NaN
        if missing == "refuse":
            raise NotDone(f"the example has no value for {name!r}, and nothing is declared for that")
        return math.nan if missing == "nan" else missing
    if not _is_held(value, dtype):
        raise NotDone(f"the example has {cell!r} for {name!r}, which is no {dtype}")
    return float(value) if dtype.startswith("float") else int(value)


def _is_held(value: Any, dtype: str) -> bool:
    """Whether a column of this type has the value exactly; a float that is not whole may be rounded."""
    if dtype == "bool":
        return isinstance(value, int | float) and value in (0, 1)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if dtype.startswith("float"):
        within = abs(value) <= float(np.finfo(dtype).max)
        return within and (isinstance(value, float) or int(np.dtype(dtype).type(value)) == value)
    limits = np.iinfo(dtype)
    return value == int(value) and int(limits.min) <= value <= int(limits.max)


def _read(text: str, dtype: str) -> Any:
    if not text:
        return None
    if dtype == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if not text.isascii() or "_" in text:
        return text  # what Python reads beside the numbers of CSV
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _documents(body: str | bytes, content_type: str) -> list[Any]:
    text = body if isinstance(body, str) else body.decode()
    return (
        [json.loads(line) for line in text.split("\n") if line.strip()]
        if content_type == JSON_LINES
        else [json.loads(text)]
    )


def _by_name(value: Any, names: list[str]) -> dict[str, Any]:
    return value if isinstance(value, dict) else {names[0]: value}


def _tensor(value: Any, declared: Mapping[str, Any], lengths: dict[str, int]) -> torch.Tensor:
    array, dtype, shape = np.array(value), declared.get("dtype", "float32"), declared["shape"]
    fits = array.ndim == len(shape) and array.dtype.kind in "fiub"
    if isinstance(value, list) and dtype != "bool" and _holds_bools(value):
        raise NotDone(f"the tensor {declared['name']!r} of the example holds true or false, and not {dtype} alone")
    if not fits or any(
        length != (lengths.setdefault(meant, length) if isinstance(meant, str) else meant)
        for length, meant in zip(array.shape, shape, strict=True)
        if meant is not None
    ):
        raise NotDone(f"the tensor {declared['name']!r} of the example has the shape {array.shape}, not {tuple(shape)}")
    with np.errstate(over="ignore", invalid="ignore"):
        found = array.astype(dtype)
    is_rounded = array.dtype.kind == "f" and found.dtype.kind == "f"
    odd = np.isinf(found) & np.isfinite(array) if is_rounded else found.astype(np.longdouble) != array
    if odd.any():
        raise NotDone(f"the tensor {declared['name']!r} of the example holds what {dtype} cannot hold")
    return torch.from_numpy(found)


def _holds_bools(value: Any) -> bool:
    return any(map(_holds_bools, value)) if isinstance(value, list) else isinstance(value, bool)
