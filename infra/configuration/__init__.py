"""What a stage decides, as plain values. `validation.check` says whether they can be deployed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.configuration.value import ConfigurationError as ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryImage:
    """An image in the repository that the registry stack makes for the stage, by tag or by `sha256:…` digest."""

    tag_or_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUri:
    """An image anywhere: `host/name:tag` or `host/name@sha256:…`.

    SageMaker pulls from Amazon ECR in the endpoint's own Region; other registries only through a VPC.
    """

    uri: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosting:
    """A real-time endpoint: instances that are always on and answer `invoke_endpoint`."""

    # One L4 GPU with 24 GB; the smallest of the current families that both endpoints and transform jobs accept
    # (g7 and g7e are not in the API's list for transform jobs).
    instance_type: str = "ml.g6.xlarge"
    instance_count: int = 1
    # The host's NVIDIA driver. None lets `instance_types.default_ami` choose the one that fits our image's CUDA.
    inference_ami: str | None = None
    # How long a new instance may take to answer its first ping with 200, and to download and unpack the archive.
    startup_timeout_s: int = 600
    model_download_timeout_s: int = 600
    # On, a container has no network at all, so an archive's code/requirements.txt cannot be installed at start.
    network_isolation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What outlives what."""

    # On, buckets and images stay after `cdk destroy`, and their stacks refuse to be deleted by accident.
    keep_data: bool
    old_versions_days: int = 90
    batch_output_days: int = 90
    access_logs_days: int = 365
    # The newest images that the registry keeps. An image that an endpoint still uses must be among them, or the
    # endpoint cannot start another instance.
    images: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One complete deployment: its own bucket, registry and endpoint. Every physical name begins with `prefix-name`."""

    name: str
    prefix: str = "tidegate"
    # None: the account and Region of whoever runs cdk.
    account: str | None = None
    region: str | None = None
    # Off, stacks carry no assets and deploy with the caller's own rights, so `cdk bootstrap` is not needed.
    bootstrapped: bool = True
    image: RepositoryImage | ImageUri
    # The archive. None: models/model.tar.gz in the stage's own bucket.
    model_data_url: str | None = None
    hosting: Hosting
    retention: Retention
    # Settings of the server by the names of `inference.settings.Settings`, such as {"max_batch_size": 8}.
    server: Mapping[str, Any] = field(default_factory=dict)
    # Further variables of the container, such as {"SAGEMAKER_PROGRAM": "serve.py"}.
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
