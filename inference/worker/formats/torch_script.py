"""TorchScript: PyTorch has deprecated it, and archives that hold it are served."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.worker.formats.missing_operators import missing_operator

log = logging.getLogger("tidegate.worker")


def load(path: Path, place: torch.device) -> Any:
    """The module of a file of `torch.jit.save`, on `place`. Raises `DeploymentError`."""
    log.warning(
        "%s is TorchScript, which PyTorch has deprecated: it is served, but save new models as weights with their "
        "architecture, or export them to ONNX",
        path,
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(path, map_location=place).eval()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise DeploymentError(
            f"{path} cannot be loaded as TorchScript: {missing_operator(error) or one_line(error)}."
        ) from error
