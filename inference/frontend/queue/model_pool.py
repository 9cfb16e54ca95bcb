"""One model: the requests that wait for it, and the rule that every request ends in exactly one answer.

Workers are filled by `_dispatch`, which runs once in each round of the loop in which something changed; the decisions
are in `scheduling`, the workers' life is in `crew`. What a lost worker had is tried again as `after_loss` says.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from time import monotonic

from tidegate.inference.errors import HandlerTimedOut, NotReady, Overloaded, RequestError, WorkerDied
from tidegate.inference.frontend.metrics import ModelGauges, ModelMetrics
from tidegate.inference.frontend.queue.pending_request import Ticket
from tidegate.inference.frontend.queue.pool_limits import PoolLimits
from tidegate.inference.frontend.queue.scheduling import RecentLoad, Refusal, Retry, after_loss, plan_batches, refusal
from tidegate.inference.frontend.workers.fork_server import ForkServer
from tidegate.inference.frontend.workers.supervisor import Crew, State
from tidegate.inference.frontend.workers.worker_link import WorkerLink
from tidegate.inference.protocol import Error, ModelSpec, Request

MAX_BATCH_BYTES = 1024 * 1024 * 1024
"""Bodies of one batch together, so that its frame's length fits the field that it has."""
_UNLOAD_POLL_S = 0.005
_EXIT_S = 10.0


class ModelPool:
    """The queue of one model in front of its workers."""

    def __init__(
        self, spec: ModelSpec, limits: PoolLimits, fork_server: ForkServer, on_crash_loop: Callable[[str], None]
    ) -> None:
        self.spec = spec
        self.limits = limits
        self.metrics = ModelMetrics()
        self._crew = Crew(spec, limits, fork_server, self.metrics, self)
        self._on_crash_loop = on_crash_loop
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Ticket] = deque()
        self._ids = count(1)
        self._recent = RecentLoad(rounds=2 * limits.workers + 2)
        self._dispatch_handle: asyncio.Handle | None = None
        self._hold_handle: asyncio.TimerHandle | None = None
        self._last_word: RequestError = NotReady("The model was stopped before this request was done.")

    # --- what the rest of the frontend asks

    async def load(self) -> None:
        """Return when one worker has loaded and checked the model; the others follow. Raises `DeploymentError`."""
        await self._crew.load()

    @property
    def state(self) -> State:
        """Where the model is in its life."""
        return self._crew.state

    @property
    def healthy(self) -> bool:
        """Whether `/ping` may say 200 on behalf of this model."""
        return self._crew.healthy

    def owns(self, pid: int) -> bool:
        """Whether `pid` is a worker of this model."""
        return pid in self._crew.pids

    def worker_exited(self, pid: int, status: int) -> None:
        """Tell how the worker `pid` ended, as waitpid gives it."""
        self._crew.worker_exited(pid, status)

    @property
    def gauges(self) -> ModelGauges:
        """What `/metrics` says about this model now."""
        return ModelGauges(
            metrics=self.metrics,
            waiting=len(self._waiting),
            computing=self._crew.computing,
            workers={worker.pid: worker.gpu_bytes for worker in self._crew.workers.values() if worker.ready},
        )

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
            expected_wait_s=len(self._waiting) * self._crew.item_s / max(len(self._crew.workers), 1),
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
            item=Request(next(self._ids), content_type, accept, headers, body),
            outcome=self._loop.create_future(),
            admitted_s=monotonic(),
        )
        self._waiting.append(ticket)
        self._wake()
        try:
            await ticket.outcome
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):  # it is with a worker already, whose answer goes nowhere
                self._waiting.remove(ticket)
            self.metrics.abandoned["computing" if ticket.sent_s else "waiting"] += 1
            raise
        return ticket

    def sweep(self, now_s: float) -> None:
        """Answer what has waited too long, and notice a model that does not come back. Called twice a second."""
        # All of them, not only the first ones: a request that is tried again is in front and waits anew.
        late = [ticket for ticket in self._waiting if now_s - ticket.admitted_s > self.limits.max_queue_wait_s]
        for ticket in late:
            self._waiting.remove(ticket)
            self._expire(ticket)
        if self.state is State.SERVING and (trouble := self._crew.trouble(now_s)):
            self._crew.state = State.FAILED
            self._on_crash_loop(f"the model '{self.spec.name}' {trouble}: {self._crew.last_cause}")

    async def unload(self, timeout_s: float) -> None:
        """Take no more traffic, finish what is computed, end the workers; returns when their memory is free."""
        self._crew.state = State.CLOSED
        self._refuse_waiting()
        deadline_s = monotonic() + timeout_s
        # A batch ends in one place and a process in another; looking is simpler than being told by both.
        while self._crew.computing and monotonic() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(_UNLOAD_POLL_S)
        self.close()
        while self._crew.pids and monotonic() < deadline_s + _EXIT_S:  # noqa: ASYNC110
            await asyncio.sleep(_UNLOAD_POLL_S)

    def close(self, last_word: RequestError | None = None) -> None:
        """Give up: answer what waits with `last_word`, let idle workers leave and kill the busy ones."""
        self._last_word = last_word or self._last_word
        for handle in (self._dispatch_handle, self._hold_handle):
            if handle is not None:
                handle.cancel()
        for worker in self._crew.workers.values():
            self._stopped(worker.batch.values())
        self._crew.close()
        self._refuse_waiting()

    def _refuse_waiting(self) -> None:
        self._stopped(self._waiting)
        self._waiting.clear()

    def _stopped(self, tickets: Iterable[Ticket]) -> None:
        for ticket in tickets:
            self._refuse(ticket, self._last_word)

    # --- filling the workers

    def worker_free(self) -> None:
        """A worker has room: look at the queue in this round of the loop."""
        self._wake()

    def _wake(self) -> None:
        # Once per round of the loop, so that requests which arrived together are seen together.
        if self._dispatch_handle is None:
            self._dispatch_handle = self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatch_handle = None
        if self._hold_handle is not None:
            self._hold_handle.cancel()
            self._hold_handle = None
        idle = self._crew.idle()
        while idle and (ticket := self._next_alone()):
            self._send(idle.pop(), [ticket])
        while self._waiting and not self._waiting[0].wanted:
            self._waiting.popleft()
        if not idle and self.limits.batches_ahead and self._waiting and not self._waiting[0].alone:
            idle = self._crew.ahead()
        if not self._waiting or not idle:
            return
        computing = self._crew.computing
        plan = plan_batches(
            waiting=len(self._waiting),
            idle=len(idle),
            computing=computing,
            busy=self._crew.ready - len(idle),
            expected=self._recent.expected(computing),
            oldest_wait_s=monotonic() - self._waiting[0].admitted_s,
            max_size=self._crew.max_batch_size,
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
        self._crew.send(worker, batch)
        now_s = monotonic()
        for ticket in batch:
            ticket.sent_s = now_s
            self.metrics.queue_s.observe(now_s - ticket.admitted_s)

    # --- requests whose worker was lost

    def batch_lost(self, worker: WorkerLink) -> None:
        """Try again or answer what was with a worker that is gone."""
        if worker.batch:
            self.metrics.batch_size.observe(len(worker.batch))  # what it predicted of them cannot be asked any more
        if self.state in (State.CLOSED, State.FAILED):
            self._stopped(worker.batch.values())
        else:
            for ticket in reversed(list(worker.batch.values())):
                self._after_loss(ticket, worker)
        worker.batch.clear()

    def _after_loss(self, ticket: Ticket, worker: WorkerLink) -> None:
        if worker.shared == 1 and not worker.hung:
            ticket.deaths_alone += 1
        fate = after_loss(
            batch_size=worker.shared, deaths_alone=ticket.deaths_alone, hung=worker.hung, retry=self.limits.retry
        )
        if fate is Retry.ALONE:
            self.metrics.retries += 1
            ticket.alone = True
            ticket.admitted_s = monotonic()
            self._waiting.appendleft(ticket)
        elif fate is Retry.HUNG:
            self._refuse(ticket, HandlerTimedOut(f"The model took longer than {self.limits.timeout_s:g} s."))
        else:
            self._refuse(ticket, WorkerDied("The process that computed this request died."))

    # --- small steps

    def _expire(self, ticket: Ticket) -> None:
        self._refuse(
            ticket, Overloaded(f"The request waited longer than {self.limits.max_queue_wait_s:g} s for a worker.")
        )

    def _refuse(self, ticket: Ticket, error: RequestError) -> None:
        ticket.settle(Error(ticket.item.id, error.status, error.code, error.message))
