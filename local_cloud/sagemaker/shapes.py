"""Checks a request against botocore's own model of the service, so that errors name the member as AWS's do.

boto3 checks types and required members before it sends; the real service checks the rest (lengths, ranges, patterns,
enumerations such as the instance types), and other clients check nothing. So everything is checked here.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import botocore.session
from botocore.model import OperationModel, ServiceModel, Shape, StringShape, StructureShape

from tidegate.local_cloud.sagemaker.errors import validation_exception

UNKNOWN: Any = object()
"""Stands in a request for a value that comes later; it satisfies every constraint."""

_SHOWN_CHARS = 300
_TOLD = 1000  # violations of one request
_SPELLINGS = {
    r"\p{L}": r"\w",
    r"\p{N}": r"\d",
    r"\p{Zs}": r" \u00a0",  # stands inside brackets
    r"\p{Z}": r"\s",
    r"\p{M}": r"\u0300-\u036f",  # this one and the next two stand inside brackets, together
    r"\p{P}": r"!-/:-@\[-`{-~\u00a1-\u00bf",
    r"\p{S}": r"\u2010-\u2bff\U0001f000-\U0001faff",
    r"\p{Print}+": r"[\x20-\x7e]+",  # of the scaling service, where it stands alone
    r"\p{Print}": r"\x20-\x7e",  # stands inside brackets
    r"\p{Alnum}": "a-zA-Z0-9",  # stands inside brackets
    r"\p{ASCII}": r"[\x00-\x7f]",  # stands alone
    r"\uD800\uDC00-\uDBFF\uDFFF": r"\U00010000-\U0010ffff",  # the halves of UTF-16, inside brackets
    r"\z": r"\Z",
}
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float, datetime),  # the JSON protocol has them in seconds
    "blob": (str, bytes),
    "structure": (dict,),
    "list": (list,),
    "map": (dict,),
}
_RANGES: dict[str, tuple[float, float]] = {
    # https://smithy.io/2.0/spec/simple-types.html
    "integer": (-(2**31), 2**31 - 1),
    "long": (-(2**63), 2**63 - 1),
    "float": (-sys.float_info.max, sys.float_info.max),
    "double": (-sys.float_info.max, sys.float_info.max),
    "timestamp": (-62_135_596_800, 253_402_300_799),  # the years 1 to 9999
}


@functools.cache
def service_model(service: str) -> ServiceModel:
    """The model of a service, such as ``sagemaker``, that the installed botocore carries."""
    return botocore.session.Session().get_service_model(service)


def operation_model(service: str, operation: str) -> OperationModel | None:
    """The operation's model, or None when AWS has no such operation."""
    model = service_model(service)
    return model.operation_model(operation) if operation in model.operation_names else None


def check(shape: Shape, request: dict[str, Any]) -> None:
    """Raises AWS's ValidationException for every constraint of ``shape`` that ``request`` breaks."""
    broken = broken_constraints(shape, request)
    if broken is not None:
        raise validation_exception(broken)


def broken_constraints(shape: Shape, request: dict[str, Any]) -> str | None:
    """AWS's sentence with every constraint of ``shape`` that ``request`` breaks; None where it breaks none."""
    violations = list(_violations(shape, request, ""))
    if not violations:
        return None
    count = f"{len(violations)} validation error{'s' if len(violations) > 1 else ''} detected"
    further = [f"and {len(violations) - _TOLD} more"] if len(violations) > _TOLD else []
    return f"{count}: {'; '.join([*violations[:_TOLD], *further])}"


def _violations(shape: Shape, value: Any, path: str) -> Iterator[str]:
    if value is UNKNOWN:
        return
    if not _has_type(shape, value):
        yield _sentence(path, value, f"Member must be of type {shape.type_name}")
        return
    if shape.type_name == "structure":
        yield from _structure_violations(shape, value, path)
    elif shape.type_name == "list":
        yield from _size_violations(shape, value, path, len(value), "length")
        for index, item in enumerate(value, start=1):
            yield from _violations(shape.member, item, f"{path}.{index}.member")
    elif shape.type_name == "map":
        yield from _size_violations(shape, value, path, len(value), "length")
        for key, item in value.items():
            yield from _violations(shape.key, key, f"{path}.{key}.key")
            yield from _violations(shape.value, item, f"{path}.{key}.member")
    elif shape.type_name == "string":
        yield from _string_violations(shape, value, path)
    elif shape.type_name in _RANGES and not isinstance(value, datetime):
        low, high = _RANGES[shape.type_name]
        if not low <= value <= high:  # no such number either
            yield _sentence(path, value, f"Member must be of type {shape.type_name}: a number from {low} to {high}")
        else:
            yield from _size_violations(shape, value, path, value, "value")


def _has_type(shape: Shape, value: Any) -> bool:
    expected = _PYTHON_TYPES.get(shape.type_name, (object,))
    return isinstance(value, expected) and (bool in expected or not isinstance(value, bool))


def _structure_violations(shape: StructureShape, value: dict[str, Any], path: str) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            yield _sentence(_join(path, name), None, "Member must not be null")
    for name, item in value.items():
        if item is None:
            continue
        if name not in shape.members:
            yield _sentence(_join(path, name), item, "The service has no such member")
        else:
            yield from _violations(shape.members[name], item, _join(path, name))


def _string_violations(shape: StringShape, value: str, path: str) -> Iterator[str]:
    if shape.enum:
        if value not in shape.enum:
            yield _sentence(path, value, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
        return
    yield from _size_violations(shape, value, path, len(value), "length")
    pattern = shape.metadata.get("pattern")
    if pattern is not None and compiled_pattern(pattern).fullmatch(value) is None:
        yield _sentence(path, value, f"Member must satisfy regular expression pattern: {pattern}")


def _size_violations(shape: Shape, value: Any, path: str, size: float, what: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        yield _sentence(path, value, f"Member must have {what} greater than or equal to {low}")
    if high is not None and size > high:
        yield _sentence(path, value, f"Member must have {what} less than or equal to {high}")


@functools.cache
def compiled_pattern(pattern: str) -> re.Pattern[str]:
    """A pattern of the service's model for Python."""
    # The model's patterns use classes and anchors that `re` does not know; these are their nearest spellings.
    for theirs, ours in _SPELLINGS.items():
        pattern = pattern.replace(theirs, ours)
    # Some patterns repeat their end ("$") where a length is meant, which the shape states as well.
    pattern = re.sub(r"\$\{\d+,\d+\}", "", pattern)
    return re.compile(pattern)


def _join(path: str, member: str) -> str:
    name = member[0].lower() + member[1:]
    return f"{path}.{name}" if path else name


def _cut(text: str) -> str:
    """A value as sentences show it: whoever sent a megabyte knows which."""
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def _text(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # Python writes no number of more than 4,300 digits
        return f"a number of {value.bit_length()} bits"


def _sentence(path: str, value: Any, constraint: str) -> str:
    shown = "null" if value is None else f"'{_cut(_text(value))}'"
    return f"Value {shown} at '{_cut(path)}' failed to satisfy constraint: {constraint}"
