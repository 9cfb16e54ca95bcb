"""Whether one more model fits: how many there may be, and the memory that they take."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from tidegate.inference.errors import ModelDoesNotFit
from tidegate.inference.settings import MIB


def demand_place(models: int, max_models: int) -> None:
    """Raise `ModelDoesNotFit` where there are as many models as there may be."""
    if models >= max_models:
        raise ModelDoesNotFit(f"{max_models} models are loaded, which is the limit (TIDEGATE_MAX_LOADED_MODELS).")


def demand_memory(name: str, *, needed_bytes: int, promised_bytes: int, free_bytes: int, min_free_bytes: int) -> None:
    """Raise `ModelDoesNotFit` for a model that would not fit; the ones that are loaded do not notice.

    `promised_bytes` is what the models that are still loading will take of `free_bytes`.
    """
    left_bytes = free_bytes - promised_bytes - min_free_bytes
    if needed_bytes > left_bytes:
        left = f"{max(left_bytes, 0) // MIB} MiB are left for models"
        raise ModelDoesNotFit(f"The model '{name}' needs about {needed_bytes // MIB} MiB, and {left}.")


def demand_bytes(name: str, *, needed_bytes: int, taken_bytes: int, max_bytes: int | None) -> None:
    """Raise `ModelDoesNotFit` for a model with which all would take more than `max_bytes`, where that is given.

    `taken_bytes` is what the others take or are promised.
    """
    if max_bytes is not None and taken_bytes + needed_bytes > max_bytes:
        left = f"{max(max_bytes - taken_bytes, 0) // MIB} MiB are left of the {max_bytes // MIB} MiB for all models"
        raise ModelDoesNotFit(
            f"The model '{name}' needs about {needed_bytes // MIB} MiB, and {left} (TIDEGATE_MAX_LOADED_BYTES)."
        )


def file_bytes(directory: Path) -> int:
    """The size of all files below a directory, in bytes: what a copy of the model takes, as far as files can tell."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):  # a link to nowhere, or gone meanwhile
                found = (Path(folder) / name).stat()
                total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total
