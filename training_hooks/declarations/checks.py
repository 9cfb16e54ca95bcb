"""Checking an object of a declaration: each value is taken as it stands in the manifest, or refused with its place."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from ..arguments import as_whole_number, kind_of, shown
from ..errors import ArtifactError

Check = Callable[[Any, str], Any]
"""Returns the value of a key as it stands in the manifest; it is told the place, for its error."""

LARGEST = 3.4e38
"""Of float32, in which models are given numbers."""


def object_of(checks: Mapping[str, Check]) -> Callable[[Any, str], dict[str, Any]]:
    """Return the check of an object with these keys, of which none is needed."""

    def check(value: Any, place: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ArtifactError(f"{place} is {kind_of(value)}; give a mapping with {', '.join(checks)}")
        for key in value:
            if key not in checks:
                raise ArtifactError(f"{place} has the key {shown(key)}; there are {', '.join(checks)}")
        return {key: checks[key](each, f'{place}["{key}"]') for key, each in value.items()}

    return check


def one_of(*words: str) -> Check:
    """Return the check of a word."""

    def check(value: Any, place: str) -> str:
        if not isinstance(value, str) or value not in words:
            raise ArtifactError(f"{place} is {shown(value)}; it must be {' or '.join(map(repr, words))}")
        return value

    return check


def text(value: Any, place: str) -> str:
    """Check the key of a JSON object."""
    if not isinstance(value, str) or not value:
        raise ArtifactError(f"{place} is {shown(value)}; it must be a key of a JSON object")
    return value


def member(value: Any, place: str) -> str | int:
    """Check which of several predictions is meant."""
    if isinstance(value, str) and value:
        return value
    return as_whole_number(value, f"{place}, unless it is a name,", least=0, most=2**31)


def dtype_name(value: Any) -> Any:
    """Return the name of torch's or numpy's dtype, as JSON holds it, and anything else as it is."""
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return np.dtype(value).name
    return value


def with_dtype_name(value: Any) -> Any:
    """Return a mapping whose `dtype` is a name, and anything else as it is."""
    if isinstance(value, Mapping) and "dtype" in value:
        return {**value, "dtype": dtype_name(value["dtype"])}
    return value


def is_number(value: Any) -> bool:
    """Say whether it is a number that float32 holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
