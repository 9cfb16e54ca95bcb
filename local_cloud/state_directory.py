"""What the local cloud keeps on disk, and nothing else: a record of the supervisor, its log, and what it runs.

.local_cloud/
  marker            this directory is ours (so `down` may remove it)
  lock              held while `up` or `down` changes something
  supervisor.json   process and addresses of the supervisor, from when both servers answer until nothing of it is left
  supervisor.log    what the supervisor says
  containers/       one file per running server process or container
  cdk-docker        what `cdk` calls as docker, where models run in containers
  client/           files that clients read (client_files.py)
  work/             model directories of endpoints and jobs
  logs/             stdout and stderr of endpoints and transform jobs
  kept/             what a cloud that remembers has written (keep/kept_directory.py); then all this stays when it ends
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tidegate.local_cloud import own_module
from tidegate.local_cloud.keep.kept_directory import KeptDirectory
from tidegate.local_cloud.processes import end_orphans, end_strays, orphans, process_birth
from tidegate.local_cloud.sagemaker import keeper

_ELSEWHERE = "choose another directory: export LOCAL_CLOUD_DIR=…"
_ENTRIES = (
    "kept",
    "supervisor.json",
    "supervisor.log",
    "containers",
    "work",
    "logs",
    "cdk-docker",
    "client",
    "marker",
    "lock",
)


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
    servers: Mapping[str, Any] = field(default_factory=dict)  # ServerCommands, as its record
    enforces_iam: bool = False  # whether what roles do is checked by their policies
    stopping: bool = False  # it no longer answers, and is still ending what it runs
    kept: bool = False  # whether it remembers
    remarks: Sequence[str] = ()  # what it could not remember, and what is otherwise than before

    @property
    def playground_url(self) -> str:
        """Where a browser finds the page that asks the endpoints."""
        return f"{self.sagemaker_url}/playground"

    @property
    def alive(self) -> bool:
        return process_birth(self.process_id) == self.birth


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What a cloud left that ended without being stopped: the servers that still run, and whether it remembers."""

    directory: Path
    servers: Sequence[str]
    kept: bool

    @property
    def sentence(self) -> str:
        number = len(self.servers)
        running = f", and {number} server{'s' * (number > 1)} of it still run{'s' * (number == 1)}" if number else ""
        return f"a cloud in {self.directory} ended without being stopped{running}"

    @property
    def advice(self) -> str:
        if self.kept:
            return "up ends what is left and brings back what it remembers; down ends what is left"
        return "up ends what is left and starts afresh; down ends and removes it"


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
    def client_files(self) -> Path:
        return self.path / "client"

    @property
    def work(self) -> Path:
        return self.path / "work"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def kept(self) -> KeptDirectory:
        return KeptDirectory(self.path / "kept")

    @property
    def marker(self) -> Path:
        return self.path / "marker"

    @property
    def obstacle(self) -> str:
        """What is in the place of the directory, or of one above it: "" for nothing."""
        for place in (self.path, *self.path.parents):
            if place.is_symlink() and not place.exists():
                return f"{place} is a link that leads nowhere"
            if place.exists():
                return "" if place.is_dir() else f"{place} is a file"
        return ""

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Makes the directory ours. One change at a time: a second `up` waits for the first and then finds it done.

        Raises :class:`DirectoryError` for one that holds somebody else's files.
        """
        held = False
        while not held:
            self._claim()
            with self._locked(wait=True) as held:
                if held:
                    yield

    @contextmanager
    def opened(self) -> Iterator[bool]:
        """Like :meth:`claimed`, but yields False for a directory that is not ours or not there."""
        held = False
        while not held and self.marker.exists():
            with self._locked(wait=True) as held:
                if held:
                    yield True
        if not held:
            yield False

    def _claim(self) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = self.obstacle or f"no directory can be made there ({error.strerror})"
            raise DirectoryError(f"{self.path} cannot be used: {reason}; {_ELSEWHERE}") from error
        try:
            if not self.marker.exists():
                strangers = [entry.name for entry in self.path.iterdir() if entry.name != "lock"]
                if strangers:
                    raise DirectoryError(
                        f"{self.path} holds files that are not the local cloud's ({strangers[0]}); {_ELSEWHERE}"
                    )
                self.marker.write_text(
                    "The state of a local cloud; `tidegate cloud down --delete` removes it.\n", encoding="utf-8"
                )
        except FileNotFoundError:
            pass  # a `down` took the directory away; who waits for the lock will see that
        except OSError as error:
            raise DirectoryError(f"{self.path} cannot be used: {error.strerror}") from error

    @contextmanager
    def _locked(self, *, wait: bool) -> Iterator[bool]:
        """Yields whether the lock of a directory of ours is held; not where a `down` was faster."""
        lock = self.path / "lock"
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o600)
        except FileNotFoundError:
            yield False
            return
        except OSError as error:
            raise DirectoryError(f"{lock} cannot be used: {error.strerror}") from error
        try:
            yield _is_held(descriptor, lock, wait=wait) and self.marker.exists()
        finally:
            os.close(descriptor)

    def leave(self) -> None:
        """As :meth:`remove`, unless somebody waits for our end to use the directory himself."""
        with self._locked(wait=False) as held:
            if held:
                self.remove()

    def read(self) -> SupervisorRecord | None:
        """The record of the last supervisor, alive or not; None when there is none."""
        try:
            return SupervisorRecord(**json.loads(self.record_file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def remains(self) -> Remains | None:
        """None where a supervisor is alive or coming, or the last one was stopped."""
        if not self.marker.exists():
            return None
        with self._locked(wait=False) as held:  # else somebody is starting or stopping it
            record, left = self.read(), orphans(self.containers)
            if not held or (record.alive if record is not None else not left):
                return None
            return Remains(directory=self.path, servers=left, kept=self.kept.is_there)

    def write(self, record: SupervisorRecord) -> None:
        draft = self.record_file.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(record), indent=2) + "\n", encoding="utf-8")
        draft.replace(self.record_file)

    def write_asset_docker(self) -> None:
        """The program that CDK_DOCKER names; it takes a path and no arguments."""
        command = shlex.join(own_module.command("tidegate.local_cloud.asset_docker"))
        self.asset_docker.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        self.asset_docker.chmod(0o755)

    def recover(self) -> list[int]:
        """Cleans up after a supervisor that is gone; returns the process groups that it had left running."""
        ended = end_orphans(self.containers)
        end_strays(keeper.__file__, self.work)
        self.record_file.unlink(missing_ok=True)
        shutil.rmtree(self.work, ignore_errors=True)
        return ended

    def remove(self, *, kept: bool = False) -> None:
        """Removes all that is ours, and the directory when nothing else is in it.

        A directory whose cloud remembers is left as it is, except with ``kept``.
        """
        if not self.marker.exists() or (self.kept.is_there and not kept):
            return
        for name in _ENTRIES:
            entry = self.path / name
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()


def _is_held(descriptor: int, lock: Path, *, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        # Whoever held it before may have removed the file: then this is a lock on nothing.
        return os.fstat(descriptor).st_ino == lock.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False
