"""What a file of data may name: code that lies below a folder, and of that a network and nothing else.

A manifest or a configuration that says `module:name` would else call any function of Python with arguments of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any


def missing_below(name: str, folder: Path) -> str | None:
    """The part of a module's name that has no file below the folder; None where there is one. Nothing is imported."""
    places: Sequence[str] = [str(folder)]
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        part = ".".join(parts[:count])
        spec = PathFinder.find_spec(parts[count - 1], places)
        inside = None if spec is None else spec.submodule_search_locations
        if spec is None or (spec.origin is None and (count == len(parts) or inside is None)):
            return part
        places = list(inside or ())
    return None


def comes_from(module: ModuleType, folder: Path) -> bool:
    """Whether a module that is imported lies below the folder."""
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    found = [Path(place).absolute() for place in places if place]
    # A link in the folder to a file elsewhere is of the folder as well.
    return any(path.is_relative_to(folder) or path.resolve().is_relative_to(folder.resolve()) for path in found)


def why_not_called(made: Any, network: type, is_own: Callable[[str], bool]) -> str | None:
    """What an object is, where it may not be called to build a network; None where it may.

    A class of `network`, which is torch.nn.Module, may, and a Python function of a module of which `is_own` says so by
    its name: a name that a module imports for itself, such as `os.system`, is no network of its.
    """
    if isinstance(made, type) and issubclass(made, network):
        return None
    function = made.__func__ if isinstance(made, MethodType) else made
    if isinstance(function, FunctionType) and is_own(function.__module__):
        return None
    if isinstance(function, FunctionType | BuiltinFunctionType) and function.__module__:
        return f"a function of {function.__module__}"
    return "a class and no torch.nn.Module" if isinstance(made, type) else f"a {type(made).__name__}, no class"
