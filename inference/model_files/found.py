"""The files of a model directory that could be its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tidegate.inference.layout import CODE
from tidegate.inference.model_files import shard_index
from tidegate.inference.model_files.kinds import SAVED_MODEL_FILE, TORCH_SUFFIXES, Kind, kind_of

_MODEL_SUFFIXES = frozenset({*TORCH_SUFFIXES, ".safetensors", ".onnx", ".pt2"})
_NOTES = frozenset({".py", ".txt", ".md", ".json", ".yaml", ".yml", ".toml"})
_NO_MODELS = frozenset({CODE, "example"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file, or directory, that could be the model. `name` is relative to the model directory."""

    name: str
    kind: Kind

    @property
    def has_usual_name(self) -> bool:
        """Whether the name says that this is a model."""
        return self.kind is Kind.SAVED_MODEL or Path(self.name).suffix in _MODEL_SUFFIXES or _is_an_index(self.name)


def visible(model_dir: Path) -> list[Path]:
    """What is in a directory, without hidden files: the tar of macOS puts a `._model.pth` beside each model.pth."""
    return sorted(path for path in model_dir.iterdir() if not path.name.startswith("."))


def model_files(model_dir: Path) -> tuple[ModelFile, ...]:
    """All that could be the model of `model_dir`, with what each is told to be. Raises `OSError`.

    Parts of a model in several files are not named beside their index.
    """
    paths = [path for path in visible(model_dir) if path.name not in _NO_MODELS and not _is_a_note(path)]
    if (model_dir / SAVED_MODEL_FILE).is_file():
        return (ModelFile(name=".", kind=Kind.SAVED_MODEL),)
    found = [ModelFile(name=path.name, kind=kind_of(path)) for path in paths]
    parts = set(_parts(model_dir, found))
    return tuple(
        each for each in found if each.name not in parts and (each.kind is not Kind.UNKNOWN or each.has_usual_name)
    )


def is_missing_below(model_dir: Path) -> bool:
    """Whether a directory has nothing that could be a model: only code, notes, or nothing."""
    return all(path.name in _NO_MODELS or _is_a_note(path) for path in visible(model_dir))


def _is_a_note(path: Path) -> bool:
    return path.suffix in _NOTES and path.is_file() and not _is_an_index(path.name)


def _is_an_index(name: str) -> bool:
    return name.endswith(shard_index.SUFFIX)


def _parts(model_dir: Path, found: Iterable[ModelFile]) -> Iterator[str]:
    for each in found:
        if each.kind in (Kind.SAFETENSORS_INDEX, Kind.PICKLE_INDEX):
            with suppress(ValueError):
                yield from shard_index.read(model_dir / each.name).files
