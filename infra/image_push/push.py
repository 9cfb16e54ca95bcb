"""The push itself: each thing that would be found out too late, when SageMaker pulls, is found out here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.image_push.destination import Destination
from tidegate.infra.image_push.media_types import DOCKER_MANIFEST, unfit
from tidegate.infra.image_push.registries import Registry

_PUSH_TIMEOUT_S = 7200.0
# What makes a Docker manifest of any Dockerfile; container/engine.py says why.
_BUILD = "docker build --provenance=false --sbom=false --output type=image,oci-mediatypes=false"


class Docker(Protocol):
    """What is asked of container.engine.Engine, whose errors are `Exception`s that hold what docker said."""

    def run(self, *words: str, timeout_s: float = ..., standard_input: str | None = ...) -> str:
        """What `docker WORDS…` prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalImage:
    """An image of this machine, by what `docker image inspect` says of it."""

    name: str
    platform: str  # linux/amd64
    # None where the daemon keeps images in a store of its own, which is always pushed as a Docker manifest.
    media_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """An image in a registry."""

    destination: Destination
    digest: str
    media_type: str
    platform: str


def push(
    docker: Docker, registry: Registry, destination: Destination, *, platform: str, make: Callable[[], str]
) -> Pushed:
    """Push the image that `make` builds, or knows, by its name on this machine.

    `make` is called once it is sure that the tag is free. Raises `ConfigurationError`, and what `docker` and `make` do.
    """
    check_free(registry, destination)
    name = make()
    check_local(inspected(name, docker.run("image", "inspect", name)), platform)
    login = registry.login()
    if login is not None:
        docker.run(
            "login", "--username", login.user, "--password-stdin", destination.host, standard_input=login.password
        )
    docker.run("tag", name, destination.address)
    try:
        docker.run("push", destination.address, timeout_s=_PUSH_TIMEOUT_S)
    finally:
        if name != destination.address:
            docker.run("image", "rm", destination.address)
    found = registry.manifest()
    if found is None:
        raise ConfigurationError(
            f"{destination.host} does not know {destination.address}, which was just pushed; push it again"
        )
    if (kind := unfit(found.media_type)) is not None:
        raise ConfigurationError(
            f"{destination.address} is in the registry as {kind}, which SageMaker refuses; build it by '{_BUILD}', and "
            "push it under another tag"
        )
    return Pushed(destination=destination, digest=found.digest, media_type=found.media_type, platform=platform)


def check_free(registry: Registry, destination: Destination) -> None:
    """Refuse a tag that names an image already: an instance that starts later would run another than its neighbours.

    The stage's own repository would refuse it too, after the layers are up.
    """
    there = registry.manifest()
    if there is None:
        return
    kind = unfit(there.media_type)
    fit = "" if kind is None else f", {kind}, which SageMaker refuses"
    raise ConfigurationError(
        f"{destination.address} is there already, {there.digest}{fit}; give the next one by --tag, or deploy that one "
        f"by {destination.line(there.digest)}"
    )


def inspected(name: str, answer: str) -> LocalImage:
    """What `docker image inspect` answered."""
    (image,) = json.loads(answer)
    return LocalImage(
        name=name,
        platform=f"{image['Os']}/{image['Architecture']}",
        media_type=(image.get("Descriptor") or {}).get("mediaType"),
    )


def check_local(image: LocalImage, platform: str) -> None:
    """Refuse before the push what SageMaker would refuse after it."""
    # An index has no platform of its own, so its kind comes first.
    kind = unfit(image.media_type or DOCKER_MANIFEST)
    if kind is not None:
        raise ConfigurationError(
            f"{image.name} is {kind}, which SageMaker refuses; build it anew by '{_BUILD} --platform {platform}'"
        )
    if image.platform != platform:
        raise ConfigurationError(
            f"{image.name} is for {image.platform}, and the stage's instances are {platform}; build it with "
            f"--platform {platform}"
        )
