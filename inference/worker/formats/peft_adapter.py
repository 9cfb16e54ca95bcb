"""An adapter of peft (LoRA and its like), put onto the network that the archive's own code has built."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.layout import MANIFEST
from tidegate.inference.worker import artifact


def applied(model: torch.nn.Module, described: Any, *, model_dir: Path) -> torch.nn.Module:
    """The network with the adapter of the manifest's `weights.adapter`, `{"directory": "adapter"}`.

    peft is the archive's own, of its code/requirements.txt. Raises `DeploymentError`.
    """
    directory = described.get("directory") if isinstance(described, dict) else None
    if not isinstance(directory, str):
        raise DeploymentError(
            f"{model_dir / MANIFEST}: weights.adapter is an object with the directory of the adapter; it is "
            f"{described!r}."
        )
    place = artifact.below(model_dir, directory)
    if not (place / "adapter_config.json").is_file():
        raise DeploymentError(f"{place} has no adapter_config.json, although the manifest names it as weights.adapter.")
    if importlib.util.find_spec("peft") is None:
        raise DeploymentError(f"{place} is an adapter of peft: name the package peft in code/requirements.txt.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "error", message="Found missing adapter keys|Adapter name"
            )  # it would go on with random numbers
            adapted: torch.nn.Module = importlib.import_module("peft").PeftModel.from_pretrained(model, str(place))
    except Exception as error:
        raise DeploymentError(
            f"{place} cannot be put onto the network: {type(error).__name__}: {one_line(error)}."
        ) from error
    return adapted
