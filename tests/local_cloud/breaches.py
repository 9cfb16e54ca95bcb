"""Requests that break botocore's model of an operation in every place at once, and the places, as AWS names them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.model import Shape, StructureShape

from tidegate.local_cloud.sagemaker.shapes import compiled_pattern

_LEAVES = ("string", "integer", "long", "float", "double", "boolean", "timestamp", "blob")
_MAX_DEPTH = 12
_LONGEST = 70_000
"""A request with members longer than that would be large, and nothing new."""
_MANY = 1_000


@dataclass(frozen=True, slots=True)
class Breach:
    """A request, and what must be said of it: for each path the beginning of its constraint."""

    kind: str
    request: dict[str, Any]
    said: tuple[tuple[str, str], ...]


def breaches(shape: StructureShape) -> Iterator[Breach]:
    """The requests for an operation's input; none of a kind that its members cannot break."""
    for kind in ("type", "enum", "pattern", "short", "long", "small", "large", "few", "many"):
        yield from _found(kind, *_broken(shape, kind, ""))
    for depth in range(_MAX_DEPTH):
        yield from _found(f"missing at depth {depth}", *_without_required(shape, depth, ""))
        yield from _found(f"no container at depth {depth}", *_texts_for_containers(shape, depth, ""))


def _found(kind: str, request: Any, said: list[tuple[str, str]]) -> Iterator[Breach]:
    if said:
        yield Breach(kind, request, tuple(said))


def _below(path: str, name: str) -> str:
    word = name[0].lower() + name[1:]
    return f"{path}.{word}" if path else word


def _inner(shape: Shape, path: str) -> Iterator[tuple[Any, Shape, str]]:
    """What lies directly in a container: where to put it, its shape, its path."""
    match shape.type_name:
        case "structure":
            for name, member in shape.members.items():
                yield name, member, _below(path, name)
        case "list":
            yield 0, shape.member, f"{path}.1.member"
        case "map":
            yield "a", shape.value, f"{path}.a.member"


def _put(shape: Shape, items: dict[Any, Any]) -> Any:
    return list(items.values()) if shape.type_name == "list" else items


def _broken(shape: Shape, kind: str, path: str) -> tuple[Any, list[tuple[str, str]]]:
    """A value all of whose leaves are broken in this way; None where nothing in it can be."""
    if path.count(".") > 2 * _MAX_DEPTH:
        return None, []
    if shape.type_name in _LEAVES:
        return _broken_leaf(shape, kind, path)
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if kind == "few" and low:
        return _put(shape, {}), [(path, f"Member must have length greater than or equal to {low}")]
    if kind == "many" and high is not None and high < _MANY:
        filled = {f"a{number}": None for number in range(high + 1)}
        return _put(shape, filled), [(path, f"Member must have length less than or equal to {high}")]
    items, said = {}, []
    for where, inner, inner_path in _inner(shape, path):
        value, found = _broken(inner, kind, inner_path)
        if found:
            items[where] = value
            said += found
    return (_put(shape, items), said) if said else (None, [])


def _broken_leaf(shape: Any, kind: str, path: str) -> tuple[Any, list[tuple[str, str]]]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    text = shape.type_name == "string" and not shape.enum
    number = shape.type_name in ("integer", "long", "float", "double")
    match kind:
        case "type":
            return [True], [(path, f"Member must be of type {shape.type_name}")]
        case "enum" if shape.type_name == "string" and shape.enum:
            return "NoneOfThem", [(path, f"Member must satisfy enum value set: [{shape.enum[0]}")]
        case "pattern" if text and (bad := _against(shape)) is not None:
            return bad, [(path, "Member must satisfy regular expression pattern: " + shape.metadata["pattern"])]
        case "short" if text and low:
            return "a" * (low - 1), [(path, f"Member must have length greater than or equal to {low}")]
        case "long" if text and high is not None and high < _LONGEST:
            return "a" * (high + 1), [(path, f"Member must have length less than or equal to {high}")]
        case "small" if number and low is not None:
            return low - 1, [(path, f"Member must have value greater than or equal to {low}")]
        case "large" if number and high is not None:
            return high + 1, [(path, f"Member must have value less than or equal to {high}")]
    return None, []


def _against(shape: Any) -> str | None:
    """A text that the pattern does not take; None where it takes all that are tried."""
    pattern = shape.metadata.get("pattern")
    if pattern is None:
        return None
    tried = ("!", " ", "_", "é", "\n")
    return next((text for text in tried if re.fullmatch(compiled_pattern(pattern), text) is None), None)


def _without_required(shape: Shape, depth: int, path: str) -> tuple[Any, list[tuple[str, str]]]:
    """Structures of this depth that are empty: whatever they require is missing."""
    if isinstance(shape, StructureShape) and depth == 0:
        required = [(_below(path, name), "Member must not be null") for name in shape.required_members]
        return {}, required
    return _at(shape, depth, path, _without_required)


def _texts_for_containers(shape: Shape, depth: int, path: str) -> tuple[Any, list[tuple[str, str]]]:
    """Texts where containers of this depth belong."""
    if depth == 0 and shape.type_name not in _LEAVES and path:
        return "text", [(path, f"Member must be of type {shape.type_name}")]
    return _at(shape, depth, path, _texts_for_containers)


def _at(shape: Shape, depth: int, path: str, act: Any) -> tuple[Any, list[tuple[str, str]]]:
    if shape.type_name in _LEAVES or depth == 0:
        return None, []
    items, said = {}, []
    for where, inner, inner_path in _inner(shape, path):
        value, found = act(inner, depth - 1, inner_path)
        if found:
            items[where] = value
            said += found
    return (_put(shape, items), said) if said else (None, [])
