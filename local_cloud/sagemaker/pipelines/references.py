"""What a definition writes in the place of a value: ``Get``, ``Std:Join`` and ``Std:JsonGet``.

Source: the pipeline definition JSON schema that "Pipelines overview" in the developer guide links to
(https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-overview.html), and what the SageMaker SDKs write.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.model import Shape

from tidegate.local_cloud.sagemaker.shapes import UNKNOWN
from tidegate.local_cloud.sagemaker.state import Json

Path = tuple[str | int, ...]

_GET, _JOIN, _JSON_GET = "Get", "Std:Join", "Std:JsonGet"
_PART = re.compile(r"""\.?(?P<name>[^.\[\]'"]+)|\[(?P<quote>['"])(?P<key>.*?)(?P=quote)\]|\[(?P<index>\d+)\]""")
_KEYS_OF_LISTS = {
    "Outputs": "OutputName",
    "ProcessingInputs": "InputName",
    "InputDataConfig": "ChannelName",
    "FinalMetricDataList": "MetricName",
}
"""The member that a definition names an item of such a list by."""


class Unresolved(Exception):
    """A reference has no value; the text says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Where references find their values. Each function raises :class:`Unresolved` for what it does not have."""

    parameters: Mapping[str, Any]
    execution: Mapping[str, Any]
    experiment: Mapping[str, Any]
    properties: Callable[[str], Json]
    """A step's name to what its Describe operation answers."""
    property_file: Callable[[str, str], str]
    """A step's name and that of its property file to the file's address."""
    read_json: Callable[[str], Any]
    """An address to the document there."""


def scope_of_values(parameters: Mapping[str, Any], execution: Mapping[str, Any]) -> Scope:
    """Where there are no steps yet."""

    def nothing(*_: str) -> Any:
        raise Unresolved("no step has run")

    return Scope(
        parameters=parameters,
        execution=execution,
        experiment={},
        properties=nothing,
        property_file=nothing,
        read_json=nothing,
    )


def is_reference(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and next(iter(value)) in (_GET, _JOIN, _JSON_GET)


def path_of(text: str) -> Path:
    """``Steps.A.Outputs['b'].S3Uri`` in its parts. Raises ValueError for what is no path."""
    parts: list[str | int] = []
    position = 0
    while position < len(text):
        match = _PART.match(text, position)
        if match is None:
            raise ValueError(f"{text} is no path: what follows {text[:position]!r} is neither a name nor an index")
        if match["index"] is not None:
            parts.append(int(match["index"]))
        else:
            parts.append(match["name"] if match["name"] is not None else match["key"])
        position = match.end()
    if not parts or text.endswith("."):
        raise ValueError(f"{text!r} is no path")
    return tuple(parts)


def paths_in(value: Any) -> Iterator[Path]:
    """The path of every reference in ``value``. Raises ValueError for a function that is not written as it must be."""
    if is_reference(value):
        function, argument = next(iter(value.items()))
        if function == _GET:
            if not isinstance(argument, str):
                raise ValueError(f"Get takes a path, not {argument!r}")
            yield path_of(argument)
        elif function == _JOIN:
            yield from _paths_of_join(argument)
        else:
            yield from _paths_of_json_get(argument)
    elif isinstance(value, dict):
        for item in value.values():
            yield from paths_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from paths_in(item)


def _paths_of_join(argument: Any) -> Iterator[Path]:
    if not isinstance(argument, dict) or not isinstance(argument.get("Values"), list):
        raise ValueError("Std:Join takes On and the list Values")
    if not isinstance(argument.get("On", ""), str):
        raise ValueError("On of Std:Join is a string")
    for item in argument["Values"]:
        if isinstance(item, dict | list) and not is_reference(item):
            raise ValueError(f"Std:Join joins values and references, not {item!r}")
        yield from paths_in(item)


def _paths_of_json_get(argument: Any) -> Iterator[Path]:
    if not isinstance(argument, dict) or not isinstance(argument.get("Path"), str):
        raise ValueError("Std:JsonGet takes Path, and PropertyFile or S3Uri")
    if ("PropertyFile" in argument) == ("S3Uri" in argument):
        raise ValueError("Std:JsonGet takes either PropertyFile or S3Uri")
    path_of(_without_root(argument["Path"]))
    if "PropertyFile" in argument:
        file = argument["PropertyFile"]
        found = list(paths_in(file))
        if not is_reference(file) or len(found) != 1 or found[0][0] != "Steps" or found[0][2:3] != ("PropertyFiles",):
            raise ValueError('PropertyFile of Std:JsonGet is {"Get": "Steps.STEP.PropertyFiles.NAME"}')
        yield from found
    else:
        yield from paths_in(argument["S3Uri"])


def unknown_until_run(value: Any) -> Any:
    """``value`` as it can be checked before a run: what comes in the place of references is not known."""
    if is_reference(value):
        return UNKNOWN
    if isinstance(value, dict):
        return {name: unknown_until_run(item) for name, item in value.items()}
    if isinstance(value, list):
        return [unknown_until_run(item) for item in value]
    return value


def resolved(value: Any, scope: Scope) -> Any:
    """``value`` with what its references stand for. Raises :class:`Unresolved`."""
    if is_reference(value):
        function, argument = next(iter(value.items()))
        if function == _GET:
            return _got(path_of(argument), argument, scope)
        if function == _JOIN:
            return argument.get("On", "").join(as_text(resolved(item, scope)) for item in argument["Values"])
        return _got_from_json(argument, scope)
    if isinstance(value, dict):
        return {name: resolved(item, scope) for name, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, scope) for item in value]
    return value


def _got(path: Path, text: str, scope: Scope) -> Any:
    root, *rest = path
    sources: dict[str | int, Mapping[str, Any]] = {
        "Parameters": scope.parameters,
        "Execution": scope.execution,
        "PipelineExperimentConfig": scope.experiment,
    }
    found = scope.properties(str(rest.pop(0))) if root == "Steps" else sources[root]
    return at(found, tuple(rest), text)


def _got_from_json(argument: Json, scope: Scope) -> Any:
    if "S3Uri" in argument:
        address = resolved(argument["S3Uri"], scope)
    else:
        _, step, _, name = path_of(argument["PropertyFile"]["Get"])
        address = scope.property_file(str(step), str(name))
    path = _without_root(argument["Path"])
    return at(scope.read_json(address), path_of(path), f"{path} in {address}")


def _without_root(path: str) -> str:
    return path.removeprefix("$").removeprefix(".")


def at(value: Any, path: Path, text: str) -> Any:
    """What ``path`` leads to from ``value``. Raises :class:`Unresolved`, naming the reference by ``text``."""
    found, list_name = value, ""
    for part in path:
        if isinstance(found, list) and isinstance(part, str):
            key = _KEYS_OF_LISTS.get(list_name)
            named = [item for item in found if isinstance(item, dict) and item.get(key) == part]
            if not named:
                raise Unresolved(f"{text} has no value: there is no {part}")
            found = named[0]
        elif isinstance(found, list) and isinstance(part, int) and part < len(found):
            found = found[part]
        elif isinstance(found, dict) and str(part) in found:
            found = found[str(part)]
        else:
            raise Unresolved(f"{text} has no value: there is no {part}")
        list_name = str(part)
    return found


def leads_into(shape: Shape, path: Path) -> bool:
    """Whether a structure of the service's API can have something at ``path``."""
    found, list_name = shape, ""
    for part in path:
        if found.type_name == "structure":
            if part not in found.members:
                return False
            found = found.members[part]
        elif found.type_name == "list":
            if isinstance(part, str) and list_name not in _KEYS_OF_LISTS:
                return False
            found = found.member
        elif found.type_name == "map":
            found = found.value
        else:
            return False
        list_name = str(part)
    return True


def may_be_asked_for(shape: Shape, request: Any, path: Path) -> bool:
    """Whether a description can have something at ``path``, as far as it repeats a request of the structure ``shape``.

    That is an item of a list by its name or place, and an entry of a map. What the request leaves open, because a
    reference stands there or because the description has it from elsewhere, there may be.
    """
    found, list_name = request, ""
    for part in path:
        if is_reference(found):
            return True
        if shape.type_name == "structure":
            if part not in shape.members:
                return True
            shape, found = shape.members[part], found.get(part) if isinstance(found, dict) else None
        elif shape.type_name == "map":
            if not isinstance(found, dict) or part not in found:
                return False
            shape, found = shape.value, found[part]
        elif shape.type_name == "list":
            items = found if isinstance(found, list) else []
            if isinstance(part, int):
                named = items[part : part + 1]
            else:
                key = _KEYS_OF_LISTS.get(list_name)
                named = [item for item in items if isinstance(item, dict) and item.get(key) == part]
                named += [item for item in items if is_reference(item) or is_reference(item.get(key))]
            if not named:
                return False
            shape, found = shape.member, named[0]
        else:
            return True
        list_name = str(part)
    return True


def as_text(value: Any) -> str:
    """A value where a string is wanted. Raises :class:`Unresolved` for a structure or a list."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, str | int | float):
        return str(value)
    raise Unresolved(f"{value!r} is no single value")


def fitted(shape: Shape, value: Any) -> Any:
    """``value`` with numbers and booleans as text where the API has strings: the values of hyperparameters, say."""
    if shape.type_name == "string" and isinstance(value, bool | int | float | datetime):
        return as_text(value)
    if shape.type_name == "structure" and isinstance(value, dict):
        return {
            name: fitted(shape.members[name], item) if name in shape.members else item for name, item in value.items()
        }
    if shape.type_name == "map" and isinstance(value, dict):
        return {name: fitted(shape.value, item) for name, item in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [fitted(shape.member, item) for item in value]
    return value
