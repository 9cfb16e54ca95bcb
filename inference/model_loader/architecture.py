"""The network that a configuration names, built from the code that lies beside it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import torch

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.layout import CODE

CODE_PATH = "MODEL_CODE_PATH"


def build(
    architecture: str, arguments: Mapping[str, Any], *, configured_in: Path, code: Path | None
) -> torch.nn.Module:
    """The network `module:Class` with its arguments, on the CPU and with the weights that it is born with.

    `code` is the folder of the modules; by default `code/` beside the configuration, or the configuration's own folder
    where there is no such folder. A configuration is data: nothing but a file below that folder is imported for it, and
    nothing called but a torch.nn.Module's class, or a function that the named module itself defines. Raises
    `DeploymentError`.
    """
    module_name, _, name = architecture.partition(":")
    module = _module(module_name, _folder(configured_in, code), architecture, configured_in)
    make = _maker(module, name, f"{configured_in}: architecture {architecture!r}")
    try:
        network = make(**arguments)
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise DeploymentError(
            f"{configured_in}: architecture {architecture!r} cannot be built with ({given}): {_said(error)}."
        ) from error
    if not isinstance(network, torch.nn.Module):
        raise DeploymentError(
            f"{configured_in}: architecture {architecture!r} makes a {type(network).__name__}, not a torch.nn.Module."
        )
    return network


def _maker(module: ModuleType, name: str, what: str) -> Callable[..., Any]:
    """What `name` is in a module, where it may be called."""
    made: Any = module
    steps = name.split(".")
    for index, step in enumerate(steps):
        if index and not isinstance(made, type):
            # Else `painter:os.system` would reach what the module imports for itself.
            raise DeploymentError(
                f"{what}: {'.'.join(steps[:index])!r} in {module.__file__} is a {type(made).__name__}, no class with "
                f"{step!r} in it; where that is a network, import it in that file and name it alone."
            )
        made = getattr(made, step, None)
        if made is None:
            raise DeploymentError(f"{what}: {module.__file__} has no {name!r}.")
    if isinstance(made, type) and issubclass(made, torch.nn.Module):
        return made
    function = made.__func__ if isinstance(made, MethodType) else made
    if isinstance(function, FunctionType) and function.__module__ == module.__name__:
        return cast(Callable[..., Any], made)
    if isinstance(function, FunctionType | BuiltinFunctionType) and function.__module__:
        is_a = f"a function of {function.__module__}"
    else:
        is_a = "a class and no torch.nn.Module" if isinstance(made, type) else f"a {type(made).__name__}, no class"
    raise DeploymentError(
        f"{what} is {is_a}: it must be a torch.nn.Module's class, or a function that {module.__file__} itself defines."
    )


def _folder(configured_in: Path, code: Path | None) -> Path:
    if code is None:
        beside = configured_in.parent / CODE
        return beside if beside.is_dir() else configured_in.parent
    if not code.is_dir():
        raise DeploymentError(f"{CODE_PATH}={str(code)!r} is not a folder: it must hold the modules of the networks.")
    return code.absolute()


def _module(name: str, folder: Path, architecture: str, configured_in: Path) -> ModuleType:
    first = name.partition(".")[0]
    importlib.invalidate_caches()
    # Importing runs a module already, so this is known before.
    if missing := _missing(name, folder):
        raise DeploymentError(
            f"{configured_in}: architecture {architecture!r}: there is no module {missing!r} in {folder}; {CODE_PATH} "
            "names the folder of the code where that is another, and a network of an installed package is imported in "
            "a module there."
        )
    if first in sys.modules:
        _check_place(sys.modules[first], folder, architecture, configured_in)
    # It stays on the path, for what the module imports later, behind everything else once the module is here.
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise DeploymentError(f"{configured_in}: architecture {architecture!r}: {_said(error)}.") from error
    except Exception as error:
        raise DeploymentError(
            f"{configured_in}: architecture {architecture!r}: its module {name!r} cannot be imported: {_said(error)}."
        ) from error
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    _check_place(module, folder, architecture, configured_in)  # what is built into Python comes before every folder
    return module


def _check_place(module: ModuleType, folder: Path, architecture: str, configured_in: Path) -> None:
    if not _comes_from(module, folder):
        name = module.__name__
        raise DeploymentError(
            f"{configured_in}: architecture {architecture!r}: a module {name!r} of another place is imported already "
            f"({getattr(module, '__file__', None) or 'built in'}), and {folder} has one too; give one of them another "
            "name, or load it in a process of its own."
        )


def _missing(name: str, folder: Path) -> str | None:
    """The part of a module's name that has no file below the folder; None where there is one."""
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


def _comes_from(module: ModuleType, folder: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    found = [Path(place).absolute() for place in places if place]
    # A link in the folder to a file elsewhere is of the folder as well.
    return any(path.is_relative_to(folder) or path.resolve().is_relative_to(folder.resolve()) for path in found)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
