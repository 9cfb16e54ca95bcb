"""What `logs NAME` prints: the files of a thing by its name, line by line, and whether more will come."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from tidegate.local_cloud import inventory
from tidegate.local_cloud.cloud import CloudError, LocalCloud
from tidegate.local_cloud.inventory import PIPELINE, WITH_LOGS, Kind
from tidegate.local_cloud.log_files import Named, NoSuchLog, Reader, files, find, written

_ASK_PAUSE_S = 1.0


class OwnLog:
    """The log of the cloud itself."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud
        self._reader = Reader(lambda: [cloud.directory / "supervisor.log"])

    def is_over(self) -> bool:
        return self._cloud.record() is None

    def lines(self) -> Iterator[str]:
        return (line for _, line in self._reader.read())

    def close(self) -> Iterator[str]:
        return (line for _, line in self._reader.close())

    def remark(self) -> str:
        return ""


class ThingsLog:
    """The log of an endpoint, a component, a job, or of the jobs of a pipeline."""

    def __init__(self, cloud: LocalCloud, thing: Named) -> None:
        self._cloud = cloud
        self._thing = thing
        self._sagemaker: Any = cloud.client("sagemaker") if cloud.record() is not None else None
        self._jobs: list[tuple[Kind, str]] = []
        self._asked = float("-inf")
        self._status: str | None = None
        self._reader = Reader(self._paths)
        self._wrote = False

    def is_over(self) -> bool:
        """Whether nothing more will be written; asks the cloud once a second at most."""
        if self._cloud.record() is None:
            return True
        if time.monotonic() < self._asked + _ASK_PAUSE_S:
            return False
        self._asked = time.monotonic()
        try:
            if self._thing.kind is PIPELINE:
                self._jobs = inventory.steps(self._sagemaker, self._thing.name)
            self._status = inventory.status(self._sagemaker, self._thing.kind, self._thing.name)
        except (ClientError, BotoCoreError):
            return self._cloud.record() is None  # it is stopping, or was busy
        return inventory.is_at_rest(self._status)

    def lines(self) -> Iterator[str]:
        return self._told(self._reader.read())

    def close(self) -> Iterator[str]:
        return self._told(self._reader.close())

    def remark(self) -> str:
        """What the lines do not say: that there are none, or how it ended."""
        if not self._wrote:
            return f"local cloud: {self._thing} has written nothing"
        return f"local cloud: {self._thing}: {self._status}" if self._status else ""

    def _told(self, found: Iterator[tuple[Path, str]]) -> Iterator[str]:
        for path, line in found:
            self._wrote = True
            name = self._name(path)
            yield f"{name} | {line}" if name else line

    def _name(self, path: Path) -> str:
        """Which of several files; "" where a thing has one."""
        if len(self._paths()) < 2:
            return ""
        if path.parent.name in (kind.folder for kind in WITH_LOGS):
            return path.stem
        return f"{path.parent.name}/{path.stem}" if self._thing.kind is PIPELINE else path.stem

    def _paths(self) -> Sequence[Path]:
        if self._thing.kind is not PIPELINE:
            return files(self._cloud.logs, self._thing)
        if not self._jobs and self._sagemaker is not None:
            with suppress(ClientError, BotoCoreError):
                self._jobs = inventory.steps(self._sagemaker, self._thing.name)
        return [path for kind, name in self._jobs for path in files(self._cloud.logs, Named(kind=kind, name=name))]


def of(cloud: LocalCloud, name: str | None) -> OwnLog | ThingsLog:
    """The log of what ``name`` names; without one, the cloud's own.

    Raises :class:`.CloudError` for a name that nothing has, or several have.
    """
    if not cloud.directory.is_dir():
        raise CloudError(f"no local cloud is up in {cloud.directory}, and none has left logs there")
    if name is None:
        return OwnLog(cloud)
    known = list(written(cloud.logs))
    if cloud.record() is not None:
        sagemaker = cloud.client("sagemaker")
        there = [
            Named(kind=kind, name=item[kind.name_member])
            for kind in WITH_LOGS
            for item in inventory.listed(sagemaker, kind)
        ]
        known = list(dict.fromkeys([*there, *known]))
    try:
        return ThingsLog(cloud, find(name, known))
    except NoSuchLog as error:
        raise CloudError(str(error)) from error
