"""What a model repository holds, as plain values: the repository's process makes them, the frontend goes by them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", re.ASCII)


def can_be_named(name: str) -> bool:
    """Whether a model of this name can be asked for, in a header and a path."""
    return _NAME.fullmatch(name) is not None


class VersionState(StrEnum):
    """Whether a version may be loaded."""

    AVAILABLE = "available"
    INCOMPLETE = "incomplete"
    """Files are missing yet, or it has no manifest and has not been the same for one interval."""
    UNREAD = "unread"
    """Whether it is there is not known yet: its manifest could not be read, for a reason that may pass."""
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a model. An unversioned model has one, of the number 1."""

    number: int
    digest: str
    """Names the content: the files of the version and the shared code that it is served with. Hexadecimal."""
    size_bytes: int
    """What it takes on disk, as far as the listing tells: an archive's unpacked size is known after it is fetched."""
    state: VersionState = VersionState.AVAILABLE
    reason: str = ""
    """Why it is not available: one sentence for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of a repository."""

    name: str
    versions: tuple[Version, ...] = ()
    """By ascending number."""
    labels: Mapping[str, int] = field(default_factory=dict)
    labels_unread: bool = False
    """Whether there may be other labels: labels.json could not be read, for a reason that may pass."""
    folder_unread: bool = False
    """Whether there may be other versions: its folder could not be read, for a reason that may pass."""
    versioned: bool = True
    reason: str = ""
    """What is wrong with the model as a whole, or with its labels or stray files: one sentence; empty if nothing."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Revision:
    """What is fetched and loaded: one content of one version of one model. Immutable; a changed version is another."""

    name: str
    version: int
    digest: str
