"""The name that wrappers of Studio.ML import: `from studio import model_util`."""

from __future__ import annotations

from . import model_util

__all__ = ["model_util"]
