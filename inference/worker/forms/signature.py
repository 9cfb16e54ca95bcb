"""What a model's call looks like: its tensors, how they are given, and how its answer is put together.

Read from JSON that a stranger may have written: every mistake is said with its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch

MAX_TENSORS = 512
MAX_RANK = 16
MAX_DEPTH = 4
MAX_LENGTH = 2**40
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
        torch.complex64,
    )
}

Length = int | str | None
"""Of a dimension: fixed; the same wherever it has this name; or anything."""


class Mistake(Exception):
    """What is declared cannot be meant; the text says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One tensor that a model takes or gives."""

    name: str
    dtype: torch.dtype
    shape: tuple[Length, ...]

    def described(self) -> str:
        """The shape and type, for a sentence."""
        lengths = ", ".join("any" if length is None else str(length) for length in self.shape)
        return f"({lengths}{',' if len(self.shape) == 1 else ''}) of {str(self.dtype).removeprefix('torch.')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """How long a dimension may be."""

    least: int = 0
    most: int = MAX_LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Several values in one: a list, a tuple, or a dict whose keys these are."""

    kind: Literal["list", "tuple", "dict"]
    members: tuple[Structure, ...]
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """An argument that is no tensor, and was this when the form was made."""

    value: Any


Structure = int | Group | Constant
"""A tensor, by its number among the inputs or outputs, several together, or what is no tensor."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """How a model is called. `keywords` are given by name after the `arguments`: inputs by number, or constants."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dimensions: Mapping[str, Range]
    arguments: tuple[Structure, ...]
    keywords: Mapping[str, int | Constant]
    result: Structure

    @cached_property
    def batch(self) -> str | None:
        """The dimension that counts records: the first of every tensor, and no other one of any."""
        firsts = {spec.shape[0] if spec.shape else None for spec in (*self.inputs, *self.outputs)}
        if len(firsts) != 1 or not isinstance(name := firsts.pop(), str):
            return None
        elsewhere = any(name in spec.shape[1:] for spec in (*self.inputs, *self.outputs))
        return None if elsewhere else name


def read(value: Any, at: str) -> Signature:
    """The signature that stands in a manifest at the place `at`. Raises `Mistake`."""
    fields = mapping(value, at)
    inputs, outputs = _tensors(fields.get("inputs"), f"{at}.inputs"), _tensors(fields.get("outputs"), f"{at}.outputs")
    numbers = {spec.name: number for number, spec in enumerate(inputs)}
    keyword = fields.get("keyword") or []
    if not isinstance(keyword, list) or not all(isinstance(name, str) and name in numbers for name in keyword):
        raise Mistake(f"{at}.keyword is {shown(keyword)}; it must be a list of names of inputs")
    positional = fields.get("positional")
    if positional is None:
        positional = [spec.name for spec in inputs if spec.name not in keyword]
    if not isinstance(positional, list):
        raise Mistake(f"{at}.positional is {shown(positional)}; it must be a list")
    arguments = tuple(
        _structure(each, numbers, f"{at}.positional[{number}]", 0) for number, each in enumerate(positional)
    )
    keywords: dict[str, int | Constant] = {name: numbers[name] for name in keyword}
    used = [number for argument in (*arguments, *keywords.values()) for number in leaves(argument)]
    if sorted(used) != list(range(len(inputs))):
        raise Mistake(f"{at}: positional and keyword must name every input once")
    keywords |= {name: _constant(each, f"{at}.constants.{name}") for name, each in _items(fields, "constants", at)}
    return Signature(
        inputs=inputs,
        outputs=outputs,
        dimensions={name: _range(each, f"{at}.dimensions.{name}") for name, each in _items(fields, "dimensions", at)},
        arguments=arguments,
        keywords=keywords,
        result=_result(fields.get("structure", "tensor"), outputs, f"{at}.structure"),
    )


def leaves(structure: Structure) -> Iterator[int]:
    """The numbers of the tensors in a structure, in its order."""
    if isinstance(structure, int):
        yield structure
    elif isinstance(structure, Group):
        for member in structure.members:
            yield from leaves(member)


def mapping(value: Any, at: str) -> Mapping[str, Any]:
    """An object of JSON. Raises `Mistake`."""
    if not isinstance(value, dict):
        raise Mistake(f"{at} is {shown(value)}; it must be an object")
    return value


def shown(value: Any) -> str:
    """A value in a sentence."""
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"


def _items(fields: Mapping[str, Any], key: str, at: str) -> list[tuple[str, Any]]:
    return list(mapping(fields.get(key) or {}, f"{at}.{key}").items())


def _tensors(value: Any, at: str) -> tuple[TensorSpec, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_TENSORS:
        raise Mistake(f"{at} is {shown(value)}; it must be a list of 1 to {MAX_TENSORS} tensors")
    found = tuple(_tensor(mapping(each, f"{at}[{number}]"), f"{at}[{number}]") for number, each in enumerate(value))
    if len({spec.name for spec in found}) != len(found):
        raise Mistake(f"{at} has two tensors of one name")
    return found


def _tensor(fields: Mapping[str, Any], at: str) -> TensorSpec:
    name, dtype, shape = fields.get("name"), fields.get("dtype"), fields.get("shape")
    if not isinstance(name, str) or not name:
        raise Mistake(f"{at}.name is {shown(name)}; it must be a text")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise Mistake(f"{at}.dtype is {shown(dtype)}; it must be one of {', '.join(_DTYPES)}")
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(map(_is_length, shape)):
        raise Mistake(f"{at}.shape is {shown(shape)}; it must be a list of lengths and names of dimensions")
    return TensorSpec(name=name, dtype=_DTYPES[dtype], shape=tuple(shape))


def _is_length(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return value is None or (isinstance(value, str) and value != "") or (isinstance(value, int) and value >= 0)


def _range(value: Any, at: str) -> Range:
    fields = mapping(value, at)
    least, most = fields.get("min", 0), fields.get("max")
    most = MAX_LENGTH if most is None else most
    whole = all(isinstance(each, int) and not isinstance(each, bool) for each in (least, most))
    if not whole or not 0 <= least <= most:
        raise Mistake(f"{at} is {shown(value)}; min and max must be whole numbers, min not above max")
    return Range(least=least, most=most)


def _structure(value: Any, numbers: Mapping[str, int], at: str, depth: int) -> Structure:
    if isinstance(value, str) and value in numbers:
        return numbers[value]
    if isinstance(value, dict) and len(value) == 1 and depth < MAX_DEPTH:
        ((kind, members),) = value.items()
        if kind == "constant":
            return _constant(members, at)
        if kind in ("list", "tuple", "dict") and isinstance(members, list | dict):
            keys: tuple[str, ...] = ()
            if kind == "dict":
                # {"dict": ["a", "b"]} has the names of the tensors as keys; {"dict": {"key": "a"}} others.
                keys = tuple(map(str, members))
                members = members if isinstance(members, list) else list(members.values())
            found = tuple(
                _structure(each, numbers, f"{at}.{kind}[{number}]", depth + 1) for number, each in enumerate(members)
            )
            return Group(kind=kind, members=found, keys=keys)
    raise Mistake(f'{at} is {shown(value)}; it must be the name of a tensor, or as in {{"dict": ["NAME"]}}')


def _constant(value: Any, at: str) -> Constant:
    if value is not None and value != {} and not isinstance(value, bool | int | float | str):
        raise Mistake(f"{at} is {shown(value)}; it must be a number, a text, true, false or null")
    return Constant(value=value)


def _result(value: Any, outputs: tuple[TensorSpec, ...], at: str) -> Structure:
    everything = tuple(range(len(outputs)))
    if value == "tensor" and len(outputs) == 1:
        return 0
    if value == "list":
        return Group(kind="list", members=everything)
    if value == "tuple":
        return Group(kind="tuple", members=everything)
    if not isinstance(value, dict):
        raise Mistake(
            f'{at} is {shown(value)} with {len(outputs)} outputs; it must be "tensor" (of one), "list", "tuple" or an '
            "object"
        )
    found = _structure(value, {spec.name: number for number, spec in enumerate(outputs)}, at, 0)
    if sorted(leaves(found)) != list(everything):
        raise Mistake(f"{at} must name every output once")
    return found
