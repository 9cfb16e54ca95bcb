"""What `cdk -c key=value` may decide: the stage, and for one command the model and the image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from tidegate.infra import validation
from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.image import ImageUri, PinnedImage, TaggedImage
from tidegate.infra.configuration.model import ApprovedModel, ArchivedModel, Piped
from tidegate.infra.configuration.value import Value
from tidegate.infra.models.remembered_archive import recall
from tidegate.infra.stage import stage_file
from tidegate.infra.stage.stage_errors import shown

# What may be given, and what it looks like.
KEYS = {
    "stage": "dev",
    "model_data_url": "s3://bucket/path/model.tar.gz",
    "image_tag": "1.4.0",
    "image_uri": "host/name:tag",
}
# The CDK's own keys hold one of these (feature flags, look-ups), but for one.
_CDK_MARKS = frozenset(":@/")
_CDK_KEYS = frozenset({"cli-telemetry"})


def choose(context: Mapping[str, object]) -> Stage:
    """The stage that `context` asks for, with its values for this command, checked, and the archive that it serves.

    A key that neither we nor the CDK know is an error: `-c model_url=…` would otherwise deploy another model than
    meant, without a word.
    """
    ours = {key: value for key, value in context.items() if key not in _CDK_KEYS and not set(key) & _CDK_MARKS}
    for key, value in ours.items():
        if key not in KEYS:
            raise ConfigurationError(f"-c {key}={value} is not known; there are: {', '.join(KEYS)}")
        if not isinstance(value, str) or not value:
            raise ConfigurationError(f"-c {key}={value} has no value; write one like -c {key}={KEYS[key]}")
    given = {key: str(value) for key, value in ours.items()}
    path = stage_file.find(given.get("stage", stage_file.DEFAULT_STAGE))
    return recall(override(path, stage_file.read(path), given))


def override(path: Path, stage: Stage, given: Mapping[str, str]) -> Stage:
    """`stage` with the values for one command, checked as a whole."""
    if "image_uri" in given and "image_tag" in given:
        raise ConfigurationError(
            f"-c image_tag={given['image_tag']} and -c image_uri={given['image_uri']} name two images; give one of them"
        )
    changes: dict[str, Value] = {}
    if url := given.get("model_data_url"):
        if isinstance(stage.model, ApprovedModel):
            raise ConfigurationError(
                f"-c model_data_url={url} would take the endpoint from the approved packages of model.group "
                f"{stage.model.group}; register and approve a package instead"
            )
        key = stage.model.archive_key if isinstance(stage.model, ArchivedModel) else None
        kept = stage.model.pipeline if isinstance(stage.model, Piped) else {}
        changes["model"] = _value(
            "model_data_url", ArchivedModel, archive=url, size_gib=stage.model.size_gib, archive_key=key, **kept
        )
    if uri := given.get("image_uri"):
        changes["image"] = _value("image_uri", ImageUri, uri=uri)
    if tag := given.get("image_tag"):
        by_digest = tag.startswith("sha256:")
        changes["image"] = (
            _value("image_tag", PinnedImage, digest=tag) if by_digest else _value("image_tag", TaggedImage, tag=tag)
        )
    stage = stage.model_copy(update=changes)
    with stage_file.blaming(path):
        validation.check(stage)
        _check_where_it_goes(stage)
    return stage


def _check_where_it_goes(stage: Stage) -> None:
    """A stage that does not say its account or its Region goes to those that `cdk` found.

    Without credentials `cdk` names a Region all the same, and no account: then nothing is known.
    """
    if "CDK_DEFAULT_ACCOUNT" not in os.environ:
        return
    found = {
        key: os.environ[f"CDK_DEFAULT_{key.upper()}"]
        for key in ("account", "region")
        if getattr(stage, key) is None and os.environ.get(f"CDK_DEFAULT_{key.upper()}")
    }
    try:
        validation.check(stage.model_copy(update=found))
    except ConfigurationError as error:
        whence = " and ".join(f"{key} {value}" for key, value in found.items())
        those = "are those" if len(found) > 1 else "is that"
        raise ConfigurationError(f"{error} ({whence} {those} of the credentials, as the file names none)") from None


def _value(key: str, kind: type[Value], **fields: Any) -> Value:
    try:
        return TypeAdapter(kind).validate_python(fields)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        raise ConfigurationError(f"-c {key}={shown(found['input'])} is {found['msg']}") from None
