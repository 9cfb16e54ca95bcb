"""What an endpoint needs besides its own keys, whatever its mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import aws_cdk as cdk


class ServedModel(Protocol):
    """A SageMaker model: `infra.model.Model`."""

    @property
    def name(self) -> str:
        """Its name; a token where CloudFormation chooses it."""

    @property
    def resource(self) -> cdk.CfnResource:
        """What must exist before an endpoint names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where and with what an endpoint runs. Texts may be tokens."""

    endpoint_name: str
    model: ServedModel
    # What variants and the shadow run that have an archive or an image of their own, by the name of the variant.
    variant_models: Mapping[str, ServedModel] = field(default_factory=dict)
    role_arn: str
    # The stage's own bucket.
    bucket: str
    # Encrypts volumes, captured requests and results; None leaves it to keys that AWS owns.
    key_arn: str | None = None
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()
    # Changes with the network, where its ids are tokens, which look the same when the network is another.
    network_content: Any = None
    # Hears when a new version is sent back.
    alarm_topic_arn: str | None = None

    def model_of(self, variant: str) -> ServedModel:
        """What the variant of that name runs."""
        return self.variant_models.get(variant, self.model)

    def below(self, prefix: str) -> str:
        """A place in the stage's own bucket."""
        return f"s3://{self.bucket}/{prefix}"


def wait_for(resource: cdk.CfnResource, earlier: cdk.CfnResource, *, name: str) -> None:
    """Tell CloudFormation that `resource` needs `earlier`, which it calls by `name`.

    A literal name tells it nothing; a reference says it already.
    """
    if not cdk.Token.is_unresolved(name):
        resource.add_resource_dependency(earlier)
