"""What the local cloud keeps on disk, and nothing else: a record of the supervisor, its log, and what it runs.

.local_cloud/
  marker            this directory is ours (so `down` may remove it)
  lock              held while `up` or `down` changes something
  supervisor.json   process and addresses of the supervisor; written when both servers answer
  supervisor.log    what the supervisor says
  containers/       one file per running server process or container
  cdk-docker        what `cdk` calls as docker, where models run in containers
  work/             model directories of endpoints and jobs
  logs/             stdout and stderr of endpoints and transform jobs
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from local_cloud.processes import end_orphans, process_birth

_ENTRIES = ("supervisor.json", "supervisor.log", "containers", "work", "logs", "cdk-docker", "marker", "lock")


class DirectoryError(Exception):
    """The directory cannot be used; the text says why in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorRecord:
    """A running supervisor: which process it is and where its servers answer."""

    process_id: int
    birth: str
    moto_url: str
    sagemaker_url: str
    region: str
    containers: bool = False  # whether models run in containers

    @property
    def alive(self) -> bool:
        return process_birth(self.process_id) == self.birth


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """The directory and the places in it."""

    path: Path

    @property
    def record_file(self) -> Path:
        return self.path / "supervisor.json"

    @property
    def supervisor_log(self) -> Path:
        return self.path / "supervisor.log"

    @property
    def containers(self) -> Path:
        return self.path / "containers"

    @property
    def asset_docker(self) -> Path:
        return self.path / "cdk-docker"

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def claim(self) -> None:
        """Makes the directory ours. Raises :class:`DirectoryError` for one that holds somebody else's files."""
        marker = self.path / "marker"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not marker.exists():
                strangers = [entry.name for entry in self.path.iterdir() if entry.name != "lock"]
                if strangers:
                    raise DirectoryError(
                        f"{self.path} holds files that are not the local cloud's ({strangers[0]});"
                        " choose another directory"
                    )
                marker.write_text("The state of a local cloud; `python -m local_cloud down` removes it.\n")
        except OSError as error:
            raise DirectoryError(f"{self.path} cannot be used: {error.strerror}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One change at a time: a second `up` waits for the first and then finds it done."""
        if not self.path.is_dir():
            yield
            return
        descriptor = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> SupervisorRecord | None:
        """The record of the last supervisor, alive or not; None when there is none."""
        try:
            return SupervisorRecord(**json.loads(self.record_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, record: SupervisorRecord) -> None:
        draft = self.record_file.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(record), indent=2) + "\n")
        draft.replace(self.record_file)

    def write_asset_docker(self) -> None:
        """The program that CDK_DOCKER names; it takes a path and no arguments."""
        home = Path(__file__).resolve().parent.parent
        command = (
            f'PYTHONPATH={shlex.quote(str(home))} exec {shlex.quote(sys.executable)} -m local_cloud.asset_docker "$@"'
        )
        self.asset_docker.write_text(f"#!/bin/sh\n{command}\n")
        self.asset_docker.chmod(0o755)

    def recover(self) -> list[int]:
        """Cleans up after a supervisor that is gone; returns the process groups that it had left running."""
        ended = end_orphans(self.containers)
        self.record_file.unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)
        return ended

    def remove(self) -> None:
        """Removes all that is ours, and the directory when nothing else is in it."""
        if not (self.path / "marker").exists():
            return
        for name in _ENTRIES:
            entry = self.path / name
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()
