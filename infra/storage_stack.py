"""Storage: one bucket for models and batch data, and one for its access logs."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.configuration import Retention, Stage
from infra.names import BATCH_OUTPUT_PREFIX
from infra.stage_stack import StageStack


class StorageStack(StageStack):
    """The stage's buckets."""

    def __init__(self, scope: Construct, unit: str, *, stage: Stage) -> None:
        super().__init__(
            scope,
            unit,
            stage=stage,
            holds_data=True,
            description=f"Models and batch data of {stage.prefix} {stage.name}",
        )
        logs = AccessLogBucket(
            self,
            "AccessLogs",
            bucket_name=self.names.bucket(self, "logs"),
            retention=stage.retention,
            removal_policy=self.removal_policy,
        )
        data = DataBucket(
            self,
            "Data",
            bucket_name=self.names.bucket(self),
            access_logs=logs.bucket,
            retention=stage.retention,
            removal_policy=self.removal_policy,
        )
        self.output("BucketName", data.bucket.bucket_name, "Models below models/, batch data below batch/")


class DataBucket(Construct):
    """Versioned, so that an archive that was overwritten can be had back; encrypted; private; TLS only."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        bucket_name: str,
        access_logs: s3.IBucket,
        retention: Retention,
        removal_policy: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, id_)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=bucket_name,
            versioned=True,
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            server_access_logs_bucket=access_logs,
            server_access_logs_prefix="data/",
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="tidy",
                    abort_incomplete_multipart_upload_after=cdk.Duration.days(7),
                    noncurrent_version_expiration=cdk.Duration.days(retention.old_versions_days),
                    expired_object_delete_marker=True,
                ),
                s3.LifecycleRule(
                    id="batch-output",
                    prefix=BATCH_OUTPUT_PREFIX,
                    expiration=cdk.Duration.days(retention.batch_output_days),
                ),
            ],
            removal_policy=removal_policy,
        )


class AccessLogBucket(Construct):
    """Who read and wrote the data. Not versioned: log objects are written once."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        bucket_name: str,
        retention: Retention,
        removal_policy: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, id_)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=bucket_name,
            encryption=s3.BucketEncryption.S3_MANAGED,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            lifecycle_rules=[
                s3.LifecycleRule(id="expire", expiration=cdk.Duration.days(retention.access_logs_days)),
            ],
            removal_policy=removal_policy,
        )
