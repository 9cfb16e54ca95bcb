"""Addresses of images in Amazon ECR, taken apart and put together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tidegate.infra.configuration.image import Image, ImageUri, PinnedImage, TaggedImage

_URI = re.compile(
    r"(?P<account>[0-9]{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com[^/]*/(?P<name>[^:@]+)[:@](?P<reference>.+)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EcrImage:
    """An image in a repository of Amazon ECR. `reference` is a tag, or a digest."""

    account: str
    region: str
    name: str
    reference: str


def ecr_image(uri: str) -> EcrImage | None:
    """The parts of the address of an image in Amazon ECR; None for any other registry."""
    match = _URI.fullmatch(uri)
    return match and EcrImage(**match.groupdict())


def ecr_host(account: str, region: str) -> str:
    """The host of an account's registry. Source: Amazon ECR user guide, private registries."""
    return f"{account}.dkr.ecr.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def address_of(image: Image | None, account: str, region: str, repository: str) -> str | None:
    """The address of a stage's image, whose own `repository` is in that account; None where `cdk deploy` builds it."""
    match image:
        case TaggedImage(tag=tag):
            return f"{ecr_host(account, region)}/{repository}:{tag}"
        case PinnedImage(digest=digest):
            return f"{ecr_host(account, region)}/{repository}@{digest}"
        case ImageUri(uri=uri):
            return uri
        case _:
            return None
