"""The models that this server has, by name. A server of one model is a registry of one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path

from tidegate.inference.batching import declared_in
from tidegate.inference.errors import DeploymentError, Draining, NotFound
from tidegate.inference.frontend.models.container_limits import copies_that_fit, free_memory_bytes, usable_cores
from tidegate.inference.frontend.models.stateful_sessions import StatefulSessions
from tidegate.inference.frontend.packages import requirements
from tidegate.inference.frontend.queue.model_pool import ModelPool
from tidegate.inference.frontend.queue.pool_limits import PoolLimits
from tidegate.inference.frontend.queue.scheduling import least_used_gpu
from tidegate.inference.frontend.temporary import new_folder
from tidegate.inference.frontend.workers.fork_server import ForkServer, ForkServerFailed
from tidegate.inference.layout import linked
from tidegate.inference.protocol import ModelSpec
from tidegate.inference.settings import Settings

log = logging.getLogger("tidegate.models")

SINGLE_MODEL = "model"
"""The name that TorchServe gave the one model of a single-model endpoint."""


class Registry:
    """Loads models into pools of workers and finds them again."""

    def __init__(self, settings: Settings, fork_server: ForkServer, on_crash_loop: Callable[[str], None]) -> None:
        self._settings = settings
        self._fork_server = fork_server
        self._on_crash_loop = on_crash_loop
        self._packages: tempfile.TemporaryDirectory[str] | None = None
        self._loads = count()
        self._leaving: list[ModelPool] = []
        self._chores: set[asyncio.Future[None]] = set()
        self.pools: dict[str, ModelPool] = {}
        self.ready = False
        self.sessions = StatefulSessions(settings) if settings.stateful_sessions else None

    async def warm_up(self) -> None:
        """Wait until workers can be started. Raises `DeploymentError`."""
        await self._gpus()
        self.ready = True

    async def load(self, name: str, model_dir: str, *, rehearsal: bool = False) -> ModelPool:
        """Load a model; it is listed at once and takes traffic when it has passed its own check.

        A rehearsal ends there: the first worker, whose settings are those of one among all, prints each step that it
        has done, and no other is started. Raises `DeploymentError` with the reason that the worker gave.
        """
        # In a thread: nobody else waits while somebody's whole disk is looked through.
        if said := await asyncio.to_thread(linked, Path(model_dir)):
            if rehearsal or self._settings.multi_model:
                raise DeploymentError(said)
            log.warning("%s", said)
        packages_dir = await requirements.install(
            Path(model_dir),
            self._new_packages_dir,
            self._settings.requirements_timeout_s,
            self._settings.codeartifact_arn,
        )
        try:
            return await self._load(name, model_dir, packages_dir, rehearsal=rehearsal)
        except BaseException:
            if packages_dir:
                await requirements.remove(packages_dir)
            raise

    async def _load(self, name: str, model_dir: str, packages_dir: Path | None, *, rehearsal: bool) -> ModelPool:
        batching = declared_in(Path(model_dir))
        max_batch_size = batching.size(self._settings.max_batch_size)
        gpus = await self._gpus()
        cores = usable_cores()
        # Of many models each has one worker unless more are asked for, as it was with TorchServe.
        workers = self._settings.workers or (
            1 if self._settings.multi_model else gpus or _copies(cores, Path(model_dir))
        )
        spec = ModelSpec(
            name=name,
            model_dir=model_dir,
            program=self._settings.program,
            gpu_id=None,
            threads=self._settings.threads_per_worker or max(cores // workers, 1),
            verify=False,
            max_batch_size=max_batch_size,
            default_accept=self._settings.default_accept,
            max_decoded_bytes=self._settings.max_decoded_bytes,
            max_response_bytes=self._settings.max_response_bytes,
            max_image_pixels=self._settings.max_image_pixels,
            image_orientation=self._settings.image_orientation,
            image_background=self._settings.image_background,
            log_level=self._settings.log_level,
            trust_pickle=self._settings.trust_pickled_model,
            submit_directory=self._settings.submit_directory,
            input_threads=self._settings.input_threads,
            packages_dir=str(packages_dir) if packages_dir else None,
            sessions_dir=str(self.sessions.root) if self.sessions else None,
            rehearsal=rehearsal,
            prove=self._settings.retry and max_batch_size > 1,
            timeout_s=self._settings.timeout_s,
        )
        limits = PoolLimits(
            workers=workers,
            gpus=gpus,
            first_gpu=least_used_gpu(gpus, (pool.limits.first_gpu for pool in self.pools.values())),
            queue_size=self._settings.queue_size,
            max_bytes_in_flight=self._settings.max_bytes_in_flight,
            max_batch_size=max_batch_size,
            max_wait_s=batching.wait_ms(self._settings.max_wait_ms) / 1000,
            timeout_s=self._settings.timeout_s,
            # Longer than a short deadline: who waits behind a request that hangs is not to blame for it.
            max_queue_wait_s=self._settings.max_queue_wait_s or max(60.0, self._settings.timeout_s),
            load_timeout_s=self._settings.load_timeout_s,
            crash_loop_s=self._settings.crash_loop_s,
            retry=self._settings.retry,
            batches_ahead=1 if self._settings.input_threads else 0,
        )
        if rehearsal:
            limits = replace(limits, workers=1)
        # One model of many that cannot be kept up is that model's end; the only one is the server's.
        on_crash_loop = partial(self._drop, name) if self._settings.multi_model else self._on_crash_loop
        pool = ModelPool(spec, limits, self._fork_server, on_crash_loop)
        self.pools[name] = pool
        try:
            await pool.load()
        except BaseException:
            self.pools.pop(name, None)
            pool.close()
            raise
        return pool

    async def unload(self, name: str) -> None:
        """Forget a model and return when its memory is free. Raises `NotFound`."""
        pool = self.find(name)
        del self.pools[name]
        self._leaving.append(pool)
        try:
            await pool.unload(self._settings.timeout_s)
        finally:
            self._leaving.remove(pool)
            await _forget_packages(pool)
            if self.sessions is not None:
                self.sessions.forget(name)

    async def _gpus(self) -> int:
        try:
            return await self._fork_server.gpus()
        except ForkServerFailed as error:
            raise DeploymentError(f"The workers cannot be started: {error}.") from error

    def _new_packages_dir(self) -> Path:
        if self._packages is None:
            self._packages = new_folder("The packages of a model", "tidegate-packages-")
        # Numbered: a model's name is the platform's own hash, but nothing says that it is a file name.
        return Path(self._packages.name) / f"{next(self._loads)}"

    def _drop(self, name: str, cause: str) -> None:
        log.error("a model is given up", extra={"model": name, "cause": cause})
        pool = self.pools.pop(name)
        pool.close()
        chore = asyncio.ensure_future(_forget_packages(pool))
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    def find(self, name: str) -> ModelPool:
        """The pool of a model. Raises `NotFound`."""
        try:
            return self.pools[name]
        except KeyError:
            raise NotFound(f"There is no model '{name}'.") from None

    def worker_exited(self, pid: int, status: int) -> None:
        """Tell the pool whose worker ended."""
        for pool in (*self.pools.values(), *self._leaving):
            if pool.owns(pid):
                pool.worker_exited(pid, status)

    def close(self) -> None:
        """Give up all models."""
        for pool in (*self.pools.values(), *self._leaving):
            pool.close(Draining("The server was stopped before this request was done."))
        if self._packages is not None:
            self._packages.cleanup()
        if self.sessions is not None:
            self.sessions.close()


def file_bytes(directory: Path) -> int:
    """The size of all files below a directory, in bytes: what a copy of the model takes, as far as files can tell."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(OSError):  # a link to nowhere, or gone meanwhile
                found = (Path(folder) / name).stat()
                total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total


async def _forget_packages(pool: ModelPool) -> None:
    if pool.spec.packages_dir:
        await requirements.remove(Path(pool.spec.packages_dir))


def _copies(cores: int, model_dir: Path) -> int:
    return copies_that_fit(cores, file_bytes(model_dir), free_memory_bytes())
