"""Condition blocks of policies, and the variables in policies. Pure rules, after IAM's user guide.

Sources: "IAM JSON policy elements: Condition operators", "… Variables and tags" and "Conditions with multiple context
keys or values". A key that a request does not have fails its condition, but for operators that negate, ``…IfExists``,
``ForAllValues:`` and ``Null``; the names of keys are the same in capitals and small letters.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

Context = Mapping[str, str | Sequence[str]]
"""The keys of a request, in small letters, with what they are; several values are a list."""

_VARIABLE = re.compile(r"\$\{(?P<key>[^},]+)(?:,\s*'(?P<default>[^']*)')?\}")
_ITSELF = {"*": "*", "?": "?", "$": "$"}  # ${*} stands for the character and not for any characters


def matches(pattern: str, value: str, *, ignore_case: bool = False, context: Context | None = None) -> bool:
    """``*`` stands for any characters and ``?`` for one; all others stand for themselves, square brackets too.

    ``context`` has what the variables of the pattern are; a pattern with one that it does not have fits nothing.
    """
    expression = _expression(pattern, context)
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return expression is not None and re.fullmatch(expression, value, flags) is not None


def holds(block: Mapping[str, Mapping[str, Any]], context: Context) -> bool:
    """Whether all conditions of a statement's block hold. Raises ``ValueError`` for an operator that IAM lacks."""
    return all(
        _one_holds(operator, key.lower(), listed(wanted), context)
        for operator, keys in block.items()
        for key, wanted in keys.items()
    )


def listed(value: Any) -> list[Any]:
    """IAM takes one value in the place of a list of one."""
    return value if isinstance(value, list) else [value]


def _expression(pattern: str, context: Context | None) -> str | None:
    """The regular expression of a pattern; what its variables stand for stands for itself."""
    made, end = "", 0
    for variable in _VARIABLE.finditer(pattern) if context is not None else ():
        key = variable["key"].strip()
        found = _ITSELF.get(key) or (context or {}).get(key.lower(), variable["default"])
        if not isinstance(found, str):
            return None
        made += _wild(pattern[end : variable.start()]) + re.escape(found)
        end = variable.end()
    return made + _wild(pattern[end:])


def _wild(text: str) -> str:
    return re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")


def _one_holds(operator: str, key: str, wanted: list[Any], context: Context) -> bool:
    name, of_all, of_any = operator, False, False
    if operator.startswith("ForAllValues:"):
        name, of_all = operator.removeprefix("ForAllValues:"), True
    elif operator.startswith("ForAnyValue:"):
        name, of_any = operator.removeprefix("ForAnyValue:"), True
    if name == "Null":
        return (key not in context) == (str(wanted[0]).lower() == "true")
    if_exists = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    if name not in _OPERATORS:
        raise ValueError(f"IAM has no condition operator {operator}")
    test, negates = _OPERATORS[name]
    if key not in context:
        return not of_any and (of_all or if_exists or negates)
    values = context[key]
    actual = [values] if isinstance(values, str) else list(values)

    def fits(value: str) -> bool:
        return any(_tested(test, str(want), value, context) for want in wanted) != negates

    return all(map(fits, actual)) if of_all or (negates and not of_any) else any(map(fits, actual))


_Test = Callable[[str, str, Context], bool]


def _tested(test: _Test, wanted: str, value: str, context: Context) -> bool:
    """A value that is no number, date or address where one is asked for fits nothing."""
    with suppress(ValueError):
        return test(wanted, value, context)
    return False


def _plain(wanted: str, context: Context, *, ignore_case: bool = False) -> re.Pattern[str] | None:
    """What a value must be where ``*`` and ``?`` are ordinary characters."""
    escaped = re.sub(r"(?<!\$\{)([*?])", r"${\1}", wanted)
    expression = _expression(escaped, context)
    return None if expression is None else re.compile(expression, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def _equal(wanted: str, value: str, context: Context) -> bool:
    pattern = _plain(wanted, context)
    return pattern is not None and pattern.fullmatch(value) is not None


def _equal_ignoring_case(wanted: str, value: str, context: Context) -> bool:
    pattern = _plain(wanted, context, ignore_case=True)
    return pattern is not None and pattern.fullmatch(value) is not None


def _like(wanted: str, value: str, context: Context) -> bool:
    return matches(wanted, value, context=context)


def _arn_like(wanted: str, value: str, context: Context) -> bool:
    """Each of the six parts by itself, so that no ``*`` reaches over a colon before the last part."""
    parts, theirs = wanted.split(":", 5), value.split(":", 5)
    return len(parts) == len(theirs) and all(
        matches(one, other, context=context) for one, other in zip(parts, theirs, strict=True)
    )


def _same_truth(wanted: str, value: str, _: Context) -> bool:
    return wanted.lower() == value.lower()


def _in_network(wanted: str, value: str, _: Context) -> bool:
    return ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False)


def _moment(text: str) -> float:
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return float(text)
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _compared(read: Callable[[str], float], compare: Callable[[float, float], bool]) -> _Test:
    return lambda wanted, value, _: compare(read(value), read(wanted))


_COMPARISONS: Mapping[str, tuple[Callable[[float, float], bool], bool]] = {
    "Equals": (lambda value, wanted: value == wanted, False),
    "NotEquals": (lambda value, wanted: value == wanted, True),
    "LessThan": (lambda value, wanted: value < wanted, False),
    "LessThanEquals": (lambda value, wanted: value <= wanted, False),
    "GreaterThan": (lambda value, wanted: value > wanted, False),
    "GreaterThanEquals": (lambda value, wanted: value >= wanted, False),
}
# The test, and whether the operator says that it must not hold.
_OPERATORS: Mapping[str, tuple[_Test, bool]] = {
    "StringEquals": (_equal, False),
    "StringNotEquals": (_equal, True),
    "StringEqualsIgnoreCase": (_equal_ignoring_case, False),
    "StringNotEqualsIgnoreCase": (_equal_ignoring_case, True),
    "StringLike": (_like, False),
    "StringNotLike": (_like, True),
    # "ArnEquals and ArnLike behave identically" (Condition operators).
    "ArnEquals": (_arn_like, False),
    "ArnLike": (_arn_like, False),
    "ArnNotEquals": (_arn_like, True),
    "ArnNotLike": (_arn_like, True),
    "Bool": (_same_truth, False),
    "BinaryEquals": (_equal, False),
    "IpAddress": (_in_network, False),
    "NotIpAddress": (_in_network, True),
    **{f"Numeric{name}": (_compared(float, compare), no) for name, (compare, no) in _COMPARISONS.items()},
    **{f"Date{name}": (_compared(_moment, compare), no) for name, (compare, no) in _COMPARISONS.items()},
}
