"""From a model's call to its tensors in order, and from tensors to what the model's call returns.

What a signature says is worked out once, when a form is opened: a call only goes through prepared functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidegate.inference.worker.forms.signature import Constant, Signature, Structure, shown
from tidegate.inference.worker.misfit import InputRefused

Gather = Callable[[tuple[Any, ...], dict[str, Any]], Sequence[Any]]
"""From the arguments and keyword arguments of a call to its inputs, in the signature's order."""
Build = Callable[[Sequence[Any]], Any]


def gatherer(signature: Signature) -> Gather:
    """What takes the inputs out of a call. It raises `InputRefused` for a call of another shape."""
    arguments, keywords, count = signature.arguments, signature.keywords, len(signature.inputs)
    names = [spec.name for spec in signature.inputs]
    if count == 1 and arguments == (0,):

        def gather_one(given: tuple[Any, ...], named: dict[str, Any]) -> Sequence[Any]:
            return given if len(given) == 1 and not named else gather(given, named)

    by_name: dict[str, int | Constant] = {names[each]: each for each in arguments if isinstance(each, int)}
    by_name |= keywords

    def gather(given: tuple[Any, ...], named: dict[str, Any]) -> Sequence[Any]:
        if len(given) > len(arguments):
            raise InputRefused(f"the model takes {len(arguments)} positional inputs, and {len(given)} were given")
        found: dict[int, Any] = {}
        for structure, value in zip(arguments, given, strict=False):
            _take(structure, value, found)
        for name, value in named.items():
            number = by_name.get(name)
            if number is None:
                if value is None:  # what an eager model takes as left out
                    continue
                raise InputRefused(f"the model has the inputs {', '.join(names)}, not {name}")
            if isinstance(number, int) and number in found:
                raise InputRefused(f"the input '{name}' is given twice")
            _take(number, value, found)
        if len(found) != count:
            missing = next(name for number, name in enumerate(names) if number not in found)
            raise InputRefused(f"the input '{missing}' is missing")
        return [found[number] for number in range(count)]

    return gather_one if count == 1 and arguments == (0,) else gather


def _take(structure: Structure, value: Any, found: dict[int, Any]) -> None:
    if isinstance(structure, int):
        found[structure] = value
        return
    if isinstance(structure, Constant):
        # A tensor is equal to nothing here: its comparison would be a tensor.
        if type(value) is not type(structure.value) or value != structure.value:
            raise InputRefused(
                f"this form of the model was made for {shown(structure.value)} where it is given {shown(value)}"
            )
        return
    if structure.kind == "dict":
        if not isinstance(value, Mapping):
            # misfit.wants_names knows this sentence.
            raise InputRefused(
                f"the model takes its inputs by name ({', '.join(structure.keys)}), not as a {type(value).__name__}"
            )
        for key, member in zip(structure.keys, structure.members, strict=True):
            if key not in value:
                raise InputRefused(f"the input '{key}' is missing")
            _take(member, value[key], found)
        if len(value) > len(structure.keys):
            unknown = next(str(key) for key in value if key not in structure.keys)
            raise InputRefused(f"the model has the inputs {', '.join(structure.keys)}, not {unknown[:80]}")
        return
    if not isinstance(value, list | tuple) or len(value) != len(structure.members):
        raise InputRefused(f"the model takes a {structure.kind} of {len(structure.members)} inputs")
    for member, each in zip(structure.members, value, strict=True):
        _take(member, each, found)


def builder(structure: Structure) -> Build:
    """What puts values, in their order, together as a structure says."""
    if isinstance(structure, int):
        number = structure
        return lambda values: values[number]
    if isinstance(structure, Constant):
        constant = structure.value
        return lambda _: constant
    members = [builder(member) for member in structure.members]
    if structure.kind == "dict":
        pairs = list(zip(structure.keys, members, strict=True))
        return lambda values: {key: build(values) for key, build in pairs}
    if structure.kind == "tuple":
        return lambda values: tuple(build(values) for build in members)
    return lambda values: [build(values) for build in members]


def flatten(structure: Structure, value: Any, into: list[Any]) -> None:
    """Put the tensors of `value`, which is of this structure, into a list at their numbers. Raises `TypeError`."""
    if isinstance(structure, int):
        into[structure] = value
        return
    if isinstance(structure, Constant):
        return
    parts: Sequence[Any]
    if structure.kind == "dict":
        if not isinstance(value, Mapping) or not all(key in value for key in structure.keys):
            raise TypeError(f"the model returned a {type(value).__name__} without {', '.join(structure.keys)}")
        parts = [value[key] for key in structure.keys]
    else:
        if not isinstance(value, list | tuple):
            raise TypeError(f"the model returned a {type(value).__name__}, not a {structure.kind}")
        parts = value
    for member, part in zip(structure.members, parts, strict=True):
        flatten(member, part, into)
