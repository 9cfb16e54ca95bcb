"""What a registry holds, and how docker logs in there. Amazon ECR is asked through its API, others over HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.image_push.destination import Destination
from tidegate.infra.image_push.media_types import ACCEPTED
from tidegate.infra.loopback import is_loopback

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a tag of a registry names."""

    media_type: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfiguration:
    """What an image says of itself. `platform` is as docker writes it: `linux/amd64`."""

    platform: str
    labels: Mapping[str, str]


def configuration(document: bytes) -> ImageConfiguration:
    """Of the object that a manifest names as its `config`. Source: OCI image specification, image configuration."""
    found = json.loads(document)
    return ImageConfiguration(
        platform=f"{found['os']}/{found['architecture']}", labels=found.get("config", {}).get("Labels") or {}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """For `docker login`."""

    user: str
    password: str


class Registry(Protocol):
    """A registry, as seen by one who pushes one image."""

    def login(self) -> Login | None:
        """How docker logs in; None where docker's own configuration is what counts."""

    def manifest(self) -> Manifest | None:
        """What the destination's tag names; None where it names nothing yet. Raises `ConfigurationError`."""


def registry_of(destination: Destination, deploy: str) -> Registry:
    """The registry of `destination`; `deploy` is the command that makes the stage's repository."""
    ecr = destination.ecr
    if ecr is None:
        return HttpRegistry(destination)
    config = Config(connect_timeout=5, read_timeout=_TIMEOUT_S, retries={"max_attempts": 2})
    try:
        client = boto3.client("ecr", region_name=ecr.region, config=config)
    except BotoCoreError as error:
        raise ConfigurationError(f"{destination.host}: {str(error).rstrip('.')}; set AWS_PROFILE") from None
    return AmazonEcr(client, destination, account=ecr.account, deploy=deploy)


class AmazonEcr:
    """A repository of Amazon ECR, asked with the caller's rights."""

    def __init__(self, client: Any, destination: Destination, *, account: str, deploy: str) -> None:
        self._client = client
        self._destination = destination
        self._account = account
        self._deploy = deploy

    def login(self) -> Login:
        """Good for twelve hours. Source: Amazon ECR API reference, GetAuthorizationToken."""
        with self._asked():
            (data,) = self._client.get_authorization_token()["authorizationData"]
        user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        return Login(user=user, password=password)

    def manifest(self) -> Manifest | None:
        place = self._destination
        with self._asked():
            try:
                (found,) = self._client.describe_images(
                    registryId=self._account,
                    repositoryName=place.repository,
                    imageIds=[{"imageTag": place.tag}],
                )["imageDetails"]
            except self._client.exceptions.ImageNotFoundException:
                return None
        return Manifest(media_type=found.get("imageManifestMediaType", ""), digest=found["imageDigest"])

    @contextmanager
    def _asked(self) -> Iterator[None]:
        host, repository = self._destination.host, self._destination.repository
        try:
            yield
        except ClientError as error:
            code, message = error.response["Error"]["Code"], error.response["Error"]["Message"].rstrip(".")
            if code == "RepositoryNotFoundException":
                way_out = f"make it by '{self._deploy}'" if self._destination.of_stage else "make it, or name another"
                raise ConfigurationError(f"{host} has no repository {repository}; {way_out}") from None
            raise ConfigurationError(f"{host}/{repository}: AWS says '{message}'") from None
        except BotoCoreError as error:
            reason = str(error).rstrip(".")
            raise ConfigurationError(f"{host}/{repository}: {reason}; set AWS_PROFILE and AWS_REGION") from None


class HttpRegistry:
    """Any other registry, which docker knows how to log in to; asked without credentials.

    Over plain HTTP on this machine, as docker does; else over HTTPS.
    """

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        on_this_machine = is_loopback(destination.host)
        handlers = [urllib.request.ProxyHandler({})] if on_this_machine else []
        self._open = urllib.request.build_opener(*handlers).open
        self._scheme = "http" if on_this_machine else "https"

    def login(self) -> None:
        return None

    def manifest(self) -> Manifest | None:
        found = self._get("manifests", self._destination.tag)
        if found is None:
            return None
        content, named = found
        media_type = named if named in ACCEPTED else str(json.loads(content).get("mediaType", named))
        return Manifest(media_type=media_type, digest=f"sha256:{hashlib.sha256(content).hexdigest()}")

    def configuration(self) -> ImageConfiguration | None:
        """Of the image that the tag names. Raises `ConfigurationError`."""
        manifest = self._get("manifests", self._destination.tag)
        blob = manifest and self._get("blobs", json.loads(manifest[0])["config"]["digest"])
        return None if blob is None else configuration(blob[0])

    def _get(self, kind: str, reference: str) -> tuple[bytes, str] | None:
        """A manifest or a blob, and its media type."""
        place = self._destination
        address = f"{self._scheme}://{place.host}/v2/{place.repository}/{kind}/{reference}"
        request = urllib.request.Request(address, headers={"Accept": ", ".join(ACCEPTED)})  # noqa: S310 - HTTP(S) by construction
        try:
            with self._open(request, timeout=_TIMEOUT_S) as answer:
                return answer.read(), answer.headers.get_content_type()
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 404:
                return None
            raise ConfigurationError(
                f"{place.host} answers {error.code} to a request for {place.repository}:{place.tag}; look at the image "
                f"by 'docker manifest inspect --verbose {place.address}'"
            ) from None
        except OSError as error:  # urllib's own are among them
            reason = getattr(error, "reason", error)
            raise ConfigurationError(f"the registry {place.host} does not answer: {reason}; is it up?") from None
