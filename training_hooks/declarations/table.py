"""What a model's maker says about the records that it takes: the manifest's key `table`."""

from collections.abc import Mapping
from typing import Any

from ..arguments import kind_of, shown
from ..errors import ArtifactError
from ..plain_values import to_plain
from .checks import dtype_name, is_number, object_of, one_of, with_dtype_name

DTYPES = ("float32", "float64", "int64", "int32", "bool")
MAX_COLUMNS = 65_536

_BITS = {"int64": 63, "int32": 31}


def checked_table(value: object) -> dict[str, Any]:
    """Return what stands in the manifest.

    Args:
        value: `{"columns": […]}`, and what of `as`, `header` and `others` is said; docs/handlers.md has each. A column
            is its name, or a mapping of `name`, `dtype` and `missing`; `columns` may be a mapping by names, too.

    Raises:
        ArtifactError: one sentence that names the place, and what is wrong there.
    """
    given = dict(value) if isinstance(value, Mapping) else value
    if isinstance(given, dict) and "columns" in given:
        given["columns"] = _listed(given["columns"])
    plain = object_of(
        {
            "columns": _columns,
            "as": one_of("matrix", "columns"),
            "header": one_of("auto", "required", "none"),
            "others": one_of("refuse", "ignore"),
        }
    )(to_plain(given, "table"), "table")
    if "columns" not in plain:
        raise ArtifactError('table has no "columns"; give a list of their names')
    dtypes = list(dict.fromkeys(column.get("dtype", "float32") for column in plain["columns"]))
    if plain.get("as", "matrix") == "matrix" and len(dtypes) > 1:
        raise ArtifactError(
            f"the columns have the dtypes {' and '.join(dtypes)}, and a matrix has one; say "
            'table={"as": "columns"} for a tensor of each'
        )
    odd = next((column["name"] for column in plain["columns"] if _could_be_a_value(column["name"])), None)
    if odd is not None and plain.get("header", "auto") == "auto":
        raise ArtifactError(
            f"the column {shown(odd)} could be a value; say table={{\"header\": …}}, 'required' or 'none'"
        )
    return plain


def _listed(columns: Any) -> Any:
    """Return a mapping by names, or what else holds names, such as the columns of a data frame, as a list."""
    if isinstance(columns, Mapping):
        return [
            {"name": name, **(with_dtype_name(said) if isinstance(said, Mapping) else {"dtype": dtype_name(said)})}
            for name, said in columns.items()
        ]
    if isinstance(columns, str | bytes | set | frozenset):  # no list, and the order of a set is chance
        return columns
    try:
        return [with_dtype_name(each) for each in columns]
    except TypeError:  # of no kind that holds several, as a tensor of one number
        return columns


def _columns(value: Any, place: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_COLUMNS:
        raise ArtifactError(f"{place} must be a list of 1 to {MAX_COLUMNS} columns")
    columns = [_column(each, f"{place}[{number}]") for number, each in enumerate(value)]
    numbers: dict[str, int] = {}
    for number, column in enumerate(columns):
        if (first := numbers.setdefault(column["name"], number)) != number:
            raise ArtifactError(f"{place}[{number}] has the name {shown(column['name'])} of {place}[{first}]")
    return columns


def _column(value: Any, place: str) -> dict[str, Any]:
    given = {"name": value} if isinstance(value, str) else value
    plain = object_of({"name": _name, "dtype": one_of(*DTYPES), "missing": lambda each, _: each})(given, place)
    if "name" not in plain:
        raise ArtifactError(f'{place} has no "name"')
    if "missing" in plain:
        _check_missing(plain["missing"], plain.get("dtype", "float32"), f'{place}["missing"]')
    return plain


def _name(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value or value != value.strip():
        raise ArtifactError(f"{place} is {shown(value)}; it must be a text without blanks around it")
    return value


def _check_missing(value: Any, dtype: str, place: str) -> None:
    if value == "refuse":
        return
    if dtype == "bool":
        known, wanted = isinstance(value, bool), "True or False"
    elif dtype in _BITS:
        bits = _BITS[dtype]
        known, wanted = type(value) is int and -(2**bits) <= value < 2**bits, f"a whole number of the type {dtype}"
    else:
        known, wanted = value == "nan" or is_number(value), "'nan' or a number, such as the mean"
    if not known:
        what = shown(value) if isinstance(value, str | int | float) else kind_of(value)
        raise ArtifactError(f"{place} is {what}; it must be 'refuse' or {wanted}")


def _could_be_a_value(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return name.lower() in ("true", "false")
    return True
