"""Where image and model come from, and which modes can run them."""

from __future__ import annotations

from pathlib import Path

from infra.configuration import ConfigurationError, Stage
from infra.configuration.hosting import MultiModelHosting
from infra.configuration.image import BuiltImage, ImageUri
from infra.configuration.model import (
    ApprovedModel,
    DefaultArchive,
    ModelDirectory,
    PackagedModel,
    UncompressedModel,
)
from infra.image import ecr_repository
from infra.validation.sentences import wrong

# Source: SageMaker guide, serverless endpoints: 5 GB of disk for the model and all else.
SERVERLESS_DISK_GIB = 5


def check_image(stage: Stage) -> None:
    """An image that SageMaker can pull, and one that can be built."""
    image = stage.image
    if image is None and not isinstance(stage.model, PackagedModel | ApprovedModel):
        raise ConfigurationError("image is missing; write the table [image] with a tag, a digest, a uri or build")
    if image is not None and isinstance(stage.model, PackagedModel):
        raise ConfigurationError(
            "[image] does not go with model.package, which names its image itself; remove one of the two"
        )
    if isinstance(image, BuiltImage):
        if not stage.bootstrapped:
            raise wrong(
                "image.build", image.build, "an asset, and bootstrapped = false allows none; write true, or a uri"
            )
        if not Path(image.build).is_dir():
            raise wrong("image.build", image.build, "no directory; give its path from where cdk is run")
        if not (Path(image.build) / image.dockerfile).is_file():
            why = f"not a file in {image.build}; give its path from there, such as 'container/Dockerfile'"
            raise wrong("image.dockerfile", image.dockerfile, why)
    if isinstance(image, ImageUri):
        repository = ecr_repository(image.uri)
        if repository is None and stage.network is None:
            raise wrong(
                "image.uri",
                image.uri,
                "not in Amazon ECR, and SageMaker reaches other registries through a VPC only; push it to ECR, or "
                "write [network]",
            )
        if repository is not None and stage.region is not None and repository.region != stage.region:
            raise wrong(
                "image.uri",
                image.uri,
                f"in Region {repository.region}, and the stage in {stage.region}; SageMaker pulls from its own Region "
                "only, so push it there",
            )


def check_model(stage: Stage) -> None:
    """A model that the mode can serve."""
    model, mode = stage.model, stage.hosting.mode
    if isinstance(model, ModelDirectory) and mode != "multi_model":
        raise wrong(
            "model.directory", model.directory, f"for mode multi_model, and the mode is {mode}; name one model.archive"
        )
    if isinstance(stage.hosting, MultiModelHosting) and not isinstance(model, ModelDirectory | DefaultArchive):
        raise ConfigurationError(
            "hosting.mode='multi_model' serves archives below a prefix; write model.directory = 's3://bucket/path/', "
            "or leave [model] out for models/ in the stage's bucket"
        )
    if isinstance(model, UncompressedModel):
        if mode == "serverless":
            raise wrong(
                "model.prefix", model.prefix, "refused by serverless endpoints; pack it and write model.archive"
            )
        if stage.batch is not None:
            raise wrong(
                "model.prefix", model.prefix, "refused by transform jobs; write model.archive, or remove [batch]"
            )
    if mode == "serverless" and model.size_gib is not None and model.size_gib > SERVERLESS_DISK_GIB:
        raise wrong(
            "model.size_gib",
            model.size_gib,
            f"more than the {SERVERLESS_DISK_GIB} GB of disk of a serverless endpoint; choose another hosting.mode",
        )
