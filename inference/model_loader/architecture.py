"""The network that a configuration names, built from the code that lies beside it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.layout import CODE

CODE_PATH = "MODEL_CODE_PATH"


def build(
    architecture: str, arguments: Mapping[str, Any], *, configured_in: Path, code: Path | None
) -> torch.nn.Module:
    """The network `module:Class` with its arguments, on the CPU and with the weights that it is born with.

    `code` is the folder to look in first; by default `code/` beside the configuration, or the configuration's own
    folder where there is no such folder. Raises `DeploymentError`.
    """
    module_name, _, name = architecture.partition(":")
    module = _module(module_name, _folder(configured_in, code), architecture, configured_in)
    made: Any = module
    for part in name.split("."):
        made = getattr(made, part, None)
        if made is None:
            raise DeploymentError(f"{configured_in}: architecture {architecture!r}: {module.__file__} has no {name!r}.")
    if not callable(made):
        raise DeploymentError(f"{configured_in}: architecture {architecture!r} is a {type(made).__name__}, no class.")
    try:
        network = made(**arguments)
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


def _folder(configured_in: Path, code: Path | None) -> Path:
    if code is None:
        beside = configured_in.parent / CODE
        return beside if beside.is_dir() else configured_in.parent
    if not code.is_dir():
        raise DeploymentError(f"{CODE_PATH}={str(code)!r} is not a folder: it must hold the modules of the networks.")
    return code.absolute()


def _module(name: str, folder: Path, architecture: str, configured_in: Path) -> ModuleType:
    first = name.partition(".")[0]
    # It stays on the path, for what the module imports later, behind everything else once the module is here.
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        there = sys.modules.get(first)
        if there is not None and _is_in(folder, first) and not _comes_from(there, folder):
            raise DeploymentError(
                f"{configured_in}: architecture {architecture!r}: a module {first!r} of another place is imported "
                f"already ({getattr(there, '__file__', None) or 'built in'}), and {folder} has one too; give one of "
                "them another name."
            )
        return importlib.import_module(name)
    except DeploymentError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise DeploymentError(
                f"{configured_in}: architecture {architecture!r}: there is no module {error.name!r} in {folder}, nor "
                f"is it installed; {CODE_PATH} names the folder of the code where that is another."
            ) from None
        raise DeploymentError(f"{configured_in}: architecture {architecture!r}: {_said(error)}.") from error
    except Exception as error:
        raise DeploymentError(
            f"{configured_in}: architecture {architecture!r}: its module {name!r} cannot be imported: {_said(error)}."
        ) from error
    finally:
        sys.path.remove(str(folder))
        if str(folder) not in sys.path:
            sys.path.append(str(folder))


def _is_in(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


def _comes_from(module: ModuleType, folder: Path) -> bool:
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    return any(Path(place).resolve().is_relative_to(folder.resolve()) for place in places if place)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)}"
