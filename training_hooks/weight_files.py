"""Weights on their way to the disk: as torch.save writes them or as safetensors, in one file or in several.

The names are those that Hugging Face's libraries use, so that they read what is written here, and the server too.
"""

import importlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .arguments import shown
from .errors import ArtifactError
from .portable_tensors import memory_of, portable, size_bytes_of
from .shards import Entry, divided, index_of
from .staging import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """How weights are written.

    Attributes:
        name: what the manifest calls it.
        alone: the file, where there is one.
        part: the pattern of a file's name, where there are several.
        index: the file that says what is in which.
        write: from tensors that are contiguous and on the CPU to a file; returns the names that it has there.
    """

    name: str
    alone: str
    part: str
    index: str
    write: Callable[[Mapping[str, Any], Path], list[str]]


def checked_format(given: object) -> WeightFormat:
    """Return the format of this name. Raises `ArtifactError` where there is none, or its package is missing."""
    found = FORMATS.get(given) if isinstance(given, str) else None
    if found is None:
        raise ArtifactError(f"format is {shown(given)}; there are {' and '.join(map(repr, FORMATS))}")
    if found.name == "safetensors":
        _safetensors()
    return found


def refuse_unwritable(weights: Mapping[str, Any], kind: WeightFormat) -> None:
    """Raise `ArtifactError` naming the first entry that the format cannot hold, before anything is written."""
    if kind.name != "safetensors":
        return
    library = _safetensors()
    known: set[torch.dtype] = set()
    for name, value in weights.items():
        if name == "__metadata__":
            raise ArtifactError(
                f"a weight is called {name!r}, which safetensors keeps for itself; rename it, or use "
                "format='state_dict'"
            )
        if not isinstance(value, torch.Tensor):
            raise ArtifactError(
                f"{name!r} is {type(value).__name__}, and safetensors holds tensors alone; use format='state_dict'"
            )
        if value.layout is not torch.strided:
            raise ArtifactError(
                f"{name!r} is a tensor of the layout {value.layout}, and safetensors holds dense ones alone; use "
                "format='state_dict'"
            )
        if value.dtype in known:
            continue
        try:
            library.save({"one": torch.empty(1, dtype=value.dtype)})
        except Exception:
            kind_name = str(value.dtype).removeprefix("torch.")
            raise ArtifactError(
                f"{name!r} is a tensor of {kind_name}, which safetensors cannot hold; use format='state_dict'"
            ) from None
        known.add(value.dtype)


def write_weights(stage: Stage, weights: Mapping[str, Any], kind: WeightFormat, shard_bytes: int | None) -> str:
    """Write weights into the stage; return the name of the file, or of the index where they are more than one.

    A tensor on another device comes to the CPU with the file that it goes into, and not before.

    Args:
        stage: where to.
        weights: checked, under the names of the bare model.
        kind: the format.
        shard_bytes: the largest size of a file; None for one file.
    """
    parts = [list(weights)] if shard_bytes is None else divided(_entries(weights), shard_bytes)
    if len(parts) == 1:
        kind.write(portable(weights), stage.path / kind.alone)
        stage.take(kind.alone)
        return kind.alone
    weight_map: dict[str, str] = {}
    for number, names in enumerate(parts, start=1):
        file_name = kind.part.format(number, len(parts))
        written = kind.write(portable(_part(weights, names)), stage.path / file_name)
        stage.take(file_name)
        weight_map |= dict.fromkeys(written, file_name)
    sizes = {entry.shared or entry.name: entry.size_bytes for entry in _entries(weights)}
    stage.write(kind.index, index_of(weight_map, sum(sizes.values())))
    return kind.index


def _part(weights: Mapping[str, Any], names: list[str]) -> OrderedDict[str, Any]:
    part = OrderedDict((name, weights[name]) for name in names)
    if hasattr(weights, "_metadata"):
        part._metadata = weights._metadata  # type: ignore[attr-defined]
    return part


def _entries(weights: Mapping[str, Any]) -> list[Entry]:
    return [
        Entry(name=name, size_bytes=size_bytes_of(value), shared=memory_of(value))
        if isinstance(value, torch.Tensor)
        else Entry(name=name, size_bytes=0)
        for name, value in weights.items()
    ]


def write_loadable(value: object, path: Path, *, what: str) -> None:
    """Write with torch.save and read back with `weights_only=True`, so that nothing unloadable is ever kept.

    Reading maps the file instead of copying it, so the check costs little whatever the size.
    """
    torch.save(value, path)
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ArtifactError(f"{what} cannot be read back with torch.load(weights_only=True): {reason}") from error


def _write_state_dict(part: Mapping[str, Any], path: Path) -> list[str]:
    write_loadable(part, path, what=path.name)
    return list(part)


def _write_safetensors(part: Mapping[str, Any], path: Path) -> list[str]:
    """Write each tensor once; under which name one is kept that has several stands in the file's metadata."""
    tensors: dict[str, torch.Tensor] = {}
    kept_as: dict[str, str] = {}
    first_names: dict[int, str] = {}
    for name, tensor in part.items():
        first = first_names.setdefault(id(tensor), name)
        if first == name:
            tensors[name] = tensor
        else:
            kept_as[name] = first
    library = _safetensors()
    try:
        library.save_file(tensors, path, metadata={"format": "pt", **kept_as})
        with importlib.import_module("safetensors").safe_open(path, framework="pt") as file:
            there = sorted(file.keys())
    except OSError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(f"{path.name} cannot be written as safetensors: {reason}") from error
    if there != sorted(tensors):
        raise ArtifactError(f"{path.name} does not hold what was written; the names of the weights are not plain")
    return list(tensors)


def _safetensors() -> Any:
    try:
        return importlib.import_module("safetensors.torch")
    except ImportError:
        raise ArtifactError(
            "format='safetensors' needs the package safetensors: pip install safetensors, or leave format out"
        ) from None


FORMATS = {
    "state_dict": WeightFormat(
        name="state_dict",
        alone="model.pth",
        part="pytorch_model-{:05}-of-{:05}.bin",
        index="pytorch_model.bin.index.json",
        write=_write_state_dict,
    ),
    "safetensors": WeightFormat(
        name="safetensors",
        alone="model.safetensors",
        part="model-{:05}-of-{:05}.safetensors",
        index="model.safetensors.index.json",
        write=_write_safetensors,
    ),
}
