"""Starting and stopping the local cloud, for the command line and for Python (tests, demos)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tidegate.local_cloud import own_module
from tidegate.local_cloud.client_files import file_variables
from tidegate.local_cloud.environment import DEFAULT_REGION, apply, client_environment, supervisor_environment
from tidegate.local_cloud.keep import snapshot_file
from tidegate.local_cloud.keep.errors import KeepError
from tidegate.local_cloud.sagemaker.server_commands import CommandRefused, ServerCommands
from tidegate.local_cloud.state_directory import DirectoryError, StateDirectory, SupervisorRecord

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 45.0  # a container has 30 seconds to end
_READ_TIMEOUT_S = 3600  # boto3 sends what was not answered in time once more, and it would be done twice


class CloudError(Exception):
    """The local cloud did not start or stop; the text says why in one sentence."""


def default_directory() -> Path:
    """``LOCAL_CLOUD_DIR``, else ``.local_cloud`` in the working directory."""
    return Path(os.environ.get("LOCAL_CLOUD_DIR") or ".local_cloud").absolute()


class LocalCloud:
    """AWS on this machine: ``with LocalCloud(directory) as cloud: cloud.client("s3")``.

    A cloud that was started by a ``with`` statement ends with it, and also when the process that started it dies; one
    that was up already stays up.
    A model's container is a process, ``tidegate serve``; ``container_command`` is any other server's command, and
    ``container_commands`` has commands by the image that a model names (:class:`.ServerCommands`). They run in the
    working directory of the caller. ``image`` asks for real containers: of this image, or where it is empty of the
    image that each model names. ``limits`` replaces limits of AWS's (see :class:`.Limits`), such as
    ``{"stream_timeout_s": 20}``. ``enforce_iam`` checks what roles do here by their policies. With
    ``keep`` the directory outlives the cloud, and the next one in it remembers all that was there, with ``keep`` or
    without.

    Raises :class:`CloudError` for a command whose program is not on this machine.
    """

    def __init__(
        self,
        directory: Path | str | None = None,
        *,
        region: str | None = None,
        container_command: Sequence[str] | None = None,
        container_commands: Mapping[str, Sequence[str]] | None = None,
        image: str | None = None,
        limits: Mapping[str, float] | None = None,
        enforce_iam: bool = False,
        keep: bool = False,
    ) -> None:
        self._directory = StateDirectory(Path(directory).absolute() if directory is not None else default_directory())
        self._region = region
        self._servers = ServerCommands(
            every=container_command or (), by_image=container_commands or {}, directory=str(Path.cwd())
        )
        self._image = image
        try:
            self._servers.check()
        except CommandRefused as error:
            raise CloudError(f"{error}") from error
        self._limits = dict(limits or {})
        self._enforce_iam = enforce_iam
        self._keep = keep
        self._process: subprocess.Popen[bytes] | None = None
        self._ends_with_block = False

    @property
    def directory(self) -> Path:
        return self._directory.path

    @property
    def logs(self) -> Path:
        """Where endpoints (``endpoints/NAME/VARIANT.log``) and jobs (``transform-jobs/NAME.log``) write."""
        return self._directory.logs

    @property
    def is_kept(self) -> bool:
        """Whether this directory is one that a cloud remembers by."""
        return self._directory.kept.is_there

    @property
    def environment(self) -> dict[str, str]:
        """What unmodified clients need to set. Raises :class:`CloudError` when the cloud is not up."""
        record = self.record()
        if record is None:
            raise CloudError(f"no local cloud is up in {self.directory}")
        variables = client_environment(
            moto_url=record.moto_url, sagemaker_url=record.sagemaker_url, region=record.region
        )
        variables |= file_variables(self._directory.client_files)
        if record.containers:
            variables["CDK_DOCKER"] = str(self._directory.asset_docker)
        return variables

    @classmethod
    @contextmanager
    def temporary(cls, **options: Any) -> Iterator[Self]:
        """A cloud of its own for the length of a block, with its state in a new directory that goes with it.

        ``options`` are those of the class.
        """
        with (
            tempfile.TemporaryDirectory(prefix="local-cloud-") as directory,
            cls(Path(directory) / "state", **options) as cloud,
        ):
            yield cloud

    @contextmanager
    def activated(self) -> Iterator[None]:
        """For the length of the block, plain boto3 in this process, and what it starts, talks to this cloud.

        Variables are changed for the whole process: not for two clouds at a time.
        """
        import boto3  # noqa: PLC0415 - starting and stopping needs no boto3

        before, session = dict(os.environ), boto3.DEFAULT_SESSION
        boto3.DEFAULT_SESSION = None  # it remembers region and credentials
        apply(self.environment, os.environ)
        try:
            yield
        finally:
            for name in os.environ.keys() - before.keys():  # never empty meanwhile: other threads start programs
                del os.environ[name]
            os.environ.update(before)
            boto3.DEFAULT_SESSION = session

    def log_text(self, name: str) -> str:
        """What an endpoint, a component, a job or the jobs of a pipeline have written, as `logs NAME` prints it.

        Raises :class:`CloudError` for a name that nothing has.
        """
        from tidegate.local_cloud import log_reading  # noqa: PLC0415 - needs boto3

        reading = log_reading.of(self, name)
        return "".join(f"{line}\n" for line in [*reading.lines(), *reading.close()])

    def client(self, service: str, **options: Any) -> Any:
        """An ordinary boto3 client of this cloud, whatever this process's own environment says.

        It waits for an answer where boto3 would ask again after 60 seconds: the answer comes, or the cloud has ended.
        """
        import boto3  # noqa: PLC0415 - starting and stopping needs no boto3
        import botocore.session  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        # Neither a profile nor a configuration file nor a proxy of the caller's may lead elsewhere, or nowhere.
        nothing = dict.fromkeys(("profile", "config_file", "credentials_file"), (None, None, None, None))
        session = boto3.Session(botocore_session=botocore.session.Session(session_vars=nothing))
        direct = Config(proxies={}, read_timeout=_READ_TIMEOUT_S).merge(options.pop("config", Config()))
        environment = self.environment
        name = f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}"
        return session.client(
            service,
            config=direct,
            endpoint_url=environment.get(name, environment["AWS_ENDPOINT_URL"]),
            region_name=environment["AWS_REGION"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            **options,
        )

    def transform_progress(self, job_name: str) -> dict[str, Any]:
        """How far a batch transform job is: its status, ObjectsTotal, ObjectsDone, ObjectsFailed and RecordsDone."""
        url = f"{self.environment['AWS_ENDPOINT_URL_SAGEMAKER']}/local/transform-jobs/{job_name}"
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
            progress: dict[str, Any] = json.load(answer)
            return progress

    def interrupt_training(self, job_name: str) -> None:
        """Takes its Spot capacity from a training job, which then starts again with its checkpoints.

        Raises :class:`CloudError` for a job that cannot be interrupted now.
        """
        url = f"{self.environment['AWS_ENDPOINT_URL_SAGEMAKER']}/local/training-jobs/{job_name}/interruption"
        request = urllib.request.Request(url, method="POST")  # noqa: S310 - an address of this cloud
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10):
                pass
        except urllib.error.HTTPError as error:
            with error:
                raise CloudError(json.load(error)["message"]) from error

    def advance(self, seconds: float) -> datetime:
        """Sets the cloud's clock ahead and returns its time, after all that was due in between has fired.

        Raises :class:`CloudError` for what the clock refuses: less than nothing, more than 31 days at once.
        """
        url = f"{self.environment['AWS_ENDPOINT_URL_SAGEMAKER']}/local/clock"
        body = json.dumps({"advance_s": seconds}).encode()
        request = urllib.request.Request(url, body, method="POST")  # noqa: S310 - an address of this cloud
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
                return datetime.fromisoformat(json.load(answer)["now"])
        except urllib.error.HTTPError as error:
            with error:
                raise CloudError(json.load(error)["message"]) from error

    def record(self) -> SupervisorRecord | None:
        """The supervisor that answers, or None."""
        record = self._living()
        return record if record is not None and not record.stopping else None

    def up(self, *, outlive_caller: bool = True) -> bool:
        """Starts the cloud unless it is up; returns whether it started it. Cleans up after one that was killed."""
        try:
            with self._directory.claimed():
                if (record := self.record()) is not None:
                    if self._keep and not record.kept:
                        raise CloudError(f"one is up in {self.directory} already, and does not keep its state")
                    return False
                self._end(self._living())
                self._directory.recover()
                if self._keep:
                    self._directory.kept.make()
                if self._image is not None:
                    self._directory.write_asset_docker()
                self._start(outlive_caller=outlive_caller)
                return True
        except (DirectoryError, KeepError) as error:
            raise CloudError(str(error)) from error

    def down(self, *, delete: bool = False) -> bool:
        """Stops the cloud and removes its files; returns whether one was up.

        The files of a cloud that remembers stay, except with ``delete``.
        """
        try:
            with self._directory.opened() as ours:
                record = self._living() if ours else None
                self._end(record)
                if ours:
                    self._directory.recover()
                    self._directory.remove(kept=delete)
                return record is not None
        except DirectoryError as error:
            raise CloudError(str(error)) from error

    def __enter__(self) -> Self:
        self._ends_with_block = self.up(outlive_caller=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._ends_with_block:
            self.down()

    def supervisor_arguments(self) -> list[str]:
        """The arguments of ``local_cloud.supervisor`` for this cloud."""
        kept: str | None = snapshot_file.notes(self._directory.kept.snapshot).get("region")
        arguments = [str(self.directory), "--region", self._region or kept or DEFAULT_REGION]
        if self._servers.every or self._servers.by_image:
            arguments += ["--servers", json.dumps(self._servers.record())]
        if self._image is not None:
            arguments += [f"--container={self._image}"]
        if self._limits:
            arguments += ["--limits", json.dumps(self._limits)]
        if self._enforce_iam:
            arguments.append("--enforce-iam")
        return arguments

    def _living(self) -> SupervisorRecord | None:
        """The supervisor whose process runs, also one that is stopping; None when there is none."""
        record = self._directory.read()
        return record if record is not None and record.alive else None

    def _end(self, record: SupervisorRecord | None) -> None:
        """Ends a supervisor (or waits for one that is ending) and takes leave of ours."""
        if record is not None:
            _stop(record)
        self._collect()

    def _collect(self) -> None:
        """Takes leave of a supervisor that this object started and that has ended."""
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _start(self, *, outlive_caller: bool) -> None:
        further = [] if outlive_caller else ["--until-stdin-closes"]
        command = own_module.command("tidegate.local_cloud.supervisor", *self.supervisor_arguments(), *further)
        with self._directory.supervisor_log.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if outlive_caller else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=supervisor_environment(os.environ),
            )
        self._process = process
        deadline = time.monotonic() + _START_TIMEOUT_S
        while self.record() is None:
            if process.poll() is not None:
                said = self._directory.supervisor_log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
                self._collect()
                self._directory.recover()
                self._directory.remove()
                raise CloudError(f"the local cloud ended at its start: {said[-1] if said else 'it said nothing'}")
            if time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise CloudError(
                    f"the local cloud was not up within {_START_TIMEOUT_S:g} s; see {self._directory.supervisor_log}"
                )
            time.sleep(0.02)


def _stop(record: SupervisorRecord) -> None:
    deadline = time.monotonic() + _STOP_TIMEOUT_S
    with suppress(ProcessLookupError):
        os.kill(record.process_id, signal.SIGTERM)
    while record.alive:
        if time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.kill(record.process_id, signal.SIGKILL)
        time.sleep(0.02)
