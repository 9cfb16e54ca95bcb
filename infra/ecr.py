"""Addresses of images in Amazon ECR, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass

_URI = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com[^/]*/(?P<name>[^:@]+)[:@](?P<reference>.+)"
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
