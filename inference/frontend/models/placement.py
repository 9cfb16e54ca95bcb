"""How a model is placed on this machine: its workers, their threads and devices, and the limits of its queue.

Pure: the settings, the archive's word on batching and what the machine has are passed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tidegate.inference.batching import DEFAULT_WAIT_MS, Batching
from tidegate.inference.errors import DeploymentError
from tidegate.inference.frontend.models.container_limits import copies_that_fit
from tidegate.inference.frontend.queue.pool_limits import PoolLimits
from tidegate.inference.settings import Settings
from tidegate.inference.tracing import FLUSH_S

MIN_QUEUE_WAIT_S = 60.0
"""How long a request may wait at least by default: a short deadline of user code is about the request that is computed,
not about those behind one that hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What this container may use."""

    cores: int
    gpus: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What `place` decided. `threads` is for each worker."""

    threads: int
    limits: PoolLimits


def place(
    settings: Settings, machine: Machine, *, batching: Batching, model_bytes: int, gpus_taken: Iterable[int]
) -> Placement:
    """Place a model of `model_bytes` (of files) beside those whose first GPUs are `gpus_taken`."""
    workers = settings.workers or _default_workers(settings, machine, model_bytes)
    finds_size = batching.finds_size(settings.max_batch_size)
    wait_ms = settings.batch_latency_ms if finds_size else DEFAULT_WAIT_MS
    return Placement(
        threads=settings.threads_per_worker or max(machine.cores // workers, 1),
        limits=PoolLimits(
            workers=workers,
            gpus=machine.gpus,
            first_gpu=least_used_gpus(machine.gpus, settings.gpus_per_worker, gpus_taken),
            gpus_per_worker=settings.gpus_per_worker,
            queue_size=settings.queue_size,
            max_batch_size=batching.size(settings.max_batch_size),
            max_wait_s=batching.wait_ms(settings.max_wait_ms, wait_ms) / 1000,
            batch_latency_s=settings.batch_latency_ms / 1000 if finds_size else None,
            timeout_s=settings.timeout_s,
            max_queue_wait_s=settings.max_queue_wait_s or max(MIN_QUEUE_WAIT_S, settings.timeout_s),
            load_timeout_s=settings.load_timeout_s,
            crash_loop_s=settings.crash_loop_s,
            retry=settings.retry,
            prefetch=1 if settings.input_threads else 0,
            flush_s=FLUSH_S if settings.traced else 0.0,
        ),
    )


def first_worker_only(placement: Placement) -> Placement:
    """The same, but no second worker: the first has the threads and the device that it would have among all."""
    return replace(placement, limits=replace(placement.limits, workers=1))


def least_used_gpus(gpus: int, per_worker: int, taken: Iterable[int]) -> int:
    """The first of those GPUs of one worker that the fewest models start at; 0 where there are none."""
    models = Counter(taken)
    return min(range(0, gpus, per_worker), key=lambda gpu: models[gpu], default=0)


def refuse_gpus(settings: Settings, gpus: int) -> None:
    """Raise `DeploymentError` where `gpus` cannot be shared out as the settings say."""
    each, workers = settings.gpus_per_worker, settings.workers
    if each == 1:
        return
    if each > gpus:
        raise DeploymentError(
            f"TIDEGATE_GPUS_PER_WORKER={each} is more than the {_gpus(gpus)} that this container sees; lower it, or "
            "choose a machine with more."
        )
    if gpus % each:
        fitting = ", ".join(str(number) for number in range(1, gpus + 1) if gpus % number == 0)
        raise DeploymentError(
            f"TIDEGATE_GPUS_PER_WORKER={each} does not divide the {_gpus(gpus)} that this container sees, so some "
            f"would not be used; choose one of {fitting}, or leave some of them out of CUDA_VISIBLE_DEVICES."
        )
    if workers is not None and workers * each > gpus:
        raise DeploymentError(
            f"{workers} workers (TIDEGATE_WORKERS) of {each} GPUs (TIDEGATE_GPUS_PER_WORKER) need {workers * each}, "
            f"and this container sees {gpus}; lower one of the two."
        )


def _gpus(number: int) -> str:
    return "1 GPU" if number == 1 else f"{number} GPUs"


def _default_workers(settings: Settings, machine: Machine, model_bytes: int) -> int:
    if settings.many_models:
        return 1  # as it was with TorchServe: more of each are asked for by name
    return machine.gpus // settings.gpus_per_worker or copies_that_fit(machine.cores, model_bytes, machine.free_bytes)
