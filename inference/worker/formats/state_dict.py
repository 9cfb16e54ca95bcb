"""Files of torch.save: read as data, or, where the deployer trusts the archive, as the objects that they pickle."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.model_files import zip_members
from tidegate.inference.worker import pickled_module

TRUST = "TIDEGATE_TRUST_PICKLED_MODEL"
"""The variable by which the deployer says that the archive may run code while its model is read."""


def read(path: Path, place: torch.device, *, trust_pickle: bool) -> Any:
    """What the file holds, with its tensors on `place`. Raises `DeploymentError`."""
    try:
        return torch.load(path, map_location=place, weights_only=not trust_pickle)
    except pickle.UnpicklingError as error:
        if trust_pickle or not zip_members.names(path):
            raise DeploymentError(f"{path} cannot be loaded: {one_line(error)}.") from error
        raise DeploymentError(
            f"{path} holds more than weights, and reading it would run code: save its state_dict, or set {TRUST}=on if "
            "you trust the archive."
        ) from error
    except (ImportError, AttributeError) as error:
        raise DeploymentError(f"{path} cannot be loaded: {one_line(error)}{pickled_module.WAY_OUT}.") from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise DeploymentError(f"{path} cannot be loaded: {one_line(error)}.") from error
