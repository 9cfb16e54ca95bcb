"""The network that the manifest names: built by the archive's own code, and filled with weights."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.layout import MANIFEST
from tidegate.inference.state_dicts import tied_weights
from tidegate.inference.worker.formats.unfilled import Unfilled

log = logging.getLogger("tidegate.worker")


def filled(
    path: Path, state: Any, kept_as: Mapping[str, str], *, model_dir: Path, described: Mapping[str, Any]
) -> torch.nn.Module:
    """The network of `weights.architecture` with the weights `state` of `path`. Raises `DeploymentError`."""
    architecture = described.get("architecture")

    def built() -> torch.nn.Module:
        return _built(model_dir, architecture, described.get("arguments", {}))

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


def _built(model_dir: Path, architecture: Any, arguments: Any) -> torch.nn.Module:
    place = model_dir / MANIFEST
    module_name, _, name = str(architecture).partition(":")
    if not (module_name and name.isidentifier() and isinstance(arguments, dict)):
        raise DeploymentError(
            f"{place}: weights.architecture is 'module:Class' of the archive's code, and weights.arguments an object; "
            f"they are {architecture!r} and {arguments!r}."
        )
    try:
        # What the script has imported already stays the one copy.
        module = sys.modules.get(module_name) or importlib.import_module(module_name)
        model = getattr(module, name)(**arguments)
    except Exception as error:
        raise DeploymentError(
            f"{place}: '{architecture}' cannot be built: {type(error).__name__}: {one_line(error)}."
        ) from error
    if not isinstance(model, torch.nn.Module):
        raise DeploymentError(f"{place}: '{architecture}' makes a {type(model).__name__}, not a torch.nn.Module.")
    return model
