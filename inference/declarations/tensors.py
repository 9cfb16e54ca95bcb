"""What a manifest says under `tensors`: the names, types and shapes of the plain tensors that a model takes.

    "tensors": [{"name": "input_ids", "dtype": "int64", "shape": ["batch", "sequence"]},
                {"name": "attention_mask", "dtype": "int64", "shape": ["batch", "sequence"]}]

docs/handlers.md has each key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.inference.declarations.part import Part, shown
from tidegate.inference.errors import DeploymentError
from tidegate.inference.layout import MANIFEST

DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
MAX_TENSORS = 1000
MAX_DIMENSIONS = 16
MAX_LENGTH = 2**31

Length = int | str | None
"""Of a dimension: fixed, free under a name that means the same length everywhere, or free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInput:
    """One tensor that the model takes."""

    name: str
    dtype: str
    shape: tuple[Length, ...]

    def described(self) -> str:
        """The shape, for a sentence: `(batch, 3, any)`."""
        return f"({', '.join('any' if each is None else str(each) for each in self.shape)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    """All of them, in their order."""

    inputs: tuple[TensorInput, ...]


def declared(manifest: Mapping[str, Any]) -> Tensors | None:
    """What the manifest says, None where it says nothing. Raises `DeploymentError` with the place of a mistake."""
    if "tensors" not in manifest:
        return None
    listed = manifest["tensors"]
    if not isinstance(listed, list) or not 0 < len(listed) <= MAX_TENSORS:
        raise DeploymentError(f"{MANIFEST}: tensors is {shown(listed)}; it must be a list of 1 to {MAX_TENSORS}.")
    inputs = tuple(_input(each, f"tensors[{number}]") for number, each in enumerate(listed))
    numbers: dict[str, int] = {}
    for number, each in enumerate(inputs):
        if (first := numbers.setdefault(each.name, number)) != number:
            raise DeploymentError(f"{MANIFEST}: tensors[{number}] has the name {shown(each.name)} of tensors[{first}].")
    return Tensors(inputs=inputs)


def _input(value: Any, place: str) -> TensorInput:
    part = Part(value, place, {"name", "dtype", "shape"})
    shape = part.values.get("shape")
    if not isinstance(shape, list) or not 0 < len(shape) <= MAX_DIMENSIONS:
        raise part.mistake("shape", f'must be a list of 1 to {MAX_DIMENSIONS} lengths, as ["batch", 3, null]')
    for number, length in enumerate(shape):
        fixed = type(length) is int and 0 < length <= MAX_LENGTH
        if not (fixed or length is None or (isinstance(length, str) and length)):
            raise part.mistake(
                f"shape[{number}]", f"is {shown(length)}; it must be a whole number from 1 on, a name, or null"
            )
    if "name" not in part.values:
        raise part.mistake("name", "is missing")
    return TensorInput(name=part.text("name", ""), dtype=part.choice("dtype", DTYPES, "float32"), shape=tuple(shape))
