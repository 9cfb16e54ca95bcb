"""Storage: one bucket for models and data, one for its access logs, and the stage's own key if it has one."""

from __future__ import annotations

import json
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.hosting import AsyncHosting, RealtimeHosting
from tidegate.infra.configuration.operations import Retention
from tidegate.infra.sharing import statements
from tidegate.infra.stacks.encryption_key import EncryptionKey
from tidegate.infra.stacks.stage_stack import StageStack
from tidegate.infra.stage.names import (
    ASYNC_INPUT_PREFIX,
    BATCH_MANIFESTS_PREFIX,
    BATCH_OUTPUT_PREFIX,
    BATCH_SUBMITTED_PREFIX,
    QUERY_RESULTS_PREFIX,
)


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
            key=self._encryption_key(stage),
            retention=stage.retention,
            expiring=_expiring(stage),
            removal_policy=self.removal_policy,
        )
        if stage.batch is not None and stage.batch.on_upload:
            data.tell_event_bridge()
        if stage.shared_with:
            self._share(stage, data)
        self.output("BucketName", data.bucket.bucket_name, "Models below models/, batch data below batch/")

    def _encryption_key(self, stage: Stage) -> kms.IKey | None:
        if stage.encryption.key == "new":
            key = EncryptionKey(
                self,
                "Encryption",
                alias=self.names.key_alias,
                parameter=self.names.key_parameter,
                removal_policy=self.removal_policy,
            ).key
            if stage.shared_with:
                key.add_to_resource_policy(statements.decrypt_models(stage.shared_with, self.region))
            return key
        return None if self.key_arn is None else kms.Key.from_key_arn(self, "Key", self.key_arn)

    def _share(self, stage: Stage, data: DataBucket) -> None:
        for statement in statements.read_models(stage.shared_with, data.bucket.bucket_arn):
            data.bucket.add_to_resource_policy(statement)
        if stage.encryption.key.startswith("arn:"):
            wanted = self.resolve(statements.decrypt_models_under(stage.encryption.key, stage.shared_with))
            cdk.Annotations.of(self).add_warning_v2(
                "tidegate:shared-key",
                f"shared_with cannot change the policy of {stage.encryption.key}, which is not the stage's; without "
                f"this statement in it the other accounts cannot read the archives:\n{json.dumps(wanted)}\n",
            )


def _expiring(stage: Stage) -> dict[str, tuple[str, int]]:
    """What is deleted after a number of days: prefix and days, by the name of the rule."""
    retention, hosting = stage.retention, stage.hosting
    rules = {
        "batch-output": (BATCH_OUTPUT_PREFIX, retention.batch_output_days),
        "batch-submitted": (BATCH_SUBMITTED_PREFIX, retention.batch_output_days),
    }
    if stage.batch is not None:
        rules["batch-manifests"] = (BATCH_MANIFESTS_PREFIX, retention.batch_output_days)
        if (table := stage.batch.table) is not None and table.athena:
            rules["query-results"] = (QUERY_RESULTS_PREFIX, table.query_results_days)
    if isinstance(hosting, AsyncHosting):
        rules["async-input"] = (ASYNC_INPUT_PREFIX, retention.async_output_days)
        rules["async-output"] = (hosting.output_prefix, retention.async_output_days)
        rules["async-failure"] = (hosting.failure_prefix, retention.async_output_days)
    if isinstance(hosting, RealtimeHosting) and hosting.capture is not None:
        rules["captures"] = (hosting.capture.prefix, retention.captures_days)
    if isinstance(hosting, RealtimeHosting) and hosting.monitor is not None:
        rules["monitor-reports"] = (hosting.monitor.prefix, retention.captures_days)
    return rules


class DataBucket(Construct):
    """Versioned, so that an archive that was overwritten can be had back; encrypted; private; TLS only."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        bucket_name: str,
        access_logs: s3.IBucket,
        key: kms.IKey | None,
        retention: Retention,
        expiring: dict[str, tuple[str, int]],
        removal_policy: cdk.RemovalPolicy,
    ) -> None:
        super().__init__(scope, id_)
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=bucket_name,
            versioned=True,
            encryption=s3.BucketEncryption.S3_MANAGED if key is None else s3.BucketEncryption.KMS,
            encryption_key=key,
            # One call to KMS for many objects.
            bucket_key_enabled=True if key is not None else None,
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
                *(
                    s3.LifecycleRule(id=name, prefix=prefix, expiration=cdk.Duration.days(days))
                    for name, (prefix, days) in expiring.items()
                ),
            ],
            removal_policy=removal_policy,
        )

    def tell_event_bridge(self) -> None:
        """Raise an event for each object that is put.

        By the property itself: `event_bridge_enabled` would bring a Lambda function that writes the same into it.
        """
        resource = cast(s3.CfnBucket, self.bucket.node.default_child)
        resource.add_property_override("NotificationConfiguration.EventBridgeConfiguration.EventBridgeEnabled", True)


class AccessLogBucket(Construct):
    """Who read and wrote the data. Not versioned: log objects are written once.

    S3 delivers access logs to buckets with its own encryption only, whatever key the stage has.
    Source: Amazon S3 user guide, enabling server access logging.
    """

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
