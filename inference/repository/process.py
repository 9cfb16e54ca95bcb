"""The process between its two pipes: requests of the frontend in, what happened out, and the work in threads."""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock, Thread

from tidegate.inference.repository.cache_directory import CacheDirectory, InUse
from tidegate.inference.repository.catalogue import Model
from tidegate.inference.repository.downloads import Downloads
from tidegate.inference.repository.folder_store import FolderStore
from tidegate.inference.repository.listing import Entry
from tidegate.inference.repository.messages import (
    CancelFetch,
    Changed,
    Fetch,
    Fetched,
    FetchFailed,
    Listed,
    ListingFailed,
    Look,
    Open,
    Remove,
    Removed,
    line_of,
    message_of,
)
from tidegate.inference.repository.messages import Event as Said
from tidegate.inference.repository.polling import Polling
from tidegate.inference.repository.store import Store, StoreFailed
from tidegate.inference.repository.watch import ListingDoubtful, Watch

_log = logging.getLogger(__name__)
_MODELS_A_LINE = 100
_REMOVAL_RETRY_S = 1.0
_UNREAD_TRIES = 3
"""Of the first listing, where manifests or labels cannot be read: after them it is told without those."""
_UNREAD_RETRY_S = 5.0
"""Between two, where the repository is listed once only."""
_READERS = 16
"""Of manifests, at one time: a new repository may have thousands."""
_READERS_OF_AN_OBJECT = 4
"""Fewer than where one model is all that is fetched: several downloads share the memory."""


class Output:
    """Messages to the frontend, whole lines from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._writing = Lock()

    def say(self, message: Said) -> None:
        """Send a message; the process ends where nobody reads any more."""
        line = memoryview(line_of(message))
        with self._writing:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                os._exit(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    store: Store
    cache: CacheDirectory
    watch: Watch
    downloads: Downloads


class RepositoryProcess:
    """What `Open` begins. Threads: one lists, some fetch, one frees bytes; the caller's only hands over."""

    def __init__(self, wanted: Open, output: Output) -> None:
        self._wanted, self._say = wanted, output.say
        self._wake = Event()
        self._opened: _Opened | None = None
        self._unread_tries_left = 0 if wanted.known else _UNREAD_TRIES
        self._discarded: SimpleQueue[tuple[str, Callable[[], bool]]] = SimpleQueue()
        Thread(target=self._follow, name="listing", daemon=True).start()
        Thread(target=self._free, name="removal", daemon=True).start()

    def take(self, request: Fetch | CancelFetch | Remove | Look) -> None:
        """Begin what is asked for."""
        if isinstance(request, Look):
            self._wake.set()
        elif self._opened is None:
            if isinstance(request, Fetch):
                self._say(FetchFailed(id=request.id, reason="The repository is not open yet.", passing=True))
        elif isinstance(request, Fetch):
            self._fetch(request, self._opened)
        elif isinstance(request, CancelFetch):
            self._opened.downloads.cancel(request.id)
        else:
            self._remove(request.directory, self._opened.cache)

    def _fetch(self, request: Fetch, opened: _Opened) -> None:
        if (taken := opened.cache.size_bytes(request.revision)) is not None:
            directory = str(opened.cache.directory(request.revision))
            self._say(Fetched(id=request.id, directory=directory, size_bytes=taken))
            return
        source = opened.watch.source(request.revision)
        if source is None:
            what = f"Version {request.revision.version} of {request.revision.name}"
            reason = f"{what} is not in the repository any more as it was listed."
            # The next listing says whether it is gone; until then this one may have been wrong.
            self._say(FetchFailed(id=request.id, reason=reason, passing=True))
            return
        opened.downloads.ask(request, source)

    def _remove(self, directory: str, cache: CacheDirectory) -> None:
        try:
            # At once, so that a fetch which is asked for next finds nothing there.
            away = cache.discard(Path(directory))
        except ValueError as error:
            _log.error("A directory was not removed.", extra={"directory": directory, "reason": str(error)})
        except OSError as error:
            _log.warning("A directory is not removed yet.", extra={"directory": directory, "reason": str(error)})
            self._discarded.put((directory, lambda: _is_removed(cache, Path(directory))))
        else:
            self._discarded.put((directory, lambda: cache.delete(away)))

    def _free(self) -> None:
        while True:
            directory, is_freed = self._discarded.get()
            while not is_freed():
                time.sleep(_REMOVAL_RETRY_S)
            self._say(Removed(directory=directory))

    def _follow(self) -> None:
        """List, again and again."""
        polling = Polling(self._wanted.interval_s)
        while True:
            self._wake.clear()
            started_s, cpu_s = time.monotonic(), time.thread_time()
            try:
                opened = self._opened = self._opened or self._open()
                unread = self._list(opened)
            except (StoreFailed, ListingDoubtful, InUse, OSError) as error:
                self._wait_after(str(error), polling)
                continue
            except Exception as error:
                _log.exception("A listing failed unexpectedly.")
                self._wait_after(f"Listing failed unexpectedly: {error!r}.", polling)
                continue
            pause = polling.after_listing(
                started_s=started_s, now_s=time.monotonic(), cpu_s=time.thread_time() - cpu_s, chance=_chance()
            )
            note = " ".join(filter(None, (pause.note, opened.watch.left_over)))
            self._say(Listed(models=opened.watch.count, interval_s=pause.interval_s, note=note))
            self._wake.wait(pause.wait_s if self._wanted.interval_s else _UNREAD_RETRY_S if unread else None)

    def _wait_after(self, reason: str, polling: Polling) -> None:
        wait_s = polling.after_failure(chance=_chance())
        self._say(ListingFailed(reason=reason, retry_in_s=wait_s))
        self._wake.wait(wait_s)

    def _open(self) -> _Opened:
        """Take the cache directory and tell what is in it. Raises `StoreFailed`, `InUse` and `OSError`."""
        wanted = self._wanted
        store = store_of(wanted.repository, connections=wanted.max_downloads + _READERS)
        cache = CacheDirectory(Path(wanted.cache_dir))
        for kept in cache.sweep():
            self._say(kept)
        watch = Watch(wanted.interval_s, whole_objects=store.whole_objects, known=wanted.known)
        downloads = Downloads(store, cache, at_once=wanted.max_downloads, say=self._say, on_spoiled=watch.spoil)
        return _Opened(store=store, cache=cache, watch=watch, downloads=downloads)

    def _list(self, opened: _Opened) -> int:
        """Returns how many manifests and labels could not be read. Raises `StoreFailed` and `ListingDoubtful`."""
        listing = opened.store.list_all()
        wanted = opened.watch.look(listing)
        read = _read_all(opened.store, wanted)
        unread = [entry.path for entry in wanted if entry not in read]
        if unread and self._unread_tries_left:
            self._unread_tries_left -= 1
            opened.watch.keep(read)
            raise StoreFailed(
                f"{len(unread)} of {len(wanted)} manifests and labels could not be read, {unread[0]} among them."
            )
        self._unread_tries_left = 0
        changes = opened.watch.take(read, now_s=time.monotonic())
        for some in _portions(changes.models):
            self._say(Changed(models=some))
        if changes.removed:
            self._say(Changed(removed=changes.removed))
        return len(unread)


def _chance() -> float:
    return random.random()  # noqa: S311 - only to spread the load


def _is_removed(cache: CacheDirectory, directory: Path) -> bool:
    with suppress(OSError):
        return cache.delete(cache.discard(directory))
    return False


def store_of(repository: str, *, connections: int) -> Store:
    """The store that an address means. Raises `StoreFailed`."""
    if repository.startswith("s3://"):
        from tidegate.inference.repository.s3_store import S3Store  # noqa: PLC0415 - boto3 is optional

        return S3Store.open(repository, connections=connections, readers=_READERS_OF_AN_OBJECT)
    return FolderStore(Path(repository))


def run(requests: Iterable[bytes], output: Output) -> None:
    """Do what the lines ask until they end."""
    process: RepositoryProcess | None = None
    for line in requests:
        message = message_of(line)
        if isinstance(message, Open):
            process = process or RepositoryProcess(message, output)
        elif process is None or not isinstance(message, Fetch | CancelFetch | Remove | Look):
            raise ValueError(f"{type(message).__name__} cannot come here: the first message is Open.")
        else:
            process.take(message)


def _read_all(store: Store, entries: list[Entry]) -> dict[Entry, bytes]:
    """The contents of small files; one that cannot be read now is left out, and is asked for again."""
    if not entries:
        return {}
    read: dict[Entry, bytes] = {}

    def bring(entry: Entry) -> None:
        with suppress(StoreFailed):
            read[entry] = b"".join(store.read(entry))

    with ThreadPoolExecutor(min(_READERS, len(entries)), thread_name_prefix="manifests") as readers:
        list(readers.map(bring, entries))
    return read


def _portions(models: tuple[Model, ...]) -> Iterable[tuple[Model, ...]]:
    return (models[start : start + _MODELS_A_LINE] for start in range(0, len(models), _MODELS_A_LINE))
