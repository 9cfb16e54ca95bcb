"""Whether a stage can be deployed, found out before anything is synthesised.

Each check takes the key as the reader knows it (`dev.hosting.instance_type`, `-c image_uri`) and raises
`ConfigurationError` with one sentence that names key, value and way out.
"""

from __future__ import annotations

import re

from inference import settings
from infra import instance_types
from infra.configuration import ConfigurationError, Hosting, ImageUri, RepositoryImage, Retention, Stage

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_IMAGE = re.compile(
    r"[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+"  # host, port, path
    rf"(:{_TAG.pattern}|@{_DIGEST.pattern})"
)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# SageMaker mounts the model, probes port 8080 and marks transform jobs by itself.
_SET_BY_THE_PLATFORM = {"base_dir", "host", "port", "batch_transform"}


def check(stage: Stage) -> None:
    """Raise `ConfigurationError` for the first key of `stage` that cannot be deployed."""
    key = stage.name
    _check_names(stage)
    if stage.account is not None and not re.fullmatch(r"\d{12}", stage.account):
        raise _wrong(f"{key}.account", stage.account, "not an account number; write its 12 digits as a string, or None")
    if stage.region is not None and not re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", stage.region):
        raise _wrong(f"{key}.region", stage.region, "not a Region; write one like 'eu-central-1', or None")
    check_image(f"{key}.image", stage.image)
    if stage.model_data_url is not None:
        check_model_data_url(f"{key}.model_data_url", stage.model_data_url)
    _check_hosting(f"{key}.hosting", stage.hosting)
    _check_retention(f"{key}.retention", stage.retention)
    container_environment(stage)


def check_image(key: str, image: RepositoryImage | ImageUri) -> None:
    """Tags that move are refused: a new instance would run another image than its neighbours."""
    if isinstance(image, ImageUri):
        if not _IMAGE.fullmatch(image.uri):
            raise _wrong(key, image.uri, "not an image; write host/name:tag or host/name@sha256:digest")
        reference = image.uri.rpartition(":")[2]
    else:
        reference = image.tag_or_digest
        if not (_TAG.fullmatch(reference) or _DIGEST.fullmatch(reference)):
            raise _wrong(key, reference, "neither a tag nor a sha256:… digest of the stage's own repository")
    if reference == "latest":
        raise _wrong(key, "latest", "a tag that moves; push and name a version, such as 1.4.0")


def check_model_data_url(key: str, url: str) -> None:
    """SageMaker wants one gzip'ed tar archive in S3."""
    bucket, _, path = url.removeprefix("s3://").partition("/")
    if not url.startswith("s3://") or not _BUCKET.fullmatch(bucket):
        raise _wrong(key, url, "not an S3 address; upload the archive and write s3://bucket/path/model.tar.gz")
    if not path.endswith(".tar.gz"):
        raise _wrong(key, url, "not an archive; write s3://bucket/path/model.tar.gz, made by 'training_hooks pack'")


def container_environment(stage: Stage) -> dict[str, str]:
    """The container's environment: server settings and the stage's own variables.

    At most 100 variables, names and values of at most 1024 characters, 32 KiB in all.
    Source: API reference, ContainerDefinition.Environment.
    """
    key = f"{stage.name}.environment"
    if misplaced := sorted(_SET_BY_THE_PLATFORM & stage.server.keys()):
        raise _wrong(f"{stage.name}.server", misplaced[0], "set by SageMaker itself; remove it")
    try:
        variables = settings.environment(**stage.server)
    except settings.DeploymentError as error:
        raise ConfigurationError(f"{stage.name}.server: {error}") from None
    for name, value in stage.environment.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise _wrong(key, name, "not the name of a variable; use letters, digits and underscores")
        if name in variables:
            raise _wrong(key, name, f"already set by {stage.name}.server; keep one of the two")
        if not isinstance(value, str):
            raise _wrong(f"{key}[{name!r}]", value, "not a string; put it in quotes")
        if len(name) > 1024 or len(value) > 1024:
            raise ConfigurationError(f"{key}[{name!r}] is longer than 1024 characters; put it into the archive instead")
    variables |= stage.environment
    if len(variables) > 100 or sum(len(name) + len(value) for name, value in variables.items()) > 32 * 1024:
        raise ConfigurationError(
            f"{key} has {len(variables)} variables; SageMaker takes 100 and 32 KiB in all: put them into the archive"
        )
    return variables


def _check_names(stage: Stage) -> None:
    # The longest name is the bucket's: prefix-stage-data-<12 digits>-<Region> must fit into 63 characters.
    for key, value, longest in (("name", stage.name, 10), ("prefix", stage.prefix, 16)):
        if not re.fullmatch(r"[a-z]([a-z0-9]|-(?=[a-z0-9]))*", value) or len(value) > longest:
            rule = f"use at most {longest} lower-case letters, digits and single hyphens, beginning with a letter"
            raise _wrong(f"{stage.name}.{key}", value, f"no part of a bucket's name; {rule}")
    for tag, value in stage.tags.items():
        if not tag or len(tag) > 128 or tag.lower().startswith("aws:") or len(value) > 256:
            raise _wrong(
                f"{stage.name}.tags", tag, "refused by AWS; keys have 1 to 128 characters and no 'aws:' prefix"
            )


def _check_hosting(key: str, hosting: Hosting) -> None:
    instance_type = hosting.instance_type
    if instance_type not in instance_types.endpoint_types():
        near = instance_types.suggestions(str(instance_type))
        hint = f"did you mean {' or '.join(near)}?" if near else "one that exists is ml.g6.xlarge"
        raise _wrong(f"{key}.instance_type", instance_type, f"not an instance type of SageMaker endpoints; {hint}")
    if instance_types.has_foreign_accelerator(instance_type):
        raise _wrong(f"{key}.instance_type", instance_type, "without a build of our image; choose a GPU or CPU type")
    if instance_types.is_arm(instance_type):
        raise _wrong(f"{key}.instance_type", instance_type, "ARM, and the image is amd64; choose one like ml.m7i.large")
    _check_ami(key, hosting)
    _check_whole(f"{key}.instance_count", hosting.instance_count, 1, 1000)
    # Ranges of ProductionVariant in the API reference.
    _check_whole(f"{key}.startup_timeout_s", hosting.startup_timeout_s, 60, 3600)
    _check_whole(f"{key}.model_download_timeout_s", hosting.model_download_timeout_s, 60, 3600)


def _check_ami(key: str, hosting: Hosting) -> None:
    ami = hosting.inference_ami
    if ami is None:
        return
    if ami not in instance_types.amis():
        known = ", ".join(instance_types.amis())
        raise _wrong(f"{key}.inference_ami", ami, f"not a host image of SageMaker; there are: {known}")
    if not instance_types.has_gpu(hosting.instance_type):
        raise _wrong(f"{key}.inference_ami", ami, f"for GPU types, and this is {hosting.instance_type}; remove it")


def _check_retention(key: str, retention: Retention) -> None:
    for name in ("old_versions_days", "batch_output_days", "access_logs_days"):
        _check_whole(f"{key}.{name}", getattr(retention, name), 1, 36_500)
    _check_whole(f"{key}.images", retention.images, 2, 10_000)  # the one that runs and the one before


def _check_whole(key: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise _wrong(key, value, f"not a whole number from {low} to {high}")


def _wrong(key: str, value: object, why: str) -> ConfigurationError:
    return ConfigurationError(f"{key}={value!r} is {why}")
