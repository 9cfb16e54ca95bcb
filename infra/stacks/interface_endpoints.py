"""The ways out of a VPC without a NAT gateway, which are paid for, and which not every availability zone has."""

from __future__ import annotations

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.network import NewVpc
from tidegate.infra.models.container_environment import codeartifact_arn

# Without a NAT gateway these are the only ways to AWS, and why a container or its host needs each.
INTERFACE_ENDPOINTS = {
    "ecr.api": "the login and the manifest of an image that is pulled through the VPC",
    "ecr.dkr": "the image itself; its layers come from S3",
    "logs": "what the container prints",
    "monitoring": "metrics that a handler publishes itself",
    "sagemaker.runtime": "a handler that asks another endpoint, and clients inside the VPC",
    "sts": "the credentials of the role, for handlers that use boto3",
}
# Where the stage has a key of its own.
KEY_ENDPOINT = {"kms": "data under the stage's own key"}
# Where the container installs from CodeArtifact. Source: CodeArtifact guide, "Create VPC endpoints for CodeArtifact".
PACKAGE_ENDPOINTS = {
    "codeartifact.api": "the login to CodeArtifact and the address of the repository",
    "codeartifact.repositories": "the packages themselves",
}


def interface_endpoints(stage: Stage) -> dict[str, str]:
    """Those that the stage's own VPC has, by service; none where it has no such VPC, or one with a NAT gateway."""
    if not isinstance(stage.network, NewVpc) or stage.network.nat:
        return {}
    return (
        INTERFACE_ENDPOINTS
        | (KEY_ENDPOINT if stage.encryption.key != "aws" else {})
        | (PACKAGE_ENDPOINTS if codeartifact_arn(stage) is not None else {})
    )
