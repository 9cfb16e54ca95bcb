"""The models that this server has, by name. A server of one model is a registry of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from inference.errors import NotFound
from inference.frontend import requirements
from inference.frontend.launcher import Launcher
from inference.frontend.model_pool import ModelPool, PoolLimits
from inference.protocol import ModelSpec
from inference.settings import Settings

SINGLE_MODEL = "model"
"""The name that TorchServe gave the one model of a single-model endpoint."""


class Registry:
    """Loads models into pools of workers and finds them again."""

    def __init__(self, settings: Settings, launcher: Launcher, on_crash_loop: Callable[[str], None]) -> None:
        self._settings = settings
        self._launcher = launcher
        self._on_crash_loop = on_crash_loop
        self._packages = tempfile.TemporaryDirectory(prefix="tidegate-packages-")
        self.pools: dict[str, ModelPool] = {}

    async def load(self, name: str, model_dir: str) -> ModelPool:
        """Load a model; it is listed at once and takes traffic when it has passed its own check.

        Raises `DeploymentError` with the reason that the worker gave.
        """
        packages = Path(self._packages.name) / name
        lacking = await requirements.install(Path(model_dir), packages, self._settings.requirements_timeout_s)
        gpus = await self._launcher.gpus()
        cores = usable_cores()
        workers = self._settings.workers or gpus or cores
        spec = ModelSpec(
            name=name,
            model_dir=model_dir,
            program=self._settings.program,
            gpu_id=None,
            threads=self._settings.threads_per_worker or max(cores // workers, 1),
            verify=False,
            max_batch_size=self._settings.max_batch_size,
            default_accept=self._settings.default_accept,
            max_decoded_bytes=self._settings.max_decoded_bytes,
            max_response_bytes=self._settings.max_response_bytes,
            max_image_pixels=self._settings.max_image_pixels,
            log_level=self._settings.log_level,
            input_threads=self._settings.input_threads,
            packages_dir=str(packages) if lacking else None,
        )
        limits = PoolLimits(
            workers=workers,
            gpus=gpus,
            queue_size=self._settings.queue_size,
            max_bytes_in_flight=self._settings.max_bytes_in_flight,
            max_batch_size=self._settings.max_batch_size,
            max_wait_s=self._settings.max_wait_ms / 1000,
            timeout_s=self._settings.timeout_s,
            load_timeout_s=self._settings.load_timeout_s,
            crash_loop_s=self._settings.crash_loop_s,
            retry=self._settings.retry,
            batches_ahead=1 if self._settings.input_threads else 0,
        )
        pool = ModelPool(spec, limits, self._launcher, self._on_crash_loop)
        self.pools[name] = pool
        await pool.load()
        return pool

    def find(self, name: str) -> ModelPool:
        """The pool of a model. Raises `NotFound`."""
        try:
            return self.pools[name]
        except KeyError:
            raise NotFound(f"There is no model '{name}'.") from None

    def worker_exited(self, pid: int, status: int) -> None:
        """Tell the pool whose worker ended."""
        for pool in self.pools.values():
            if pid in pool.pids:
                pool.worker_exited(pid, status)

    def close(self) -> None:
        """Give up all models."""
        for pool in self.pools.values():
            pool.close()
        self._packages.cleanup()


def usable_cores() -> int:
    """The CPU cores that this container may use: its affinity, or less where its cgroup has a quota."""
    cores = len(os.sched_getaffinity(0))
    quota = _cgroup_quota()
    return max(1, min(cores, int(quota))) if quota else cores


def _cgroup_quota() -> float | None:
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:  # noqa: PTH123 - a kernel interface, read in one go
            limit, period = file.read().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError):
        return None
