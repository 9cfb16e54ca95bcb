"""AWS::IAM::ManagedPolicy, through boto3: moto's own leaves the policy behind, and makes another one of a change."""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

import json
from typing import Any, ClassVar

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Resource

# Of one policy. Source: IAM user guide, quotas.
_MOST_VERSIONS = 5


class ManagedPolicy(Resource, CloudFormationModel):
    TYPE = "AWS::IAM::ManagedPolicy"
    NAME = "ManagedPolicyName"
    NAME_CHARS = 128
    ATTRIBUTES: ClassVar[dict[str, str]] = {"PolicyArn": "arn"}

    def create(self) -> None:
        given = {name: self.properties[name] for name in ("Description", "Path") if name in self.properties}
        made = client("iam").create_policy(
            PolicyName=self.name,
            PolicyDocument=json.dumps(self.properties["PolicyDocument"]),
            Tags=self.properties.get("Tags", []),
            **given,
        )
        self.arn = made["Policy"]["Arn"]
        self._attach({}, self.properties)

    def update(self, properties: Json) -> bool:
        if any(properties.get(name) != self.properties.get(name) for name in ("Description", "Path", "Tags")):
            return False
        if properties["PolicyDocument"] != self.properties["PolicyDocument"]:
            iam = client("iam")
            others = [version["VersionId"] for version in self._versions() if not version["IsDefaultVersion"]]
            if len(others) == _MOST_VERSIONS - 1:
                oldest = min(others, key=lambda version: int(version.removeprefix("v")))
                iam.delete_policy_version(PolicyArn=self.arn, VersionId=oldest)
            iam.create_policy_version(
                PolicyArn=self.arn, PolicyDocument=json.dumps(properties["PolicyDocument"]), SetAsDefault=True
            )
        self._attach(self.properties, properties)
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        iam = client("iam")
        try:
            self._attach(self.properties, {})
            for version in self._versions():
                if not version["IsDefaultVersion"]:
                    iam.delete_policy_version(PolicyArn=self.arn, VersionId=version["VersionId"])
            iam.delete_policy(PolicyArn=self.arn)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("NoSuchEntity", "NoSuchEntityException"):
                raise

    def _versions(self) -> list[dict[str, Any]]:
        return list(client("iam").list_policy_versions(PolicyArn=self.arn)["Versions"])

    def _attach(self, before: Json, after: Json) -> None:
        """Give the policy to those whom `after` names, and take it from those whom only `before` does."""
        iam = client("iam")
        for property_name, kind in (("Roles", "Role"), ("Users", "User"), ("Groups", "Group")):
            had, has = set(before.get(property_name, [])), set(after.get(property_name, []))
            for name in sorted(has - had):
                getattr(iam, f"attach_{kind.lower()}_policy")(**{f"{kind}Name": name}, PolicyArn=self.arn)
            for name in sorted(had - has):
                getattr(iam, f"detach_{kind.lower()}_policy")(**{f"{kind}Name": name}, PolicyArn=self.arn)
