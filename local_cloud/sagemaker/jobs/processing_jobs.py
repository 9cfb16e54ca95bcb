"""Processing jobs: their plain state, the rules of their requests, and a thread for each that does its work.

The work is in :mod:`.processing_run`. Sources: CreateProcessingJob in the API reference; "How Amazon SageMaker
Processing Configures Input and Output For Your Processing Container" (byoc-input-and-output) in the developer guide.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tidegate.local_cloud.sagemaker.errors import (
    ServiceError,
    resource_in_use,
    resource_not_found,
    validation_exception,
)
from tidegate.local_cloud.sagemaker.jobs.hosts import check_count
from tidegate.local_cloud.sagemaker.jobs.processing_run import ProcessingFailed, ProcessingRun, Stopped
from tidegate.local_cloud.sagemaker.jobs.runners import JobRunner
from tidegate.local_cloud.sagemaker.jobs.state_events import tell_state
from tidegate.local_cloud.sagemaker.jobs.training_rules import check_command, check_s3_uri, inside_opt_ml
from tidegate.local_cloud.sagemaker.model_packages import Announce
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

    runner: JobRunner
    s3: Any
    logs: Any
    identity: Identity
    tags: Tags
    announce: Announce
    directory: Path
    log_directory: Path
    environment: Mapping[str, str]
    grace_s: float
    _jobs: dict[str, ProcessingJob] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def create(self, request: Json) -> Json:
        """CreateProcessingJob."""
        check_processing_request(request)
        name = request["ProcessingJobName"]
        arn, moment = self.identity.arn("processing-job", name), now()
        job = ProcessingJob(name=name, arn=arn, request=request, created=moment, modified=moment)
        with self._lock:
            if self._closing.is_set():
                raise ServiceError("ServiceUnavailable", "The local cloud is shutting down.", status=503)
            # The names of two jobs differ in more than capitals: their ARNs have none.
            if any(other.arn == arn for other in self._jobs.values()):
                raise resource_in_use(
                    "Job name must be unique within an AWS account and region,"
                    f" and a job with this name already exists ({arn})"
                )
            self._jobs[name] = job
            self.tags.add(arn, request.get("Tags", []))
            job.worker = threading.Thread(target=self._work, args=(job,), name=f"processing job {name}")
            job.worker.start()
        return {"ProcessingJobArn": arn}

    def describe(self, request: Json) -> Json:
        """DescribeProcessingJob."""
        with self._lock:
            return self._find(request["ProcessingJobName"]).described()

    def listing(self, request: Json) -> Json:
        """ListProcessingJobs."""
        with self._lock:
            summaries = [job.summary() for job in self._jobs.values()]
        items, token = page(summaries, request, name_key="ProcessingJobName", status_key="ProcessingJobStatus")
        return {"ProcessingJobSummaries": items} | ({"NextToken": token} if token else {})

    def stop(self, request: Json) -> Json:
        """StopProcessingJob."""
        with self._lock:
            job = self._find(request["ProcessingJobName"])
            if job.is_over:
                raise validation_exception(f"The request was rejected because the processing job is {job.status}.")
            job.status, job.modified = "Stopping", now()
            job.stopping.set()
        return {}

    def arns(self) -> set[str]:
        with self._lock:
            return {job.arn for job in self._jobs.values()}

    def close(self) -> None:
        """Stops every job; returns when nothing is left running."""
        with self._lock:
            self._closing.set()
            workers = [job.worker for job in self._jobs.values() if job.worker is not None]
        for worker in workers:
            worker.join()

    def _tell(self, job: ProcessingJob) -> None:
        with self._lock:
            description = job.described()
        tell_state(self.announce, "Processing Job", job.arn, description)

    def _find(self, name: str) -> ProcessingJob:
        if name not in self._jobs:
            raise resource_not_found(f"Could not find requested job with name: {name}")
        return self._jobs[name]

    def _work(self, job: ProcessingJob) -> None:
        self._tell(job)

        def begun() -> None:
            with self._lock:
                job.started = job.modified = now()

        run = ProcessingRun(
            name=job.name,
            arn=job.arn,
            request=job.request,
            max_runtime_s=job.request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", _DEFAULT_MAX_RUNTIME_S),
            s3=self.s3,
            logs=self.logs,
            runner=self.runner,
            directory=self.directory / job.name,
            log_directory=self.log_directory / job.name,
            environment=self.environment,
            grace_s=self.grace_s,
            stopping=job.stopping,
            closing=self._closing,
            begun=begun,
        )
        status, reason = "Completed", None
        try:
            run.run()
        except Stopped as stopped:
            status, reason = "Stopped", str(stopped) or None
        except ProcessingFailed as failure:
            status, reason = ("Stopped", None) if job.stopping.is_set() else ("Failed", str(failure))
        except Exception as error:
            logger.exception("processing job %s broke", job.name)
            status, reason = "Failed", f"InternalServerError: {type(error).__name__}: {error}"
        with self._lock:
            job.status, job.ended, job.exit_message = status, now(), run.exit_message
            job.modified = job.ended
            job.failure_reason = reason[:_FAILURE_REASON_CHARS] if reason else None
        self._tell(job)
        logger.info("processing job %s: %s %s", job.name, status, reason or "")
