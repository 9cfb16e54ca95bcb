"""`[model]`: what the endpoint serves, named in at most one way."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from tidegate.infra.configuration.image import ImageReference
from tidegate.infra.configuration.value import (
    BUCKET,
    KEY_ARN,
    LISTED,
    Archive,
    S3Place,
    S3Prefix,
    Value,
    like,
    number,
    one_key,
)

# Source: API reference, ModelPackageGroupName, TrainingJobName.
ENTITY = r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"
PACKAGE_ARN = rf"arn:aws[a-z-]*:sagemaker:[a-z0-9-]+:\d{{12}}:model-package/{ENTITY}/\d+"


class _Sized(Value):
    size_gib: Annotated[float, number(0.001, 500)] | None = None
    """The unpacked size of the model; of a `directory`, that of the largest model; of a `repository`, the sum of the
    models loaded at start. Timeouts and volumes are derived from it.
    """


class Container(Value):
    """One container of a pipeline. What it does not name is as in `[image]`.

    One that names neither image nor archive is the stage's own: `[image]` and `[model]`.
    """

    name: Annotated[
        str, like(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", "not a container's name; use letters, digits and single hyphens")
    ]
    """The name in logs and metrics, by which requests select the container if `invocation` is `direct`. One table has
    only this key: it is the stage's own container, with `[image]`, `[model]`, `[server]` and `[environment]`.
    """
    image_uri: ImageReference | None = None
    """The default is `[image]`."""
    archive: Archive | None = None
    """`s3://bucket/path/model.tar.gz`; not required for an image of its own."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the container."""

    @property
    def is_own(self) -> bool:
        """Whether it is the one that `[image]` and `[model]` describe."""
        return self.image_uri is None and self.archive is None


class Piped(_Sized):
    containers: Annotated[tuple[Container, ...], LISTED] = ()
    """Tables `[[model.containers]]`, 2 to 15, for mode `realtime`: [a pipeline](hosting.md#several-containers)."""
    invocation: Literal["serial", "direct"] = "serial"
    """`serial`: a request passes all containers in order. `direct`: the request selects a container by name."""

    @property
    def pipeline(self) -> dict[str, Any]:
        """These keys, for another archive in the same place."""
        return {"containers": self.containers, "invocation": self.invocation}


class DefaultArchive(Piped):
    """`models/model.tar.gz` in the stage's own bucket, with a warning at synthesis."""


_ArchiveKey = Annotated[str, like(KEY_ARN, "not a key; write the ARN of a KMS key (not of an alias)")]


class ArchivedModel(Piped):
    """A gzip'ed tar archive."""

    archive: Archive
    """`s3://bucket/path/model.tar.gz`."""
    archive_key: _ArchiveKey | None = None
    """The ARN of the KMS key that encrypts the archive, if it is neither S3's own key nor the stage's."""


class UncompressedModel(Piped):
    """Objects below a prefix, which become the files of the model's directory."""

    prefix: S3Prefix
    """`s3://bucket/path/` with unpacked files; not for `serverless`, `multi_model` and batch."""


class TrainedModel(Piped):
    """What a training job left; its archive's address is read from the account at synthesis."""

    training_job: Annotated[str, like(ENTITY, "not the name of a training job; `aws sagemaker list-training-jobs`")]
    """The archive of a completed training job, looked up in the account at synthesis."""


class PackagedModel(_Sized):
    """One version of the model registry: the package's ARN, or `group/version` of the stage's own account.

    With `package_image` and `package_archive`, which `models promote` writes, synthesis needs no account: the role's
    rights follow from them. Without them both are looked up.
    """

    package: Annotated[
        str, like(rf"{PACKAGE_ARN}|{ENTITY}/[1-9]\d*", "not a model package; write its ARN or 'group/version'")
    ]
    """An approved version in a model registry, `group/version` or its ARN, looked up at synthesis. It names its image,
    so omit `[image]`.
    """
    package_image: ImageReference | None = None
    """The image of that package, if the package is given by its ARN. With image and archive nothing is looked up, so a
    pipeline can synthesise without an account. `models promote` writes both.
    """
    package_archive: (
        Annotated[
            str,
            like(rf"s3://{BUCKET}/\S+(\.tar\.gz|/)", "not what a package runs; write s3://bucket/path/model.tar.gz"),
        ]
        | None
    ) = None
    """The archive of that package, if the package is given by its ARN."""
    archive_key: _ArchiveKey | None = None
    """The ARN of the KMS key that encrypts the archive, if it is neither S3's own key nor the stage's."""


class ApprovedModel(_Sized):
    """Whatever version of the group was approved last: the parameter `ModelPackageArn` of the endpoint's stack."""

    group: Annotated[str, like(ENTITY, "not a model package group; use letters, digits and single hyphens")]
    """The version approved last in that group: the stack's parameter `ModelPackageArn`, see
    [promotion.md](promotion.md).
    """


class ModelDirectory(_Sized):
    """Archives below a prefix, each a target model of a multi-model endpoint. `size_gib` is that of the largest."""

    directory: S3Prefix
    """`s3://bucket/path/` with archives, for `multi_model`."""


class ModelRepository(Piped):
    """Many models in versions, which the server itself lists, fetches, loads, replaces and evicts while it runs.

    How often and how many at one time is said in `[server]`, by the settings of the server. `size_gib` is that of all
    models that are loaded at the start.
    """

    repository: S3Place
    """`s3://bucket/prefix` of many models in versions, which the server watches while it runs:
    [hosting.md](hosting.md#many-models-in-a-repository).
    """
    repository_key: Annotated[str, like(KEY_ARN, "not a key; write the ARN of a KMS key (not of an alias)")] | None = (
        None
    )
    """The ARN of the KMS key of that bucket, if it is neither S3's own key nor the stage's."""

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.repository.removeprefix("s3://").partition("/")[0]

    @property
    def prefix(self) -> str:
        """With a slash at its end; empty for a whole bucket."""
        path = self.repository.removeprefix("s3://").partition("/")[2].strip("/")
        return f"{path}/" if path else ""


Model = Annotated[
    Annotated[DefaultArchive, Tag("")]
    | Annotated[ArchivedModel, Tag("archive")]
    | Annotated[UncompressedModel, Tag("prefix")]
    | Annotated[TrainedModel, Tag("training_job")]
    | Annotated[PackagedModel, Tag("package")]
    | Annotated[ApprovedModel, Tag("group")]
    | Annotated[ModelDirectory, Tag("directory")]
    | Annotated[ModelRepository, Tag("repository")],
    Discriminator(
        one_key("archive", "prefix", "training_job", "package", "group", "directory", "repository", required=False),
        custom_error_type="one_key",
        custom_error_message="at most one of archive, prefix, training_job, package, group, directory, repository",
    ),
]
