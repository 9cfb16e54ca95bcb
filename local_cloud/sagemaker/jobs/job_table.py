"""The jobs of one kind: each with a name of its own and a thread that does its work, until the local cloud ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from tidegate.local_cloud.sagemaker.errors import ServiceError, resource_in_use
from tidegate.local_cloud.sagemaker.jobs.state_events import tell_state
from tidegate.local_cloud.sagemaker.kept_rooms import CUT_OFF
from tidegate.local_cloud.sagemaker.model_packages import Announce
from tidegate.local_cloud.sagemaker.state import Json, Tags


class Job(Protocol):
    """What the table asks of a job; its state changes under the table's lock only."""

    name: str
    arn: str
    request: Json
    status: str
    worker: threading.Thread | None

    def cut_off(self, status: str, reason: str | None) -> None:
        """Ends a job whose process is gone, in that status."""

    def described(self) -> Json:
        """What its Describe operation answers."""

    def summary(self) -> Json:
        """What its List operation answers of it."""


J = TypeVar("J", bound=Job)


class JobTable(Generic[J]):
    """``kind`` is as events have it, such as `Training Job`; ``taken`` the sentence about a name that is in use, up to
    the ARN; ``missing`` makes the error of a name that there is no job of. ``closing`` is set at the end.
    """

    def __init__(
        self, *, kind: str, taken: str, missing: Callable[[str], ServiceError], tags: Tags, announce: Announce
    ) -> None:
        self._kind, self._taken, self._missing = kind, taken, missing
        self._tags, self._announce = tags, announce
        self._jobs: dict[str, J] = {}
        self.lock = threading.Lock()
        self.closing = threading.Event()

    def start(self, job: J, work: Callable[[], None], admitted: Callable[[Iterable[J]], None] = lambda _: None) -> None:
        """Adds a job and starts its thread; ``admitted`` is told of the others in the same moment.

        Raises ResourceInUse for a name that is taken, ServiceUnavailable after `shut`.
        """
        with self.lock:
            if self.closing.is_set():
                raise ServiceError("ServiceUnavailable", "The local cloud is shutting down.", status=503)
            # The names of two jobs differ in more than capitals: their ARNs have none.
            if any(other.arn == job.arn for other in self._jobs.values()):
                raise resource_in_use(f"{self._taken} ({job.arn})")
            admitted(self._jobs.values())
            self._jobs[job.name] = job
            self._tags.add(job.arn, job.request.get("Tags", []))
            job.worker = threading.Thread(target=work, name=f"{self._kind.lower()} {job.name}")
            job.worker.start()

    def find(self, name: str) -> J:
        """Capitals do not matter: the SDKs take names from ARNs, which have none.

        Raises the service's error for a name that no job has. Call it with the lock.
        """
        if name in self._jobs:
            return self._jobs[name]
        for job in self._jobs.values():
            if job.name.lower() == name.lower():
                return job
        raise self._missing(name)

    def described(self, name: str) -> Json:
        with self.lock:
            return self.find(name).described()

    def summaries(self) -> list[Json]:
        with self.lock:
            return [job.summary() for job in self._jobs.values()]

    def arns(self) -> set[str]:
        with self.lock:
            return {job.arn for job in self._jobs.values()}

    def resume(self) -> list[str]:
        """After a restart: a job that was running has failed. Returns what is lost, in sentences."""
        lost = []
        with self.lock:
            for job in self._jobs.values():
                if job.status in ("InProgress", "Stopping"):
                    failed = job.status == "InProgress"
                    job.cut_off("Failed" if failed else "Stopped", CUT_OFF if failed else None)
                    lost.append(f"{self._kind.lower()} {job.name} was running, and is {job.status} now")
        return lost

    def tell(self, job: J) -> None:
        """Announces the job's state. Call it without the lock."""
        with self.lock:
            description = job.described()
        tell_state(self._announce, self._kind, job.arn, description)

    def shut(self) -> list[J]:
        """Takes no more jobs; returns those that there are."""
        with self.lock:
            self.closing.set()
            return list(self._jobs.values())

    def close(self) -> None:
        """Takes no more jobs; returns when the thread of each has ended."""
        for job in self.shut():
            if job.worker is not None:
                job.worker.join()
