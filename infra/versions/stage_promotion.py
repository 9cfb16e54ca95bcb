"""A package goes from one stage to the next by a change of the stage's file, which people review and keep."""

from __future__ import annotations

import difflib
from pathlib import Path

import tomlkit
from tomlkit.items import Table

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.versions.model_versions import Version


def check_keys(source: Stage, target: Stage) -> None:
    """Refuse where the role of `target` may not read what lies in the bucket of `source`, under a key of that stage."""
    key = source.encryption.key
    if key == "aws" or (key != "new" and key == target.encryption.key):
        return
    raise ConfigurationError(
        f"the archive of stage {source.name} is under that stage's key, which stage {target.name} may not use; give "
        f"{target.name} a model.group of its own and register the archive there"
    )


def promoted(text: str, version: Version) -> str:
    """The stage file `text` with `version` as its model; comments and everything else stay as they are.

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
            f"python -m infra models register {version.archive_url} --image {version.image_uri} --stage …"
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
    if "image" in document:
        del document["image"]
    return tomlkit.dumps(document)


def difference(path: Path, before: str, after: str) -> str:
    """A unified diff of the file, empty where nothing changes."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), fromfile=str(path), tofile=str(path)
    )
    return "".join(lines)
