"""The models that this server has, by name. A server of one model is a registry of one.

    load ─▶ LOADING ─ loaded and checked ─▶ SERVING ─ unload, or it cannot be kept up ─▶ UNLOADING ─▶ gone
               └──────────── it fails, or is unloaded meanwhile ──────────────────────────────▲

A model counts against the limits from the request to load it until its memory is free. It is loaded once, however many
ask for it meanwhile: all of them wait for the same load, and one that leaves does not end it for the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from pathlib import Path

from tidegate.inference.errors import AlreadyLoaded, DeploymentError, Draining, NotFound
from tidegate.inference.frontend.models import capacity
from tidegate.inference.frontend.models.container_limits import free_memory_bytes
from tidegate.inference.frontend.models.loader import Loader
from tidegate.inference.frontend.models.stateful_sessions import StatefulSessions
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.workers.fork_server import ForkServer
from tidegate.inference.settings import Settings

log = logging.getLogger("tidegate.models")

SINGLE_MODEL = "model"
"""The name that TorchServe gave the one model of a single-model endpoint."""
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

    name: str
    model_dir: Path
    state: ModelState = ModelState.LOADING
    pool: ModelPool | None = None
    promised_bytes: int = 0
    """What it will take of the memory that is still free while it is loading, as far as files can tell."""
    loading: asyncio.Task[ModelPool] | None = None
    """The one flight that all who want the model wait for."""


class Registry:
    """Loads models into pools of workers and finds them again."""

    def __init__(self, settings: Settings, fork_server: ForkServer, on_crash_loop: Callable[[str], None]) -> None:
        self._settings = settings
        self._on_crash_loop = on_crash_loop
        self._models: dict[str, Model] = {}
        self._leaving: dict[Model, asyncio.Task[None]] = {}
        self.ready = False
        self.sessions = StatefulSessions(settings) if settings.stateful_sessions else None
        self._loader = Loader(settings, fork_server, self.sessions.root if self.sessions else None)

    async def warm_up(self) -> None:
        """Wait until workers can be started. Raises `DeploymentError`."""
        await self._loader.gpus()
        self.ready = True

    # --- who is here

    @property
    def pools(self) -> dict[str, ModelPool]:
        """The pools by the names of their models, those that are still loading among them."""
        return {name: model.pool for name, model in self._models.items() if model.pool is not None}

    def get(self, name: str | None) -> ModelPool | None:
        """The pool of a model, None where there is none."""
        model = self._models.get(name) if name is not None else None
        return model.pool if model is not None else None

    def find(self, name: str) -> ModelPool:
        """The pool of a model. Raises `NotFound`."""
        pool = self.get(name)
        if pool is None:
            raise _unknown(name)
        return pool

    # --- they come

    async def load(self, name: str, model_dir: Path, *, rehearsal: bool = False) -> ModelPool:
        """Load a model; it takes traffic when it has passed its own check, and this returns.

        A rehearsal ends there: the first worker, whose settings are those of one among all, prints each step that it
        has done, and no other is started. Raises `AlreadyLoaded`, `ModelDoesNotFit` where the limits leave it no room,
        and `DeploymentError` with the reason that the worker gave.
        """
        model = self._models.get(name)
        if model is None:
            model = self._begin(name, model_dir, rehearsal=rehearsal)
        elif model.state is ModelState.SERVING:
            raise AlreadyLoaded(f"The model '{name}' is loaded already.")
        elif model.model_dir != model_dir:
            raise AlreadyLoaded(f"The model '{name}' is being loaded from {model.model_dir}.")
        assert model.loading is not None  # noqa: S101 - set by _begin
        return await asyncio.shield(model.loading)

    def has(self, name: str) -> bool:
        """Whether a model of this name is here, or on its way."""
        return name in self._models

    def _begin(self, name: str, model_dir: Path, *, rehearsal: bool) -> Model:
        capacity.demand_place(len(self._models) + len(self._leaving), self._settings.max_loaded_models)
        model = self._models[name] = Model(name=name, model_dir=model_dir)
        model.loading = asyncio.get_running_loop().create_task(self._load(model, rehearsal=rehearsal))
        model.loading.add_done_callback(_retrieve)
        return model

    async def _load(self, model: Model, *, rehearsal: bool) -> ModelPool:
        try:
            if self._settings.multi_model:
                await self._demand_memory(model)
            prepared = await self._loader.prepare(model.name, model.model_dir, rehearsal=rehearsal)
            taken = [pool.limits.first_gpu for pool in self.pools.values()]
            # One model of many that cannot be kept up is that model's end; the only one is the server's.
            on_crash_loop = partial(self._give_up, model) if self._settings.multi_model else self._on_crash_loop
            pool = model.pool = self._loader.pool(prepared, taken, on_crash_loop)
            await pool.load()
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
        needed_bytes = files * (self._settings.workers or 1)
        capacity.demand_memory(
            model.name,
            needed_bytes=needed_bytes,
            promised_bytes=sum(other.promised_bytes for other in self._models.values()),
            free_bytes=free_memory_bytes(),
            min_free_bytes=self._settings.min_free_memory_bytes,
        )
        model.promised_bytes = needed_bytes

    async def _failed(self, model: Model) -> None:
        if model.state is ModelState.LOADING:  # else `_unload` sees to it
            self._models.pop(model.name, None)
            if model.pool is not None:
                model.pool.close()
            await self._forget(model)

    # --- they go

    async def unload(self, name: str) -> None:
        """Forget a model and return when its memory is free. Raises `NotFound`."""
        if name not in self._models:
            raise _unknown(name)
        await asyncio.shield(self._leave(self._models[name], self._settings.timeout_s))

    def _give_up(self, model: Model, cause: str) -> None:
        log.error("a model is given up", extra={"model": model.name, "cause": cause})
        self._leave(model, timeout_s=0.0)

    def _leave(self, model: Model, timeout_s: float) -> asyncio.Task[None]:
        model.state = ModelState.UNLOADING
        self._models.pop(model.name)
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
        if self.sessions is not None:
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
        loading = [model.loading for model in self._models.values() if model.loading is not None]
        for task in loading:
            task.cancel()  # one that is done is not touched
        if loading:
            await asyncio.wait(loading, timeout=CLOSE_S)
        self._loader.close()
        if self.sessions is not None:
            self.sessions.close()

    def _all_pools(self) -> list[ModelPool]:
        return [model.pool for model in (*self._models.values(), *self._leaving) if model.pool is not None]


def _unknown(name: str) -> NotFound:
    return NotFound(f"There is no model '{name}'.")


def _retrieve(loading: asyncio.Task[ModelPool]) -> None:
    # That nobody may wait for a load any more is no fault.
    if not loading.cancelled():
        loading.exception()
