"""The hosts of a job: each a command with an `/opt/ml` of its own, and how they all end.

They share this machine's network: host N is `algo-N` at the loopback address 127.X.Y.N, by an `/etc/hosts` that only
the job sees. X and Y are the job's own, so that two jobs can listen at the same port of `algo-1`.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidegate.local_cloud.clock import CLOCK
from tidegate.local_cloud.sagemaker.container import Container, free_port
from tidegate.local_cloud.sagemaker.errors import validation_exception
from tidegate.local_cloud.sagemaker.jobs.job_output import LogStream, OutputReader, Sink
from tidegate.local_cloud.sagemaker.jobs.runners import JobRunner, JobSpec

# Two clouds of this machine begin at different places.
_numbers = itertools.count(secrets.randbelow(254 * 256))
MAX_HOSTS = 32  # each is a process of this machine; the service has quotas of its own


def check_count(count: int) -> None:
    """Raises a ValidationException for more hosts than this machine should be asked for."""
    if count > MAX_HOSTS:
        raise validation_exception(
            f"InstanceCount is {count}, and the local cloud runs each instance as a process of this machine: at most"
            f" {MAX_HOSTS}."
        )


@dataclass(slots=True, kw_only=True)
class Host:
    """One host of a job, named as the platform names it."""

    name: str
    base_dir: Path
    log: Path
    container: Container | None = None
    output: OutputReader | None = None


@dataclass(slots=True, kw_only=True)
class Hosts:
    """All hosts of a job, below a directory that is the job's own and new at its start."""

    directory: Path
    each: list[Host] = field(default_factory=list)
    _network: str = field(init=False)
    _first_failed: Host | None = None

    def __post_init__(self) -> None:
        self._network = _own_network()

    @classmethod
    def of(cls, *, count: int, directory: Path, log_directory: Path) -> Hosts:
        shutil.rmtree(directory, ignore_errors=True)
        hosts = []
        for number in range(1, count + 1):
            name = f"algo-{number}"
            base_dir = directory / name / "opt" / "ml"
            base_dir.mkdir(parents=True)
            hosts.append(Host(name=name, base_dir=base_dir, log=log_directory / f"{name}.log"))
        return cls(directory=directory, each=hosts)

    @property
    def names(self) -> list[str]:
        return [host.name for host in self.each]

    def start(
        self,
        runner: JobRunner,
        *,
        image: str,
        entrypoint: Sequence[str],
        arguments: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        """Starts the command on every host. Raises :class:`.ContainerFailed`."""
        hosts_file = self._hosts_file()
        together = {}
        if len(self.each) > 1:
            # Jobs share the ports of this machine; torchrun would take the same one in each.
            together["PET_MASTER_PORT"] = str(free_port())
        for host in self.each:
            host.container = runner.start(
                JobSpec(
                    image=image,
                    entrypoint=entrypoint,
                    arguments=arguments,
                    base_dir=host.base_dir,
                    environment={**together, **environment},
                    log=host.log,
                    hosts_file=hosts_file,
                )
            )

    def read_output(self, logs: Any, *, group: str, job_name: str, sinks: Sequence[Sink] = ()) -> None:
        """From now on: what the hosts write goes to CloudWatch Logs, and to ``sinks``. Call it before :meth:`start`."""
        for host in self.each:
            stream = LogStream(logs, group=group, stream=f"{job_name}/{host.name}-{int(CLOCK.time())}", log=host.log)
            host.output = OutputReader(host.log, [stream, *sinks])
            host.output.start()

    def failed(self) -> Host | None:
        """A host whose command has ended with another exit code than 0: the first that was seen."""
        if self._first_failed is None:
            ended = (host for host in self.each if host.container is not None and host.container.exit_code())
            self._first_failed = next(ended, None)
        return self._first_failed

    def are_done(self) -> bool:
        return all(host.container is not None and host.container.exit_code() == 0 for host in self.each)

    def stop(self, grace_s: float) -> None:
        """SIGTERM to all that still run, SIGKILL after ``grace_s``; then takes their last output. Idempotent."""
        running = [host.container for host in self.each if host.container is not None]
        with ThreadPoolExecutor(max_workers=max(len(running), 1)) as pool:
            list(pool.map(lambda container: container.stop(grace_s), running))
        for host in self.each:
            if host.output is not None:
                host.output.close()
                host.output = None

    def remove(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    def _hosts_file(self) -> Path:
        machine = Path("/etc/hosts")
        text = machine.read_text(encoding="utf-8", errors="replace") if machine.is_file() else ""
        lines = [f"{self._network}.{number} {host.name}" for number, host in enumerate(self.each, start=1)]
        file = self.directory / "hosts"
        file.write_text("\n".join([text.rstrip("\n"), *lines]) + os.linesep, encoding="utf-8")
        return file


def _own_network() -> str:
    """The first three parts of the addresses of a job's hosts; each call gives others, 65,024 times."""
    number = next(_numbers) % (254 * 256)
    return f"127.{1 + number // 256}.{number % 256}"


def write_json(file: Path, content: str) -> None:
    """Writes a file of ``/opt/ml`` that the platform writes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content, encoding="utf-8")
