"""The network that a configuration names, built from the code that lies beside it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch

from tidegate.inference.code_below import comes_from, missing_below, why_not_called
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
    is_a = why_not_called(made, torch.nn.Module, lambda owner: owner == module.__name__)
    if is_a is None:
        return cast(Callable[..., Any], made)
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
    if missing := missing_below(name, folder):
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
    if not comes_from(module, folder):
        name = module.__name__
        raise DeploymentError(
            f"{configured_in}: architecture {architecture!r}: a module {name!r} of another place is imported already "
            f"({getattr(module, '__file__', None) or 'built in'}), and {folder} has one too; give one of them another "
            "name, or load it in a process of its own."
        )


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
