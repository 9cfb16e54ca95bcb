"""The conditions of a condition step: checked when a definition is read, and decided when the step runs.

Source: "Condition step" in the developer guide and the types that the SageMaker SDKs write
(https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html#step-type-condition).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from tidegate.local_cloud.sagemaker.pipelines.references import Scope, Unresolved, is_reference, resolved

_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}
_MEMBERS = {
    "Equals": {"LeftValue", "RightValue"},
    **{order: {"LeftValue", "RightValue"} for order in _ORDERS},
    "In": {"QueryValue", "Values"},
    "Not": {"Condition"},
    "Or": {"Conditions"},
}


def check_condition(condition: Any) -> None:
    """Raises ValueError for a condition that is not written as it must be."""
    kind = condition.get("Type") if isinstance(condition, dict) else None
    if kind not in _MEMBERS:
        raise ValueError(f"the Type of a condition is {kind!r}; it must be one of {', '.join(_MEMBERS)}")
    given = set(condition) - {"Type"}
    if given != _MEMBERS[kind]:
        raise ValueError(
            f"a condition of the type {kind} takes {' and '.join(sorted(_MEMBERS[kind]))}, not"
            f" {', '.join(sorted(given)) or 'nothing'}"
        )
    if kind == "Not":
        check_condition(condition["Condition"])
    for member in ("Conditions", "Values"):
        if member in condition and not isinstance(condition[member], list):
            raise ValueError(f"{member} of a condition of the type {kind} is a list")
    for one in condition.get("Conditions", []):
        check_condition(one)
    values = [condition[member] for member in ("LeftValue", "RightValue", "QueryValue") if member in condition]
    for value in [*values, *condition.get("Values", [])]:
        if not isinstance(value, str | int | float) and not is_reference(value):
            raise ValueError(f"a condition of the type {kind} compares single values and references, not {value!r}")


def holds(condition: Mapping[str, Any], scope: Scope) -> bool:
    """Raises :class:`Unresolved` for a reference without a value, and for values that have no order among them."""
    kind = condition["Type"]
    if kind == "Not":
        return not holds(condition["Condition"], scope)
    if kind == "Or":
        return any(holds(one, scope) for one in condition["Conditions"])
    if kind == "In":
        wanted = resolved(condition["QueryValue"], scope)
        return any(_are_equal(wanted, value) for value in resolved(condition["Values"], scope))
    left, right = resolved(condition["LeftValue"], scope), resolved(condition["RightValue"], scope)
    if kind == "Equals":
        return _are_equal(left, right)
    if not _are_alike(left, right) or isinstance(left, bool):
        raise Unresolved(f"{left!r} and {right!r} cannot be compared by {kind}")
    return _ORDERS[kind](left, right)


def _are_equal(left: Any, right: Any) -> bool:
    return _are_alike(left, right) and bool(left == right)


def _are_alike(left: Any, right: Any) -> bool:
    """Numbers with numbers, text with text; a boolean is no number here."""
    if isinstance(left, bool) or isinstance(right, bool):
        return isinstance(left, bool) and isinstance(right, bool)
    if isinstance(left, int | float) and isinstance(right, int | float):
        return True
    return isinstance(left, str) and isinstance(right, str)
