"""Reading back where a model comes from, out of a model directory or a packed archive."""

import json
import os
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .arguments import as_path
from .errors import ArtifactError
from .manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, read_manifest, section


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """What a manifest says of a model's origin; as text, one line for each thing that is known.

    Attributes:
        name: of the model.
        created_at: when it was saved, in ISO 8601.
        frameworks: the versions of Python and torch.
        training_job: its name.
        revision: of git.
        dirty: whether the checkout differed from that revision; None where nobody knows.
        script: the training script, in the checkout.
        data: where the data lies: one location, or locations by name.
        channels: the names of the job's input channels.
        packages: versions of what the script had imported.
        image: the container image.
        others: what the script recorded beside these.
    """

    name: str
    created_at: str
    frameworks: Mapping[str, Any]
    training_job: str | None
    revision: str | None
    dirty: bool | None
    script: str | None
    data: str | Mapping[str, str] | None
    channels: tuple[str, ...]
    packages: Mapping[str, str]
    image: str | None
    others: Mapping[str, Any]

    def __str__(self) -> str:
        data = self.data if self.data is None or isinstance(self.data, str) else _listed(self.data, ": ")
        state = (
            ""
            if self.dirty is False
            else " with changes that were not committed"
            if self.dirty
            else " (perhaps changed)"
        )
        code = None if self.revision is None else f"{self.script or ''} at {self.revision}{state}".strip()
        lines = {
            "model": self.name,
            "saved": self.created_at,
            "with": _listed(self.frameworks, " "),
            "training job": self.training_job,
            "code": code,
            "data": data,
            "channels": ", ".join(self.channels),
            "packages": _listed(self.packages, " "),
            "image": self.image,
            **{name: value if isinstance(value, str) else json.dumps(value) for name, value in self.others.items()},
        }
        return "\n".join(f"{name:<13} {value}" for name, value in lines.items() if value)


def lineage_of(model: str | os.PathLike[str]) -> Lineage:
    """Return where a model comes from.

    Args:
        model: a model directory, or a `model.tar.gz`.

    Raises:
        ArtifactError: there is no manifest in it, or none of ours.
    """
    path = as_path(model, "model")
    manifest = read_manifest(path) if path.is_dir() else _packed_manifest(path)
    origin = dict(section(manifest, "lineage"))
    git = section(origin, "git")
    data, channels, packages = origin.get("data"), origin.get("channels"), section(origin, "packages")
    known = ("training_job", "git", "data", "channels", "packages", "image")
    return Lineage(
        name=str(manifest.get("name", "")),
        created_at=str(manifest.get("created_at", "")),
        frameworks=section(manifest, "frameworks"),
        training_job=_text(origin.get("training_job")),
        revision=_text(git.get("revision")),
        dirty=git["dirty"] if isinstance(git.get("dirty"), bool) else None,
        script=_text(git.get("script")),
        data={str(name): str(place) for name, place in data.items()} if isinstance(data, dict) else _text(data),
        channels=tuple(map(str, channels)) if isinstance(channels, list) else (),
        packages={str(name): str(version) for name, version in packages.items()},
        image=_text(origin.get("image")),
        others={name: value for name, value in origin.items() if name not in known},
    )


def _packed_manifest(archive: Path) -> Mapping[str, Any]:
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and member.name.removeprefix("./") == MANIFEST_NAME:
                    file = tar.extractfile(member)
                    if file is None or member.size > MAX_MANIFEST_BYTES:
                        break
                    manifest = json.loads(file.read())
                    return manifest if isinstance(manifest, dict) else {}
    except FileNotFoundError:
        raise ArtifactError(f"{archive} is not there; give a model directory or a model.tar.gz") from None
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())  # tarfile has a line for each compression
        raise ArtifactError(f"{archive} cannot be read as an archive with a manifest: {reason}") from None
    raise ArtifactError(f"{archive} has no {MANIFEST_NAME}")


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _listed(values: Mapping[str, Any], between: str) -> str:
    return ", ".join(f"{name}{between}{value}" for name, value in values.items())
