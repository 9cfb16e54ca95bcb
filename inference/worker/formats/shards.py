"""Weights in several files: all of them together, as their index says, and nothing besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tidegate.inference.errors import DeploymentError, some_of
from tidegate.inference.model_files import shard_index

Read = Callable[[Path], tuple[Any, Mapping[str, str]]]
"""From a file to its tensors by name, and its metadata about tied weights."""


def read(path: Path, read_part: Read) -> tuple[dict[str, Any], dict[str, str]]:
    """The tensors of all files that the index `path` names. Raises `DeploymentError`."""
    try:
        index = shard_index.read(path)
    except ValueError as error:
        raise DeploymentError(f"{path} {error}.") from error
    state: dict[str, Any] = {}
    kept_as: dict[str, str] = {}
    for name, expected in index.files.items():
        part, tied = read_part(_part(path, name))
        if not isinstance(part, Mapping):
            raise DeploymentError(f"{path.parent / name} holds a {type(part).__name__}, no weights by name.")
        _compare(path, name, expected, part)
        state |= part
        kept_as |= tied
    return state, kept_as


def _part(path: Path, name: str) -> Path:
    part = path.parent / name
    if not part.resolve().is_relative_to(path.parent.resolve()):
        raise DeploymentError(f"{path} names {name!r}, which leads out of the model directory.")
    if not part.is_file():
        raise DeploymentError(f"{part} is missing, although {path.name} names it.")
    return part


def _compare(path: Path, name: str, expected: frozenset[str], part: Mapping[str, Any]) -> None:
    if missing := sorted(expected - part.keys()):
        raise DeploymentError(f"{path.parent / name} lacks {some_of(missing)}, which {path.name} says it has.")
    if extra := sorted(map(str, part.keys() - expected)):
        raise DeploymentError(f"{path.parent / name} has {some_of(extra)}, which {path.name} does not name there.")
