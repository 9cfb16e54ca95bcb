"""What a repository holds, read off the names of its files. Pure: a folder and a bucket are looked at in one way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from tidegate.training_hooks.errors import ArtifactError
from tidegate.training_hooks.manifest import MANIFEST_NAME

from .names import ARCHIVE_SUFFIX, LABELS_NAME, UNFINISHED, is_hidden, version_of
from .version_labels import labels_of, read_labels


class State(StrEnum):
    """How far a version has come."""

    PUBLISHED = "published"
    """Its manifest is there, which comes last."""
    UNFINISHED = "unfinished"
    """A publish or a retire is under way, or was interrupted: servers leave it alone."""
    FOREIGN = "no manifest"
    """Something else wrote it; servers take it when it stays the same for a while."""
    ARCHIVE = "archive"


class Stored(NamedTuple):
    """A file or an object."""

    size_bytes: int
    modified: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedVersion:
    """One version of a model in a repository."""

    number: int
    state: State
    size_bytes: int
    files: int
    modified: datetime
    """Of its newest file."""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """One model of a repository. One without version folders has the one version 1."""

    name: str
    versioned: bool
    versions: tuple[PublishedVersion, ...]
    labels: Mapping[str, int]
    reason: str = ""
    """What is wrong with its labels, or which files belong to no version; empty if nothing."""


def state_of(names: Collection[str]) -> State | None:
    """How far a version has come that holds files of these names; None where there is nothing."""
    if MANIFEST_NAME in names:
        return State.PUBLISHED
    if UNFINISHED in names:
        return State.UNFINISHED
    return State.FOREIGN if names else None


def is_one_model(top_names: Collection[str]) -> bool:
    """Whether a folder with these names in it is a model, and no repository of models."""
    return MANIFEST_NAME in top_names or any(_numbered(name) is not None for name in top_names)


def numbers_of(top_names: Collection[str]) -> set[int]:
    """The versions that the names in a model's folder stand for, whatever state they are in."""
    return {number for name in top_names if (number := _numbered(name)) is not None}


def check_takes_versions(name: str, where: str, top_names: Collection[str]) -> None:
    """Raise `ArtifactError` for a model that has files where its versions would be."""
    strays = _strays(top_names)
    if strays and not numbers_of(top_names):
        raise ArtifactError(
            f"{where} holds an unversioned model ({', '.join(strays[:3])}{', …' if len(strays) > 3 else ''}); publish "
            f"under another name than {name}, or move its files into {where}/1"
        )


def exists_already(where: str, number: int) -> ArtifactError:
    """The error of a publish that asks for a number which is given; `where` names the model."""
    return ArtifactError(
        f"version {number} of {where} exists already, and a version never changes; publish the next number, or retire "
        "it first"
    )


def no_version(where: str, number: int, top_names: Collection[str]) -> ArtifactError:
    """The error of who asks for a version that a model with these names in its folder does not have."""
    there = ", ".join(map(str, sorted(numbers_of(top_names))))
    values = f"its versions are {there}" if there else "it has none"
    return ArtifactError(f"{where} has no version {number}; {values}")


def models_of(stored: Mapping[str, Stored], labels_files: Mapping[str, bytes]) -> tuple[PublishedModel, ...]:
    """Return the models by name, from all files by their names relative to the repository.

    Args:
        stored: every file.
        labels_files: the content of each labels.json, by the name of the model's folder.
    """
    if is_one_model({name.partition("/")[0] for name in stored}):
        return (_model("model", dict(stored), labels_files.get("")),)
    by_model: dict[str, dict[str, Stored]] = defaultdict(dict)
    archives: dict[str, Stored] = {}
    for key, each in stored.items():
        top, slash, rest = key.partition("/")
        if is_hidden(top):
            continue
        if slash and top != "code":
            by_model[top][rest] = each
        elif top.endswith(ARCHIVE_SUFFIX):
            archives[top.removesuffix(ARCHIVE_SUFFIX)] = each
    models = [_model(name, files, labels_files.get(name)) for name, files in by_model.items()]
    models += [
        PublishedModel(
            name=name, versioned=False, versions=(_version(1, {ARCHIVE_SUFFIX: each}, State.ARCHIVE, {}),), labels={}
        )
        for name, each in archives.items()
        if name not in by_model
    ]
    return tuple(sorted(models, key=lambda model: model.name))


def _model(name: str, files: Mapping[str, Stored], labels_file: bytes | None) -> PublishedModel:
    by_version: dict[int, dict[str, Stored]] = defaultdict(dict)
    archives: dict[int, Stored] = {}
    loose: dict[str, Stored] = {}
    for key, each in files.items():
        top, slash, rest = key.partition("/")
        number = _numbered(top)
        if number is None:
            loose[key] = each
        elif slash:
            by_version[number][rest] = each
        elif top.endswith(ARCHIVE_SUFFIX):
            archives[number] = each
    try:
        labels, reason = read_labels(labels_file, name), ""
    except ArtifactError as error:
        labels, reason = {}, str(error)
    found = [
        _version(number, parts, state, labels)
        for number, parts in by_version.items()
        if (state := state_of(parts.keys())) is not None
    ]
    found += [_version(number, {ARCHIVE_SUFFIX: each}, State.ARCHIVE, labels) for number, each in archives.items()]
    strays = _strays({key.partition("/")[0] for key in loose})
    whole = {key: each for key, each in loose.items() if not is_hidden(key) and key != LABELS_NAME}
    unversioned = bool(whole) and not found
    if unversioned:
        found = [_version(1, whole, state_of(whole.keys()) or State.FOREIGN, labels)]
    elif strays:
        reason = reason or f"{', '.join(strays[:3])} beside its versions belongs to none of them"
    return PublishedModel(
        name=name,
        versioned=not unversioned,
        versions=tuple(sorted(found, key=lambda version: version.number)),
        labels=labels,
        reason=reason,
    )


def _version(number: int, files: Mapping[str, Stored], state: State, labels: Mapping[str, int]) -> PublishedVersion:
    counted = [each for name, each in files.items() if name != UNFINISHED]
    return PublishedVersion(
        number=number,
        state=state,
        size_bytes=sum(each.size_bytes for each in counted),
        files=len(counted),
        modified=max(each.modified for each in files.values()),
        labels=tuple(labels_of(labels, number)),
    )


def _strays(top_names: Collection[str]) -> list[str]:
    return sorted(
        name
        for name in top_names
        if not is_hidden(name) and name not in (LABELS_NAME, "code") and _numbered(name) is None
    )


def _numbered(top_name: str) -> int | None:
    return version_of(top_name.removesuffix(ARCHIVE_SUFFIX))
