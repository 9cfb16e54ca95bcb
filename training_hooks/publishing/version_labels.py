"""labels.json of a model: which version each label means."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tidegate.training_hooks.errors import ArtifactError

from .names import LABELS_NAME

_MAX_BYTES = 1 << 20


def read_labels(data: bytes | None, where: str) -> dict[str, int]:
    """Return the labels; none where there is no file. `where` names the model in errors.

    Raises:
        ArtifactError: the file holds something else.
    """
    if data is None:
        return {}
    try:
        labels = json.loads(data) if len(data) <= _MAX_BYTES else None
    except (ValueError, RecursionError):
        labels = None
    if not isinstance(labels, dict) or not all(type(number) is int for number in labels.values()):
        raise ArtifactError(
            f"{LABELS_NAME} of {where} cannot be read: it should be an object of labels and version numbers, such as "
            '{"stable": 3}; mend it by hand, or remove it'
        )
    return labels


def dump_labels(labels: Mapping[str, int]) -> bytes:
    """Return the file's bytes; equal labels are equal files."""
    return (json.dumps(labels, sort_keys=True, indent=2) + "\n").encode()


def labels_of(labels: Mapping[str, int], version: int) -> list[str]:
    """The labels that mean a version, sorted."""
    return sorted(label for label, number in labels.items() if number == version)


def without_label(labels: Mapping[str, int], label: str, where: str) -> dict[str, int]:
    """The others. Raises `ArtifactError` where the model has no such label."""
    if label not in labels:
        values = f"its labels are {', '.join(labels)}" if labels else "it has none"
        raise ArtifactError(f"{where} has no label {label!r}; {values}")
    return {other: number for other, number in labels.items() if other != label}


def without_version(labels: Mapping[str, int], version: int) -> dict[str, int]:
    """The labels that mean other versions."""
    return {label: number for label, number in labels.items() if number != version}


def may_retire(labels: Mapping[str, int], where: str, version: int) -> None:
    """Raise `ArtifactError` where a label means the version."""
    if found := labels_of(labels, version):
        raise ArtifactError(
            f"version {version} of {where} is {' and '.join(map(repr, found))}; give the label to another version "
            "first, or take it off with --drop-labels"
        )
