"""What a container serves, and what the role must read for it."""

from __future__ import annotations

from dataclasses import dataclass

from tidegate.infra.configuration.model import (
    ApprovedModel,
    ArchivedModel,
    DefaultArchive,
    Model,
    ModelDirectory,
    ModelRepository,
    PackagedModel,
    TrainedModel,
    UncompressedModel,
)
from tidegate.infra.models import account
from tidegate.infra.stage.names import MODELS_PREFIX


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """At most one of the first three is there, each as SageMaker wants it.

    None of them where the container fetches its models by itself.
    """

    # A gzip'ed tar archive, or the prefix of many for a multi-model endpoint.
    data_url: str | None = None
    # Uncompressed files below a prefix.
    files_url: str | None = None
    # The ARN of a model package, which names its image itself; may be a token.
    package_arn: str | None = None
    # What the role reads: `bucket/key`, or `bucket/prefix/*`.
    reads: tuple[str, ...] = ()
    # The prefix below which the role lists, where it may list no more of the bucket; empty for a whole bucket.
    lists: str | None = None
    # The image of the package, where that is known at synthesis.
    package_image_uri: str | None = None


def of_archive(url: str) -> ModelSource:
    """One archive."""
    return ModelSource(data_url=url, reads=(url.removeprefix("s3://"),))


def resolve(
    model: Model, *, bucket: str, region: str | None, multi_model: bool, approved_arn: str | None
) -> ModelSource:
    """The source that `model` names. `bucket` is the stage's own, `approved_arn` the parameter of a group's package."""
    match model:
        case DefaultArchive() if multi_model:
            return ModelSource(data_url=f"s3://{bucket}/{MODELS_PREFIX}")
        case DefaultArchive():
            return ModelSource(data_url=f"s3://{bucket}/{MODELS_PREFIX}model.tar.gz")
        case ArchivedModel(archive=url):
            return of_archive(url)
        case TrainedModel(training_job=job):
            return of_archive(account.archive_of_training_job(job, region))
        case UncompressedModel(prefix=url):
            return ModelSource(files_url=url, reads=(f"{url.removeprefix('s3://')}*",))
        case ModelDirectory(directory=url):
            return ModelSource(data_url=url, reads=(f"{url.removeprefix('s3://')}*",))
        case ModelRepository():  # the container has its address as a variable
            return ModelSource(reads=(f"{model.bucket}/{model.prefix}*",), lists=model.prefix)
        case PackagedModel():
            package = _package(model, region)
            path = package.model_url.removeprefix("s3://")
            return ModelSource(
                package_arn=package.arn,
                reads=(f"{path}*" if path.endswith("/") else path,),
                package_image_uri=package.image_uri,
            )
        case ApprovedModel():
            # Its archive lies below models/ of the stage's own bucket, as docs/promotion.md says.
            return ModelSource(package_arn=approved_arn)


def _package(model: PackagedModel, region: str | None) -> account.Package:
    """By the stage file's own word where it says everything, so that a pipeline synthesises without an account."""
    if model.package_image is None or model.package_archive is None:
        return account.package(model.package, region)
    return account.Package(arn=model.package, image_uri=model.package_image, model_url=model.package_archive)
