"""The values of one declared column: what is missing, what is no such value, and the rest in the column's type."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tidegate.inference.declarations.table import RANGES, Column
from tidegate.inference.errors import BadRequest
from tidegate.inference.worker.declared.casting import Array, in_type

_WORDS = {"true": 1, "false": 0}
_EXACT_TO = {"float32": 2**24, "float64": 2**53}
"""The types of floats, and up to where they have every whole number."""
_TYPES = {"bool": "true or false", "int64": "a whole number of 64 bits", "int32": "a whole number of 32 bits"}


def column_of(cells: Sequence[Any], column: Column, places: Sequence[str], *, as_texts: bool) -> Array:
    """The cells of a column in its type: texts of CSV where `as_texts`, else values of JSON.

    An empty cell, null and NaN are missing. `places` is where each stands. Raises `BadRequest`, naming the place and
    the column.
    """
    if column.dtype not in _TYPES and (_are_plain(cells) if as_texts else set(map(type, cells)) <= {int, float}):
        try:
            numbers = np.array(list(map(float, cells)))
        except (ValueError, OverflowError):
            pass  # one of them is missing or wrong: see which
        else:
            # Larger whole numbers may be rounded: see which.
            if not (np.abs(numbers) > _EXACT_TO[column.dtype]).any():
                return column_of_numbers(numbers, column, places, shown=cells)
    number_of = _number_of_text if as_texts else _number_of_json
    found: list[float] = []
    for cell, place in zip(cells, places, strict=True):
        try:
            number = number_of(cell, column)
        except (ValueError, OverflowError):
            raise _no_value(cell, column, place) from None
        if number is None or (isinstance(number, float) and math.isnan(number)):
            if column.missing is None:
                raise _missing(column, place)
            number = column.missing
        elif not _is_within(number, column):
            raise _no_value(cell, column, place, is_number=True)
        found.append(number)
    return np.array(found, column.dtype)


def column_of_numbers(
    numbers: Array, column: Column, places: Sequence[str], *, shown: Sequence[Any] | None = None
) -> Array:
    """The same of an array; `shown` is what the client wrote."""
    absent = np.isnan(numbers) if numbers.dtype.kind == "f" else np.zeros(len(numbers), bool)
    if absent.any() and column.missing is None:
        raise _missing(column, places[int(absent.argmax())])
    found, odd = in_type(numbers, column.dtype)
    if found.dtype.kind == "f":
        odd |= np.isinf(found)
    odd &= ~absent
    if odd.any():
        at = int(odd.argmax())
        raise _no_value(numbers[at].item() if shown is None else shown[at], column, places[at], is_number=True)
    if column.missing is not None:
        found[absent] = column.missing
    return found


def _are_plain(cells: Sequence[str]) -> bool:
    """Whether `float` takes of these texts nothing but numbers of CSV: Python's own are 1_000 and other digits, too."""
    together = "".join(cells)
    return together.isascii() and "_" not in together


def _number_of_text(cell: str, column: Column) -> float | int | None:
    """Raises `ValueError`."""
    text = cell.strip()
    if column.dtype == "bool" and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return plain_number(text) if text else None


def plain_number(text: str) -> float | int:
    """A number of CSV; a whole one exactly, also where no float holds it. Raises `ValueError`."""
    if not _are_plain([text.strip()]):
        raise ValueError
    try:
        return int(text)
    except ValueError:
        return float(text)


def _number_of_json(value: Any, column: Column) -> float | int | None:
    """Raises `ValueError`."""
    if isinstance(value, bool) and column.dtype != "bool":
        raise ValueError
    if value is not None and not isinstance(value, int | float):
        raise ValueError
    return value


def _is_within(number: float, column: Column) -> bool:
    if column.dtype == "bool":
        return number in (0, 1)
    if not isinstance(number, int) and not math.isfinite(number):
        return False
    if column.dtype in RANGES:
        least, most = RANGES[column.dtype]
        return number == int(number) and least <= number <= most
    if abs(number) > float(np.finfo(column.dtype).max):
        return False
    return not isinstance(number, int) or int(np.dtype(column.dtype).type(number)) == number


def _missing(column: Column, place: str) -> BadRequest:
    return BadRequest(f"{place} has no value for '{column.name[:40]}', which this model requires.")


def _no_value(cell: Any, column: Column, place: str, *, is_number: bool = False) -> BadRequest:
    fault = f"is not {_TYPES.get(column.dtype, 'a number')}"
    if is_number and column.dtype not in _TYPES:
        fault = f"{column.dtype} cannot hold"
    shown = repr(cell) if isinstance(cell, int | float | str) and len(str(cell)) <= 40 else _cut(cell)
    return BadRequest(f"{place} has {shown} for '{column.name[:40]}', which {fault}.")


def _cut(cell: Any) -> str:
    return repr(cell[:39] + "…") if isinstance(cell, str) else f"a {type(cell).__name__}"
