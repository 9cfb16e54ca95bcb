"""Batch transform jobs: their plain state, and one thread for each that does the work of :mod:`.transform_run`."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import ClassVar

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud.sagemaker.archive import ModelDataError, fetch_model_data, split_s3_uri
from tidegate.local_cloud.sagemaker.container import (
    DEFAULT_STARTUP_TIMEOUT_S,
    Container,
    ContainerFailed,
    ContainerRunner,
    ContainerSpec,
    await_healthy,
)
from tidegate.local_cloud.sagemaker.data_processing import data_processing
from tidegate.local_cloud.sagemaker.errors import (
    ServiceError,
    resource_in_use,
    resource_not_found,
    validation_exception,
)
from tidegate.local_cloud.sagemaker.jobs.training_rules import no_objects
from tidegate.local_cloud.sagemaker.kept_rooms import CUT_OFF
from tidegate.local_cloud.sagemaker.manifest_file import NoManifest
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed, Roles, demand_role, refused_image, role_of
from tidegate.local_cloud.sagemaker.state import Identity, Json, Model, now
from tidegate.local_cloud.sagemaker.transform_inputs import input_objects
from tidegate.local_cloud.sagemaker.transform_run import Progress, Stopped, TransformFailed, TransformRun
from tidegate.local_cloud.sagemaker.transform_settings import batch_environment, check_transform_request
from tidegate.local_cloud.sagemaker.transform_streams import JobStreams

logger = logging.getLogger(__name__)

_FAILURE_REASON_CHARS = 1024  # DescribeTransformJob: FailureReason


@dataclass(slots=True, kw_only=True)
class TransformJob:
    """One job's plain state."""

    name: str
    arn: str
    request: Json
    model: Model
    created: datetime
    modified: datetime
    status: str = "InProgress"
    started: datetime | None = None
    ended: datetime | None = None
    failure_reason: str | None = None
    progress: Progress = field(default_factory=Progress)
    stopping: threading.Event = field(default_factory=threading.Event)
    worker: threading.Thread | None = None
    containers: dict[str, Container] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class TransformJobs:
    """All jobs of this SageMaker."""

    KEPT: ClassVar[tuple[str, ...]] = ("_jobs",)

    runner: ContainerRunner
    roles: Roles
    identity: Identity
    directory: Path
    log_directory: Path
    container_environment: Mapping[str, str] = field(default_factory=dict)
    _jobs: dict[str, TransformJob] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: bool = False

    def create(self, request: Json, model: Model) -> str:
        """Starts a job and returns its ARN. Raises what CreateTransformJob answers to a request it does not accept."""
        name = request["TransformJobName"]
        arn = self.identity.arn("transform-job", name)
        if model.multi_model:
            raise validation_exception(f"Model {model.name} has Mode MultiModel, which batch transform does not take.")
        if model.direct:
            raise validation_exception(
                f"Model {model.name} has Mode Direct, and CreateTransformJob names no container that is to answer."
            )
        if any("ModelDataSource" in container for container in model.containers.values()):
            # The service's words: https://github.com/aws/sagemaker-python-sdk/issues/4777
            raise validation_exception(
                "SageMaker Batch currently doesn't support Model entity with container definitions which use"
                " ModelDataSource attribute."
            )
        check_transform_request(request)
        demand_role(self.roles, role_of(model))
        data_processing(request)
        for uri in (
            request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"],
            request["TransformOutput"]["S3OutputPath"],
        ):
            try:
                split_s3_uri(uri)
            except ModelDataError as error:
                raise validation_exception(str(error)) from error
        self._demand_input(request, model)
        with self._lock:
            if self._closing:
                raise ServiceError("ServiceUnavailable", "The local cloud is shutting down.", status=503)
            if any(other.arn == arn for other in self._jobs.values()):
                raise resource_in_use(
                    "Job name must be unique within an AWS account and region,"
                    f" and a job with this name already exists ({arn})"
                )
            moment = now()
            job = TransformJob(name=name, arn=arn, request=request, model=model, created=moment, modified=moment)
            job.worker = threading.Thread(target=self._work, args=(job,), name=f"transform job {name}")
            self._jobs[name] = job
            job.worker.start()
        return arn

    def _demand_input(self, request: Json, model: Model) -> None:
        """Raises the service's ValidationException for input that has no object, or that the role may not list."""
        role, given = role_of(model), request["TransformInput"]
        uri = given["DataSource"]["S3DataSource"]["S3Uri"]
        why = no_objects(uri, role or "", self.identity.region)
        try:
            first = next(input_objects(self.roles.client("s3", role), given), None)
        except NoManifest:
            return  # the job says what is wrong with it
        except (ClientError, BotoCoreError, RoleNotAssumed) as error:
            raise validation_exception(f"{why} ({error})") from error
        if first is None:
            raise validation_exception(why)

    def stop(self, name: str) -> None:
        """Asks a running job to stop; without effect on one that has ended."""
        with self._lock:
            job = self._find(name)
            if job.status == "InProgress":
                job.status, job.modified = "Stopping", now()
                job.stopping.set()
                _end_containers(job)

    def describe(self, name: str) -> Json:
        """The members of DescribeTransformJob."""
        with self._lock:
            job = self._find(name)
            description = {key: value for key, value in job.request.items() if key != "Tags"}
            description |= {
                "TransformJobArn": job.arn,
                "TransformJobStatus": job.status,
                "CreationTime": job.created,
            }
            description |= {"TransformStartTime": job.started} if job.started else {}
            description |= {"TransformEndTime": job.ended} if job.ended else {}
            description |= {"FailureReason": job.failure_reason} if job.failure_reason else {}
            return description

    def progress(self, name: str) -> Json:
        """How far a job is; beyond what the service tells (see docs/local-cloud.md)."""
        with self._lock:
            job = self._find(name)
            return {"TransformJobStatus": job.status, **job.progress.as_json()}

    def summaries(self) -> list[Json]:
        """The members of ListTransformJobs' summaries."""
        with self._lock:
            return [
                {
                    "TransformJobName": job.name,
                    "TransformJobArn": job.arn,
                    "CreationTime": job.created,
                    "LastModifiedTime": job.modified,
                    "TransformJobStatus": job.status,
                }
                | ({"TransformEndTime": job.ended} if job.ended else {})
                | ({"FailureReason": job.failure_reason} if job.failure_reason else {})
                for job in self._jobs.values()
            ]

    def resume(self) -> list[str]:
        """After a restart: a job that was running has failed."""
        lost = []
        for job in self._jobs.values():
            if job.status in ("InProgress", "Stopping"):
                failed = job.status == "InProgress"
                job.status, job.failure_reason = ("Failed", CUT_OFF) if failed else ("Stopped", None)
                job.ended = job.modified = now()
                lost.append(f"transform job {job.name} was running, and is {job.status} now")
            job.containers, job.worker = {}, None
        return lost

    def close(self) -> None:
        """Stops every job; returns when nothing is left running."""
        with self._lock:
            self._closing = True
            jobs = list(self._jobs.values())
            for job in jobs:
                job.stopping.set()
                _end_containers(job)
        for job in jobs:
            if job.worker is not None:
                job.worker.join()

    def _find(self, name: str) -> TransformJob:
        """Capitals do not matter: the SDKs take names from ARNs, which have none."""
        for job in self._jobs.values():
            if job.name.lower() == name.lower():
                return job
        raise resource_not_found(f"Could not find requested job with name: {name}")

    def _work(self, job: TransformJob) -> None:
        directory = self.directory / job.name
        status, reason = "Completed", None
        try:
            self._run(job, directory)
        except Stopped:
            status = "Stopped"
        except (ModelDataError, ContainerFailed, RoleNotAssumed, TransformFailed) as failure:
            status, reason = ("Stopped", None) if job.stopping.is_set() else ("Failed", str(failure))
        except Exception as error:
            logger.exception("transform job %s broke", job.name)
            status, reason = "Failed", f"InternalServerError: {type(error).__name__}: {error}"
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        with self._lock:
            job.status, job.ended, job.modified = status, now(), now()
            job.failure_reason = reason[:_FAILURE_REASON_CHARS] if reason else None
        logger.info("transform job %s: %s %s", job.name, status, reason or "")

    def _run(self, job: TransformJob, directory: Path) -> None:
        """Starts the job's containers together, and sends the records through them."""
        logs = {
            hostname: self.log_directory / (f"{job.name}.{hostname}.log" if job.model.several else f"{job.name}.log")
            for hostname in job.model.containers
        }
        s3 = self.roles.client("s3", role_of(job.model))
        streams = JobStreams(roles=self.roles, role_arn=role_of(job.model), job_name=job.name)
        try:
            for hostname, definition in job.model.containers.items():
                several = job.model.several
                streams.follow(logs[hostname], container=hostname if several else "")
                self._start(
                    job,
                    hostname,
                    definition,
                    directory=directory / hostname if several else directory,
                    log=logs[hostname],
                )
            for hostname, container in job.containers.items():
                try:
                    await_healthy(container, timeout_s=DEFAULT_STARTUP_TIMEOUT_S, cancelled=job.stopping)
                except ContainerFailed as failure:
                    raise ContainerFailed(f"{failure} (log: {logs[hostname]})") from failure
            with self._lock:
                job.started = now()
            run = TransformRun(
                s3=s3,
                request=job.request,
                containers=job.containers,
                progress=job.progress,
                stopping=job.stopping,
                say=streams.say,
            )
            try:
                run.run()
            except TransformFailed as failure:
                raise TransformFailed(f"{failure} (log: {self.log_directory / f'{job.name}.log'})") from failure
        finally:
            containers = list(job.containers.values())
            with ThreadPoolExecutor(max_workers=max(1, len(containers))) as pool:
                list(pool.map(lambda container: container.stop(), containers))
            streams.close()
            with self._lock:
                job.containers = {}

    def _start(self, job: TransformJob, hostname: str, definition: Json, *, directory: Path, log: Path) -> None:
        base_dir = directory / "opt" / "ml"
        role = role_of(job.model)
        refused = refused_image(self.roles, role, definition["Image"])
        if refused is not None:
            raise ContainerFailed(f"ClientError: Cannot pull the image {definition['Image']}: {refused}")
        fetch_model_data(partial(self.roles.client, "s3", role), definition, base_dir / "model")
        container = self.runner.start(
            ContainerSpec(
                image=definition["Image"],
                base_dir=base_dir,
                environment={
                    **({} if job.model.isolated else {**self.container_environment, **self.roles.environment(role)}),
                    **definition.get("Environment", {}),
                    **job.request.get("Environment", {}),
                    **batch_environment(job.request),
                },
                log=log,
            )
        )
        with self._lock:
            # A new mapping: whoever ends the job walks through the one that it found.
            job.containers = {**job.containers, hostname: container}


def _end_containers(job: TransformJob) -> None:
    """Begins to end the containers under a job that is to stop, so that no call in flight holds the job up."""
    for container in job.containers.values():
        threading.Thread(target=container.stop, name=f"stop transform job {job.name}").start()
