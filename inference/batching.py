"""What an archive's manifest declares about batching, and how it and the environment go together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tidegate.inference.errors import DeploymentError
from tidegate.inference.layout import MANIFEST, model_root

Auto = Literal["auto"]
AUTO: Auto = "auto"
"""In place of a size: it is found on live traffic (`frontend/queue/batch_search.py`)."""
MAX_BATCH_SIZE = 4096
MAX_AUTO_SIZE = 64
"""The most that is found: what a call gains by more is little, and its memory grows with it."""
MAX_WAIT_MS = 60_000
DEFAULT_WAIT_MS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """The manifest's word on batching: `joins` is None where it says nothing, which leaves it to proof."""

    joins: bool | None = None
    max_batch_size: int | Auto | None = None
    max_wait_ms: float | None = None

    def finds_size(self, asked: int | Auto | None) -> bool:
        """Whether the size is to be found, where the deployer has `asked` for that, or for a size, or for nothing."""
        return (asked or self.max_batch_size) == AUTO

    def size(self, asked: int | Auto | None) -> int:
        """The largest batch, where the deployer has `asked` for one or has not (None)."""
        wanted = asked or self.max_batch_size or 1
        most = MAX_AUTO_SIZE if isinstance(wanted, str) else wanted
        return 1 if self.joins is False else most

    def wait_ms(self, asked: float | None, default: float = DEFAULT_WAIT_MS) -> float:
        """How long a batch may wait for more, where the deployer has `asked` for a time or has not (None)."""
        return next(wait for wait in (asked, self.max_wait_ms, default) if wait is not None)


def declared(manifest: Mapping[str, Any]) -> Batching:
    """What the manifest says. Raises `DeploymentError` in one sentence."""
    value = manifest.get("batching")
    if value is None or value == "auto":
        return Batching()
    if isinstance(value, bool):
        return Batching(joins=value)
    limits = value.items() if isinstance(value, dict) else ()
    if not limits or any(key not in {"max_batch_size", "max_wait_ms"} or limit is None for key, limit in limits):
        raise DeploymentError(
            f"{MANIFEST}: 'batching' is {value!r}; it must be true, false, \"auto\" or an object with "
            "max_batch_size, max_wait_ms or both."
        )
    size, wait_ms = value.get("max_batch_size"), value.get("max_wait_ms")
    if not (size is None or size == AUTO or (type(size) is int and 1 <= size <= MAX_BATCH_SIZE)):
        raise DeploymentError(
            f"{MANIFEST}: batching's max_batch_size is {size!r}; it must be a whole number from 1 to {MAX_BATCH_SIZE}, "
            'or "auto".'
        )
    if wait_ms is not None and not (type(wait_ms) in (int, float) and 0 <= wait_ms <= MAX_WAIT_MS):
        raise DeploymentError(
            f"{MANIFEST}: batching's max_wait_ms is {wait_ms!r}; it must be a number from 0 to {MAX_WAIT_MS}."
        )
    return Batching(joins=True, max_batch_size=size, max_wait_ms=None if wait_ms is None else float(wait_ms))


def declared_in(model_dir: Path) -> Batching:
    """What the archive in `model_dir` says. One that cannot be read is the worker's to refuse, with the reason."""
    try:
        manifest = json.loads((model_root(model_dir) / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return Batching()
    # Other tools have manifests too; only ours carry a format_version.
    ours = isinstance(manifest, dict) and manifest.get("format_version") is not None
    return declared(manifest) if ours else Batching()
