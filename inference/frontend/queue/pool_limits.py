"""The numbers that a model's queue and workers obey."""

from __future__ import annotations

from dataclasses import dataclass

_USUAL = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """Counts, bytes and seconds, as `models/placement.py` takes them from the settings."""

    workers: int
    gpus: int
    first_gpu: int = 0
    gpus_per_worker: int = 1
    queue_size: int
    max_batch_size: int
    max_wait_s: float
    timeout_s: float
    max_queue_wait_s: float
    load_timeout_s: float
    crash_loop_s: float
    retry: bool
    batch_latency_s: float | None = None
    """What a batch may add to a request's time, where its size is found on live traffic; else None."""
    prefetch: int = 0
    """Batches that a worker may be given while it computes another one."""
    flush_s: float = 0.0
    """How long a worker whose socket has closed may take to send its last spans."""

    def gpus_of(self, slot: int) -> tuple[int, ...]:
        """The GPUs of a worker: by its slot, so that one that is replaced keeps them. None where there are none."""
        if not self.gpus:
            return ()
        first = (self.first_gpu + slot * self.gpus_per_worker) % self.gpus
        return tuple(range(first, first + self.gpus_per_worker))

    @property
    def slots(self) -> int:
        """How many requests at a time are of use: a batch for each worker, of usual size where it is to be found."""
        most = self.max_batch_size if self.batch_latency_s is None else min(self.max_batch_size, _USUAL)
        return self.workers * most
