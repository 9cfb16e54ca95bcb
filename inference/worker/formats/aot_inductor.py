"""Packages of AOTInductor as the archive's model: compiled code, which checks its inputs only where it is told to.

Only of an archive that the deployer trusts: the package holds a library that is loaded into the process.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch._inductor import aoti_load_package
from torch.utils._pytree import tree_map_only

from tidegate.inference.errors import DeploymentError, one_line
from tidegate.inference.worker.misfit import InputRefused

_CHECKS = "AOTI_RUNTIME_CHECK_INPUTS"
"""The variable by which compiled code looks at the types, sizes and strides of what it is given. Without it another
size, layout or type gives wrong numbers, or reads beyond the input."""
_REFUSAL = re.compile(r"input_handles|unmatched|dim value is too|expected it to be")


class CompiledModel(torch.nn.Module):
    """Calls the package with dense tensors on its own device. Raises `InputRefused` for what the package refuses."""

    def __init__(self, compiled: Any, place: torch.device) -> None:
        super().__init__()
        self._compiled = compiled
        self._place = place

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the package gives."""
        args, kwargs = tree_map_only(torch.Tensor, self._as_it_is_taken, (args, kwargs))
        try:
            return self._compiled(*args, **kwargs)
        except (RuntimeError, ValueError) as error:
            text = one_line(error)
            if not _REFUSAL.search(text):
                raise
            raise InputRefused(f"the compiled model refuses it: {text}") from error

    def _as_it_is_taken(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to(self._place).contiguous()


def load(path: Path, place: torch.device) -> torch.nn.Module:
    """The model of a package, on `place`. Raises `DeploymentError`."""
    os.environ[_CHECKS] = "1"  # read by the package at its first call
    try:
        device_index = place.index or 0 if place.type == "cuda" else -1
        return CompiledModel(aoti_load_package(str(path), device_index=device_index), place)
    except Exception as error:
        raise DeploymentError(f"{path} cannot be loaded as a package of AOTInductor: {one_line(error)}.") from error
