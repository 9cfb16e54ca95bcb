"""Where the container image comes from, and which repository the endpoint's role must read to pull it."""

from __future__ import annotations

import re
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_ecr as ecr

from infra.configuration import ImageUri, RepositoryImage

_ECR_URI = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com[^/]*/(?P<name>[^:@]+)[:@].+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """`uri` as SageMaker wants it. `repository_arn` is None where the image is not in Amazon ECR."""

    uri: str
    repository_arn: str | None


def resolve_image(stack: cdk.Stack, source: RepositoryImage | ImageUri, *, repository_name: str) -> Image:
    """The image that `source` names, as seen from `stack`."""
    if isinstance(source, ImageUri):
        return Image(uri=source.uri, repository_arn=_repository_of(stack, source.uri))
    repository = ecr.Repository.from_repository_name(stack, "Images", repository_name)
    return Image(
        uri=repository.repository_uri_for_tag_or_digest(source.tag_or_digest), repository_arn=repository.repository_arn
    )


def _repository_of(stack: cdk.Stack, uri: str) -> str | None:
    match = _ECR_URI.fullmatch(uri)
    if match is None:
        return None
    return stack.format_arn(
        service="ecr",
        account=match["account"],
        region=match["region"],
        resource="repository",
        resource_name=match["name"],
    )
