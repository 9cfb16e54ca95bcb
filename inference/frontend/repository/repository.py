"""The repository as the server has it: hears its process, asks the librarian, and does what that decides.

request ─▶ find ─▶ the pool that answers                 (loaded: look-ups, and nothing else)
           want ─▶ Librarian ─▶ Fetch, Load, Unload …    (else: the request waits, and holds no worker)
repository's process ─▶ Changed, Fetched … ─▶ Librarian ─▶ …
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine, Hashable, Iterable
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any, NamedTuple, Protocol, cast

from tidegate.inference import directory_lock
from tidegate.inference.errors import (
    DeploymentError,
    Draining,
    LoadInterrupted,
    ModelDoesNotFit,
    NotReady,
    RequestError,
)
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.models.container_limits import free_memory_bytes
from tidegate.inference.frontend.models.registry import Model as ModelInMemory
from tidegate.inference.frontend.models.registry import Registry
from tidegate.inference.frontend.queue.actions import Log
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.repository.actions import (
    Action,
    CancelFetch,
    Drop,
    Fetch,
    Grant,
    Load,
    Place,
    Refuse,
    RemoveFromDisk,
    Unload,
)
from tidegate.inference.frontend.repository.choice import Selector, echoed
from tidegate.inference.frontend.repository.librarian import Librarian
from tidegate.inference.frontend.repository.repository_metrics import RepositoryGauges, RepositoryMetrics
from tidegate.inference.frontend.repository.repository_process import COMMAND, SILENT_S, RepositoryProcess
from tidegate.inference.frontend.repository.room import Limits
from tidegate.inference.frontend.repository.script_models import ScriptModels
from tidegate.inference.frontend.temporary import new_folder
from tidegate.inference.repository import messages
from tidegate.inference.repository.catalogue import Model, Revision
from tidegate.inference.settings import Settings

log = logging.getLogger("tidegate.repository")

UNHURRIED = ("replaced", "removed")
"""Nothing waits for the room of these: their streams may end as they would have."""
MEASURE_S = 10.0
MEASURED_AT_ONCE = 20
HANDOVER_S = 10.0
"""How long the processes of a server that was killed may take to let go of its cache."""
MIN_WAIT_S = 60.0
"""How long a request waits for a load at least, by default: as long as for a worker."""


class Answering(NamedTuple):
    """A loaded revision: who answers, and the value of the header that says so."""

    revision: Revision
    pool: ModelPool
    choice: str


class Waiter(Hashable, Protocol):
    """A request that waits for its revision. It is told one of the two, once, unless it leaves."""

    def granted(self, answering: Answering) -> None: ...
    def refused(self, error: RequestError) -> None: ...


class Repository:
    """The one model repository of this server."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        assert settings.model_repository is not None  # noqa: S101 - asked by whoever makes one
        self.url = settings.model_repository
        self.metrics = RepositoryMetrics()
        self.own_metrics = ModelMetrics()
        """Where answers are counted that no model gave."""
        self.epoch = 0
        """Goes up whenever a revision is about to leave: what was found before may be gone."""
        self.note = ""
        """What is to be said about the listing: why it is seldom, or that it failed."""
        self.interval_s = settings.reload_interval_s
        self._settings = settings
        self._registry = registry
        self._librarian = Librarian(
            Limits(
                max_loaded_models=settings.max_loaded_models,
                max_loaded_bytes=settings.max_loaded_bytes,
                max_disk_models=settings.max_disk_models,
                max_disk_bytes=settings.max_disk_bytes,
                workers=settings.workers or 1,
            ),
            unload_first=settings.reload_order == "unload-first",
            pinned=settings.pinned_models,
        )
        self._catalogue: dict[str, Model] = {}
        """What there is, for a process that replaces another."""
        self._max_wait_s = settings.max_queue_wait_s or max(MIN_WAIT_S, settings.timeout_s)
        self.scripts = ScriptModels(self._librarian, self._carry_out, self._now_s)
        registry.lender = self.scripts
        self._loaded: dict[Revision, Answering] = {}
        self._unloading: dict[Revision, asyncio.Task[None]] = {}
        self._to_measure: dict[Revision, ModelInMemory] = {}
        """What is loaded, in the order in which it was measured last."""
        self._waiting: set[Waiter] = set()
        self._fetches: dict[int, Revision] = {}
        self._removals: dict[str, Revision] = {}
        self._ids = count(1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf
        self._listed = False
        self._process_is_back = False
        self._cache: TemporaryDirectory[str] | None = None
        self._process: RepositoryProcess | None = None

    # --- the life of the server

    async def own_cache(self) -> None:
        """Wait a moment for whoever had the cache before. Raises `DeploymentError` where another server has it."""
        root, until_s = self._settings.model_cache_dir, monotonic() + HANDOVER_S
        while root is not None and directory_lock.is_taken(root):
            if monotonic() >= until_s:
                raise DeploymentError(
                    f"TIDEGATE_MODEL_CACHE_DIR {root} is in use by another server: set a directory for each."
                )
            await asyncio.sleep(0.2)

    def open(self) -> None:
        """Start looking. Raises `DeploymentError` where nothing can be kept on the disk."""
        settings, cache_dir = self._settings, self._settings.model_cache_dir
        if cache_dir is None:
            self._cache = new_folder("Fetched models", "tidegate-models-")
            cache_dir = Path(self._cache.name)

        def opening() -> messages.Open:
            return messages.Open(
                repository=self.url,
                interval_s=settings.reload_interval_s,
                cache_dir=str(cache_dir.absolute()),
                max_downloads=settings.max_downloads,
                known=tuple(self._catalogue.values()),
            )

        command = (*COMMAND, str(settings.log_level))
        self._process = RepositoryProcess(opening, self._heard, self._process_died, command)
        self._process.open()
        self._begin(self._measure_again())

    @property
    def ready(self) -> bool:
        """Whether it was listed once, so that what is not there is known not to be there."""
        return self._listed

    async def close(self) -> None:
        """Refuse who waits, and end the process. The registry ends the models."""
        if self._timer is not None:
            self._timer.cancel()
        for waiter in list(self._waiting):
            waiter.refused(Draining("The server was stopped before this request was done."))
        self._waiting.clear()
        self.scripts.close()
        for task in self._tasks:
            task.cancel()
        if self._process is not None:
            await self._process.close()
        if self._cache is not None:
            await asyncio.to_thread(self._cache.cleanup)

    # --- requests

    def find(self, selector: Selector) -> Answering | None:
        """Who answers a selector, and note its use; None where it has to be asked for by `want`."""
        revision = self._librarian.find(selector, monotonic())
        return self._loaded.get(revision) if revision is not None else None

    def look(self, selector: Selector) -> Answering | None:
        """Who would answer a selector now, without that this counts as a use. Raises as `known`."""
        self.demand_listed()
        revision = self._librarian.look(selector, monotonic())
        return self._loaded.get(revision) if revision is not None else None

    def described(self, revision: Revision | None) -> dict[str, object]:
        """What a loaded revision says of itself (`ModelPool.described`); nothing of one that is not loaded."""
        answering = self._loaded.get(revision) if revision is not None else None
        return answering.pool.described if answering is not None else {}

    def known(self, selector: Selector) -> Model:
        """The model of a selector. Raises `NotReady` before the first listing, and the four errors of `resolving`."""
        self.demand_listed()
        return self._librarian.known(selector)

    def demand_listed(self) -> None:
        """Raise `NotReady` before the first listing."""
        if not self._listed:
            # Why a listing failed names folders of the container, which is for `/ping` and the log.
            raise NotReady("The server is starting: the model repository has not been listed yet.")

    def want(self, waiter: Waiter, selector: Selector) -> None:
        """Have a selector's revision fetched and loaded. Raises the four errors of `resolving`, and `Overloaded`.

        The waiter may be told before this returns.
        """
        self.demand_listed()
        now_s = self._now_s()
        self._waiting.add(waiter)
        try:
            actions = self._librarian.want(waiter, selector, now_s, now_s + self._max_wait_s)
        except RequestError:
            self._waiting.discard(waiter)
            raise
        self._carry_out(actions)

    async def unload(self, name: str) -> None:
        """Have a model out of memory; returns when it is. Raises `ModelNotFound`."""
        self._carry_out(self._librarian.unload(name, self._now_s()))
        if leaving := [task for revision, task in self._unloading.items() if revision.name == name]:
            await asyncio.wait(leaving)

    def leave(self, waiter: Waiter) -> None:
        """Its client has gone."""
        if waiter in self._waiting:
            self._waiting.discard(waiter)
            self._carry_out(self._librarian.leave(waiter, self._now_s()))

    @property
    def starting(self) -> str:
        """Why it is not ready, in a sentence for whoever looks after the server."""
        return self.note or "The server is starting: the model repository has not been listed yet."

    def gauges(self) -> RepositoryGauges:
        """What `/metrics` says of it."""
        return RepositoryGauges(
            counts=self._librarian.counts,
            metrics=self.metrics,
            waiting=len(self._waiting),
            known=len(self._catalogue),
            on_disk=self._librarian.disk_models,
            disk_bytes=self._librarian.disk_bytes,
            in_memory=self._librarian.loaded_models,
            memory_bytes=self._librarian.loaded_bytes,
        )

    @property
    def librarian(self) -> Librarian:
        """What is known, for those who only read it."""
        return self._librarian

    # --- what the process says

    def _heard(self, event: messages.Event) -> None:
        try:
            self._take(event)
        except Exception:  # what comes next is to be heard all the same
            log.exception("a message of the repository's process could not be taken")

    def _take(self, event: messages.Event) -> None:
        now_s = self._now_s()
        if not self._process_is_back and not isinstance(event, messages.Kept):
            self._process_is_back = True
            self._carry_out(self._librarian.repository_back(now_s))
        match event:
            case messages.Kept(revision=revision, directory=directory, size_bytes=size_bytes):
                self._carry_out(self._librarian.kept(revision, directory, size_bytes, now_s))
            case messages.Changed(models=models, removed=removed):
                self._catalogue |= {model.name: model for model in models}
                for name in removed:
                    self._catalogue.pop(name, None)
                self._carry_out(self._librarian.changed(models, removed, now_s))
            case messages.Listed():
                self._was_listed(event, now_s)
            case messages.ListingFailed(reason=reason, retry_in_s=retry_in_s):
                self.metrics.listing_failures += 1
                self.note = f"The repository could not be listed: {reason}"
                log.warning("the repository could not be listed", extra={"reason": reason, "retry_in_s": retry_in_s})
            case messages.Fetched() | messages.FetchFailed() if event.id in self._fetches:
                self._fetch_is_over(event, self._fetches.pop(event.id), now_s)
            case messages.Removed(directory=directory) if directory in self._removals:
                self._carry_out(self._librarian.removed(self._removals.pop(directory), now_s))

    def _fetch_is_over(self, event: messages.Fetched | messages.FetchFailed, revision: Revision, now_s: float) -> None:
        if isinstance(event, messages.Fetched):
            actions = self._librarian.fetched(revision, event.directory, event.size_bytes, now_s)
        else:
            actions = self._librarian.fetch_failed(
                revision,
                event.reason,
                now_s,
                passing=event.passing,
                needed_bytes=event.needed_bytes,
                disk_full=event.disk_full,
            )
        self._carry_out(actions)

    def _was_listed(self, listed: messages.Listed, now_s: float) -> None:
        if not self._listed or listed.note != self.note:
            log.info("the repository was listed", extra={"models": listed.models, "note": listed.note})
        self._listed, self.note, self.interval_s = True, listed.note, listed.interval_s
        if self._process is not None:
            self._process.patience_s = SILENT_S + 2 * listed.interval_s if listed.interval_s else None
        self._carry_out(self._librarian.listed(now_s))

    def _process_died(self) -> None:
        self._process_is_back = False
        self._fetches.clear()
        self._removals.clear()
        self.metrics.process_restarts += 1
        self._carry_out(self._librarian.repository_lost(self._now_s()))

    # --- doing what is decided

    def _now_s(self) -> float:
        """The time, for a call in which something may be evicted: what that goes by is told before."""
        spare_bytes = free_memory_bytes() - self._settings.min_free_memory_bytes
        self._librarian.free_memory(max(spare_bytes, 0))
        now_s = monotonic()
        for revision, answering in self._loaded.items():
            if answering.pool.busy:
                self._librarian.in_use(revision, now_s)
        return now_s

    def _carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Unload | Drop) and action.idle_s is not None:
                self.metrics.idle_at_eviction_s.observe(action.idle_s)
            if self.scripts.carry_out(action):
                continue
            match action:
                case Grant(waiter, place):
                    self._waiting.discard(cast(Waiter, waiter))
                    cast(Waiter, waiter).granted(self._loaded[place.revision])
                case Refuse(waiter, error):
                    self._waiting.discard(cast(Waiter, waiter))
                    cast(Waiter, waiter).refused(error)
                case Load():
                    self._begin(self._load(action))
                case Unload(revision):
                    self.epoch += 1
                    self._unloading[revision] = self._begin(self._unload(action))
                case Fetch(revision, max_bytes):
                    id_ = next(self._ids)
                    self._fetches[id_] = revision
                    self._tell(messages.Fetch(id=id_, revision=revision, max_bytes=max_bytes))
                case CancelFetch(revision):
                    self._cancel_fetch(revision)
                case RemoveFromDisk(revision, directory):
                    self._removals[directory] = revision
                    self._tell(messages.Remove(directory=directory))
                case Log(level, message, fields):
                    log.log(level, message, extra=fields)
        self._set_timer()

    def _cancel_fetch(self, revision: Revision) -> None:
        for id_, fetched in self._fetches.items():
            if fetched == revision:
                self._tell(messages.CancelFetch(id=id_))

    def _tell(self, message: messages.Request) -> None:
        if self._process is not None:
            self._process.tell(message)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _load(self, load: Load) -> None:
        place, revision = load.place, load.place.revision
        began_s = monotonic()
        try:
            given_up = partial(self._given_up, place)
            model = await self._registry.load_revision(revision, Path(load.directory), given_up)
        except Exception as error:
            if not isinstance(error, DeploymentError):
                log.exception("a load failed unexpectedly", extra={"model": revision.name})
            if revision not in self._unloading:  # else its end is told by `_unload`
                too_large, interrupted = isinstance(error, ModelDoesNotFit), isinstance(error, LoadInterrupted)
                actions = self._librarian.load_failed(
                    place, str(error), self._now_s(), too_large=too_large, interrupted=interrupted
                )
                self._carry_out(actions)
            return
        if revision in self._unloading:
            return
        assert model.pool is not None  # noqa: S101 - it is loaded
        self.metrics.load_s.observe(monotonic() - began_s)
        self._loaded[revision] = Answering(revision, model.pool, echoed(revision, ""))
        self._to_measure[revision] = model
        # Where nothing can be measured, what was reserved for it is what it counts.
        memory_bytes = max(0, model.memory_bytes - self.scripts.held_bytes(revision)) or load.reserved_bytes
        self._carry_out(self._librarian.loaded(place, memory_bytes, self._now_s()))

    async def _unload(self, unload: Unload) -> None:
        revision = unload.revision
        log.info(
            "a model is unloaded", extra={"model": revision.name, "version": revision.version, "why": unload.reason}
        )
        settle_s = self._max_wait_s + self._settings.timeout_s
        hurry = unload.reason not in UNHURRIED or self._settings.reload_order != "load-first"
        if not hurry:
            settle_s = max(settle_s, self._settings.max_conversation_s)
        try:
            await self._registry.unload_revision(revision, settle_s, hurry=hurry)
        finally:
            self._loaded.pop(revision, None)
            self._to_measure.pop(revision, None)
            self._unloading.pop(revision, None)
        self._carry_out(self._librarian.unloaded(Place(revision), self._now_s()))

    async def _measure_again(self) -> None:
        """Models grow with their requests: the librarian is told of those that did."""
        while True:
            await asyncio.sleep(MEASURE_S)
            # Some at a time, those first that were measured longest ago: a thousand would take a second of a core.
            for revision, model in list(self._to_measure.items())[:MEASURED_AT_ONCE]:
                before_bytes = model.memory_bytes
                if await self._registry.measure(model):
                    # What its scripts hold beside it counts for itself.
                    model.memory_bytes = max(0, model.memory_bytes - self.scripts.held_bytes(revision))
                if self._to_measure.pop(revision, None) is None:
                    continue  # it left meanwhile
                self._to_measure[revision] = model
                if model.memory_bytes != before_bytes:
                    place = Place(revision)
                    self._carry_out(self._librarian.measured(place, model.memory_bytes, self._now_s()))

    def _given_up(self, place: Place, cause: str) -> None:
        if self._loaded.pop(place.revision, None) is not None and place.revision not in self._unloading:
            self._to_measure.pop(place.revision, None)
            self.epoch += 1
            self._carry_out(self._librarian.load_failed(place, cause, self._now_s()))

    # --- time

    def _set_timer(self) -> None:
        due_s = self._librarian.timer_s
        if due_s == self._timer_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s, self._timer = due_s, None
        if due_s < math.inf:
            self._timer = asyncio.get_running_loop().call_later(max(due_s - monotonic(), 0.0), self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer, self._timer_s = None, math.inf
        self._carry_out(self._librarian.tick(self._now_s()))
