"""Where the image of a stage goes, and what it must be to run there. Pure: the account and Region come from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import ValidationError

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.image import BuiltImage, ImageUri, PinnedImage, TaggedImage
from tidegate.infra.models.ecr import EcrImage, ecr_host, ecr_image
from tidegate.infra.stage.names import Names, Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The address under which an image is pushed."""

    host: str  # with its port, if it has one
    repository: str
    tag: str
    # The stage's own repository, which its registry stack makes.
    of_stage: bool

    @property
    def address(self) -> str:
        return f"{self.host}/{self.repository}:{self.tag}"

    @property
    def ecr(self) -> EcrImage | None:
        """Its parts, where it is in Amazon ECR."""
        return ecr_image(self.address)

    def pinned(self, digest: str) -> str:
        """The address by digest."""
        return f"{self.host}/{self.repository}@{digest}"

    def line(self, digest: str) -> str:
        """What names the image by its digest in the table [image] of a stage file."""
        return f'digest = "{digest}"' if self.of_stage else f'uri = "{self.pinned(digest)}"'


def destination(stage: Stage, tag: str | None, place: Callable[[], Place]) -> Destination:
    """Where `stage` has its image from. `tag` replaces that of the stage file.

    `place` is asked for the account and Region where the address is made of them. Raises `ConfigurationError` where the
    file does not say which image it is.
    """
    _check_tag(tag)
    match stage.image:
        case BuiltImage(build=build):
            raise ConfigurationError(
                f"{stage.name}.toml: image.build={build!r} is built and pushed by 'cdk deploy'; nothing is left to push"
            )
        case ImageUri(uri=uri):
            return _of_uri(stage, uri, tag)
        case TaggedImage(tag=written):
            return _of_stage(stage, tag or written, place())
        case PinnedImage(digest=digest) if tag is None:
            raise _there_already(stage, f"image.digest={digest!r}")
        case _ if tag is None:
            raise ConfigurationError(f"{stage.name}.toml has no [image], so the image has no tag; give --tag")
        case _:
            return _of_stage(stage, tag, place())


def _check_tag(tag: str | None) -> None:
    try:
        if tag is not None:
            TaggedImage(tag=tag)
    except ValidationError as error:
        raise ConfigurationError(f"--tag={tag!r} is {error.errors(include_url=False)[0]['msg']}") from None


def _of_stage(stage: Stage, tag: str, place: Place) -> Destination:
    repository = Names(prefix=stage.prefix, stage=stage.name).repository
    return Destination(host=ecr_host(place.account, place.region), repository=repository, tag=tag, of_stage=True)


def _of_uri(stage: Stage, uri: str, tag: str | None) -> Destination:
    name, at, _ = uri.partition("@")
    host, _, path = name.partition("/")
    repository, _, written = path.partition(":")
    if tag is None and at:
        raise _there_already(stage, f"image.uri={uri!r}")
    return Destination(host=host, repository=repository, tag=tag or written, of_stage=False)


def _there_already(stage: Stage, key: str) -> ConfigurationError:
    return ConfigurationError(
        f"{stage.name}.toml: {key} names an image that is there already; give --tag for the next one"
    )
