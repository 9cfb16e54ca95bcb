"""Starts the command of a job: as a process of this machine, or in the job's image by docker.

Both give the command an `/opt/ml` of its own. What an image would run when it is asked to train is in the process mode
this project's own `train` command, which finds a script as the SageMaker training toolkit does.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import tidegate
from tidegate.local_cloud.engine import EngineError, run_docker
from tidegate.local_cloud.sagemaker.container import STOP_GRACE_S, Container, ContainerFailed, ContainerSpec
from tidegate.local_cloud.sagemaker.docker_container import DockerContainer, docker_environment
from tidegate.local_cloud.sagemaker.process_container import ProcessContainer, launcher, machine_environment

_OPT_ML = "/opt/ml"
# Where `container` lies: beside the package in a checkout, below it in an installation (setup.py).
_HOMES = (Path(tidegate.__file__).resolve().parents[1], Path(tidegate.__file__).parent / "local_cloud" / "image")
_TRAIN = """
import os, sys
sys.path.insert(0, {home!r})
from container.entrypoint import training
del sys.path[0]
sys.exit(training.run(os.environ))
"""


def own_train_command() -> tuple[str, ...]:
    """The `train` of this project's image."""
    home = next(home for home in _HOMES if (home / "container" / "entrypoint" / "training.py").is_file())
    return (sys.executable, "-P", "-c", _TRAIN.format(home=str(home)))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One command to start. ``base_dir`` plays ``/opt/ml``; stdout and stderr are appended to ``log``.

    ``entrypoint`` replaces the image's own where it is not empty; ``hosts_file`` plays ``/etc/hosts``.
    """

    image: str
    entrypoint: Sequence[str] = ()
    arguments: Sequence[str] = ()
    base_dir: Path
    environment: Mapping[str, str]
    log: Path
    hosts_file: Path | None = None

    @property
    def container(self) -> ContainerSpec:
        return ContainerSpec(
            image=self.image, base_dir=self.base_dir, environment=self.environment, log=self.log, what="job's command"
        )


class JobRunner(Protocol):
    """Starts the commands of jobs."""

    def start(self, spec: JobSpec) -> Container:
        """Returns at once. Raises :class:`.ContainerFailed` when nothing started."""


@dataclass(frozen=True, slots=True)
class ProcessJobs:
    """Runs a command in a session of its own. ``registry`` has one file for each that runs."""

    registry: Path
    train: Sequence[str] = field(default=())

    def start(self, spec: JobSpec) -> Container:
        # A container's /tmp goes with the container, also where the command was killed and could not tidy up.
        temporary = spec.base_dir.parent / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        environment = {**machine_environment(), "PYTHONUNBUFFERED": "1", **spec.environment}
        # `python` and `python3` are this interpreter, with the packages that the server has.
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
        environment |= {"SAGEMAKER_BASE_DIR": str(spec.base_dir), "TMPDIR": str(temporary)}
        command = [*launcher(spec.base_dir, hosts_file=spec.hosts_file), *self._command(spec)]
        try:
            return ProcessContainer(command, environment, spec.container, 0, self.registry)
        except OSError as error:
            raise ContainerFailed(f"the command cannot be started: {error}") from error

    def _command(self, spec: JobSpec) -> Sequence[str]:
        if spec.entrypoint:
            return [*spec.entrypoint, *spec.arguments]
        if list(spec.arguments) == ["train"]:
            return self.train or own_train_command()
        raise ContainerFailed(
            "the request names no ContainerEntrypoint, and where jobs are processes there is no image whose own would"
            " be run: name one, or run images (tidegate cloud up --container)"
        )


@dataclass(frozen=True, slots=True)
class DockerJobs:
    """Runs images. ``image`` is run in the place of whatever a job names; None runs what it names."""

    client: str
    registry: Path
    image: str | None = None

    def start(self, spec: JobSpec) -> Container:
        image = self.image or spec.image
        try:
            run_docker(self.client, "image", "inspect", image)
        except EngineError as error:
            raise ContainerFailed(
                f"the image {image} is not on this machine, and the local cloud pulls none: build it, or tag one by"
                " this name"
            ) from error
        name = f"local-cloud-{secrets.token_hex(8)}"
        command = [self.client, "run", "--rm", "--name", name, "--network", "host"]
        command += ["--volume", f"{spec.base_dir}:{_OPT_ML}"]
        if spec.hosts_file is not None:
            command += ["--volume", f"{spec.hosts_file}:/etc/hosts:ro"]
        # Only names stand on the command line, which every user of the machine can read; the values are inherited.
        command += [word for variable in spec.environment for word in ("--env", variable)]
        first, *rest = (*spec.entrypoint, *spec.arguments) if spec.entrypoint else ("", *spec.arguments)
        command += ["--entrypoint", first] if first else []
        entry = self.registry / f"docker.{name}"
        entry.parent.mkdir(parents=True, exist_ok=True)
        entry.write_text(self.client, encoding="utf-8")
        environment = {**docker_environment(), **spec.environment}
        process = ProcessContainer([*command, image, *rest], environment, spec.container, 0, self.registry)
        return _JobContainer(process, client=self.client, name=name, entry=entry, image=image, base_dir=spec.base_dir)


class _JobContainer(DockerContainer):
    """A container that writes into a directory of this machine, mostly as root: at its end the files become ours."""

    def __init__(
        self, process: ProcessContainer, *, client: str, name: str, entry: Path, image: str, base_dir: Path
    ) -> None:
        super().__init__(process, client=client, name=name, entry=entry)
        as_root = ("--user", "0", "--network", "none", "--volume", f"{base_dir}:{_OPT_ML}")
        command = ("--entrypoint", "chown", image, "-R", f"{os.getuid()}:{os.getgid()}", _OPT_ML)
        self._give_back = (*as_root, *command)
        self._docker = client

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        super().stop(grace_s)
        if os.geteuid() != 0:
            with suppress(EngineError):  # an image without chown; what cannot be read is said where it is read
                run_docker(self._docker, "run", "--rm", *self._give_back)
