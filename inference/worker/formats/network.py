"""The network that the manifest names: built by the archive's own code, and filled with weights."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch

from tidegate.inference.code_below import comes_from, missing_below, why_not_called
from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.layout import CODE, MANIFEST
from tidegate.inference.state_dicts import tied_weights
from tidegate.inference.worker.formats.unfilled import Unfilled

log = logging.getLogger("tidegate.worker")


def filled(
    path: Path, state: Any, kept_as: Mapping[str, str], *, model_dir: Path, described: Mapping[str, Any]
) -> torch.nn.Module:
    """The network of `weights.architecture` with the weights `state` of `path`. Raises `DeploymentError`."""
    architecture, arguments = described.get("architecture"), described.get("arguments", {})
    make = _maker(model_dir, architecture, arguments)

    def built() -> torch.nn.Module:
        return _built(model_dir, architecture, make, arguments)

    model = _filled_by_its_memory(built, state, kept_as)
    if model is None:
        model = built()
        try:
            tied_weights.fill(state, model, kept_as)
            model.load_state_dict(state)
        except (RuntimeError, TypeError) as error:
            raise DeploymentError(f"{path} does not fit '{architecture}': {one_line(error)}.") from error
    for taken, other in tied_weights.contradictions(state, model):
        log.warning(
            "%s has other values for %s than for %s, which is the same tensor in the network: those of %s are taken",
            path,
            other,
            taken,
            taken,
        )
    return model


def _filled_by_its_memory(
    built: Callable[[], torch.nn.Module], state: Any, kept_as: Mapping[str, str]
) -> torch.nn.Module | None:
    """The network without a copy of its weights; None where that is not the same as the ordinary way, or fails."""
    unfilled = Unfilled()
    try:
        with unfilled:
            model = built()
        tied_weights.fill(state, model, kept_as)
        unfilled.fill(model, state)
    except Exception:
        # The ordinary way says what is wrong, or that nothing is.
        log.debug("the network is filled by a copy", exc_info=True)
        torch.set_rng_state(unfilled.random_state)
        return None
    return model


def _maker(model_dir: Path, architecture: Any, arguments: Any) -> Callable[..., Any]:
    """What the manifest names, imported and not yet called. Raises `DeploymentError`.

    The manifest is data: it names what Python files of the archive define, and no other function of this process.
    """
    place = model_dir / MANIFEST
    module_name, _, name = str(architecture).partition(":")
    identifiers = all(part.isidentifier() for part in (*module_name.split("."), name))
    if not (identifiers and isinstance(arguments, dict)):
        raise DeploymentError(
            f"{place}: weights.architecture is 'module:Class' of the archive's code, and weights.arguments an object; "
            f"they are {architecture!r} and {arguments!r}."
        )
    folders = [folder.absolute() for folder in (model_dir / CODE, model_dir)]
    # Importing runs a module already, so where it is must be known before.
    if all(missing_below(module_name, folder) for folder in folders):
        raise DeploymentError(
            f"{place}: '{architecture}' cannot be built: there is no module {module_name!r} in {model_dir / CODE} or "
            f"{model_dir}; a network of an installed package is imported in a module there."
        )
    module = _imported(module_name, folders, f"{place}: '{architecture}'")
    made = getattr(module, name, None)
    if made is None:
        raise DeploymentError(f"{place}: '{architecture}' cannot be built: {module.__file__} has no {name!r}.")
    is_a = why_not_called(
        made, torch.nn.Module, lambda owner: owner in sys.modules and _is_own(sys.modules[owner], folders)
    )
    if is_a is not None:
        raise DeploymentError(
            f"{place}: '{architecture}' is {is_a}: it must be a torch.nn.Module's class, or a function that a file of "
            "the archive defines."
        )
    return cast(Callable[..., Any], made)


def _imported(name: str, folders: Sequence[Path], what: str) -> ModuleType:
    # What the script has imported already stays the one copy. A package of that name elsewhere is not looked into.
    parts = name.split(".")
    there = [sys.modules.get(".".join(parts[:count])) for count in range(1, len(parts) + 1)]
    module = there[-1]
    try:
        if module is None and all(each is None or _is_own(each, folders) for each in there):
            module = importlib.import_module(name)
    except Exception as error:
        raise DeploymentError(f"{what} cannot be built: {type(error).__name__}: {one_line(error)}.") from error
    if module is None or not _is_own(module, folders):
        raise DeploymentError(
            f"{what} cannot be built: there is a module {name!r} outside of the archive too, which Python takes; give "
            "the archive's another name."
        )
    return module


def _is_own(module: ModuleType, folders: Sequence[Path]) -> bool:
    return any(comes_from(module, folder) for folder in folders)


def _built(model_dir: Path, architecture: Any, make: Callable[..., Any], arguments: Any) -> torch.nn.Module:
    place = model_dir / MANIFEST
    try:
        model = make(**arguments)
    except Exception as error:
        raise DeploymentError(
            f"{place}: '{architecture}' cannot be built: {type(error).__name__}: {one_line(error)}."
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise DeploymentError(f"{place}: '{architecture}' makes a {type(model).__name__}, not a torch.nn.Module.")
    return model
