"""Training jobs: a thread for each does the work of :mod:`.training_run`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tidegate.local_cloud.sagemaker.errors import validation_exception
from tidegate.local_cloud.sagemaker.jobs.channel_data import ChannelObject
from tidegate.local_cloud.sagemaker.jobs.job_table import JobTable
from tidegate.local_cloud.sagemaker.jobs.runners import JobRunner
from tidegate.local_cloud.sagemaker.jobs.training_rules import check_training_request, listed_inputs
from tidegate.local_cloud.sagemaker.jobs.training_run import TrainingFailed, TrainingRun
from tidegate.local_cloud.sagemaker.jobs.training_state import TrainingJob
from tidegate.local_cloud.sagemaker.model_packages import Announce
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed, Roles, demand_role, refused_image
from tidegate.local_cloud.sagemaker.state import Identity, Json, Tags, now, page

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class TrainingJobs:
    """All training jobs of this SageMaker. ``grace_s`` is what a command has between SIGTERM and SIGKILL."""

    KEPT: ClassVar[tuple[str, ...]] = ("_table._jobs",)

    runner: JobRunner
    roles: Roles
    identity: Identity
    tags: Tags
    announce: Announce
    directory: Path
    log_directory: Path
    environment: Mapping[str, str]
    grace_s: float
    _table: JobTable[TrainingJob] = field(init=False)

    def __post_init__(self) -> None:
        self._table = JobTable(
            kind="Training Job",
            taken="Training job names must be unique within an AWS account and region, and a training job with this"
            " name already exists",
            missing=lambda _: validation_exception("Requested resource not found."),
            tags=self.tags,
            announce=self.announce,
        )

    def create(self, request: Json) -> Json:
        """CreateTrainingJob."""
        return {"TrainingJobArn": self.begin(request).arn}

    def begin(self, request: Json, *, tuning_arn: str | None = None) -> TrainingJob:
        """Starts a job. Raises what CreateTrainingJob answers to a request it does not accept."""
        check_training_request(request)
        inputs = self._inputs(request)
        name = request["TrainingJobName"]
        arn, moment = self.identity.arn("training-job", name), now()
        job = TrainingJob(name=name, arn=arn, request=request, created=moment, modified=moment, tuning_arn=tuning_arn)
        job.goes_to("Starting")

        def takes_a_pool(others: Iterable[TrainingJob]) -> None:
            pool = next((other for other in others if job.could_use_the_pool_of(other)), None)
            if pool is not None:
                pool.reused_by = name

        self._table.start(job, lambda: self._work(job, inputs), takes_a_pool)
        return job

    def describe(self, request: Json) -> Json:
        """DescribeTrainingJob."""
        return self._table.described(request["TrainingJobName"])

    def listing(self, request: Json) -> Json:
        """ListTrainingJobs."""
        wanted = request.get("WarmPoolStatusEquals")
        summaries = self._table.summaries()
        if wanted is not None:
            summaries = [item for item in summaries if item.get("WarmPoolStatus", {}).get("Status") == wanted]
        items, token = page(summaries, request, name_key="TrainingJobName", status_key="TrainingJobStatus")
        return {"TrainingJobSummaries": items} | ({"NextToken": token} if token else {})

    def stop(self, request: Json) -> Json:
        """StopTrainingJob."""
        with self._table.lock:
            job = self._table.find(request["TrainingJobName"])
            if job.is_over:
                raise validation_exception(
                    f"The request was rejected because the training job is in status {job.status}."
                )
            _end(job)
        return {}

    def end(self, job: TrainingJob) -> None:
        """Stops a job; without effect on one that is over."""
        with self._table.lock:
            if not job.is_over:
                _end(job)

    def check_inputs(self, request: Json) -> None:
        """Raises the service's ValidationException for a role that it cannot take on, or a channel without objects."""
        self._inputs(request)

    def _inputs(self, request: Json) -> dict[str, list[ChannelObject]]:
        demand_role(self.roles, request["RoleArn"])
        return listed_inputs(self.roles.client("s3", request["RoleArn"]), request, region=self.identity.region)

    def interrupt(self, name: str) -> Json:
        """Takes its Spot capacity from a job, as AWS does without being asked: SIGTERM, and the job starts again.

        Raises a ValidationException for a job that cannot be interrupted.
        """
        with self._table.lock:
            job = self._table.find(name)
            if not job.request.get("EnableManagedSpotTraining"):
                raise validation_exception(f"The training job {name} has no EnableManagedSpotTraining.")
            if job.secondary != "Training":
                raise validation_exception(f"The training job {name} does not train now; it is {job.secondary}.")
            job.interrupted.set()
        return {}

    def arns(self) -> set[str]:
        return self._table.arns()

    def resume(self) -> list[str]:
        """After a restart: a job that was running has failed."""
        return self._table.resume()

    def close(self) -> None:
        """Stops every job; returns when nothing is left running."""
        self._table.close()

    def _work(self, job: TrainingJob, inputs: Mapping[str, list[ChannelObject]]) -> None:
        self._table.tell(job)
        reason, role = None, job.request["RoleArn"]
        try:
            refused = refused_image(self.roles, role, job.request["AlgorithmSpecification"]["TrainingImage"])
            if refused is not None:
                raise TrainingFailed(f"ClientError: Cannot pull the training image: {refused}")
            TrainingRun(
                job=job,
                inputs=inputs,
                s3=self.roles.client("s3", role),
                logs=self.roles.client("logs", role),
                cloudwatch=self.roles.client("cloudwatch", role),
                runner=self.runner,
                directory=self.directory / job.name,
                log_directory=self.log_directory / job.name,
                environment={**self.environment, **self.roles.environment(role)},
                grace_s=self.grace_s,
                closing=self._table.closing,
                lock=self._table.lock,
            ).run()
        except (TrainingFailed, RoleNotAssumed) as failure:
            reason = str(failure)
        except Exception as error:
            logger.exception("training job %s broke", job.name)
            reason = f"InternalServerError: {type(error).__name__}: {error}"
        if reason is not None:
            with self._table.lock:
                job.ends("Failed", "Failed", reason)
        self._table.tell(job)
        logger.info("training job %s: %s %s", job.name, job.secondary, reason or "")


def _end(job: TrainingJob) -> None:
    if not job.stopping.is_set():
        job.status = "Stopping"
        job.goes_to("Stopping")
        job.stopping.set()
