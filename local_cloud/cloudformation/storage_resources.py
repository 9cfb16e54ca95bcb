"""S3, ECR and SSM resources with what moto's own classes drop: bucket settings and policies, life cycles, tags."""

# ruff: noqa: ARG002, ARG003 - the signatures are those by which moto calls these classes

from __future__ import annotations

import contextlib
import json
from typing import Any, Self

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel
from moto.ecr.models import Repository
from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket
from moto.ssm.models import Parameter

from local_cloud.cloudformation.clients import client

Json = dict[str, Any]


def ignore_bucket_policies() -> None:
    """Bucket policies are stored and described but, like IAM's, not enforced (docs/local-cloud.md).

    moto enforces them without looking at their conditions, so the ordinary "deny without TLS" would deny everything.
    """
    FakeBucket.get_permission = _no_permission_needed  # type: ignore[method-assign, assignment]


def _no_permission_needed(_bucket: FakeBucket, _action: str, _resource: str) -> Any:
    return PermissionResult.NEUTRAL


class _Delegate:
    """A class that takes the place of one of moto's own: it adds what that one drops and leaves the rest to it."""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return cls.moto_class().has_cfn_attr(attr)

    @classmethod
    def moto_class(cls) -> type[CloudFormationModel]:
        raise NotImplementedError

    def is_created(self) -> bool:
        return True


class S3Bucket(_Delegate, CloudFormationModel):
    """AWS::S3::Bucket with versioning, public access block, life cycle, ownership and encryption as deployed."""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::S3::Bucket"

    @staticmethod
    def cloudformation_name_type() -> str:
        return "BucketName"

    @classmethod
    def moto_class(cls) -> type[CloudFormationModel]:
        return FakeBucket

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str, **kwargs: Any
    ) -> FakeBucket:
        bucket = FakeBucket.create_from_cloudformation_json(
            resource_name, cloudformation_json, account_id, region_name, **kwargs
        )
        cls._configure(bucket.name, cloudformation_json.get("Properties", {}))
        return bucket

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: FakeBucket,
        new_resource_name: str,
        cloudformation_json: Json,
        account_id: str,
        region_name: str,
    ) -> FakeBucket:
        properties = cloudformation_json.setdefault("Properties", {})
        properties.setdefault("BucketName", original_resource.name)  # moto reads it for the tags
        bucket = FakeBucket.update_from_cloudformation_json(
            original_resource, new_resource_name, cloudformation_json, account_id, region_name
        )
        cls._configure(bucket.name, properties)
        return bucket

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str
    ) -> None:
        # Through the API: it refuses a bucket that is not empty, moto's own class would leave it without a word.
        client("s3").delete_bucket(Bucket=resource_name)

    @staticmethod
    def _configure(bucket: str, properties: Json) -> None:
        s3 = client("s3")
        if "VersioningConfiguration" in properties:
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration=properties["VersioningConfiguration"])
        if "PublicAccessBlockConfiguration" in properties:
            block = {key: _boolean(value) for key, value in properties["PublicAccessBlockConfiguration"].items()}
            s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)
        if "BucketEncryption" in properties:
            rules = [
                {
                    "ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"],
                    "BucketKeyEnabled": _boolean(rule.get("BucketKeyEnabled", False)),
                }
                for rule in properties["BucketEncryption"]["ServerSideEncryptionConfiguration"]
            ]
            s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules})
        if "NotificationConfiguration" in properties:
            s3.put_bucket_notification_configuration(
                Bucket=bucket, NotificationConfiguration=_notifications(properties["NotificationConfiguration"])
            )
        if "OwnershipControls" in properties:
            s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=properties["OwnershipControls"])
        if "LifecycleConfiguration" in properties:
            rules = [_lifecycle_rule(rule) for rule in properties["LifecycleConfiguration"]["Rules"]]
            s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": rules})


class S3BucketPolicy(CloudFormationModel):
    """AWS::S3::BucketPolicy, which moto does not have."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::S3::BucketPolicy"

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return False

    @property
    def physical_resource_id(self) -> str:
        return self.bucket

    def is_created(self) -> bool:
        return True

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str, **kwargs: Any
    ) -> Self:
        properties = cloudformation_json["Properties"]
        client("s3").put_bucket_policy(Bucket=properties["Bucket"], Policy=json.dumps(properties["PolicyDocument"]))
        return cls(properties["Bucket"])

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Self,
        new_resource_name: str,
        cloudformation_json: Json,
        account_id: str,
        region_name: str,
    ) -> Self:
        return cls.create_from_cloudformation_json(new_resource_name, cloudformation_json, account_id, region_name)

    def delete(self, account_id: str, region_name: str) -> None:
        with contextlib.suppress(ClientError):
            client("s3").delete_bucket_policy(Bucket=self.bucket)

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str
    ) -> None:
        raise NotImplementedError("moto deletes these resources through their own delete()")


class ECRRepository(_Delegate, CloudFormationModel):
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
        cls._configure(repository.name, properties)
        return repository

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str
    ) -> None:
        force = _boolean(cloudformation_json.get("Properties", {}).get("EmptyOnDelete", False))
        client("ecr").delete_repository(repositoryName=resource_name, force=force)

    @staticmethod
    def _configure(name: str, properties: Json) -> None:
        if "LifecyclePolicy" in properties:
            text = properties["LifecyclePolicy"]["LifecyclePolicyText"]
            client("ecr").put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=text)
        if "RepositoryPolicyText" in properties:
            text = json.dumps(properties["RepositoryPolicyText"])
            client("ecr").set_repository_policy(repositoryName=name, policyText=text)


class SSMParameter(_Delegate, CloudFormationModel):
    """AWS::SSM::Parameter with Tags as templates have them (a map; moto expects a list), and with a name of its own."""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SSM::Parameter"

    @staticmethod
    def cloudformation_name_type() -> str:
        return "Name"

    @classmethod
    def moto_class(cls) -> type[CloudFormationModel]:
        return Parameter

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str, **kwargs: Any
    ) -> Parameter:
        properties = {"Name": resource_name, **cloudformation_json["Properties"]}
        properties["Tags"] = [{"Key": key, "Value": value} for key, value in properties.get("Tags", {}).items()]
        return Parameter.create_from_cloudformation_json(
            resource_name, {**cloudformation_json, "Properties": properties}, account_id, region_name, **kwargs
        )

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Parameter,
        new_resource_name: str,
        cloudformation_json: Json,
        account_id: str,
        region_name: str,
    ) -> Parameter:
        Parameter.delete_from_cloudformation_json(original_resource.name, cloudformation_json, account_id, region_name)
        name = cloudformation_json["Properties"].get("Name", original_resource.name)
        return cls.create_from_cloudformation_json(name, cloudformation_json, account_id, region_name)

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str
    ) -> None:
        Parameter.delete_from_cloudformation_json(resource_name, cloudformation_json, account_id, region_name)


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
            "scanOnPush": _boolean(properties["ImageScanningConfiguration"]["ScanOnPush"])
        }
    return converted


def _notifications(configuration: Json) -> Json:
    """A bucket's notifications as the S3 API spells them: the switch for EventBridge, and nothing else."""
    strangers = sorted(set(configuration) - {"EventBridgeConfiguration"})
    if strangers:
        raise ValueError(f"the local cloud does not have {strangers[0]} of a bucket's notifications")
    switch = configuration.get("EventBridgeConfiguration", {})
    # The property's default is on, and its presence in the request is what switches it on.
    return {"EventBridgeConfiguration": {}} if _boolean(switch.get("EventBridgeEnabled", True)) else {}


def _lifecycle_rule(rule: Json) -> Json:
    """A CloudFormation lifecycle rule as the S3 API spells it."""
    known = {
        "Id", "Status", "Prefix", "ExpirationInDays", "ExpiredObjectDeleteMarker", "AbortIncompleteMultipartUpload",
        "NoncurrentVersionExpiration", "NoncurrentVersionExpirationInDays",
    }  # fmt: skip
    strangers = sorted(set(rule) - known)
    if strangers:
        raise ValueError(f"the local cloud does not have {strangers[0]} of a bucket's lifecycle rule")
    converted: Json = {"Status": rule["Status"], "Filter": {"Prefix": rule.get("Prefix", "")}}
    if "Id" in rule:
        converted["ID"] = rule["Id"]
    if "ExpirationInDays" in rule:
        converted["Expiration"] = {"Days": int(rule["ExpirationInDays"])}
    if "ExpiredObjectDeleteMarker" in rule:
        converted["Expiration"] = {"ExpiredObjectDeleteMarker": _boolean(rule["ExpiredObjectDeleteMarker"])}
    if "AbortIncompleteMultipartUpload" in rule:
        days = int(rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"])
        converted["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": days}
    if "NoncurrentVersionExpiration" in rule:
        given = rule["NoncurrentVersionExpiration"]
        converted["NoncurrentVersionExpiration"] = {key: int(value) for key, value in given.items()}
    if "NoncurrentVersionExpirationInDays" in rule:
        converted["NoncurrentVersionExpiration"] = {"NoncurrentDays": int(rule["NoncurrentVersionExpirationInDays"])}
    return converted


def _boolean(value: Any) -> bool:
    """CloudFormation takes booleans as words too."""
    return value if isinstance(value, bool) else str(value).lower() == "true"
