"""The machines of a stage's batch jobs, with exactly the rights that their calls need, and their triggers."""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from constructs import Construct

from tidegate.infra.batch import intake, transform_job
from tidegate.infra.batch.content_types import BY_ENDING
from tidegate.infra.batch.schedule import ScheduleTrigger
from tidegate.infra.batch.transform_job import JobSettings
from tidegate.infra.configuration.batch import Batch
from tidegate.infra.stage.names import BATCH_INPUT_PREFIX, BATCH_MANIFESTS_PREFIX, BATCH_OUTPUT_PREFIX, Names
from tidegate.infra.workflows.event_trigger import EventTrigger, Undelivered
from tidegate.infra.workflows.notifications import Notifications
from tidegate.infra.workflows.state_machine import StateMachine

# As long as Step Functions keeps an execution.
_LOG_RETENTION_DAYS = 90


class BatchJobs(Construct):
    """One machine that runs jobs; and, for what starts by itself, one that takes events, and a queue for lost ones."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        names: Names,
        bucket: str,
        batch: Batch,
        key_arn: str | None,
        volume_key_arn: str | None,
        tags: Mapping[str, str],
    ) -> None:
        """`volume_key_arn` is None for instance types with disks of their own, which take no key.

        `tags` are those of the stage: CloudFormation puts them on what it makes, and it does not make the jobs.
        """
        super().__init__(scope, id_)
        self._names = names
        self._bucket = bucket
        self._batch = batch
        self._tags = tags
        self.topic = Notifications(
            self, "Topic", name=names.batch_topic, title="Batch jobs", email=batch.email, key_arn=key_arn
        )
        self.jobs = self._job_machine(key_arn, volume_key_arn)
        self.topic.published_by(self.jobs)
        if batch.on_upload or batch.schedule is not None:
            self._start_by_themselves()

    def _job_machine(self, key_arn: str | None, volume_key_arn: str | None) -> StateMachine:
        names, bucket = self._names, self._bucket
        machine = StateMachine(
            self,
            "Jobs",
            name=names.batch_jobs,
            # The key's ARN may be a token, which no text of a definition can hold.
            definition=transform_job.definition(
                job_settings(names, self._batch, self._tags, key_arn and "${Key}", volume_key_arn and "${Key}")
            ),
            values={"Bucket": bucket, "ModelNameParameter": names.model_name_parameter, "Topic": self.topic.arn}
            | ({} if key_arn is None else {"Key": key_arn}),
            log_retention_days=_LOG_RETENTION_DAYS,
        )
        stack = cdk.Stack.of(self)
        machine.may(
            "ReadModelName",
            ["ssm:GetParameter"],
            [stack.format_arn(service="ssm", resource="parameter", resource_name=names.model_name_parameter[1:])],
        )
        machine.may(
            "RunJobs",
            # AddTags: CreateTransformJob with tags asks for both.
            ["sagemaker:AddTags", "sagemaker:CreateTransformJob", "sagemaker:DescribeTransformJob"],
            [stack.format_arn(service="sagemaker", resource="transform-job", resource_name=f"{names.batch_jobs}-*")],
            any_because="every job has a name of its own, which begins with the stage's",
        )
        machine.may(
            "WriteManifests",
            ["s3:PutObject"],
            [
                stack.format_arn(service="s3", region="", account="", resource=f"{bucket}/{prefix}*")
                for prefix in (BATCH_OUTPUT_PREFIX, BATCH_MANIFESTS_PREFIX)
            ],
            any_because="manifests are named after the inputs of jobs",
        )
        if key_arn is not None:
            # CreateGrant: SageMaker's instances then use the key for their volumes.
            machine.may("UseKey", ["kms:CreateGrant", "kms:DescribeKey", "kms:GenerateDataKey"], [key_arn])
        return machine

    def _start_by_themselves(self) -> None:
        names, batch = self._names, self._batch
        scheduled_input = batch.schedule_input if batch.schedule is not None else None
        machine = StateMachine(
            self,
            "Intake",
            name=names.batch_intake,
            definition=intake.definition(scheduled_input=scheduled_input),
            values={"JobMachine": self.jobs.arn} | ({} if scheduled_input is None else {"Bucket": self._bucket}),
            log_retention_days=_LOG_RETENTION_DAYS,
        )
        machine.may("StartJobs", ["states:StartExecution"], [self.jobs.arn])
        undelivered = Undelivered(self, "Undelivered", name=f"{names.batch_jobs}-undelivered")
        if batch.on_upload:
            EventTrigger(
                self,
                "Upload",
                name=f"{names.batch_jobs}-upload",
                description=f"An object was put below {BATCH_INPUT_PREFIX}",
                pattern=upload_pattern(self._bucket),
                machine=machine,
                undelivered=undelivered,
            )
        if batch.schedule is not None:
            ScheduleTrigger(
                self,
                "Schedule",
                name=names.batch_jobs,
                expression=batch.schedule,
                timezone=batch.schedule_timezone,
                machine=machine,
                undelivered=undelivered,
            )


def job_settings(
    names: Names, batch: Batch, tags: Mapping[str, str], key_arn: str | None, volume_key_arn: str | None
) -> JobSettings:
    """What the stage file says, in the words of CreateTransformJob."""
    return JobSettings(
        name_prefix=names.batch_jobs,
        instance_type=batch.instance_type,
        instance_count=batch.instance_count,
        content_types=BY_ENDING | {ending.lower(): kind for ending, kind in batch.content_types.items()},
        default_content_type=batch.default_content_type,
        max_payload_mib=batch.max_payload_mib,
        max_concurrent=batch.max_concurrent,
        join_source=batch.join_source,
        input_filter=batch.input_filter,
        output_filter=batch.output_filter,
        retries=batch.retries,
        output_key_arn=key_arn,
        volume_key_arn=volume_key_arn,
        tags=tags,
    )


def upload_pattern(bucket: str) -> dict[str, object]:
    """Uploads below batch/input/. The empty objects by which consoles show folders are none."""
    return {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {
            "bucket": {"name": [bucket]},
            "object": {"key": [{"prefix": BATCH_INPUT_PREFIX}], "size": [{"numeric": [">", 0]}]},
        },
    }
