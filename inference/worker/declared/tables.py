"""Records of declared columns to the tensors that a model takes.

CSV         with a line of names or without ▶
JSON        {"age": 41, …}, a list of these, ▶  one column after the other:
            [41, 1.8], a list of these       ▶  missing values ▶ type ▶ a tensor (n, columns), or one (n, 1) for each
JSON Lines  one of these in each line       ▶
npy         (n, columns)                    ▶
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from tidegate.inference.declarations.table import Table
from tidegate.inference.errors import BadRequest, UnsupportedMediaType
from tidegate.inference.worker.content import (
    CSV,
    JSON,
    JSON_LINES,
    NPY,
    OCTETS,
    as_text,
    csv_rows,
    json_documents,
    not_read,
    split_media_type,
)
from tidegate.inference.worker.declared.casting import Array
from tidegate.inference.worker.declared.cells import column_of, column_of_numbers
from tidegate.inference.worker.declared.taken import Taken, records_of
from tidegate.inference.worker.numpy_files import is_npy, read_npy

READABLE = (JSON, JSON_LINES, CSV, NPY)


class _Rows(NamedTuple):
    """Cells in the order of the declared columns, and where each row stands."""

    cells: list[Sequence[Any]]
    places: list[str]
    one_alone: bool


def read(
    body: str | bytes | bytearray | memoryview, content_type: str, declared: Table, *, max_decoded_bytes: int
) -> Taken:
    """What the model is given for a body. Raises `BadRequest` and `UnsupportedMediaType`."""
    media_type, charset = split_media_type(content_type)
    raw = body.encode() if isinstance(body, str) else body
    if media_type == NPY or (media_type == OCTETS and is_npy(raw)):
        numbers = _array(read_npy(raw), declared)
        _demand_room(len(numbers), declared, max_decoded_bytes)
        places = _Places(len(numbers))
        columns = [column_of_numbers(numbers[:, at], each, places) for at, each in enumerate(declared.columns)]
        return _taken(columns, declared, records=len(numbers), one_alone=False)
    if media_type == CSV:
        rows = _csv(as_text(body, charset), declared)
    elif media_type in (JSON, JSON_LINES):
        rows = _json(json_documents(body, media_type, charset), declared)
    else:
        raise UnsupportedMediaType(
            f"{not_read(media_type)}; this model takes records of {len(declared.columns)} columns as {CSV}, {JSON}, "
            f"{JSON_LINES} or {NPY}."
        )
    _demand_room(len(rows.cells), declared, max_decoded_bytes)
    by_column = zip(*rows.cells, strict=True)
    columns = [
        column_of(cells, each, rows.places, as_texts=media_type == CSV)
        for cells, each in zip(by_column, declared.columns, strict=True)
    ]
    return _taken(columns, declared, records=len(rows.cells), one_alone=rows.one_alone)


def _taken(columns: list[Array], declared: Table, *, records: int, one_alone: bool) -> Taken:
    data: Any
    if declared.as_columns:
        named = zip(declared.columns, columns, strict=True)
        data = {column.name: torch.from_numpy(values[:, np.newaxis]) for column, values in named}
    else:
        data = torch.from_numpy(np.stack(columns, axis=1))
    return Taken(data=data, records=records, one_alone=one_alone and records == 1)


def _demand_room(records: int, declared: Table, max_decoded_bytes: int) -> None:
    needed = records * sum(np.dtype(column.dtype).itemsize for column in declared.columns)
    if needed > max_decoded_bytes:
        raise BadRequest(f"The {records} records take {needed} bytes as numbers; the limit is {max_decoded_bytes}.")


# --- CSV


def _csv(text: str, declared: Table) -> _Rows:
    rows = list(csv_rows(text))
    if not rows:
        raise BadRequest("The CSV body is empty.")
    names = [column.name for column in declared.columns]
    header = [cell.strip() for cell in rows[0][1]]
    chosen: list[int] | None = None
    if declared.header == "required" or (declared.header == "auto" and not set(header).isdisjoint(names)):
        chosen = _places_of(header, names, f"Line {rows[0][0]}, which names the columns,", declared)
        del rows[0]
        if not rows:
            raise BadRequest("The CSV body has a line with the names of the columns, and no record.")
    width = len(names) if chosen is None else len(header)
    odd = next(((number, row) for number, row in rows if len(row) != width), None)
    if odd is not None:
        number, row = odd
        whose = f"this model takes {', '.join(map(_short, names[:20]))}" if chosen is None else "the header has others"
        raise BadRequest(f"Line {number} of the CSV body has {len(row)} cells instead of {width}; {whose}.")
    cells: list[Sequence[Any]] = [row if chosen is None else [row[at] for at in chosen] for _, row in rows]
    return _Rows(cells, [f"Line {number}" for number, _ in rows], one_alone=True)


# --- JSON


def _json(documents: list[tuple[str, Any]], declared: Table) -> _Rows:
    names = [column.name for column in declared.columns]
    (where, value), *others = documents
    if not others and isinstance(value, list) and value and not any(isinstance(each, list | dict) for each in value):
        return _Rows([_listed(value, names, where)], [where], one_alone=True)  # one row, not a list of rows
    records, one_alone = records_of(documents)
    cells = [
        _named(each, names, place, declared) if isinstance(each, dict) else _listed(each, names, place)
        for place, each in records
    ]
    return _Rows(cells, [place for place, _ in records], one_alone)


def _named(record: dict[str, Any], names: list[str], where: str, declared: Table) -> Sequence[Any]:
    if len(record) != len(names) or not all(name in record for name in names):
        _places_of(list(record), names, where, declared)
    return [record[name] for name in names]


def _listed(record: Any, names: list[str], where: str) -> Sequence[Any]:
    if not isinstance(record, list):
        raise BadRequest(f"{where} is no record; send an object with {_some(names)}, or a list of these in this order.")
    if len(record) != len(names):
        raise BadRequest(
            f"{where} has {len(record)} values instead of {len(names)}; this model takes {_some(names)}, in this order."
        )
    return record


# --- arrays


class _Places(Sequence[str]):
    """Where the rows of an array stand."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: Any) -> Any:
        return f"Row {at}"


def _array(array: Array, declared: Table) -> Array:
    if array.dtype.kind not in "fiub":
        raise BadRequest(f"Arrays of the dtype {array.dtype} cannot be read; send numbers.")
    rows = array[np.newaxis] if array.ndim == 1 else array
    if rows.ndim != 2 or rows.shape[1] != len(declared.columns) or not len(rows):
        raise BadRequest(
            f"The array has the shape {array.shape}; this model takes (records, {len(declared.columns)}), with the "
            f"columns {_some([column.name for column in declared.columns])}."
        )
    return rows


# --- names


def _places_of(found: list[str], names: list[str], where: str, declared: Table) -> list[int]:
    """Where each declared column stands among those that were found. Raises `BadRequest`, naming the first mistake."""
    places = {name: at for at, name in enumerate(found)}
    if len(places) < len(found):
        twice = next(name for at, name in enumerate(found) if places[name] != at)
        raise BadRequest(f"{where} has the column {_short(twice)} twice.")
    unknown = next((name for name in found if name not in set(names)), None)
    missing = next((name for name in names if name not in places), None)
    if unknown is not None and not declared.ignore_others:
        near = difflib.get_close_matches(unknown[:80], names[:1000], 1)
        hint = f"did you mean {_short(near[0])}?" if near else f"there are {_some(names)}."
        raise BadRequest(f"{where} has the column {_short(unknown)}, which this model does not know; {hint}")
    if missing is not None:
        raise BadRequest(f"{where} lacks the column {_short(missing)}; this model takes {_some(names)}.")
    return [places[name] for name in names]


def _some(names: list[str]) -> str:
    return ", ".join(map(_short, names[:20])) + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _short(name: str) -> str:
    return repr(name if len(name) <= 40 else name[:39] + "…")
