"""publish, retire, labels, and what a repository holds: for training scripts and for the command line."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tidegate.training_hooks.arguments import as_path
from tidegate.training_hooks.collection import ModelFiles, collected
from tidegate.training_hooks.errors import ArtifactError

from .contents import PublishedModel
from .folder import Folder
from .names import UNFINISHED, BucketAddress, label_name, model_name, repository_address, version_number
from .outgoing import Outgoing

_NEEDS_SCRIPT = (
    "the model has no code/inference.py, the repository shares none, and nothing in the model serves without one (a "
    "TorchScript or ONNX file, or an architecture named by save_model)"
)


class Repository(Protocol):
    """A folder or a bucket."""

    address: str

    def models(self) -> tuple[PublishedModel, ...]:
        """Everything that is there."""

    def publish(self, name: str, version: int | None, model: Outgoing, on_bytes: Callable[[int], object]) -> int:
        """Bring a model there and return its number; None is the next one. All or nothing."""

    def retire(self, name: str, version: int, *, drop_labels: bool) -> None:
        """Take a version away. Refused where a label means it, unless the labels may go, too."""

    def set_label(self, name: str, version: int, label: str) -> None:
        """Let a label mean a version that is there."""

    def remove_label(self, name: str, label: str) -> None:
        """Let a label mean nothing any more."""

    def labels(self, name: str) -> dict[str, int]:
        """The labels of a model; none where there is no such model. Raises `ArtifactError` for a broken file."""

    def shares_code(self) -> bool:
        """Whether the repository has a script for models that bring none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The version that `publish` brought into a repository.

    Attributes:
        name: of the model.
        version: its number.
        location: the folder or `s3://` address of the version.
        size_bytes: of its files, without the manifest.
        files: their names, sorted.
        warnings: sentences about what the server may miss in it.
    """

    name: str
    version: int
    location: str
    size_bytes: int
    files: tuple[str, ...]
    warnings: tuple[str, ...]


def publish(
    model_dir: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    name: str,
    *,
    version: int | str = "next",
    labels: str | Sequence[str] = (),
) -> Published:
    """Bring a model into a repository as a new version, which servers take as soon as all of it is there.

        publish(model_dir, "s3://bucket/models", "digits", labels="stable")

    The directory is verified against its manifest first, where it has one. The files go first and `manifest.json`, with
    the name, size and SHA-256 of each, goes last; a version exists when its manifest does, and is never changed. Any
    number of processes may publish at once: none is given another's number. One that is interrupted leaves nothing that
    is served, and the next one works.

    Args:
        model_dir: what `save_model` wrote, or any folder of a model; it stays as it is.
        repository: a folder, made where there is none, or `s3://bucket/prefix`.
        name: of the model: letters, digits, '.', '_' and '-'.
        version: a number that has not been published, or "next": one more than the highest that ever was.
        labels: name or names that mean this version from now on, instead of another.

    Raises:
        ArtifactError: one sentence naming what is wrong; nothing was published then, or no label was set.
        OSError: a file cannot be read or written, or the disk is full.
    """
    checked_name = model_name(name)
    number = None if version == "next" else version_number(version)
    names = [label_name(label) for label in ([labels] if isinstance(labels, str) else labels)]
    place = _opened(repository)
    source = as_path(model_dir, "model_dir")
    if isinstance(place, Folder) and Path(place.address).resolve().is_relative_to(source.resolve()):
        raise ArtifactError(f"the repository {place.address} lies inside {source}; choose another place for it")
    if names:
        place.labels(checked_name)  # a file that cannot be read is found before the upload
    with collected(source) as model:
        if UNFINISHED in model.files:
            raise ArtifactError(f"{source} holds {UNFINISHED}, which marks what is not published yet; rename it")
        warnings = () if model.serves_alone or place.shares_code() else (_NEEDS_SCRIPT,)
        published, size_bytes = _publish(model, place, checked_name, number)
    for label in names:
        try:
            place.set_label(checked_name, published, label)
        except ArtifactError as error:
            raise ArtifactError(
                f"version {published} of {name} was published, but the label {label!r} was not set: {error}"
            ) from error
    return Published(
        name=checked_name,
        version=published,
        location=f"{place.address}/{checked_name}/{published}",
        size_bytes=size_bytes,
        files=tuple(sorted(model.files)),
        warnings=warnings,
    )


def _publish(model: ModelFiles, place: Repository, name: str, number: int | None) -> tuple[int, int]:
    """The number that it got, and the bytes of its files."""
    told = threading.Lock()  # uploads tell from several threads
    with model.progress(f"publishing {name}") as progress:

        def on_bytes(count: int) -> None:
            with told:
                progress.update(count)

        entries = model.measured(on_bytes)
        outgoing = Outgoing(files=model.files, entries=entries, manifest=model.manifest_of(entries))
        return place.publish(name, number, outgoing, on_bytes), outgoing.size_bytes


def retire(repository: str | os.PathLike[str], name: str, version: int | str, *, drop_labels: bool = False) -> None:
    """Take a version out of a repository: its manifest first, then its files.

    Args:
        repository: a folder or `s3://bucket/prefix`.
        name: of the model.
        version: its number; it is not given again by "next".
        drop_labels: take off the labels that mean it, instead of refusing.

    Raises:
        ArtifactError: there is no such version, a label means it, or it is being published.
    """
    _opened(repository).retire(model_name(name), version_number(version), drop_labels=drop_labels)


def set_label(repository: str | os.PathLike[str], name: str, version: int | str, label: str) -> None:
    """Let a label mean a version, instead of the one that it meant.

    Raises:
        ArtifactError: there is no such version, or `labels.json` cannot be read.
    """
    _opened(repository).set_label(model_name(name), version_number(version), label_name(label))


def remove_label(repository: str | os.PathLike[str], name: str, label: str) -> None:
    """Let a label mean nothing any more. Raises `ArtifactError` where the model has no such label."""
    _opened(repository).remove_label(model_name(name), label_name(label))


def list_models(repository: str | os.PathLike[str]) -> tuple[PublishedModel, ...]:
    """Return what a repository holds, by name. Raises `ArtifactError` where there is none."""
    return _opened(repository).models()


def _opened(repository: str | os.PathLike[str]) -> Repository:
    address = repository_address(repository)
    if not isinstance(address, BucketAddress):
        return Folder(address)
    try:
        from .bucket import Bucket  # noqa: PLC0415 - only this needs boto3
    except ModuleNotFoundError as error:
        if error.name not in ("boto3", "botocore", "s3transfer"):
            raise
        raise ArtifactError(f"{repository} needs boto3: pip install boto3") from None
    return Bucket(address)
