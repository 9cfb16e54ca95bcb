"""The models that this server has, by name and revision. A server of one model is a registry of one.

    load ─▶ LOADING ─ loaded and checked ─▶ SERVING ─ unload, or it cannot be kept up ─▶ UNLOADING ─▶ gone
               └──────────── it fails, or is unloaded meanwhile ──────────────────────────────▲

A model counts against the limits from the request to load it until its memory is free. It is loaded once, however many
ask for it meanwhile: all of them wait for the same load, and one that leaves does not end it for the others.

On a multi-model endpoint the limits are kept here: a model that does not fit is refused. Of a model repository there
may be several revisions of one name side by side, and what fits was decided before (`frontend/repository/`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any

from tidegate.inference.errors import AlreadyLoaded, DeploymentError, Draining, NotFound
from tidegate.inference.frontend.metrics import MetricsByModel, ModelGauges
from tidegate.inference.frontend.models import capacity
from tidegate.inference.frontend.models.container_limits import free_memory_bytes
from tidegate.inference.frontend.models.loader import Loader
from tidegate.inference.frontend.models.stateful_sessions import StatefulSessions
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.workers.borrowing import Borrowing, Lender
from tidegate.inference.frontend.workers.fork_server import ForkServer
from tidegate.inference.memory_use import private_bytes
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.settings import Settings

log = logging.getLogger("tidegate.models")

SINGLE_MODEL = "model"
"""The name that TorchServe gave the one model of a single-model endpoint."""
REMEMBERED = 1000
"""Directories whose models' memory is remembered."""
_LOOK_S = 0.005
CLOSE_S = 1.0
"""How long the end of the server waits for loads that it has stopped to clear up."""


class ModelState(Enum):
    """Where a model is on its way through this server."""

    LOADING = auto()
    SERVING = auto()
    UNLOADING = auto()


@dataclass(slots=True, kw_only=True, eq=False)
class Model:
    """One model of this server. It has a pool from when its packages are installed; from then on it is listed."""

    revision: Revision
    model_dir: Path
    state: ModelState = ModelState.LOADING
    pool: ModelPool | None = None
    promised_bytes: int = 0
    """What it will take of the memory that is still free while it is loading, as far as is known."""
    memory_bytes: int = 0
    """What it takes, as measured when it was loaded."""
    loading: asyncio.Task[ModelPool] | None = None
    """The one flight that all who want the model wait for."""

    @property
    def name(self) -> str:
        """What requests call it."""
        return self.revision.name


class Registry:
    """Loads models into pools of workers and finds them again."""

    def __init__(self, settings: Settings, fork_server: ForkServer, on_crash_loop: Callable[[str], None]) -> None:
        self._settings = settings
        self._on_crash_loop = on_crash_loop
        self._models: dict[str, list[Model]] = {}
        """Those of one name in the order in which they came; no list is empty."""
        self._leaving: dict[Model, asyncio.Task[None]] = {}
        self._metrics = MetricsByModel()
        self._measured: dict[Path, int] = {}
        """What a directory took when it was last loaded, on a multi-model endpoint."""
        self.ready = False
        self.lender: Lender | None = None
        """Who has models for scripts that ask for them."""
        self.on_report: Callable[[Mapping[str, Any]], None] | None = None
        """Told what a worker says of its load in a rehearsal."""
        self.sessions = StatefulSessions(settings) if settings.stateful_sessions else None
        self._loader = Loader(settings, fork_server, self.sessions.root if self.sessions else None)

    async def warm_up(self) -> None:
        """Wait until workers can be started. Raises `DeploymentError`."""
        await self._loader.gpus()
        self.ready = True

    # --- who is here

    @property
    def pools(self) -> dict[str, ModelPool]:
        """The pools by the names of their models, the newest of each, those that are still loading among them."""
        return {name: pool for name, models in self._models.items() if (pool := models[-1].pool) is not None}

    def get(self, name: str) -> ModelPool | None:
        """The pool of a model, the newest of several; None where there is none."""
        models = self._models.get(name)
        return models[-1].pool if models else None

    def find(self, name: str) -> ModelPool:
        """The pool of a model. Raises `NotFound`."""
        pool = self.get(name)
        if pool is None:
            raise _unknown(name)
        return pool

    def has(self, name: str) -> bool:
        """Whether a model of this name is here, or on its way."""
        return name in self._models

    def directory(self, name: str, version: int | None = None) -> Path | None:
        """Where the files of a model that serves lie, the newest of several, or those of a version; None without."""
        serving = (
            model
            for model in reversed(self._models.get(name, []))
            if model.state is ModelState.SERVING and version in (None, model.revision.version)
        )
        return next((model.model_dir for model in serving), None)

    @property
    def serving(self) -> list[Model]:
        """All that serve, by name, and of one name by version."""
        found = (model for models in self._models.values() for model in models if model.state is ModelState.SERVING)
        return sorted(found, key=lambda model: (model.name, model.revision.version))

    def gauges(self) -> dict[str, ModelGauges]:
        """What `/metrics` says of each model: its revisions together, also those that are leaving."""
        gauges: dict[str, ModelGauges] = {}
        for pool in self._all_pools():
            name, found = pool.spec.name, pool.gauges
            gauges[name] = gauges[name].with_another(found) if name in gauges else found
        for name, metrics in self._metrics.gone():
            gauges.setdefault(name, ModelGauges(metrics=metrics, waiting=0, computing=0, workers={}))
        return gauges

    # --- they come

    async def load(self, name: str, model_dir: Path, *, rehearsal: bool = False) -> ModelPool:
        """Load a model; it takes traffic when it has passed its own check, and this returns.

        A rehearsal ends there: the first worker, whose settings are those of one among all, tells `on_report` each
        step that it has done and what came of it, and no other is started. Raises `AlreadyLoaded`, `ModelDoesNotFit`
        where the limits leave it no room, and `DeploymentError` with the reason that the worker gave.
        """
        models = self._models.get(name)
        if not models:
            capacity.demand_place(self._places_taken, self._settings.max_loaded_models)
            # One model of many that cannot be kept up is that model's end; the only one is the server's.
            on_crash_loop = None if self._settings.multi_model else self._on_crash_loop
            model = self._begin(
                Revision(name=name, version=1, digest=""), model_dir, on_crash_loop, rehearsal=rehearsal
            )
        else:
            model = models[-1]
            if model.state is ModelState.SERVING:
                raise AlreadyLoaded(f"The model '{name}' is loaded already.")
            if model.model_dir != model_dir:
                raise AlreadyLoaded(f"The model '{name}' is being loaded from {model.model_dir}.")
        assert model.loading is not None  # noqa: S101 - set by _begin
        return await asyncio.shield(model.loading)

    async def load_revision(self, revision: Revision, model_dir: Path, on_crash_loop: Callable[[str], None]) -> Model:
        """Load a revision of a model repository, beside others of its name; returns it loaded, checked and measured.

        `on_crash_loop` is told why it cannot be kept up: it has left by itself then. Raises `ModelDoesNotFit` and
        `DeploymentError`, and leaves nothing then.
        """
        model = self._begin(revision, model_dir, on_crash_loop)
        assert model.loading is not None  # noqa: S101 - set by _begin
        await model.loading
        return model

    @property
    def _places_taken(self) -> int:
        return sum(map(len, self._models.values())) + len(self._leaving)

    def _begin(
        self,
        revision: Revision,
        model_dir: Path,
        on_crash_loop: Callable[[str], None] | None,
        *,
        rehearsal: bool = False,
    ) -> Model:
        model = Model(revision=revision, model_dir=model_dir)
        self._models.setdefault(revision.name, []).append(model)
        work = self._load(model, on_crash_loop, rehearsal=rehearsal)
        model.loading = asyncio.get_running_loop().create_task(work)
        model.loading.add_done_callback(_retrieve)
        return model

    async def _load(self, model: Model, on_crash_loop: Callable[[str], None] | None, *, rehearsal: bool) -> ModelPool:
        try:
            if self._settings.multi_model:
                await self._demand_memory(model)
            prepared = await self._loader.prepare(model.revision, model.model_dir, rehearsal=rehearsal)
            taken = [pool.limits.first_gpu for pool in self._all_pools()]
            give_up = on_crash_loop
            if self._settings.many_models:
                give_up = partial(self._give_up, model, on_crash_loop or _nobody)
            metrics = self._metrics.of(model.name)
            pool = model.pool = self._loader.pool(prepared, taken, give_up or _nobody, metrics)
            if self.lender is not None:
                # A front script is none of the repository's revisions.
                pool.borrowing = Borrowing(self.lender, model.revision if model.revision.digest else None)
            if self.on_report is not None:
                pool.on_report = self.on_report
            await pool.load()
            if self._settings.many_models:
                await self._measure(model)
        except BaseException as error:
            await self._failed(model)
            if isinstance(error, asyncio.CancelledError):
                raise DeploymentError(f"The model '{model.name}' was stopped while it was loaded.") from None
            raise
        finally:
            model.promised_bytes = 0
        model.state = ModelState.SERVING
        return pool

    async def _demand_memory(self, model: Model) -> None:
        # In a thread: nobody else waits while somebody has the size of a whole disk counted.
        files = await asyncio.to_thread(capacity.file_bytes, model.model_dir)
        needed_bytes = self._measured.get(model.model_dir, files * (self._settings.workers or 1))
        capacity.demand_memory(
            model.name,
            needed_bytes=needed_bytes,
            promised_bytes=sum(other.promised_bytes for other in self._all_models()),
            free_bytes=free_memory_bytes(),
            min_free_bytes=self._settings.min_free_memory_bytes,
        )
        self._demand_bytes(model, needed_bytes)
        model.promised_bytes = needed_bytes

    def _demand_bytes(self, model: Model, needed_bytes: int) -> None:
        others = [other for other in self._all_models() if other is not model]
        capacity.demand_bytes(
            model.name,
            needed_bytes=needed_bytes,
            taken_bytes=sum(max(other.memory_bytes, other.promised_bytes) for other in others),
            max_bytes=self._settings.max_loaded_bytes,
        )

    async def measure(self, model: Model) -> bool:
        """Note what a loaded model takes now: the memory of its workers, those that are still to come like the others.

        What it took before stays where nothing can be measured; returns whether anything was.
        """
        if model.pool is None or not (ready := model.pool.gauges.workers):
            return False
        measured = await asyncio.to_thread(private_bytes, list(ready))
        if measured:
            on_gpus = sum(sum(held.values()) for held in ready.values())
            model.memory_bytes = (measured + on_gpus) * model.pool.limits.workers // len(ready)
        return measured > 0

    async def _measure(self, model: Model) -> None:
        await self.measure(model)
        if self._settings.multi_model:
            self._measured[model.model_dir] = model.memory_bytes
            if len(self._measured) > REMEMBERED:
                del self._measured[next(iter(self._measured))]
            self._demand_bytes(model, model.memory_bytes)

    async def _failed(self, model: Model) -> None:
        # It counts until its memory is free. Where it is unloaded meanwhile, `_unload` sees to it.
        if model.state is ModelState.LOADING and model.pool is not None:
            await model.pool.unload(0.0)
        if model.state is ModelState.LOADING:
            self._remove(model)
            await self._forget(model)

    def _remove(self, model: Model) -> None:
        models = self._models.get(model.name, [])
        if model in models:
            models.remove(model)
        if not models:
            self._models.pop(model.name, None)
            self._metrics.leave(model.name)

    # --- they go

    async def unload(self, name: str) -> None:
        """Forget a model and return when its memory is free. Raises `NotFound`."""
        if name not in self._models:
            raise _unknown(name)
        await asyncio.shield(self._leave(self._models[name][-1], self._settings.timeout_s))

    async def unload_revision(self, revision: Revision, timeout_s: float, *, hurry: bool) -> None:
        """Let a revision that is sent no more requests answer those that it has, and return when its memory is free.

        What takes longer than `timeout_s` is ended; in a hurry, conversations are asked to end at once. One that is
        not here is gone already.
        """
        for model in self._models.get(revision.name, ()):
            if model.revision == revision:
                if model.pool is not None and model.state is ModelState.SERVING:
                    await model.pool.settle(timeout_s, hurry=hurry)
                if model.state is not ModelState.UNLOADING:
                    self._leave(model, self._settings.timeout_s)
                break
        for model, leaving in list(self._leaving.items()):
            if model.revision == revision:
                await asyncio.shield(leaving)

    def _give_up(self, model: Model, tell: Callable[[str], None], cause: str) -> None:
        log.error("a model is given up", extra={"model": model.name, "cause": cause})
        if model.state is not ModelState.UNLOADING:
            self._leave(model, timeout_s=0.0).add_done_callback(lambda _: tell(cause))

    def _leave(self, model: Model, timeout_s: float) -> asyncio.Task[None]:
        model.state = ModelState.UNLOADING
        self._remove(model)
        # A task: a client that leaves before the answer does not stop it half-way.
        task = self._leaving[model] = asyncio.get_running_loop().create_task(self._unload(model, timeout_s))
        return task

    async def _unload(self, model: Model, timeout_s: float) -> None:
        try:
            if model.pool is not None:
                await model.pool.unload(timeout_s)
            elif model.loading is not None:
                model.loading.cancel()
            if model.loading is not None:
                await asyncio.wait([model.loading])
            await self._forget(model)
        finally:
            self._leaving.pop(model, None)

    async def _forget(self, model: Model) -> None:
        if model.pool is not None:
            await self._loader.forget(model.pool)
        # Of a repository, the sessions outlive a revision: the next one finds them.
        if self.sessions is not None and self._settings.model_repository is None:
            self.sessions.forget(model.name)

    # --- workers and the end

    def worker_exited(self, pid: int, status: int) -> None:
        """Tell the pool whose worker ended."""
        for pool in self._all_pools():
            if pool.owns(pid):
                pool.worker_exited(pid, status)

    async def close(self) -> None:
        """Give up all models."""
        for pool in self._all_pools():
            pool.close(Draining("The server was stopped before this request was done."))
        loading = [model.loading for model in self._all_models() if model.loading is not None]
        for task in loading:
            task.cancel()  # one that is done is not touched
        if loading:
            await asyncio.wait(loading, timeout=CLOSE_S)
        self._loader.close()
        if self.sessions is not None:
            self.sessions.close()

    async def gone(self, limit_s: float) -> None:
        """Return when no worker is left, or `limit_s` are over; after `close`."""
        deadline_s = monotonic() + limit_s
        # Each ends in a process of its own, and looking is simpler than being told by all.
        while any(pool.has_processes for pool in self._all_pools()) and monotonic() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    def _all_models(self) -> Iterator[Model]:
        yield from chain.from_iterable(self._models.values())
        yield from self._leaving

    def _all_pools(self) -> list[ModelPool]:
        return [model.pool for model in self._all_models() if model.pool is not None]


def _nobody(_cause: str) -> None:
    """Nobody else need be told that a model was given up."""


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no model '{name}'.")


def _retrieve(loading: asyncio.Task[ModelPool]) -> None:
    # That nobody may wait for a load any more is no fault.
    if not loading.cancelled():
        loading.exception()
