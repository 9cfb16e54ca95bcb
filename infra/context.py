"""What `cdk -c key=value` may decide: the stage, and for one command the model and the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from infra import validation
from infra.configuration import ConfigurationError, ImageUri, RepositoryImage, Stage

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


def choose(stages: Mapping[str, Stage], default: str, context: Mapping[str, object]) -> Stage:
    """The stage that `context` asks for, with its values for this command, checked.

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
    name = given.get("stage", default)
    if name not in stages:
        raise ConfigurationError(f"-c stage={name} does not exist; infra/stages.py has: {', '.join(stages)}")
    stage = _override(stages[name], given)
    validation.check(stage)
    return stage


def _override(stage: Stage, given: Mapping[str, str]) -> Stage:
    if "image_uri" in given and "image_tag" in given:
        raise ConfigurationError(
            f"-c image_tag={given['image_tag']} and -c image_uri={given['image_uri']} name two images; give one of them"
        )
    if url := given.get("model_data_url"):
        validation.check_model_data_url("-c model_data_url", url)
        stage = replace(stage, model_data_url=url)
    if uri := given.get("image_uri"):
        validation.check_image("-c image_uri", ImageUri(uri=uri))
        stage = replace(stage, image=ImageUri(uri=uri))
    if tag := given.get("image_tag"):
        validation.check_image("-c image_tag", RepositoryImage(tag_or_digest=tag))
        stage = replace(stage, image=RepositoryImage(tag_or_digest=tag))
    return stage
