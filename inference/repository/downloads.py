"""Which revisions are being fetched, and for whom: each once, a set number at a time."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition, Event, Thread

from tidegate.inference.repository.assessment import Source
from tidegate.inference.repository.cache_directory import CacheDirectory
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.repository.fetching import DiskFull, NotFetched, fetch
from tidegate.inference.repository.messages import Fetch, Fetched, FetchFailed
from tidegate.inference.repository.store import Store

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Job:
    revision: Revision
    source: Source
    max_bytes: int | None
    ids: list[int]
    cancelled: Event = field(default_factory=Event)


class Downloads:
    """Fetches in threads of its own; each request ends in one `Fetched` or `FetchFailed`, given to `say`."""

    def __init__(
        self,
        store: Store,
        cache: CacheDirectory,
        *,
        at_once: int,
        say: Callable[[Fetched | FetchFailed], None],
        on_spoiled: Callable[[Revision], None],
    ) -> None:
        self._store, self._cache, self._say, self._on_spoiled = store, cache, say, on_spoiled
        self._changed = Condition()
        self._waiting: deque[_Job] = deque()
        self._jobs: dict[Revision, _Job] = {}
        """Of each revision the one that runs or is the next to: one that was cancelled may still be stopping."""
        for number in range(at_once):
            Thread(target=self._work, name=f"download-{number}", daemon=True).start()

    def ask(self, request: Fetch, source: Source) -> None:
        """Fetch a revision, or wait with those who asked for it before."""
        with self._changed:
            for job in self._all():
                if job.revision == request.revision and not job.cancelled.is_set():
                    job.ids.append(request.id)
                    return
            job = _Job(revision=request.revision, source=source, max_bytes=request.max_bytes, ids=[request.id])
            self._waiting.append(job)
            self._jobs.setdefault(request.revision, job)
            self._changed.notify()

    def cancel(self, request_id: int) -> None:
        """One of those who asked does not want it any more; what nobody wants stops."""
        with self._changed:
            job = next((job for job in self._all() if request_id in job.ids), None)
            if job is None:
                return
            if len(job.ids) == 1:
                job.cancelled.set()  # its thread answers when it has stopped
                return
            job.ids.remove(request_id)
        self._say(_failed(request_id, NotFetched("It was cancelled.", passing=True)))

    def _all(self) -> list[_Job]:
        return [*self._jobs.values(), *self._waiting]

    def _work(self) -> None:
        while True:
            with self._changed:
                job = self._next()
                running = set(self._jobs)
            error: NotFetched | None = None
            taken = 0
            try:
                self._make_room(job, running)
                taken = fetch(
                    self._store,
                    self._cache,
                    job.revision,
                    job.source,
                    max_bytes=job.max_bytes,
                    cancelled=job.cancelled,
                )
            except NotFetched as known:
                error = known
            except Exception as unknown:
                _log.exception("A fetch failed unexpectedly.", extra={"revision": str(job.revision)})
                error = NotFetched(f"Fetching failed unexpectedly: {unknown!r}.", passing=True)
            if error is not None and error.spoiled:
                self._on_spoiled(job.revision)
            with self._changed:
                if self._jobs.get(job.revision) is job:
                    del self._jobs[job.revision]
                later = next((each for each in self._waiting if each.revision == job.revision), None)
                if later is not None:
                    self._jobs[job.revision] = later
                    self._changed.notify_all()
                ids = tuple(job.ids)
            directory = str(self._cache.directory(job.revision))
            for each in ids:
                self._say(_failed(each, error) if error else Fetched(id=each, directory=directory, size_bytes=taken))

    def _next(self) -> _Job:
        """The next job that may run: not one whose revision is still being given up by another thread."""
        while True:
            job = next((job for job in self._waiting if self._jobs[job.revision] is job), None)
            if job is not None:
                self._waiting.remove(job)
                return job
            self._changed.wait()

    def _make_room(self, job: _Job, running: set[Revision]) -> None:
        """Where the disk is limited, what earlier tries left is not in the account of those who limit it."""
        if job.max_bytes is None:
            return
        for folder in self._cache.leftovers(running):
            self._cache.delete(self._cache.discard(folder))


def _failed(request_id: int, error: NotFetched) -> FetchFailed:
    return FetchFailed(
        id=request_id,
        reason=str(error),
        passing=error.passing,
        needed_bytes=error.needed_bytes,
        disk_full=isinstance(error, DiskFull),
    )
