"""One model: its queue, its workers, and the rule that every request ends in exactly one answer.

Workers are filled by `_dispatch`, which runs once in each round of the loop in which something changed; the decisions
are in `scheduling`. A worker that dies or hangs is replaced; what it was computing is tried again as `after_loss` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import count

from inference.errors import DeploymentError, HandlerTimedOut, ModelDoesNotFit, NotReady, Overloaded, WorkerDied
from inference.frontend.launcher import Launcher, LauncherFailed
from inference.frontend.metrics import ModelGauges, ModelMetrics
from inference.frontend.scheduling import (
    RecentLoad,
    Refusal,
    Retry,
    after_loss,
    plan_batches,
    refusal,
    restart_delay_s,
)
from inference.frontend.ticket import Ticket
from inference.frontend.worker_link import WorkerLink
from inference.protocol import Answer, Done, Error, Item, ModelSpec

log = logging.getLogger("tidegate.model")

MAX_BATCH_BYTES = 1024 * 1024 * 1024
"""Bodies of one batch together, so that its frame's length fits the field that it has."""
DEATHS_IN_A_ROW = 10
"""Workers that may die of their requests, with no batch done in between, before the model counts as unhealthy."""
_UNLOAD_POLL_S = 0.005
_EXIT_S = 10.0
PING_GRACE_S = 10.0
"""How long a model that worked may be without a worker and still count as healthy: a restart is not a fault."""
LEAVE_S = 1.0
"""How long the end of a worker's process and the end of its socket may be apart before one is taken for the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """The numbers that a model's queue and workers obey."""

    workers: int
    gpus: int
    first_gpu: int = 0
    queue_size: int
    max_bytes_in_flight: int
    max_batch_size: int
    max_wait_s: float
    timeout_s: float
    max_queue_wait_s: float
    load_timeout_s: float
    crash_loop_s: float
    retry: bool
    batches_ahead: int = 0


class State(Enum):
    """Where a model is in its life."""

    LOADING = auto()
    SERVING = auto()
    FAILED = auto()
    CLOSED = auto()


class ModelPool:
    """The workers of one model and the requests that wait for them."""

    def __init__(
        self, spec: ModelSpec, limits: PoolLimits, launcher: Launcher, on_crash_loop: Callable[[str], None]
    ) -> None:
        self.spec = spec
        self.limits = limits
        self.state = State.LOADING
        self.pids: set[int] = set()
        self._killed: set[int] = set()
        self.workers: dict[int, WorkerLink] = {}
        self._launcher = launcher
        self._on_crash_loop = on_crash_loop
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Ticket] = deque()
        self._ids = count(1)
        self._recent = RecentLoad(rounds=2 * limits.workers + 2)
        self._item_s = 0.0
        self.metrics = ModelMetrics()
        self._dispatch_handle: asyncio.Handle | None = None
        self._hold_handle: asyncio.TimerHandle | None = None
        self._loaded: asyncio.Future[None] = self._loop.create_future()
        self._down_since_s: float | None = None
        self._grace_s = PING_GRACE_S
        self._failures = 0
        self._deaths = 0
        self._dying_since_s = 0.0
        self._last_cause = ""
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what the rest of the frontend asks

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
        return self._down_since_s is None or self._loop.time() - self._down_since_s < self._grace_s

    @property
    def gauges(self) -> ModelGauges:
        """What `/metrics` says about this model now."""
        return ModelGauges(
            metrics=self.metrics,
            waiting=len(self._waiting),
            computing=self.computing,
            workers={worker.pid: worker.gpu_bytes for worker in self.workers.values() if worker.ready},
        )

    @property
    def computing(self) -> int:
        """Requests that are with a worker."""
        return sum(len(worker.batch) for worker in self.workers.values())

    def admit(self, bytes_in_flight: int) -> None:
        """Raise the error for a request that must not wait: `NotReady` or `Overloaded`.

        `bytes_in_flight` counts the bodies that the server holds, with this request's announced one.
        """
        if self.state is not State.SERVING:
            raise NotReady(f"The model '{self.spec.name}' is not ready.")
        why = refusal(
            waiting=len(self._waiting),
            queue_size=self.limits.queue_size,
            bytes_in_flight=bytes_in_flight,
            max_bytes_in_flight=self.limits.max_bytes_in_flight,
            expected_wait_s=len(self._waiting) * self._item_s / max(len(self.workers), 1),
            max_wait_s=self.limits.max_queue_wait_s,
        )
        if why is not None:
            self.metrics.shed[why.name.lower()] += 1
            reason = {
                Refusal.QUEUE_FULL: f"{self.limits.queue_size} requests are waiting already",
                Refusal.TOO_MANY_BYTES: "the requests at hand hold all the memory that they may",
                Refusal.TOO_LONG_A_WAIT: f"the wait would be longer than {self.limits.max_queue_wait_s:g} s",
            }[why]
            raise Overloaded(f"The model '{self.spec.name}' is overloaded: {reason}.")

    async def answer(self, content_type: str, accept: str, headers: bytes, body: bytes) -> Ticket:
        """Queue one request until its outcome is there; leaving (cancellation) takes it out of the queue.

        Raises what `admit` raises where that has become true while the body was on its way.
        """
        if self.state is not State.SERVING or len(self._waiting) >= self.limits.queue_size:
            self.admit(0)
        ticket = Ticket(
            item=Item(next(self._ids), content_type, accept, headers, body),
            outcome=self._loop.create_future(),
            admitted_s=self._loop.time(),
        )
        self._waiting.append(ticket)
        self._wake()
        try:
            await ticket.outcome
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):  # it is with a worker already, whose answer goes nowhere
                self._waiting.remove(ticket)
            raise
        return ticket

    def sweep(self, now_s: float) -> None:
        """Answer what has waited too long, and notice a model that does not come back. Called twice a second."""
        # All of them, not only the first ones: a request that is tried again is in front and waits anew.
        late = [ticket for ticket in self._waiting if now_s - ticket.admitted_s > self.limits.max_queue_wait_s]
        for ticket in late:
            self._waiting.remove(ticket)
            self._expire(ticket)
        if self.state is State.SERVING and (trouble := self._trouble(now_s)):
            self.state = State.FAILED
            self._on_crash_loop(f"the model '{self.spec.name}' {trouble}: {self._last_cause}")

    def _trouble(self, now_s: float) -> str:
        """What has gone on for longer than `crash_loop_s`, in words; empty where nothing has."""
        limit_s = self.limits.crash_loop_s
        if self._down_since_s is not None and now_s - self._down_since_s > limit_s:
            return f"had no worker for {limit_s:g} s"
        if self._deaths >= DEATHS_IN_A_ROW and now_s - self._dying_since_s > limit_s:
            return f"lost {self._deaths} workers in more than {limit_s:g} s and finished nothing in between"
        return ""

    async def unload(self, timeout_s: float) -> None:
        """Take no more traffic, finish what is computed, end the workers; returns when their memory is free."""
        self.state = State.CLOSED
        self._refuse_waiting()
        deadline_s = self._loop.time() + timeout_s
        # A batch ends in one place and a process in another; looking is simpler than being told by both.
        while self.computing and self._loop.time() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(_UNLOAD_POLL_S)
        self.close()
        while self.pids and self._loop.time() < deadline_s + _EXIT_S:  # noqa: ASYNC110
            await asyncio.sleep(_UNLOAD_POLL_S)

    def close(self) -> None:
        """Give up: answer what waits with 503, let idle workers leave and kill the busy ones."""
        self.state = State.CLOSED
        if not self._loaded.done():
            self._loaded.set_exception(
                DeploymentError(f"The model '{self.spec.name}' was stopped while it was loaded.")
            )
            self._loaded.exception()  # whoever waits is told; that nobody may wait any more is no fault
        for handle in (self._dispatch_handle, self._hold_handle):
            if handle is not None:
                handle.cancel()
        for task in self._tasks:
            task.cancel()
        for worker in list(self.workers.values()):
            for ticket in worker.batch.values():
                self._refuse(ticket, NotReady("The model was stopped before this request was done."))
            worker.batch.clear()
            worker.hang_up()
            if not worker.idle:
                self._kill(worker)
        self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        while self._waiting:
            self._refuse(self._waiting.popleft(), NotReady("The model was stopped before this request was done."))

    def worker_exited(self, pid: int, status: int) -> None:
        """Note how a worker of this model ended, for the log and for who asks why the model is down."""
        self.pids.discard(pid)
        if pid in self._killed:
            self._killed.discard(pid)  # the log says already why it had to go
        elif status != 0:
            cause = describe_exit(status)
            self._last_cause = f"worker {pid} {cause}"
            log.warning("worker ended", extra={"worker_pid": pid, "model": self.spec.name, "cause": cause})
        for worker in self.workers.values():
            if worker.pid == pid:
                # Its last answers may still be on their way. The socket may also stay open for ever, where user code
                # forked a process of its own, so its end is not waited for.
                self._loop.call_later(LEAVE_S, worker.cut_off)

    # --- filling the workers

    def _wake(self) -> None:
        # Once per round of the loop, so that requests which arrived together are seen together.
        if self._dispatch_handle is None:
            self._dispatch_handle = self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatch_handle = None
        if self._hold_handle is not None:
            self._hold_handle.cancel()
            self._hold_handle = None
        idle = [worker for worker in self.workers.values() if worker.idle]
        while idle and (ticket := self._next_alone()):
            self._send(idle.pop(), [ticket])
        while self._waiting and not self._waiting[0].wanted:
            self._waiting.popleft()
        if not idle and self.limits.batches_ahead and self._waiting and not self._waiting[0].alone:
            idle = [worker for worker in self.workers.values() if self._may_get_ahead(worker)]
        if not self._waiting or not idle:
            return
        computing = self.computing
        plan = plan_batches(
            waiting=len(self._waiting),
            idle=len(idle),
            computing=computing,
            busy=sum(worker.ready for worker in self.workers.values()) - len(idle),
            expected=self._recent.expected(computing),
            oldest_wait_s=self._loop.time() - self._waiting[0].admitted_s,
            max_size=self.limits.max_batch_size,
            max_wait_s=self.limits.max_wait_s,
        )
        if plan.hold_s:
            self._hold_handle = self._loop.call_later(plan.hold_s, self._dispatch)
            return
        self._recent.record(len(self._waiting) + computing)
        for size in plan.sizes:
            batch = self._take(size)
            if batch:
                self._send(idle.pop(), batch)

    def _may_get_ahead(self, worker: WorkerLink) -> bool:
        # Not behind a request that must be alone: it is suspected.
        suspected = any(ticket.alone for ticket in worker.batch.values())
        return worker.ready and len(worker.sizes) <= self.limits.batches_ahead and not suspected

    def _next_alone(self) -> Ticket | None:
        # Those that must be alone were put back in front, so looking at the first is enough.
        while self._waiting and self._waiting[0].alone:
            ticket = self._waiting.popleft()
            if ticket.wanted:
                return ticket
        return None

    def _take(self, size: int) -> list[Ticket]:
        batch: list[Ticket] = []
        batch_bytes = 0
        while self._waiting and len(batch) < size and not self._waiting[0].alone:
            batch_bytes += len(self._waiting[0].item.body)
            if batch and batch_bytes > MAX_BATCH_BYTES:
                break
            ticket = self._waiting.popleft()
            if ticket.wanted:
                batch.append(ticket)
        return batch

    def _send(self, worker: WorkerLink, batch: list[Ticket]) -> None:
        worker.compute(batch)
        now_s = self._loop.time()
        self.metrics.batch_size.observe(len(batch))
        for ticket in batch:
            ticket.sent_s = now_s
            self.metrics.queue_s.observe(now_s - ticket.admitted_s)
        if worker.timer is None:
            self._start_timer(worker)

    def _start_timer(self, worker: WorkerLink) -> None:
        worker.started_s = self._loop.time()
        worker.timer = self._loop.call_later(self.limits.timeout_s, self._worker_hung, worker)

    # --- what the workers report

    def worker_ready(self, worker: WorkerLink) -> None:
        """The model is loaded: the worker may be filled."""
        self._stop_timer(worker)
        self._down_since_s = None
        if not self._loaded.done():
            self._loaded.set_result(None)
        log.info("worker is ready", extra={"worker_pid": worker.pid, "model": self.spec.name})
        self._wake()

    def worker_failed(self, worker: WorkerLink, message: str, *, too_large: bool = False) -> None:
        """The model could not be loaded, for the reason in `message`."""
        self._last_cause = message
        self.pids.discard(worker.pid)  # how it ends says less than this
        if not self._loaded.done():
            self._loaded.set_exception(ModelDoesNotFit(message) if too_large else DeploymentError(message))
        log.error("loading failed", extra={"worker_pid": worker.pid, "model": self.spec.name, "reason": message})

    def worker_answered(self, worker: WorkerLink, outcome: Answer | Error) -> None:
        """One request of the batch is done."""
        ticket = worker.batch.pop(outcome.id, None)
        if ticket is not None:
            ticket.settle(outcome)

    def worker_done(self, worker: WorkerLink, done: Done) -> None:
        """The batch is done: the worker may be filled again."""
        self._stop_timer(worker)
        self._failures = self._deaths = 0
        worker.gpu_bytes = done.gpu_bytes
        self.metrics.decode_s.observe(done.decode_s)
        self.metrics.predict_s.observe(done.predict_s)
        self.metrics.encode_s.observe(done.encode_s)
        self._item_s += 0.1 * ((self._loop.time() - worker.started_s) / worker.sizes.popleft() - self._item_s)
        if worker.sizes:
            self._start_timer(worker)
        self._wake()

    def worker_lost(self, worker: WorkerLink) -> None:
        """The process is gone: its batch is tried again or answered, and a successor is started."""
        self._stop_timer(worker)
        self.workers.pop(worker.slot, None)
        self._loop.call_later(LEAVE_S, self._end, worker)
        if self.state in (State.CLOSED, State.FAILED):
            for ticket in worker.batch.values():
                self._refuse(ticket, NotReady("The model was stopped before this request was done."))
            return
        if not self._loaded.done():
            # Give the launcher's word on the exit status a moment to arrive: it is the reason.
            self._loop.call_later(0.2, self._fail_first_load, worker)
            return
        if not any(other.ready for other in self.workers.values()) and self._down_since_s is None:
            self._down_since_s = self._loop.time()
            # That all workers hung is no ordinary restart: the user's code is in trouble, and /ping says so at once.
            self._grace_s = 0.0 if worker.hung else PING_GRACE_S
        self.metrics.worker_restarts += 1
        if not self._deaths:
            self._dying_since_s = self._loop.time()
        self._deaths += 1
        if worker.batch or worker.hung:
            self._failures = 0
        else:
            self._failures += 1
        for ticket in reversed(list(worker.batch.values())):
            self._after_loss(ticket, worker)
        worker.batch.clear()
        self._loop.call_later(restart_delay_s(self._failures), self._start_worker, worker.slot)
        self._wake()

    def _worker_hung(self, worker: WorkerLink) -> None:
        self._last_cause = f"worker {worker.pid} took longer than {self.limits.timeout_s:g} s"
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
            cause = self._last_cause or f"worker {worker.pid} was gone"
            self._loaded.set_exception(DeploymentError(f"Loading the model '{self.spec.name}' failed: {cause}."))

    def _after_loss(self, ticket: Ticket, worker: WorkerLink) -> None:
        if worker.shared == 1 and not worker.hung:
            ticket.deaths_alone += 1
        fate = after_loss(
            batch_size=worker.shared, deaths_alone=ticket.deaths_alone, hung=worker.hung, retry=self.limits.retry
        )
        if fate is Retry.ALONE:
            self.metrics.retries += 1
            ticket.alone = True
            ticket.admitted_s = self._loop.time()
            self._waiting.appendleft(ticket)
        elif fate is Retry.HUNG:
            self._refuse(ticket, HandlerTimedOut(f"The model took longer than {self.limits.timeout_s:g} s."))
        else:
            self._refuse(ticket, WorkerDied("The process that computed this request died."))

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
            pid, channel = await self._launcher.start(self.spec.packages_dir)
        except (LauncherFailed, OSError) as error:  # also where this process has no file descriptor left
            self._last_cause = str(error)
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

    def _kill(self, worker: WorkerLink) -> None:
        self._killed.add(worker.pid)
        worker.kill()

    def _stop_timer(self, worker: WorkerLink) -> None:
        if worker.timer is not None:
            worker.timer.cancel()
            worker.timer = None

    def _expire(self, ticket: Ticket) -> None:
        self._refuse(
            ticket, Overloaded(f"The request waited longer than {self.limits.max_queue_wait_s:g} s for a worker.")
        )

    def _refuse(self, ticket: Ticket, error: NotReady | Overloaded | HandlerTimedOut | WorkerDied) -> None:
        ticket.settle(Error(ticket.item.id, error.status, error.code, error.message))


def describe_exit(status: int) -> str:
    """A status as waitpid gives it, in words."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        hint = ", which is how the kernel ends a process that takes too much memory" if number == 9 else ""
        return f"was killed by signal {number}{hint}"
    return f"exited with status {os.waitstatus_to_exitcode(status)}"
