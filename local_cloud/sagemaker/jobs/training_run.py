"""The work of one training job: bring the input, run the command on every host, take away what it leaves.

Source: "Use Your Own Training Algorithms" (your-algorithms-training-algo) and "Managed Spot Training"
(model-managed-spot-training) in the developer guide. A stop, a time limit and an interruption are a SIGTERM, and a
SIGKILL after the grace; what lies in `/opt/ml/model` then is kept. After an interruption the job starts again in an
empty `/opt/ml`, with its checkpoints.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

from tidegate.local_cloud.sagemaker.container import STOP_GRACE_S, ContainerFailed
from tidegate.local_cloud.sagemaker.jobs.artifacts import UPLOAD_ERRORS, put_archive, put_files
from tidegate.local_cloud.sagemaker.jobs.channel_data import (
    ChannelObject,
    NoInput,
    Pipe,
    bring,
    objects_of,
    share,
)
from tidegate.local_cloud.sagemaker.jobs.folder_sync import FolderSync
from tidegate.local_cloud.sagemaker.jobs.hosts import Host, Hosts, write_json
from tidegate.local_cloud.sagemaker.jobs.job_output import Metrics
from tidegate.local_cloud.sagemaker.jobs.runners import JobRunner
from tidegate.local_cloud.sagemaker.jobs.training_rules import CHECKPOINTS, input_mode, inside_opt_ml
from tidegate.local_cloud.sagemaker.jobs.training_state import TrainingJob
from tidegate.local_cloud.sagemaker.state import Json, now

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_POLL_S = 0.05
_FAILURE_CHARS = 1024  # your-algorithms-training-algo-output: what is shown of the file
_GROUP = "homogeneousCluster"  # what resourceconfig.json calls the only instance group


class TrainingFailed(Exception):
    """The job fails; the text is its failure reason."""


class _Ending(Enum):
    """Why the commands of an attempt have ended, or are to end."""

    EXITED = auto()
    STOP = auto()
    MAX_RUNTIME = auto()
    MAX_WAIT = auto()
    INTERRUPTION = auto()


@dataclass(slots=True, kw_only=True)
class TrainingRun:
    """Construct, then :meth:`run` once. ``lock`` is the lock of the job's state."""

    job: TrainingJob
    inputs: Mapping[str, Sequence[ChannelObject]]
    s3: Any
    logs: Any
    cloudwatch: Any
    runner: JobRunner
    directory: Path
    log_directory: Path
    environment: Mapping[str, str]
    grace_s: float
    closing: threading.Event
    lock: threading.Lock
    _metrics: Metrics = field(init=False)

    def run(self) -> None:
        """Returns when the job is over. Raises :class:`TrainingFailed`."""
        definitions = self.job.request["AlgorithmSpecification"].get("MetricDefinitions", [])
        self._metrics = Metrics(self.cloudwatch, job_name=self.job.name, definitions=definitions)
        with closing(self._metrics):
            self._attempts()

    def _attempts(self) -> None:
        while True:
            hosts = Hosts.of(
                count=self.job.request["ResourceConfig"]["InstanceCount"],
                directory=self.directory,
                log_directory=self.log_directory,
            )
            try:
                ending = self._attempt(hosts)
                if ending is not _Ending.INTERRUPTION:
                    self._upload(hosts, ending)
                    return
                with self.lock:
                    self.job.interrupted.clear()
                    if not self.job.stopping.is_set():
                        self.job.goes_to("Interrupted")
                        self.job.goes_to("Starting")
            finally:
                hosts.remove()

    def _attempt(self, hosts: Hosts) -> _Ending:
        """Until the commands of all hosts have ended."""
        if (ending := self._asked_to_end(0.0)) is not None:
            return ending
        self._goes_to("Downloading")
        prepared: list[Pipe | FolderSync] = []
        for index, host in enumerate(hosts.each):
            self._write_config(host, hosts)
            prepared += self._bring_input(host, index, len(hosts.each))
            prepared += self._bring_checkpoints(host)
        if (ending := self._asked_to_end(0.0)) is not None:
            return ending
        hosts.read_output(self.logs, group=LOG_GROUP, job_name=self.job.name, sinks=[self._metrics])
        for helper in prepared:
            helper.start()
        began = time.monotonic()
        try:
            # Before the command runs, so that nobody sees its output from a job that does not train yet.
            with self.lock:
                self.job.started = self.job.started or now()
            self._goes_to("Training")
            self._start(hosts)
            ending = self._end(hosts, began)
        finally:
            hosts.stop(STOP_GRACE_S if self.closing.is_set() else self.grace_s)
            for helper in prepared:
                helper.close()
            with self.lock:
                self.job.trained_s += time.monotonic() - began
                self.job.final_metrics = dict(self._metrics.final)
        if broken := [helper.failure for helper in prepared if helper.failure]:
            raise TrainingFailed(f"ClientError: {broken[0]}")
        if ending is _Ending.EXITED and (failed := hosts.failed()) is not None:
            if self.job.stopping.is_set():
                return _Ending.STOP
            raise TrainingFailed(_reason(failed))
        return ending

    def _end(self, hosts: Hosts, began: float) -> _Ending:
        """Waits for a reason to end."""
        while True:
            if hosts.failed() is not None or hosts.are_done():
                return _Ending.EXITED
            if (ending := self._asked_to_end(time.monotonic() - began)) is not None:
                return ending
            time.sleep(_POLL_S)

    def _asked_to_end(self, running_s: float) -> _Ending | None:
        job = self.job
        if job.stopping.is_set() or self.closing.is_set():
            return _Ending.STOP
        if job.trained_s + running_s >= job.stopping_condition["MaxRuntimeInSeconds"]:
            return _Ending.MAX_RUNTIME
        deadline = job.deadline_of_waiting()
        if deadline is not None and now() >= deadline:
            return _Ending.MAX_WAIT
        return _Ending.INTERRUPTION if job.interrupted.is_set() else None

    def _goes_to(self, secondary: str) -> None:
        """Begins a secondary status; a job that is to stop stays in its Stopping."""
        with self.lock:
            if not self.job.stopping.is_set():
                self.job.goes_to(secondary)

    # before

    def _write_config(self, host: Host, hosts: Hosts) -> None:
        request, config = self.job.request, host.base_dir / "input" / "config"
        channels = {}
        for channel in request.get("InputDataConfig", []):
            channels[channel["ChannelName"]] = {
                **({"ContentType": channel["ContentType"]} if "ContentType" in channel else {}),
                "TrainingInputMode": input_mode(request, channel),
                "S3DistributionType": _distribution(channel),
                "RecordWrapperType": channel.get("RecordWrapperType", "None"),
            }
        instance_type = request["ResourceConfig"]["InstanceType"]
        resources = {
            "current_host": host.name,
            "current_instance_type": instance_type,
            "current_group_name": _GROUP,
            "hosts": hosts.names,
            "instance_groups": [
                {"instance_group_name": _GROUP, "instance_type": instance_type, "hosts": hosts.names},
            ],
            "network_interface_name": "lo",
        }
        for name, content in (
            ("hyperparameters", request.get("HyperParameters", {})),
            ("inputdataconfig", channels),
            ("resourceconfig", resources),
        ):
            write_json(config / f"{name}.json", json.dumps(content))
        for folder in ("model", "output/data", "input/data"):
            (host.base_dir / folder).mkdir(parents=True, exist_ok=True)

    def _bring_input(self, host: Host, index: int, count: int) -> list[Pipe]:
        pipes = []
        for channel in self.job.request.get("InputDataConfig", []):
            name = channel["ChannelName"]
            objects = share(self.inputs[name], distribution=_distribution(channel), host=index, hosts=count)
            place = host.base_dir / "input" / "data" / name
            if input_mode(self.job.request, channel) == "Pipe":
                pipes.append(Pipe(self.s3, objects, place, channel))
                continue
            try:
                bring(self.s3, objects, place)
            except NoInput as error:
                raise TrainingFailed(f"ClientError: Data download failed:{error}") from error
        return pipes

    def _bring_checkpoints(self, host: Host) -> list[FolderSync]:
        config = self.job.request.get("CheckpointConfig")
        if config is None:
            return []
        place = host.base_dir / inside_opt_ml("LocalPath", config.get("LocalPath", CHECKPOINTS))
        uri = config["S3Uri"].rstrip("/") + "/"
        try:
            bring(self.s3, objects_of(self.s3, uri=uri, data_type="S3Prefix"), place)
        except NoInput as error:
            raise TrainingFailed(f"ClientError: Checkpoint download failed:{error}") from error
        return [FolderSync(self.s3, place, uri)]

    def _start(self, hosts: Hosts) -> None:
        request, job = self.job.request, self.job
        algorithm = request["AlgorithmSpecification"]
        entrypoint = algorithm.get("ContainerEntrypoint", [])
        try:
            hosts.start(
                self.runner,
                image=algorithm["TrainingImage"],
                entrypoint=entrypoint,
                arguments=algorithm.get("ContainerArguments", [] if entrypoint else ["train"]),
                environment={
                    **({} if request.get("EnableNetworkIsolation") else self.environment),
                    **request.get("Environment", {}),
                    "TRAINING_JOB_NAME": job.name,
                    "TRAINING_JOB_ARN": job.arn,
                },
            )
        except ContainerFailed as error:
            raise TrainingFailed(f"ClientError: {error}") from error

    # after

    def _upload(self, hosts: Hosts, ending: _Ending) -> None:
        job = self.job
        if not self.closing.is_set():
            if job.started is not None:  # one that was stopped before it trained has nothing to upload
                with self.lock:
                    job.goes_to("Uploading")
            models = [host.base_dir / "model" for host in hosts.each]
            try:
                if job.is_compressed:
                    put_archive(self.s3, models, job.artifacts_uri)
                else:
                    for model in reversed(models):
                        put_files(self.s3, model, job.artifacts_uri)
                others = [host.base_dir / "output" / "data" for host in hosts.each]
                put_archive(self.s3, others, f"{job.output_uri}/output.tar.gz")
            except UPLOAD_ERRORS as error:
                raise TrainingFailed(f"ClientError: Artifact upload failed:{error}") from error
        with self.lock:
            match ending:
                case _Ending.EXITED:
                    job.ends("Completed", "Completed")
                case _Ending.MAX_RUNTIME:
                    job.ends("Stopped", "MaxRuntimeExceeded")
                case _Ending.MAX_WAIT:
                    job.ends("Stopped", "MaxWaitTimeExceeded")
                case _:
                    job.ends("Stopped", "Stopped")


def _distribution(channel: Json) -> str:
    source = channel["DataSource"]["S3DataSource"]
    distribution: str = source.get("S3DataDistributionType", "FullyReplicated")
    return distribution


def _reason(host: Host) -> str:
    """The service's sentence about a command that failed: what it wrote into the failure file, and its exit code."""
    assert host.container is not None  # noqa: S101 - it has an exit code
    try:
        with (host.base_dir / "output" / "failure").open(encoding="utf-8", errors="replace") as file:
            said = file.read(_FAILURE_CHARS).strip()
    except OSError:
        said = f"{host.container.last_words()} (log: {host.log})"
    end = f", exit code: {host.container.exit_code()}"
    return f"AlgorithmError: {said[: _FAILURE_CHARS - len('AlgorithmError: ') - len(end)]}{end}"
