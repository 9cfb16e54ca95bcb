"""AWS::S3::Bucket and BucketPolicy with what moto's own class drops: settings, life cycle, events, policies."""

# ruff: noqa: ARG002, ARG003 - the signatures are those by which moto calls these classes

from __future__ import annotations

import contextlib
import json
from typing import Any

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel
from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Delegate, Json, Overwritten, is_true


def ignore_bucket_policies() -> None:
    """Bucket policies are stored and described but, like IAM's, not enforced (docs/local-cloud.md).

    moto enforces them without looking at their conditions, so the ordinary "deny without TLS" would deny everything.
    """
    FakeBucket.get_permission = _no_permission_needed  # type: ignore[method-assign, assignment]


def _no_permission_needed(_bucket: FakeBucket, _action: str, _resource: str) -> Any:
    return PermissionResult.NEUTRAL


class S3Bucket(Delegate, CloudFormationModel):
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
        if properties["BucketName"] != original_resource.name:
            # The clean-up of the update deletes the old one, if its policy says so; moto would do it here.
            return cls.create_from_cloudformation_json(
                properties["BucketName"], cloudformation_json, account_id, region_name
            )
        bucket = FakeBucket.update_from_cloudformation_json(
            original_resource, new_resource_name, cloudformation_json, account_id, region_name
        )
        cls._unset(bucket.name, properties)
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
            block = {key: is_true(value) for key, value in properties["PublicAccessBlockConfiguration"].items()}
            s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=block)
        if "BucketEncryption" in properties:
            rules = [
                {
                    "ApplyServerSideEncryptionByDefault": rule["ServerSideEncryptionByDefault"],
                    "BucketKeyEnabled": is_true(rule.get("BucketKeyEnabled", False)),
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

    @staticmethod
    def _unset(bucket: str, properties: Json) -> None:
        """Takes away what an earlier template set and this one does not name."""
        s3 = client("s3")
        if "VersioningConfiguration" not in properties and "Status" in s3.get_bucket_versioning(Bucket=bucket):
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
        if "NotificationConfiguration" not in properties:
            s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration={})
        for name, unset in (
            ("PublicAccessBlockConfiguration", s3.delete_public_access_block),
            ("BucketEncryption", s3.delete_bucket_encryption),
            ("OwnershipControls", s3.delete_bucket_ownership_controls),
            ("LifecycleConfiguration", s3.delete_bucket_lifecycle),
        ):
            if name not in properties:
                unset(Bucket=bucket)


class S3BucketPolicy(Overwritten, CloudFormationModel):
    """AWS::S3::BucketPolicy, which moto does not have."""

    TYPE = "AWS::S3::BucketPolicy"
    IDENTITY = ("Bucket",)

    @property
    def physical_resource_id(self) -> str:
        return str(self.properties["Bucket"])

    def put(self, properties: Json) -> None:
        client("s3").put_bucket_policy(Bucket=properties["Bucket"], Policy=json.dumps(properties["PolicyDocument"]))

    def delete(self, account_id: str, region_name: str) -> None:
        with contextlib.suppress(ClientError):
            client("s3").delete_bucket_policy(Bucket=self.properties["Bucket"])


def _notifications(configuration: Json) -> Json:
    """A bucket's notifications as the S3 API spells them: the switch for EventBridge, and nothing else."""
    strangers = sorted(set(configuration) - {"EventBridgeConfiguration"})
    if strangers:
        raise ValueError(f"the local cloud does not have {strangers[0]} of a bucket's notifications")
    switch = configuration.get("EventBridgeConfiguration", {})
    # The property's default is on, and its presence in the request is what switches it on.
    return {"EventBridgeConfiguration": {}} if is_true(switch.get("EventBridgeEnabled", True)) else {}


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
        converted["Expiration"] = {"ExpiredObjectDeleteMarker": is_true(rule["ExpiredObjectDeleteMarker"])}
    if "AbortIncompleteMultipartUpload" in rule:
        days = int(rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"])
        converted["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": days}
    if "NoncurrentVersionExpiration" in rule:
        given = rule["NoncurrentVersionExpiration"]
        converted["NoncurrentVersionExpiration"] = {key: int(value) for key, value in given.items()}
    if "NoncurrentVersionExpirationInDays" in rule:
        converted["NoncurrentVersionExpiration"] = {"NoncurrentDays": int(rule["NoncurrentVersionExpirationInDays"])}
    return converted
