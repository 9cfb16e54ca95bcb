"""`[image]`: the container image, named in exactly one way."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from tidegate.infra.configuration.value import Value, like, one_key

DIGEST = r"sha256:[0-9a-f]{64}"
# A tag that moves would let a new instance run another image than its neighbours.
_TAG = r"(?!latest$)[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_URI = rf"[a-z0-9][a-z0-9.-]*(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:{_TAG}|@{DIGEST})"


ImageReference = Annotated[
    str, like(_URI, "not an image that stays; write host/name:version or host/name@sha256:digest")
]


class TaggedImage(Value):
    """An image in the repository that the registry stack makes for the stage, by its tag."""

    tag: Annotated[str, like(_TAG, "not a tag that stays; push and name a version, such as '1.4.0'")]
    """A tag in the stage's own repository. Tags there are immutable, and `latest` is rejected."""


class PinnedImage(Value):
    """An image in that repository, by its digest."""

    digest: Annotated[str, like(DIGEST, "not a digest; write 'sha256:' and its 64 hexadecimal digits")]
    """The same by `sha256:…`."""


class ImageUri(Value):
    """An image anywhere: `host/name:tag` or `host/name@sha256:…`.

    SageMaker pulls from Amazon ECR in the endpoint's own Region; other registries only through a VPC.
    """

    uri: ImageReference
    """`host/name:version` or `host/name@sha256:…`; outside of Amazon ECR only with `[network]`."""


class BuiltImage(Value):
    """An image that `cdk deploy` builds for linux/amd64 and pushes, under the hash of its files."""

    build: str
    """The directory to build from, relative to where `cdk` runs. `cdk deploy` builds for linux/amd64, or for
    linux/arm64 if the instances are Graviton (docker 23 or later with buildx), pushes to the repository of
    `cdk bootstrap`, and names the image by the hash of its files. For Tidegate's image: `build = "."`.
    """
    dockerfile: str = "Dockerfile"
    """Relative to that directory. For Tidegate's image: `container/Dockerfile`."""
    build_args: dict[str, str] = Field(default_factory=dict)
    """Such as `{ ACCELERATOR = "gpu" }`."""
    target: str | None = None
    """The target stage of the Dockerfile."""


Image = Annotated[
    Annotated[TaggedImage, Tag("tag")]
    | Annotated[PinnedImage, Tag("digest")]
    | Annotated[ImageUri, Tag("uri")]
    | Annotated[BuiltImage, Tag("build")],
    Discriminator(
        one_key("tag", "digest", "uri", "build", required=True),
        custom_error_type="one_key",
        custom_error_message="exactly one of tag, digest, uri, build",
    ),
]
