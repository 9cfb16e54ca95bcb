"""The workers of one model: started, watched, replaced when they die or hang, and ended.

    LOADING ─ first worker ready ─▶ SERVING ─ crash loop ─▶ FAILED
        └───────────── unloaded, or the server stops ──────────────▶ CLOSED

What was with a worker that is lost goes back to the owner, who decides what becomes of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum, auto
from time import monotonic
from typing import Protocol

from tidegate.inference.errors import DeploymentError, ModelDoesNotFit
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.queue.pending_request import Ticket
from tidegate.inference.frontend.queue.pool_limits import PoolLimits
from tidegate.inference.frontend.queue.scheduling import JoinsLately, restart_delay_s
from tidegate.inference.frontend.workers.fork_server import ForkServer, ForkServerFailed, describe_exit
from tidegate.inference.frontend.workers.worker_link import WorkerLink
from tidegate.inference.protocol import Answer, Done, Error, ModelSpec, Progress

log = logging.getLogger("tidegate.model")

DEATHS_IN_A_ROW = 10
"""Workers that may die of their requests, with no batch done in between, before the model counts as unhealthy."""
PING_GRACE_S = 10.0
"""How long a model that worked may be without a worker and still count as healthy: a restart is not a fault. At most
half of the time after which the server gives up, so that `/ping` has said so for a while before."""
_TIMER_GRAIN_S = 0.001
LEAVE_S = 1.0
"""How long the end of a worker's process and the end of its socket may be apart before one is taken for the other."""


class State(Enum):
    """Where a model is in its life."""

    LOADING = auto()
    SERVING = auto()
    FAILED = auto()
    CLOSED = auto()


class Owner(Protocol):
    """Who has the requests."""

    def worker_free(self) -> None: ...
    def batch_lost(self, worker: WorkerLink) -> None: ...


class Crew:
    """As many workers as the limits say, whatever happens to them."""

    def __init__(
        self, spec: ModelSpec, limits: PoolLimits, fork_server: ForkServer, metrics: ModelMetrics, owner: Owner
    ) -> None:
        self.spec = spec
        self.limits = limits
        self.state = State.LOADING
        self.pids: set[int] = set()
        self.workers: dict[int, WorkerLink] = {}
        self.item_s = 0.0
        """How long a request keeps a worker busy, lately."""
        self.last_cause = ""
        """Why the last worker was lost, in words."""
        self.joins = JoinsLately()
        self._fork_server = fork_server
        self._metrics = metrics
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[None] = self._loop.create_future()
        self._killed: set[int] = set()
        self._down_since_s: float | None = None
        self._grace_s = PING_GRACE_S
        self._failures = 0
        self._deaths = 0
        self._dying_since_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what the owner asks

    async def load(self) -> None:
        """Start the first worker and wait until it has loaded and checked the model; the others follow.

        Raises `DeploymentError` with the worker's own sentence.
        """
        self._start_worker(0, verify=True)
        await self._loaded
        self.state = State.SERVING
        for slot in range(1, self.limits.workers):
            self._start_worker(slot)

    @property
    def healthy(self) -> bool:
        """Whether `/ping` may say 200 on behalf of this model."""
        if self.state is not State.SERVING:
            return False
        if self._deaths >= DEATHS_IN_A_ROW:
            return False
        return self._down_since_s is None or monotonic() - self._down_since_s < self._grace_s

    @property
    def computing(self) -> int:
        """Requests that are with a worker."""
        return sum(len(worker.batch) for worker in self.workers.values())

    def idle(self) -> list[WorkerLink]:
        """Workers that have nothing to do."""
        return [worker for worker in self.workers.values() if worker.idle]

    def ahead(self) -> list[WorkerLink]:
        """Busy workers that may be given their next batch already."""
        return [worker for worker in self.workers.values() if self._may_get_ahead(worker)]

    @property
    def ready(self) -> int:
        """How many workers have the model loaded."""
        return sum(worker.ready for worker in self.workers.values())

    @property
    def max_batch_size(self) -> int:
        """How many requests to send together: no more than one where that has turned out to be of no use."""
        if not all(worker.may_join for worker in self.workers.values()):
            return 1
        return self.joins.max_size(self.limits.max_batch_size)

    def send(self, worker: WorkerLink, batch: Sequence[Ticket]) -> None:
        """Give `worker` a batch; from when it takes it up, the deadline runs."""
        worker.compute(batch)
        self.joins.sent(len(batch))
        if worker.timer is None:
            self._start_timer(worker)

    def trouble(self, now_s: float) -> str:
        """What has gone on for longer than `crash_loop_s`, in words; empty where nothing has."""
        limit_s = self.limits.crash_loop_s
        if self._down_since_s is not None and now_s - self._down_since_s > limit_s:
            return f"had no worker for {limit_s:g} s"
        if self._deaths >= DEATHS_IN_A_ROW and now_s - self._dying_since_s > limit_s:
            return f"lost {self._deaths} workers in more than {limit_s:g} s and finished nothing in between"
        return ""

    def close(self) -> None:
        """Let idle workers leave and kill the busy ones; their batches are the owner's matter."""
        self.state = State.CLOSED
        if not self._loaded.done():
            self._loaded.set_exception(
                DeploymentError(f"The model '{self.spec.name}' was stopped while it was loaded.")
            )
            self._loaded.exception()  # whoever waits is told; that nobody may wait any more is no fault
        for task in self._tasks:
            task.cancel()
        for worker in list(self.workers.values()):
            worker.batch.clear()
            worker.hang_up()
            if not worker.idle:
                self._kill(worker)

    # --- what the fork server and the workers report

    def worker_exited(self, pid: int, status: int) -> None:
        """Note how a worker of this model ended, for the log and for who asks why the model is down."""
        self.pids.discard(pid)
        if pid in self._killed:
            self._killed.discard(pid)  # the log says already why it had to go
        elif status != 0:
            cause = describe_exit(os.waitstatus_to_exitcode(status))
            self.last_cause = f"worker {pid} {cause}"
            log.warning("worker ended", extra={"worker_pid": pid, "model": self.spec.name, "cause": cause})
        for worker in self.workers.values():
            if worker.pid == pid:
                # Its last answers may still be on their way. The socket may also stay open for ever, where user code
                # forked a process of its own, so its end is not waited for.
                self._loop.call_later(LEAVE_S, worker.cut_off)

    def worker_ready(self, worker: WorkerLink) -> None:
        """The model is loaded: the worker may be filled."""
        self._stop_timer(worker)
        worker.proving = False
        self._down_since_s = None
        if not self._loaded.done():
            self._loaded.set_result(None)
        log.info("worker is ready", extra={"worker_pid": worker.pid, "model": self.spec.name})
        self._owner.worker_free()

    def worker_failed(self, worker: WorkerLink, message: str, *, too_large: bool = False) -> None:
        """The model could not be loaded, for the reason in `message`."""
        self.last_cause = message
        self.pids.discard(worker.pid)  # how it ends says less than this
        if not self._loaded.done():
            self._loaded.set_exception(ModelDoesNotFit(message) if too_large else DeploymentError(message))
        log.error("loading failed", extra={"worker_pid": worker.pid, "model": self.spec.name, "reason": message})

    def worker_answered(self, worker: WorkerLink, outcome: Answer | Error) -> None:
        """One request of the batch is done."""
        worker.heard_s = monotonic()
        ticket = worker.batch.pop(outcome.id, None)
        if ticket is not None:
            ticket.settle(outcome)

    def worker_goes_on(self, worker: WorkerLink, progress: Progress) -> None:
        """A step of the batch is done; or, while the model is loaded, something is tried that has a deadline."""
        worker.heard_s = monotonic()
        worker.proving = progress.proving
        if not worker.ready:
            self._stop_timer(worker)
            self._start_timer(worker)

    def worker_done(self, worker: WorkerLink, done: Done) -> None:
        """The batch is done: the worker may be filled again."""
        if not worker.sizes:
            log.error("a worker answers what it was not asked", extra={"worker_pid": worker.pid})
            self._kill(worker)
            return
        self._stop_timer(worker)
        self._failures = self._deaths = 0
        worker.gpu_bytes = done.gpu_bytes
        worker.proving = False
        self._metrics.decode_s.observe(done.decode_s)
        self._metrics.predict_s.observe(done.predict_s)
        self._metrics.encode_s.observe(done.encode_s)
        self._metrics.count_joins(done)
        self.joins.record(done)
        self.item_s += 0.1 * ((monotonic() - worker.started_s) / worker.sizes.popleft() - self.item_s)
        if worker.sizes:
            self._start_timer(worker)
        self._owner.worker_free()

    def worker_lost(self, worker: WorkerLink) -> None:
        """The process is gone: its batch goes back to the owner, and a successor is started."""
        self._stop_timer(worker)
        self.workers.pop(worker.slot, None)
        self._loop.call_later(LEAVE_S, self._end, worker)
        if self.state in (State.CLOSED, State.FAILED):
            self._owner.batch_lost(worker)
            return
        if worker.proving:
            self._prove_no_more(worker)
        if not self._loaded.done():
            if worker.proving:
                self._start_worker(worker.slot, verify=True)
                return
            # Give the fork server's word on the exit status a moment to arrive: it is the reason.
            self._loop.call_later(0.2, self._fail_first_load, worker)
            return
        if not self.ready and self._down_since_s is None:
            self._down_since_s = monotonic()
            # That all workers hung is no ordinary restart: the user's code is in trouble, and /ping says so at once.
            self._grace_s = 0.0 if worker.hung else min(PING_GRACE_S, self.limits.crash_loop_s / 2)
        self._metrics.worker_restarts += 1
        if not self._deaths:
            self._dying_since_s = monotonic()
        self._deaths += 1
        if worker.batch or worker.hung:
            self._failures = 0
        else:
            self._failures += 1
        self._owner.batch_lost(worker)
        self._loop.call_later(restart_delay_s(self._failures), self._start_worker, worker.slot)
        self._owner.worker_free()

    def _look_whether_it_hangs(self, worker: WorkerLink) -> None:
        left_s = max(worker.started_s, worker.heard_s) + self.limits.timeout_s - monotonic()
        if left_s > _TIMER_GRAIN_S:  # something of its batch was done meanwhile; the rest has a deadline of its own
            worker.timer = self._loop.call_later(left_s, self._look_whether_it_hangs, worker)
        else:
            self._worker_hung(worker)

    def _prove_no_more(self, worker: WorkerLink) -> None:
        self.spec = replace(self.spec, prove=False)
        log.warning(
            "a worker was lost while it tried whether requests may share a call; they do not from now on, unless the "
            "script defines collate_fn and split_fn, or the model is saved with save_model(batching=True)",
            extra={"worker_pid": worker.pid, "model": self.spec.name},
        )

    def _worker_hung(self, worker: WorkerLink) -> None:
        self.last_cause = f"worker {worker.pid} took longer than {self.limits.timeout_s:g} s"
        log.error(
            "user code took longer than the time limit; the worker is replaced",
            extra={"worker_pid": worker.pid, "model": self.spec.name, "timeout_s": self.limits.timeout_s},
        )
        worker.hung = True
        self._kill(worker)
        # A process that waits for a device cannot even be killed: do not wait for its end to replace it.
        worker.cut_off()

    def _end(self, worker: WorkerLink) -> None:
        if worker.pid in self.pids:  # it closed its socket and lives on
            self._kill(worker)

    def _fail_first_load(self, worker: WorkerLink) -> None:
        if not self._loaded.done():
            cause = self.last_cause or f"worker {worker.pid} was gone"
            self._loaded.set_exception(DeploymentError(f"Loading the model '{self.spec.name}' failed: {cause}."))

    # --- starting workers

    def _start_worker(self, slot: int, *, verify: bool = False) -> None:
        if self.state not in (State.LOADING, State.SERVING):
            return
        task = self._loop.create_task(self._start(slot, verify))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, slot: int, verify: bool) -> None:
        spec = replace(
            self.spec,
            verify=verify,
            gpu_id=(self.limits.first_gpu + slot) % self.limits.gpus if self.limits.gpus else None,
        )
        try:
            pid, channel = await self._fork_server.start(self.spec.packages_dir)
        except (ForkServerFailed, OSError) as error:  # also where this process has no file descriptor left
            self.last_cause = str(error)
            if not self._loaded.done():
                self._loaded.set_exception(DeploymentError(f"The workers cannot be started: {error}."))
                return
            self._failures += 1
            self._loop.call_later(restart_delay_s(self._failures), self._start_worker, slot)
            return
        self.pids.add(pid)
        worker = WorkerLink(self, slot, pid)
        self.workers[slot] = worker
        worker.timer = self._loop.call_later(self.limits.load_timeout_s, self._load_timed_out, worker)
        await worker.attach(channel, spec)

    def _load_timed_out(self, worker: WorkerLink) -> None:
        self.worker_failed(worker, f"Loading the model took longer than {self.limits.load_timeout_s:g} s.")
        self._kill(worker)
        worker.cut_off()

    # --- small steps

    def _may_get_ahead(self, worker: WorkerLink) -> bool:
        # Not behind a request that must be alone: it is suspected.
        suspected = any(ticket.alone for ticket in worker.batch.values())
        return worker.ready and len(worker.sizes) <= self.limits.batches_ahead and not suspected

    def _kill(self, worker: WorkerLink) -> None:
        self._killed.add(worker.pid)
        worker.kill()

    def _start_timer(self, worker: WorkerLink) -> None:
        worker.started_s = monotonic()
        worker.timer = self._loop.call_later(self.limits.timeout_s, self._look_whether_it_hangs, worker)

    def _stop_timer(self, worker: WorkerLink) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
            worker.timer = None
