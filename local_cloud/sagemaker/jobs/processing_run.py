"""The work of one processing job: bring its inputs, run its command on every host, take its outputs away.

Sources, in the developer guide: "How Amazon SageMaker Processing Runs Your Processing Container Image"
(byoc-run-image), "… Configures Your Processing Container" (byoc-config), "Save and Access Metadata Information About
Your Processing Job" (byoc-metadata).
"""

from __future__ import annotations

import codecs
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidegate.local_cloud.sagemaker.container import STOP_GRACE_S, ContainerFailed
from tidegate.local_cloud.sagemaker.jobs.artifacts import UPLOAD_ERRORS, put_files
from tidegate.local_cloud.sagemaker.jobs.channel_data import NoInput, bring, objects_of, share
from tidegate.local_cloud.sagemaker.jobs.folder_sync import FolderSync
from tidegate.local_cloud.sagemaker.jobs.hosts import Host, Hosts, write_json
from tidegate.local_cloud.sagemaker.jobs.runners import JobRunner
from tidegate.local_cloud.sagemaker.jobs.training_rules import inside_opt_ml
from tidegate.local_cloud.sagemaker.state import Json

LOG_GROUP = "/aws/sagemaker/ProcessingJobs"
_POLL_S = 0.05
_MESSAGE_BYTES = 1024  # byoc-metadata: the first KB of the file


class ProcessingFailed(Exception):
    """The job fails; the text is its failure reason."""


class Stopped(Exception):
    """The job was stopped; the text, if there is one, says by what."""


@dataclass(slots=True, kw_only=True)
class ProcessingRun:
    """Construct, then :meth:`run` once. ``begun`` is called when the command runs."""

    name: str
    arn: str
    request: Json
    max_runtime_s: float
    s3: Any
    logs: Any
    runner: JobRunner
    directory: Path
    log_directory: Path
    environment: Mapping[str, str]
    grace_s: float
    stopping: threading.Event
    closing: threading.Event
    begun: Callable[[], None]
    exit_message: str | None = field(default=None, init=False)

    def run(self) -> None:
        """Returns when the outputs are in S3. Raises :class:`ProcessingFailed` or :class:`Stopped`."""
        count = self.request["ProcessingResources"]["ClusterConfig"]["InstanceCount"]
        hosts = Hosts.of(count=count, directory=self.directory, log_directory=self.log_directory)
        try:
            for index, host in enumerate(hosts.each):
                self._write_config(host, hosts)
                self._bring_inputs(host, index, count)
            syncs = self._continuous_outputs(hosts)
            hosts.read_output(self.logs, group=LOG_GROUP, job_name=self.name)
            for sync in syncs:
                sync.start()
            try:
                self._start(hosts)
                self.begun()
                self._await_end(hosts)
            finally:
                hosts.stop(STOP_GRACE_S if self.closing.is_set() else self.grace_s)
                for sync in syncs:
                    sync.close()
                self._read_message(hosts)
            if broken := [sync.failure for sync in syncs if sync.failure]:
                raise ProcessingFailed(f"ClientError: {broken[0]}")
            if (failed := hosts.failed()) is not None:
                raise ProcessingFailed(_reason(failed))
            self._put_outputs(hosts)
        finally:
            hosts.remove()

    def _write_config(self, host: Host, hosts: Hosts) -> None:
        config = host.base_dir / "config"
        described = {key: value for key, value in self.request.items() if key != "Tags"}
        write_json(config / "processingjobconfig.json", json.dumps({**described, "ProcessingJobArn": self.arn}))
        write_json(config / "resourceconfig.json", json.dumps({"current_host": host.name, "hosts": hosts.names}))
        (host.base_dir / "output").mkdir(exist_ok=True)

    def _bring_inputs(self, host: Host, index: int, count: int) -> None:
        for entry in self.request.get("ProcessingInputs", []):
            if entry.get("AppManaged"):
                continue
            source = entry["S3Input"]
            try:
                objects = objects_of(self.s3, uri=source["S3Uri"], data_type=source["S3DataType"])
                if not objects:
                    raise NoInput(f"there is no object at {source['S3Uri']}")
                distribution = source.get("S3DataDistributionType", "FullyReplicated")
                place = host.base_dir / inside_opt_ml("LocalPath", source["LocalPath"])
                bring(self.s3, share(objects, distribution=distribution, host=index, hosts=count), place)
            except NoInput as error:
                # The service's own beginning: https://github.com/aws-samples/sagemaker-run-notebook/issues/32
                raise ProcessingFailed(
                    f"ClientError: Failed to download data. Input {entry['InputName']}: {error}"
                ) from error

    def _start(self, hosts: Hosts) -> None:
        app, network = self.request["AppSpecification"], self.request.get("NetworkConfig", {})
        try:
            hosts.start(
                self.runner,
                image=app["ImageUri"],
                entrypoint=app.get("ContainerEntrypoint", []),
                arguments=app.get("ContainerArguments", []),
                environment={
                    **({} if network.get("EnableNetworkIsolation") else self.environment),
                    **self.request.get("Environment", {}),
                    "PROCESSING_JOB_ARN": self.arn,
                },
            )
        except ContainerFailed as error:
            raise ProcessingFailed(f"ClientError: {error}") from error

    def _await_end(self, hosts: Hosts) -> None:
        deadline = time.monotonic() + self.max_runtime_s
        while hosts.failed() is None and not hosts.are_done():
            if self.stopping.is_set() or self.closing.is_set():
                raise Stopped
            if time.monotonic() >= deadline:
                raise Stopped(f"ClientError: the job ran longer than MaxRuntimeInSeconds ({self.max_runtime_s:g})")
            time.sleep(_POLL_S)

    def _outputs(self, upload_mode: str) -> list[Json]:
        outputs = self.request.get("ProcessingOutputConfig", {}).get("Outputs", [])
        return [
            output["S3Output"]
            for output in outputs
            if not output.get("AppManaged") and output["S3Output"]["S3UploadMode"] == upload_mode
        ]

    def _places(self, output: Json, hosts: Hosts) -> list[Path]:
        inside = inside_opt_ml("LocalPath", output["LocalPath"])
        return [host.base_dir / inside for host in hosts.each]

    def _continuous_outputs(self, hosts: Hosts) -> list[FolderSync]:
        syncs = []
        for output in (*self._outputs("Continuous"), *self._outputs("EndOfJob")):
            for place in self._places(output, hosts):
                place.mkdir(parents=True, exist_ok=True)  # it is there, so that a script may write into it at once
                if output["S3UploadMode"] == "Continuous":
                    syncs.append(FolderSync(self.s3, place, output["S3Uri"]))
        return syncs

    def _put_outputs(self, hosts: Hosts) -> None:
        for output in self._outputs("EndOfJob"):
            try:
                # Of two files of the same name that of the first host stays.
                for place in reversed(self._places(output, hosts)):
                    put_files(self.s3, place, output["S3Uri"])
            except UPLOAD_ERRORS as error:
                raise ProcessingFailed(f"ClientError: Failed to upload to {output['S3Uri']}: {error}") from error

    def _read_message(self, hosts: Hosts) -> None:
        said = b""
        for host in hosts.each:
            file = host.base_dir / "output" / "message"
            if file.is_file():
                with file.open("rb") as content:
                    said += content.read(_MESSAGE_BYTES)
        if said:
            try:
                # The last character of a KB may be cut in two: an incremental decoder waits for its rest.
                self.exit_message = codecs.getincrementaldecoder("utf-8")().decode(said[:_MESSAGE_BYTES])
            except UnicodeDecodeError as error:
                raise ProcessingFailed("ClientError: /opt/ml/output/message is not encoded in UTF-8.") from error


def _reason(host: Host) -> str:
    assert host.container is not None  # noqa: S101 - it has an exit code
    said = f"{host.container.last_words()} (log: {host.log})"
    return f"AlgorithmError: {said}, exit code: {host.container.exit_code()}"
