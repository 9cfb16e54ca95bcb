"""Batch: transform jobs on upload, on a schedule and by hand, with retry, manifests and messages."""

from __future__ import annotations

from constructs import Construct

from tidegate.infra import instance_types
from tidegate.infra.batch.jobs import BatchJobs
from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.batch import Batch
from tidegate.infra.stage_stack import StageStack


class BatchStack(StageStack):
    """The stage's batch jobs. They run the model that the endpoint's stack names in Parameter Store."""

    def __init__(self, scope: Construct, unit: str, *, stage: Stage, batch: Batch) -> None:
        super().__init__(scope, unit, stage=stage, description=f"Batch jobs of {stage.prefix} {stage.name}")
        jobs = BatchJobs(
            self,
            "Batch",
            names=self.names,
            bucket=self.names.bucket(self),
            batch=batch,
            key_arn=self.key_arn,
            # SageMaker encrypts the disks of such a type itself and refuses a key (CreateTransformJob, VolumeKmsKeyId).
            volume_key_arn=None if instance_types.has_local_storage(batch.instance_type) else self.key_arn,
            tags=self.tags.tag_values(),
            removal_policy=self.removal_policy,
        )
        self.output("JobMachineArn", jobs.jobs.arn, "Start it by hand for one job; see docs/batch.md")
        self.output("TopicArn", jobs.topic.arn, "Says how each job ended")
