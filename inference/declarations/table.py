"""What a manifest says under `table`: the columns of the records that a model takes, and what stands for no value.

    "table": {"columns": ["age", {"name": "height", "missing": 1.71}, {"name": "smokes", "dtype": "bool"}],
              "as": "columns"}

docs/handlers.md has each key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from tidegate.inference.declarations.part import Part, is_number, shown
from tidegate.inference.errors import DeploymentError
from tidegate.inference.layout import MANIFEST

Dtype = Literal["float32", "float64", "int64", "int32", "bool"]
DTYPES = ("float32", "float64", "int64", "int32", "bool")
RANGES = {"int64": (-(2**63), 2**63 - 1), "int32": (-(2**31), 2**31 - 1)}
Header = Literal["auto", "required", "none"]
MAX_COLUMNS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its name, the type in which the model is given it, and what stands for a value that is missing."""

    name: str
    dtype: Dtype = "float32"
    missing: float | int | bool | None = None
    """None: a record without a value is refused. NaN is for models that know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The columns, in the order in which the model is given them."""

    columns: tuple[Column, ...]
    as_columns: bool = False
    """A tensor (records, 1) for each column by its name, instead of one (records, columns)."""
    header: Header = "auto"
    """Whether the first line of CSV names the columns; `auto`: if it has the name of one."""
    ignore_others: bool = False
    """Whether columns that are not declared are passed over, instead of refused."""


def declared(manifest: Mapping[str, Any]) -> Table | None:
    """What the manifest says, None where it says nothing. Raises `DeploymentError` with the place of a mistake."""
    if "table" not in manifest:
        return None
    part = Part(manifest["table"], "table", {"columns", "as", "header", "others"})
    listed = part.values.get("columns")
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_COLUMNS:
        raise part.mistake("columns", f"must be a list of 1 to {MAX_COLUMNS} columns")
    columns = tuple(_column(each, f"table.columns[{number}]") for number, each in enumerate(listed))
    numbers: dict[str, int] = {}
    for number, column in enumerate(columns):
        if (first := numbers.setdefault(column.name, number)) != number:
            raise DeploymentError(
                f"{MANIFEST}: table.columns[{number}] has the name {shown(column.name)} of table.columns[{first}]."
            )
    as_columns = part.choice("as", ("matrix", "columns"), "matrix") == "columns"
    if not as_columns and len(dtypes := list(dict.fromkeys(column.dtype for column in columns))) > 1:
        raise part.mistake("as", f'is "matrix", which has one dtype, and the columns have {" and ".join(dtypes)}')
    header = cast(Header, part.choice("header", ("auto", "required", "none"), "auto"))
    if header == "auto" and (value := next((each.name for each in columns if _could_be_a_value(each.name)), None)):
        raise part.mistake("header", f'must be "required" or "none": the name {shown(value)} could be a value')
    return Table(
        columns=columns,
        as_columns=as_columns,
        header=header,
        ignore_others=part.choice("others", ("refuse", "ignore"), "refuse") == "ignore",
    )


def _column(value: Any, place: str) -> Column:
    part = Part({"name": value} if isinstance(value, str) else value, place, {"name", "dtype", "missing"})
    name = part.values.get("name")
    if not isinstance(name, str) or not name or name != name.strip():
        raise part.mistake("name", f"is {shown(name)}; it must be a text without blanks around it")
    dtype = cast(Dtype, part.choice("dtype", DTYPES, "float32"))
    return Column(name=name, dtype=dtype, missing=_missing(part, dtype))


def _missing(part: Part, dtype: Dtype) -> float | int | bool | None:
    value = part.values.get("missing", "refuse")
    if value == "refuse":
        return None
    if dtype == "bool":
        if isinstance(value, bool):
            return value
        raise part.mistake("missing", f'is {shown(value)}; it must be "refuse", true or false')
    if dtype in RANGES:
        least, most = RANGES[dtype]
        if type(value) is int and least <= value <= most:
            return value
        raise part.mistake("missing", f'is {shown(value)}; it must be "refuse" or a whole number of the type {dtype}')
    if value == "nan":
        return float("nan")
    if not is_number(value):
        raise part.mistake("missing", f'is {shown(value)}; it must be "refuse", "nan" or a number')
    return float(value)


def _could_be_a_value(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return name.lower() in ("true", "false")
    return True
