"""Tensors from a file of safetensors, which holds data alone; the package is needed only where there is such a file."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import NamedTuple

import torch

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.model_files import damage


class Tensors(NamedTuple):
    """What a file holds."""

    by_name: dict[str, torch.Tensor]
    kept_as: dict[str, str]
    """The file's own metadata, which says under which name a shared tensor is kept."""


def read(path: Path, device: torch.device, *, called: object, way_out: str) -> Tensors:
    """All tensors of a file, on `device`.

    `called` is what people call the file, and `way_out` how they get the package. Raises `DeploymentError`.
    """
    if importlib.util.find_spec("safetensors") is None:
        raise DeploymentError(f"{called} needs the package safetensors: {way_out}.")
    module = importlib.import_module("safetensors")
    try:
        with module.safe_open(path, framework="pt", device=str(device)) as file:
            names = file.keys()  # it is no mapping
            return Tensors({name: file.get_tensor(name) for name in names}, dict(file.metadata() or {}))
    except Exception as error:
        what = damage.of_safetensors(path) if path.is_file() else None
        raise DeploymentError(
            f"{called} cannot be loaded as safetensors: {f'it is {what}' if what else one_line(error)}."
        ) from error
