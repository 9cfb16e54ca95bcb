"""AWS::IAM::Role: moto's own attaches no managed policies, and of an update it takes the description alone."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from moto.core.common_models import CloudFormationModel
from moto.iam.exceptions import NotFoundException
from moto.iam.models import Role, iam_backends
from moto.utilities.utils import get_partition

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Delegate, Json

_DEFAULT_SESSION_S = 3600


class IamRole(Delegate, CloudFormationModel):
    """A role with the policies, the trust and the boundary that its template has now."""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::IAM::Role"

    @staticmethod
    def cloudformation_name_type() -> str:
        return "RoleName"

    @classmethod
    def moto_class(cls) -> type[CloudFormationModel]:
        return Role

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str, **kwargs: Any
    ) -> Role:
        role = Role.create_from_cloudformation_json(
            resource_name, cloudformation_json, account_id, region_name, **kwargs
        )
        _give(role, cloudformation_json["Properties"])
        return role

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Role,
        new_resource_name: str,
        cloudformation_json: Json,
        account_id: str,
        region_name: str,
    ) -> Role:
        properties, role = cloudformation_json["Properties"], original_resource
        if properties.get("RoleName", role.name) != role.name or properties.get("Path", "/") != role.path:
            # The clean-up of the update deletes the old one.
            return cls.create_from_cloudformation_json(new_resource_name, cloudformation_json, account_id, region_name)
        iam = client("iam")
        trust = properties["AssumeRolePolicyDocument"]
        role.assume_role_policy_document = trust if isinstance(trust, str) else json.dumps(trust, default=str)
        role.description = properties.get("Description", "")
        longest_s: Any = properties.get("MaxSessionDuration", _DEFAULT_SESSION_S)
        role.max_session_duration = longest_s
        role.permissions_boundary_arn = properties.get("PermissionsBoundary", "")
        role.tags = properties.get("Tags", {})
        inline, attached = _of_template(role)
        for policy in properties.get("Policies", []):
            role.put_policy(policy["PolicyName"], policy["PolicyDocument"])
        for name in inline - {policy["PolicyName"] for policy in properties.get("Policies", [])}:
            role.policies.pop(name, None)
        for arn in attached - set(properties.get("ManagedPolicyArns", [])):
            if arn in role.managed_policies:
                iam.detach_role_policy(RoleName=role.name, PolicyArn=arn)
        _give(role, properties)
        return role

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str
    ) -> None:
        with suppress(NotFoundException):
            role = iam_backends[account_id][get_partition(region_name)].get_role(resource_name)
            for arn in _of_template(role)[1] & set(role.managed_policies):
                client("iam").detach_role_policy(RoleName=resource_name, PolicyArn=arn)
        Role.delete_from_cloudformation_json(resource_name, cloudformation_json, account_id, region_name)


def _give(role: Role, properties: Json) -> None:
    """Attaches managed policies, and notes what is the template's: policies of other resources stay."""
    arns = list(properties.get("ManagedPolicyArns", []))
    for arn in arns:
        if arn not in role.managed_policies:
            client("iam").attach_role_policy(RoleName=role.name, PolicyArn=arn)
    names = [policy["PolicyName"] for policy in properties.get("Policies", [])]
    role.of_template = (names, arns)  # type: ignore[attr-defined]


def _of_template(role: Role) -> tuple[set[str], set[str]]:
    names, arns = getattr(role, "of_template", ((), ()))
    return set(names), set(arns)
