"""AWS::ECR::Repository with what moto's own class drops: scanning, life cycle, policy, a name when it has none."""

# ruff: noqa: ARG003 - the signatures are those by which moto calls these classes

from __future__ import annotations

import contextlib
import json
from typing import Any

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel
from moto.ecr.models import Repository

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Delegate, Json, is_true


class ECRRepository(Delegate, CloudFormationModel):
    """AWS::ECR::Repository with image scanning, lifecycle and policy as deployed, and with a name when it has none."""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::ECR::Repository"

    @staticmethod
    def cloudformation_name_type() -> str:
        return "RepositoryName"

    @classmethod
    def moto_class(cls) -> type[CloudFormationModel]:
        return Repository

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str, **kwargs: Any
    ) -> Repository:
        properties = cloudformation_json.get("Properties", {})
        # Generated names have capitals, which ECR does not take.
        repository = Repository.create_from_cloudformation_json(
            resource_name.lower(), {"Properties": _repository_properties(properties)}, account_id, region_name, **kwargs
        )
        cls._configure(repository.name, properties)
        return repository

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Repository,
        new_resource_name: str,
        cloudformation_json: Json,
        account_id: str,
        region_name: str,
    ) -> Repository:
        properties = cloudformation_json.get("Properties", {})
        name = properties.get("RepositoryName", original_resource.name)
        repository = Repository.update_from_cloudformation_json(
            original_resource, name, {"Properties": _repository_properties(properties)}, account_id, region_name
        )
        cls._unset(repository.name, properties)
        cls._configure(repository.name, properties)
        return repository

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str
    ) -> None:
        force = is_true(cloudformation_json.get("Properties", {}).get("EmptyOnDelete", False))
        client("ecr").delete_repository(repositoryName=resource_name, force=force)

    @staticmethod
    def _configure(name: str, properties: Json) -> None:
        if "LifecyclePolicy" in properties:
            text = properties["LifecyclePolicy"]["LifecyclePolicyText"]
            client("ecr").put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=text)
        if "RepositoryPolicyText" in properties:
            text = json.dumps(properties["RepositoryPolicyText"])
            client("ecr").set_repository_policy(repositoryName=name, policyText=text)

    @staticmethod
    def _unset(name: str, properties: Json) -> None:
        """Takes away what an earlier template set and this one does not name."""
        for member, unset in (
            ("LifecyclePolicy", client("ecr").delete_lifecycle_policy),
            ("RepositoryPolicyText", client("ecr").delete_repository_policy),
        ):
            if member not in properties:
                with contextlib.suppress(ClientError):  # there was none
                    unset(repositoryName=name)


def _repository_properties(properties: Json) -> Json:
    """A repository's properties in the spelling that moto's class expects, which is the API's."""
    ours = {"EncryptionConfiguration": ("EncryptionType", "KmsKey"), "ImageScanningConfiguration": ("ScanOnPush",)}
    converted = dict(properties)
    for member, names in ours.items():
        if member in properties:
            given = properties[member]
            converted[member] = {name[0].lower() + name[1:]: given[name] for name in names if name in given}
    if "ScanOnPush" in properties.get("ImageScanningConfiguration", {}):
        converted["ImageScanningConfiguration"] = {
            "scanOnPush": is_true(properties["ImageScanningConfiguration"]["ScanOnPush"])
        }
    return converted
