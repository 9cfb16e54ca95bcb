"""Where image and model come from, and which modes can run them."""

from __future__ import annotations

from pathlib import Path

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.hosting import ComponentHosting, Instances, MultiModelHosting, RealtimeHosting
from tidegate.infra.configuration.image import BuiltImage, ImageUri
from tidegate.infra.configuration.model import (
    ApprovedModel,
    DefaultArchive,
    ModelDirectory,
    ModelRepository,
    PackagedModel,
    UncompressedModel,
)
from tidegate.infra.validation.registries import check_registry
from tidegate.infra.validation.sentences import wrong

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
        check_registry(stage, "image.uri", image.uri)
    if isinstance(stage.hosting, RealtimeHosting) and stage.hosting.shadow and stage.hosting.shadow.image_uri:
        check_registry(stage, "hosting.shadow.image_uri", stage.hosting.shadow.image_uri)


def check_model(stage: Stage) -> None:
    """A model that the mode can serve."""
    model, mode = stage.model, stage.hosting.mode
    if isinstance(model, PackagedModel | ApprovedModel):
        _check_variants_of_a_package(stage)
    if isinstance(model, PackagedModel):
        _check_package(stage, model)
    if isinstance(model, ModelRepository):
        _check_repository(stage, model)
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


def _check_repository(stage: Stage, model: ModelRepository) -> None:
    """A container that follows a bucket: it needs a network, processor time between requests, and no other say."""
    key, value, hosting = "model.repository", model.repository, stage.hosting
    if isinstance(hosting, MultiModelHosting):
        why = "a list of models that the server keeps itself, and in mode multi_model SageMaker says which are loaded"
        raise wrong(key, value, f"{why}; write mode = 'realtime', or model.directory = 's3://bucket/path/'")
    if not isinstance(hosting, Instances):
        why = "followed between requests, when a serverless endpoint need not have a container at all"
        raise wrong(key, value, f"{why}; choose mode 'realtime' or 'async', or name one model.archive")
    if hosting.network_isolation:
        raise wrong(
            "hosting.network_isolation",
            True,
            "a container without a network, which cannot read model.repository; remove one of the two",
        )
    if isinstance(hosting, ComponentHosting) and hosting.adapters:
        raise ConfigurationError(
            "[[hosting.adapters]] are of one model, and model.repository has many; name one model.archive, or remove "
            "them"
        )
    for name, archive in _archives_of_variants(stage).items():
        if archive is not None:
            why = "one model beside the many of model.repository, which all variants serve"
            raise wrong(name, archive, f"{why}; leave it out, and publish that model as a version")


def _archives_of_variants(stage: Stage) -> dict[str, str | None]:
    hosting = stage.hosting
    if not isinstance(hosting, RealtimeHosting):
        return {}
    own = {f"hosting.variants[{number}].archive": item.archive for number, item in enumerate(hosting.variants, start=1)}
    if hosting.shadow is not None:
        own["hosting.shadow.archive"] = hosting.shadow.archive
    return own


def _check_package(stage: Stage, model: PackagedModel) -> None:
    """What a package runs is said as a whole, or looked up."""
    if (model.package_image is None) != (model.package_archive is None):
        said, missing = ("package_image", "package_archive")
        if model.package_image is None:
            said, missing = missing, said
        raise ConfigurationError(
            f"model.{missing} is missing, and model.{said} is there; write both, as 'tidegate models promote' "
            "does, or none to have them looked up"
        )
    if model.package_image is None:
        return
    if not model.package.startswith("arn:"):
        raise wrong(
            "model.package",
            model.package,
            "short for an ARN, and with model.package_image nothing is looked up; write the whole ARN",
        )
    check_registry(stage, "model.package_image", model.package_image)


def _check_variants_of_a_package(stage: Stage) -> None:
    """A package brings image and archive together, so there is no image to run another archive in."""
    own, hosting = _archives_of_variants(stage), stage.hosting
    if isinstance(hosting, RealtimeHosting) and hosting.shadow is not None:
        own["hosting.shadow.image_uri"] = hosting.shadow.image_uri
    for key, value in own.items():
        if value is not None:
            why = "apart from the package of [model], which has image and archive in one"
            raise wrong(key, value, f"{why}; name model.archive and [image] instead, or leave it out")
