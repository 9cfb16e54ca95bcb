"""Checking what the public functions are given: each argument is taken, or refused in one sentence that names it."""

import functools
import inspect
import operator
import os
import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import ParamSpec, SupportsIndex, TypeVar

from .errors import ArtifactError

P = ParamSpec("P")
R = TypeVar("R")

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


def refusing_unknown(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public function: an argument that it does not have is an `ArtifactError` with the nearest it has."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*arguments: P.args, **keywords: P.kwargs) -> R:
        for name in keywords:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
                raise ArtifactError(f"{function.__name__} has no argument {shown(name)}; {hint}")
        return function(*arguments, **keywords)

    return checked


def as_path(value: object, parameter: str) -> Path:
    """Return a local path, absolute."""
    text = value.__fspath__() if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise ArtifactError(f"{parameter} is {kind_of(value)}; give a path, as text or as a pathlib.Path")
    if not text:
        raise ArtifactError(f"{parameter} is empty; give a path")
    if _URL.match(text):
        raise ArtifactError(f"{parameter} is {text!r}; give a local path, and copy the files yourself")
    if "\0" in text:
        raise ArtifactError(f"{parameter} is {text!r}; a path holds no zero byte")
    return Path(text).absolute()


def as_flag(value: object, parameter: str) -> bool:
    """Return True or False; numpy's own count, and nothing else."""
    if type(value).__name__ not in ("bool", "bool_"):
        raise ArtifactError(f"{parameter} is {shown(value)}; it must be True or False")
    return bool(value)


def as_whole_number(value: object, parameter: str, *, least: int, most: int) -> int:
    """Return an int; numpy's and torch's whole numbers count, True and 3.0 do not."""
    number = None
    if isinstance(value, SupportsIndex) and type(value).__name__ not in ("bool", "bool_"):
        try:
            number = operator.index(value)
        except TypeError:  # a tensor or an array of another type or of several numbers
            number = None
    if number is None or not least <= number <= most:
        raise ArtifactError(f"{parameter} is {shown(value)}; it must be a whole number from {least} to {most}")
    return number


def shown(value: object) -> str:
    """Return numbers, text and None as they are written, cut to a line, and anything else by its kind."""
    if value is None or isinstance(value, str | int | float):
        try:
            text = repr(value)
        except ValueError:  # Python's guard: a whole number of thousands of digits
            return "a very large number"
        return text if len(text) <= 80 else text[:79] + "…"
    return kind_of(value)


def kind_of(value: object) -> str:
    """Return what a value is, for a sentence: `a Tensor`, `an int`, `None`."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeioAEIO' else 'a'} {name}"
