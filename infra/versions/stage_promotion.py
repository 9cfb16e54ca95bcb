"""A package goes from one stage to the next by a change of the stage's file, which people review and keep."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import tomlkit
from tomlkit.items import Table

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.versions.model_versions import Version


def check_shared(source: Stage, account: str, region: str, target: Stage) -> None:
    """Refuse where the account of `target` may not read what lies in that of `source`, or its endpoint is elsewhere.

    `account` and `region` are those of `source`.
    """
    if target.account is not None and target.account != account and target.account not in source.shared_with:
        raise ConfigurationError(
            f"stage {target.name} is in account {target.account}, and stage {source.name} shares with "
            f'{", ".join(source.shared_with) or "none"}; write shared_with = ["{target.account}"] into the file of '
            f"{source.name}, and deploy its storage, registry and models"
        )
    if target.region is not None and target.region != region:
        raise ConfigurationError(
            f"stage {target.name} is in {target.region}, and archive and image are in {region}; SageMaker takes both "
            f"from the Region of the endpoint, so push and register them there"
        )


def lent_key(source: Stage, target: Stage, key_arn: Callable[[], str]) -> str | None:
    """The key that the role of `target` must be let use, beside its own; `key_arn` says that of `source`."""
    if source.encryption.key == "aws" or source.encryption.key == target.encryption.key != "new":
        return None
    return key_arn()


def promoted(text: str, version: Version, *, archive_key: str | None) -> str:
    """The stage file `text` with `version` as its model; comments and everything else stay as they are.

    `archive_key` is the ARN of the key that its archive is under, where the stage has no other right on it.
    `[image]` goes, because a package names its image itself, by digest.
    """
    if "@sha256:" not in version.image_uri:
        raise ConfigurationError(
            f"{version.arn} runs {version.image_uri}, a tag that may move; register the archive anew, by digest"
        )
    document = tomlkit.parse(text)
    model = document.get("model")
    if isinstance(model, Table) and "group" in model:
        raise ConfigurationError(
            f"the stage takes what is approved in its own group {model['group']!r}; register the archive there: "
            f"tidegate models register {version.archive_url} --image {version.image_uri} --stage …"
        )
    if not isinstance(model, Table):
        model = tomlkit.table()
        document["model"] = model
    for key in [key for key in model if key != "size_gib"]:
        del model[key]
    model["package"] = version.arn
    # With these nothing is looked up at synthesis, and whoever reviews the change sees what will run.
    model["package_image"] = version.image_uri
    model["package_archive"] = version.archive_url
    if archive_key is not None:
        model["archive_key"] = archive_key
    if "image" in document:
        del document["image"]
    return tomlkit.dumps(document)


def difference(path: Path, before: str, after: str) -> str:
    """A unified diff of the file, empty where nothing changes."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), fromfile=str(path), tofile=str(path)
    )
    return "".join(lines)
