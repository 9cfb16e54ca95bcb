"""Where the container image comes from, and which repository the endpoint's role must read to pull it."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr
from aws_cdk import aws_ecr_assets as ecr_assets
from constructs import Construct

from tidegate.infra.configuration.image import BuiltImage, Image, ImageUri, PinnedImage, TaggedImage
from tidegate.infra.hosting import machines
from tidegate.infra.models.ecr import ecr_image

# A Docker manifest and no OCI one, which SageMaker refuses (infra/image_push/media_types.py has the sources). The CDK's
# command line asks for no attestations by itself. Source: docs.docker.com, image and registry exporters.
DOCKER_OUTPUT = "type=image,oci-mediatypes=false"

_PLATFORMS = {
    machines.AMD64: ecr_assets.Platform.LINUX_AMD64,
    machines.ARM64: ecr_assets.Platform.LINUX_ARM64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedImage:
    """`uri` as SageMaker wants it. `repository_arn` is None where the image is not in Amazon ECR."""

    uri: str
    repository_arn: str | None


def resolve_image(scope: Construct, id_: str, source: Image, *, repository_name: str, platform: str) -> ResolvedImage:
    """The image that `source` names, as seen from the stack of `scope`; one that is built here is for `platform`."""
    match source:
        case ImageUri():
            return ResolvedImage(uri=source.uri, repository_arn=repository_arn(cdk.Stack.of(scope), source.uri))
        case BuiltImage():
            # Of SageMaker's hosts, whatever the machine that builds. The tag is the hash of the files.
            asset = ecr_assets.DockerImageAsset(
                scope,
                id_,
                directory=source.build,
                file=source.dockerfile,
                build_args=source.build_args,
                target=source.target,
                platform=_PLATFORMS[platform],
                outputs=[DOCKER_OUTPUT],
            )
            return ResolvedImage(uri=asset.image_uri, repository_arn=asset.repository.repository_arn)
        case TaggedImage(tag=reference) | PinnedImage(digest=reference):
            repository = ecr.Repository.from_repository_name(scope, id_, repository_name)
            return ResolvedImage(
                uri=repository.repository_uri_for_tag_or_digest(reference), repository_arn=repository.repository_arn
            )


def repository_arn(stack: cdk.Stack, uri: str) -> str | None:
    """What the role must be allowed to pull from; None for an image outside of Amazon ECR."""
    image = ecr_image(uri)
    if image is None:
        return None
    return stack.format_arn(
        service="ecr",
        account=image.account,
        region=image.region,
        resource="repository",
        resource_name=image.name,
    )
