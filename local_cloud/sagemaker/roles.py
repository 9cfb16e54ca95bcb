"""As whom SageMaker, and what it runs, calls the rest of the cloud: as itself, or in the role that it was passed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from tidegate.local_cloud.sagemaker.errors import validation_exception
from tidegate.local_cloud.sagemaker.state import Model

_ECR = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/(?P<repository>[^:@]+)"
)
# "CreateModel API: Execution Role Permissions" (sagemaker-roles): what an image of ECR needs of the role.
_PULLS = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


class RoleNotAssumed(Exception):
    """SageMaker cannot take on the role: there is none of that ARN, or its trust policy does not let it."""

    def __init__(self, role_arn: str) -> None:
        super().__init__(
            f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal"
            " 'sagemaker.amazonaws.com' to assume the role."
        )


class NoRole(RoleNotAssumed):
    """SageMaker was passed no role, and so has none in which it could do ``what``.

    What AWS answers is not documented; ``ExecutionRoleArn`` of CreateModel is optional, and is "the IAM role that
    SageMaker can assume to access model artifacts and docker image" (API reference).
    """

    def __init__(self, what: str) -> None:
        Exception.__init__(
            self,
            f"No role was passed to SageMaker in which it could {what}: the model has no ExecutionRoleArn. Name one in"
            " CreateModel.",
        )


class Roles(Protocol):
    """Where rights are checked, each role has a session of its own; else all calls are the cloud's own."""

    def own_client(self, service: str) -> Any:
        """A boto3 client that calls as the cloud itself, and is not checked."""

    def client(self, service: str, role_arn: str | None) -> Any:
        """A boto3 client that calls in the role. Raises :class:`RoleNotAssumed`, where there is no role too."""

    def environment(self, role_arn: str | None) -> Mapping[str, str]:
        """What leads to the credentials of what runs in the role. Raises :class:`RoleNotAssumed`."""

    def credentials(self, token: str) -> Mapping[str, str] | None:
        """The credentials to which :meth:`environment` led, with its token; None for a token that nobody was given."""

    def demand(self, role_arn: str | None) -> None:
        """Raises :class:`RoleNotAssumed` for a role that cannot be taken on."""

    def denial(self, role_arn: str | None, action: str, resource: str) -> str | None:
        """Why the role may not do this, in AWS's sentence; None where it may. Raises :class:`RoleNotAssumed`."""


@dataclass(frozen=True, slots=True)
class UncheckedRoles:
    """Rights are not checked: every role may do everything, whether it exists or not. ``make`` makes a client."""

    make: Callable[[str], Any]

    def own_client(self, service: str) -> Any:
        return self.make(service)

    def client(self, service: str, role_arn: str | None) -> Any:  # noqa: ARG002 - whoever it is
        return self.make(service)

    def environment(self, role_arn: str | None) -> Mapping[str, str]:  # noqa: ARG002
        return {}

    def credentials(self, token: str) -> Mapping[str, str] | None:  # noqa: ARG002
        return None

    def demand(self, role_arn: str | None) -> None:
        pass

    def denial(self, role_arn: str | None, action: str, resource: str) -> str | None:  # noqa: ARG002
        return None


def demand_role(roles: Roles, role_arn: str | None) -> None:
    """Raises the ValidationException of a request that passes a role which SageMaker cannot take on.

    Its sentence is the service's own: https://github.com/awslabs/predictive-maintenance-using-machine-learning/issues/3
    """
    try:
        roles.demand(role_arn)
    except RoleNotAssumed as error:
        raise validation_exception(str(error)) from error


def demand_execution_role(roles: Roles, role_arn: str | None) -> None:
    """The same of CreateModel and CreateEndpointConfig, which say it in other words.

    Source: https://github.com/bentoml/BentoML/issues/892.
    """
    try:
        roles.demand(role_arn)
    except RoleNotAssumed as error:
        raise validation_exception(
            f'The execution role ARN "{role_arn}" is invalid. Please ensure that the role exists and that its trust'
            ' relationship policy allows the action "sts:AssumeRole" for the service principal'
            ' "sagemaker.amazonaws.com".'
        ) from error


def refused_image(roles: Roles, role_arn: str | None, image: str) -> str | None:
    """Why the role cannot pull an image of ECR, in AWS's sentence; None where it can, and for every other registry."""
    found = _ECR.match(image)
    if found is None:
        return None
    repository = f"arn:aws:ecr:{found['region']}:{found['account']}:repository/{found['repository']}"
    asked = [("ecr:GetAuthorizationToken", "*"), *((action, repository) for action in _PULLS)]
    try:
        return next((why for action, of in asked if (why := roles.denial(role_arn, action, of)) is not None), None)
    except NoRole as none:
        return str(none)


def role_of(model: Model) -> str | None:
    """The role that a model's containers have."""
    role: str | None = model.request.get("ExecutionRoleArn")
    return role
