"""Processing jobs: their plain state, the rules of their requests, and a thread for each that does its work.

The work is in :mod:`.processing_run`. Sources: CreateProcessingJob in the API reference; "How Amazon SageMaker
Processing Configures Input and Output For Your Processing Container" (byoc-input-and-output) in the developer guide.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from tidegate.local_cloud.sagemaker.errors import resource_not_found, validation_exception
from tidegate.local_cloud.sagemaker.jobs.hosts import check_count
from tidegate.local_cloud.sagemaker.jobs.job_table import JobTable
from tidegate.local_cloud.sagemaker.jobs.processing_run import ProcessingFailed, ProcessingRun, Stopped
from tidegate.local_cloud.sagemaker.jobs.runners import JobRunner
from tidegate.local_cloud.sagemaker.jobs.training_rules import check_command, check_s3_uri, inside_opt_ml
from tidegate.local_cloud.sagemaker.model_packages import Announce
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed, Roles, demand_role, refused_image
from tidegate.local_cloud.sagemaker.state import Identity, Json, Tags, now, page

logger = logging.getLogger(__name__)

_PLACE = "/opt/ml/processing"
_FAILURE_REASON_CHARS = 1024  # DescribeProcessingJob: FailureReason
_DEFAULT_MAX_RUNTIME_S = 24 * 3600  # ProcessingStoppingCondition has no default in the API reference; the console's


def check_processing_request(request: Json) -> None:
    """Raises a ValidationException for a request that contradicts itself."""
    cluster = request["ProcessingResources"]["ClusterConfig"]
    for member in ("InstanceType", "InstanceCount"):
        if member not in cluster:
            raise validation_exception(f"ClusterConfig needs {member}.")
    check_count(cluster["InstanceCount"])
    check_command(request["AppSpecification"], request)
    inputs = request.get("ProcessingInputs", [])
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    for kind, name_key, place_key, entries in (
        ("input", "InputName", "S3Input", inputs),
        ("output", "OutputName", "S3Output", outputs),
    ):
        names = [entry[name_key] for entry in entries]
        if len(set(names)) != len(names):
            raise validation_exception(f"The names of the {kind}s must differ: {', '.join(names)}.")
        for entry in entries:
            _check_place(f"{kind} {entry[name_key]}", place_key, entry)


def _check_place(what: str, place_key: str, entry: Json) -> None:
    if place_key not in entry:
        raise validation_exception(f"Processing {what} needs {place_key}.")
    place = entry[place_key]
    check_s3_uri(f"S3Uri of processing {what}", place["S3Uri"])
    if entry.get("AppManaged"):
        return
    if "LocalPath" not in place:
        raise validation_exception(f"Processing {what} needs LocalPath, because it is not AppManaged.")
    inside_opt_ml(f"LocalPath of processing {what}", place["LocalPath"], below=_PLACE)
    if place.get("S3CompressionType") == "Gzip":
        raise validation_exception(f"S3CompressionType Gzip of processing {what} needs the S3InputMode Pipe.")


@dataclass(slots=True, kw_only=True)
class ProcessingJob:
    """One job's plain state."""

    name: str
    arn: str
    request: Json
    created: datetime
    modified: datetime
    status: str = "InProgress"
    started: datetime | None = None
    ended: datetime | None = None
    failure_reason: str | None = None
    exit_message: str | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    worker: threading.Thread | None = None

    @property
    def is_over(self) -> bool:
        return self.status in ("Completed", "Failed", "Stopped")

    def cut_off(self, status: str, reason: str | None) -> None:
        """As a job ends whose process is gone."""
        self.status, self.failure_reason, self.ended = status, reason, now()
        self.modified = self.ended

    def described(self) -> Json:
        """The members of DescribeProcessingJob."""
        description = {key: value for key, value in self.request.items() if key != "Tags"}
        description.setdefault("StoppingCondition", {"MaxRuntimeInSeconds": _DEFAULT_MAX_RUNTIME_S})
        description |= {"ProcessingJobArn": self.arn, "ProcessingJobStatus": self.status}
        description |= {"CreationTime": self.created, "LastModifiedTime": self.modified}
        description |= {"ProcessingStartTime": self.started} if self.started else {}
        return description | self._end()

    def summary(self) -> Json:
        """The members of a summary in ListProcessingJobs."""
        return {
            "ProcessingJobName": self.name,
            "ProcessingJobArn": self.arn,
            "CreationTime": self.created,
            "LastModifiedTime": self.modified,
            "ProcessingJobStatus": self.status,
        } | self._end()

    def _end(self) -> Json:
        end: Json = {}
        end |= {"ProcessingEndTime": self.ended} if self.ended else {}
        end |= {"FailureReason": self.failure_reason} if self.failure_reason else {}
        return end | ({"ExitMessage": self.exit_message} if self.exit_message is not None else {})


@dataclass(slots=True, kw_only=True)
class ProcessingJobs:
    """All processing jobs of this SageMaker. ``grace_s`` is what a command has between SIGTERM and SIGKILL."""

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
    _table: JobTable[ProcessingJob] = field(init=False)

    def __post_init__(self) -> None:
        self._table = JobTable(
            kind="Processing Job",
            taken="Job name must be unique within an AWS account and region, and a job with this name already exists",
            missing=lambda name: resource_not_found(f"Could not find requested job with name: {name}"),
            tags=self.tags,
            announce=self.announce,
        )

    def create(self, request: Json) -> Json:
        """CreateProcessingJob."""
        check_processing_request(request)
        demand_role(self.roles, request["RoleArn"])
        name = request["ProcessingJobName"]
        arn, moment = self.identity.arn("processing-job", name), now()
        job = ProcessingJob(name=name, arn=arn, request=request, created=moment, modified=moment)
        self._table.start(job, lambda: self._work(job))
        return {"ProcessingJobArn": arn}

    def describe(self, request: Json) -> Json:
        """DescribeProcessingJob."""
        return self._table.described(request["ProcessingJobName"])

    def listing(self, request: Json) -> Json:
        """ListProcessingJobs."""
        items, token = page(
            self._table.summaries(), request, name_key="ProcessingJobName", status_key="ProcessingJobStatus"
        )
        return {"ProcessingJobSummaries": items} | ({"NextToken": token} if token else {})

    def stop(self, request: Json) -> Json:
        """StopProcessingJob."""
        with self._table.lock:
            job = self._table.find(request["ProcessingJobName"])
            if job.is_over:
                raise validation_exception(f"The request was rejected because the processing job is {job.status}.")
            job.status, job.modified = "Stopping", now()
            job.stopping.set()
        return {}

    def arns(self) -> set[str]:
        return self._table.arns()

    def resume(self) -> list[str]:
        """After a restart: a job that was running has failed."""
        return self._table.resume()

    def close(self) -> None:
        """Stops every job; returns when nothing is left running."""
        self._table.close()

    def _work(self, job: ProcessingJob) -> None:
        self._table.tell(job)

        def begun() -> None:
            with self._table.lock:
                job.started = job.modified = now()

        run, status, reason = None, "Completed", None
        try:
            run = self._run(job, begun)
            run.run()
        except Stopped as stopped:
            status, reason = "Stopped", str(stopped) or None
        except (ProcessingFailed, RoleNotAssumed) as failure:
            status, reason = ("Stopped", None) if job.stopping.is_set() else ("Failed", str(failure))
        except Exception as error:
            logger.exception("processing job %s broke", job.name)
            status, reason = "Failed", f"InternalServerError: {type(error).__name__}: {error}"
        with self._table.lock:
            job.status, job.ended = status, now()
            job.exit_message = run.exit_message if run is not None else None
            job.modified = job.ended
            job.failure_reason = reason[:_FAILURE_REASON_CHARS] if reason else None
        self._table.tell(job)
        logger.info("processing job %s: %s %s", job.name, status, reason or "")

    def _run(self, job: ProcessingJob, begun: Callable[[], None]) -> ProcessingRun:
        """The work of a job, in its role. Raises :class:`.RoleNotAssumed` and :class:`.ProcessingFailed`."""
        role = job.request["RoleArn"]
        refused = refused_image(self.roles, role, job.request["AppSpecification"]["ImageUri"])
        if refused is not None:
            raise ProcessingFailed(f"ClientError: Cannot pull the image: {refused}")
        return ProcessingRun(
            name=job.name,
            arn=job.arn,
            request=job.request,
            max_runtime_s=job.request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _DEFAULT_MAX_RUNTIME_S),
            s3=self.roles.client("s3", role),
            logs=self.roles.client("logs", role),
            runner=self.runner,
            directory=self.directory / job.name,
            log_directory=self.log_directory / job.name,
            environment={**self.environment, **self.roles.environment(role)},
            grace_s=self.grace_s,
            stopping=job.stopping,
            closing=self._table.closing,
            begun=begun,
        )
