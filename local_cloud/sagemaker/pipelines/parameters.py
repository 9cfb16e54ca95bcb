"""The parameters of a pipeline: their types and defaults, and the values that an execution is given.

Source: "Pipeline parameters" in the developer guide
(https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-parameters.html). The sentence about a text that is
too short is the service's own (https://github.com/aws/sagemaker-python-sdk/issues/4016); the others are not verified.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.local_cloud.sagemaker.errors import validation_exception
from tidegate.local_cloud.sagemaker.state import Json

_TYPES: Mapping[str, tuple[type, ...]] = {
    "String": (str,),
    "Integer": (int,),
    "Float": (int, float),
    "Boolean": (bool,),
}
_NAME = re.compile(r"[A-Za-z0-9\-_]{1,256}")  # Parameter, Name
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_WHOLE_LIMIT = 2**63  # not verified
_WHOLE_DIGITS = 100
_SHOWN_CHARS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """``default`` is None where an execution must give a value."""

    name: str
    type: str
    default: Any = None
    choices: Sequence[str] = ()

    def value(self, text: str) -> Any:
        """The value that a text stands for. Raises a ValidationException for one that it does not take."""
        if self.type == "String":
            if not text:
                raise validation_exception('[string "" is too short (length: 0, required minimum: 1)]')
            if self.choices and text not in self.choices:
                raise validation_exception(
                    f"The parameter {self.name} is {_shown(text)}; it must be one of {', '.join(self.choices)}."
                )
            return text
        if self.type == "Boolean" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        if self.type == "Integer" and _WHOLE.fullmatch(text) and (whole := _whole(text)) is not None:
            return whole
        if self.type == "Float" and (number := _finite(text)) is not None:
            return number
        raise validation_exception(f"The parameter {self.name} is {_shown(text)}, which is no {self.type}.")


def read_parameters(given: Any) -> dict[str, Parameter]:
    """Raises ValueError for what is no list of parameters."""
    if not isinstance(given, list):
        raise ValueError("Parameters is a list.")
    found: dict[str, Parameter] = {}
    for document in given:
        parameter = _parameter(document)
        if parameter.name in found:
            raise ValueError(f"The parameter {parameter.name} is there more than once.")
        found[parameter.name] = parameter
    return found


def _parameter(document: Any) -> Parameter:
    name = document.get("Name") if isinstance(document, dict) else None
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"The name of a parameter is {name!r}; it has 1 to 256 letters, digits, - and _.")
    kind, default, choices = document.get("Type"), document.get("DefaultValue"), document.get("EnumValues") or []
    if unknown := set(document) - {"Name", "Type", "DefaultValue", "EnumValues"}:
        raise ValueError(f"The local cloud does not have {', '.join(sorted(unknown))} of a parameter ({name}).")
    if kind not in _TYPES:
        raise ValueError(f"The parameter {name} has the type {kind!r}; it must be one of {', '.join(_TYPES)}.")
    if default is not None and not (
        isinstance(default, _TYPES[kind]) and isinstance(default, bool) == (kind == "Boolean")
    ):
        raise ValueError(f"The default of the parameter {name} is {default!r}, which is no {kind}.")
    if choices and (
        kind != "String" or not isinstance(choices, list) or any(not isinstance(one, str) for one in choices)
    ):
        raise ValueError(
            f"EnumValues of the parameter {name} is a list of strings, for a parameter of the type String."
        )
    if choices and default is not None and default not in choices:
        raise ValueError(f"The default of the parameter {name} is {default!r}, which is none of its EnumValues.")
    value: Any = default
    if kind == "Integer" and value is not None and abs(value) >= _WHOLE_LIMIT:
        raise ValueError(f"The default of the parameter {name} is no Integer of 64 bits.")
    if kind == "Float" and value is not None:
        value = _finite(value)
        if value is None:
            raise ValueError(f"The default of the parameter {name} is no Float that there is.")
    return Parameter(name=name, type=kind, default=value, choices=tuple(choices))


def _whole(text: str) -> int | None:
    if len(text) > _WHOLE_DIGITS:
        return None
    number = int(text)
    return number if abs(number) < _WHOLE_LIMIT else None


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…")


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return None
    return number if math.isfinite(number) else None


def values_of(parameters: Mapping[str, Parameter], given: Sequence[Json]) -> dict[str, Any]:
    """A value for each parameter: what StartPipelineExecution was given, or the default.

    Raises a ValidationException for parameters that there are not, that are given twice, or that have no value.
    """
    names = [item["Name"] for item in given]
    if unknown := [name for name in names if name not in parameters]:
        raise validation_exception(f"The pipeline has no parameter {', '.join(unknown)}.")
    if len(set(names)) != len(names):
        raise validation_exception("A parameter is given more than once.")
    texts = {item["Name"]: item["Value"] for item in given}
    values = {
        name: parameter.value(texts[name]) if name in texts else parameter.default
        for name, parameter in parameters.items()
    }
    if missing := [name for name, value in values.items() if value is None]:
        raise validation_exception(f"These parameters have no default and need a value: {', '.join(missing)}.")
    return values
