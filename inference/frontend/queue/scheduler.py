"""Decides for one model what waits, what each worker computes, what becomes of a lost worker's requests.

It does nothing itself: it is told what happened and when, and answers with actions for `ModelPool` to carry out. No
socket, clock or process is reached from here. Its laws, which `test_scheduler_model` holds it to:

* Every request ends exactly once: answered, failed, or cancelled.
* No request is with two workers at a time; an isolated one shares its worker with no other.
* No request waits while a worker is idle, except for a batch to fill, for `max_wait_s` at most.
* A worker that says nothing for `timeout_s` while it has a batch is killed, cut off and replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from math import inf

from tidegate.inference.errors import HandlerTimedOut, NotReady, Overloaded, RequestError, WorkerDied
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.queue.actions import (
    Action,
    CutOff,
    Fail,
    GiveUp,
    HangUp,
    Kill,
    Loaded,
    LoadFailed,
    Log,
    Send,
    Start,
)
from tidegate.inference.frontend.queue.ledger import Ledger, Phase, Worker
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.frontend.queue.pool_limits import PoolLimits
from tidegate.inference.frontend.queue.request_queue import RequestQueue
from tidegate.inference.frontend.queue.scheduling import (
    JoinsLately,
    RecentLoad,
    RejectReason,
    Retry,
    after_loss,
    plan_batches,
    reject_reason,
)
from tidegate.inference.frontend.workers.supervisor import State, Supervisor
from tidegate.inference.protocol import Done

LEAVE_S = 1.0
"""How long the end of a worker's process and the end of its socket may be apart before one is taken for the other."""


@dataclass(slots=True, kw_only=True)
class _Process:
    """The process of a worker, until its exit is reported."""

    killed: bool = False
    explained: bool = False
    """Whether the worker said itself why it ends, which is more than its exit status does."""
    kill_s: float = inf
    """When it is killed, because its socket has closed."""


class Scheduler:
    """The queue of one model, the ledger of its workers, and the supervisor of their lives."""

    def __init__(self, name: str, limits: PoolLimits, metrics: ModelMetrics, *, prove: bool) -> None:
        self._name = name
        self._limits = limits
        self._metrics = metrics
        self._prove = prove
        self._ids = count(1)
        self._queue = RequestQueue()
        self._ledger = Ledger()
        self._supervisor = Supervisor(limits)
        self._processes: dict[int, _Process] = {}
        self._recent = RecentLoad(rounds=2 * limits.workers + 2)
        self._joins = JoinsLately()
        self._may_join = True
        self._item_s = 0.0
        """How long a request keeps a worker busy, lately."""
        self._last_word: RequestError = NotReady("The model was stopped before this request was done.")
        # Each is no later than the first thing of its kind that is due, and may be earlier: it is only moved forward
        # when it has passed, so that a request costs no search.
        self._workers_due_s = inf
        self._expiry_due_s = inf
        self._hold_due_s = inf

    # --- what is so

    @property
    def state(self) -> State:
        """Where the model is in its life."""
        return self._supervisor.state

    @property
    def waiting(self) -> int:
        """Requests that no worker has."""
        return len(self._queue)

    @property
    def computing(self) -> int:
        """Requests that are with a worker."""
        return self._ledger.computing

    @property
    def processes(self) -> Iterable[int]:
        """The pids of all workers that have not exited."""
        return self._processes.keys()

    @property
    def ready_workers(self) -> dict[int, int]:
        """The GPU bytes of each worker that has the model loaded, by pid."""
        return {worker.pid: worker.gpu_bytes for worker in self._ledger.workers.values() if worker.ready}

    def healthy(self, now_s: float) -> bool:
        """Whether `/ping` may say 200 on behalf of this model."""
        return self._supervisor.healthy(now_s)

    @property
    def next_due_s(self) -> float:
        """By when `tick` must be called though nothing happens; infinity where it need not."""
        return min(self._workers_due_s, self._expiry_due_s, self._hold_due_s)

    # --- requests

    def admit(self) -> None:
        """Raise the error for a request that must not wait: `NotReady` or `Overloaded`."""
        if self.state is not State.SERVING:
            raise NotReady(f"The model '{self._name}' is not ready.")
        limits, waiting = self._limits, len(self._queue)
        reason = reject_reason(
            waiting=waiting,
            queue_size=limits.queue_size,
            expected_wait_s=waiting * self._item_s / max(len(self._ledger.workers), 1),
            max_wait_s=limits.max_queue_wait_s,
        )
        if reason is not None:
            self._metrics.shed[reason.name.lower()] += 1
            sentence = {
                RejectReason.QUEUE_FULL: f"{limits.queue_size} requests are waiting already",
                RejectReason.TOO_LONG_A_WAIT: f"the wait would be longer than {limits.max_queue_wait_s:g} s",
            }[reason]
            raise Overloaded(f"The model '{self._name}' is overloaded: {sentence}.")

    def submit(self, request: PendingRequest, now_s: float) -> None:
        """Queue a request. Raises what `admit` raises where that has become true while the body was on its way."""
        if self._supervisor.state is not State.SERVING or len(self._queue) >= self._limits.queue_size:
            self.admit()
        request.id = next(self._ids)
        self._enqueue(request, now_s)

    def cancel(self, request: PendingRequest) -> None:
        """Forget a request whose client has left; a worker that has it computes it in vain."""
        if request.over:
            return
        request.over = True
        self._metrics.abandoned["waiting" if self._queue.remove(request) else "computing"] += 1

    # --- what the workers say

    def answered(self, number: int, request_id: int, now_s: float) -> PendingRequest | None:
        """A worker answered a request; returns the one whose reply is to have the answer, None where nobody waits."""
        worker = self._ledger.workers.get(number)
        if worker is None:
            return None
        self._heard(worker, now_s)
        request = self._ledger.answered(worker, request_id)
        if request is None or request.over:
            return None
        request.over = True
        return request

    def progress(self, number: int, now_s: float, *, proving: bool) -> None:
        """A step of a batch is done; or, while the model is loaded, something is tried that has a batch's deadline."""
        worker = self._ledger.workers.get(number)
        if worker is None:
            return
        worker.proving = proving
        if worker.phase is Phase.LOADING:
            worker.phase = Phase.TRYING
        self._heard(worker, now_s)

    def done(self, number: int, done: Done, now_s: float) -> Sequence[Action]:
        """A worker has done a batch: it may be given another one."""
        worker = self._ledger.workers.get(number)
        if worker is None:
            return ()
        if not worker.batches or (len(worker.batches) == 1 and worker.requests):
            fault = "a worker left requests unanswered" if worker.batches else "a worker answers what it was not asked"
            return [self._log(logging.ERROR, fault, worker), *self._kill(worker)]
        size = worker.batches.popleft()
        self._item_s += 0.1 * ((now_s - worker.begun_s) / size - self._item_s)
        worker.proving = False
        worker.gpu_bytes = done.gpu_bytes
        self._supervisor.batch_done()
        self._joins.record(done)
        self._metrics.count_batch(done)
        worker.deadline_s = inf
        if worker.batches and worker.ready:
            self._begin(worker, now_s)
        return ()

    # --- the lives of the workers

    def load(self, now_s: float) -> None:
        """Start the first worker. `Loaded` or `LoadFailed` follows."""
        self._supervisor.load(now_s)
        self._workers_due_s = now_s

    def started(self, number: int, pid: int, now_s: float) -> None:
        """A worker was forked, and is asked to load the model."""
        worker = self._ledger.workers[number]
        worker.pid, worker.phase = pid, Phase.LOADING
        worker.deadline_s = now_s + self._limits.load_timeout_s
        self._workers_due_s = min(self._workers_due_s, worker.deadline_s)
        self._processes[pid] = _Process()

    def start_failed(self, number: int, cause: str, now_s: float) -> Sequence[Action]:
        """A worker could not be forked."""
        worker = self._ledger.remove(number)
        if worker is None:
            return ()
        failed = self._supervisor.could_not_start(worker.slot, cause, now_s)
        self._look_after_workers()
        return [LoadFailed(f"The workers cannot be started: {cause}.")] if failed else ()

    def ready(self, number: int, now_s: float, *, may_join: bool) -> Sequence[Action]:
        """A worker has loaded the model and may be given batches."""
        worker = self._ledger.workers.get(number)
        if worker is None or worker.phase not in (Phase.LOADING, Phase.TRYING):
            return ()
        worker.phase, worker.may_join, worker.proving = Phase.READY, may_join, False
        worker.deadline_s = inf
        self._may_join = self._ledger.may_join()
        loaded = self._supervisor.ready(now_s)
        self._look_after_workers()
        return [self._log(logging.INFO, "worker is ready", worker), *([Loaded()] if loaded else [])]

    def load_failed(self, number: int, message: str, *, too_large: bool = False) -> Sequence[Action]:
        """A worker cannot load the model, for the reason in `message`; it exits."""
        worker = self._ledger.workers.get(number)
        if worker is None:
            return ()
        if worker.pid in self._processes:
            self._processes[worker.pid].explained = True
        line = self._log(logging.ERROR, "loading failed", worker, reason=message)
        if self._supervisor.could_not_load(message):
            return [line, LoadFailed(message, too_large)]
        return [line]

    def lost(self, number: int, now_s: float) -> Sequence[Action]:
        """A worker's socket has closed: what it had is tried again or failed, and a successor is due."""
        worker = self._ledger.remove(number)
        if worker is None:
            return ()
        actions: list[Action] = []
        if worker.pid in self._processes:
            self._processes[worker.pid].kill_s = now_s + LEAVE_S
        if self.state is State.SERVING:
            self._metrics.worker_restarts += 1
        if worker.proving and self.state in (State.LOADING, State.SERVING):
            self._prove = False
            actions.append(self._log(logging.WARNING, _PROVES_NO_MORE, worker))
        self._supervisor.lost(
            worker.slot,
            busy=bool(worker.requests),
            hung=worker.phase is Phase.HUNG,
            proving=worker.proving,
            ready=len(self._ledger.ready()),
            now_s=now_s,
        )
        self._may_join = self._ledger.may_join()
        if worker.requests:
            self._metrics.batch_size.observe(len(worker.requests))  # nobody can say what it predicted of them
        for request in worker.requests.values():
            if not request.over:
                actions += self._after_loss(request, worker, now_s)
        self._look_after_workers(now_s + LEAVE_S)
        return actions

    def exited(self, pid: int, cause: str, now_s: float) -> Sequence[Action]:
        """A worker's process has ended; `cause` says how, in words, and is empty where it left of itself."""
        process = self._processes.pop(pid, None)
        if process is None:
            return ()
        for worker in self._ledger.workers.values():
            if worker.pid == pid:
                # Its last answers may still be on their way. The socket may also stay open for ever, where user code
                # forked a process of its own, so its end is not waited for.
                worker.deadline_s, worker.cut_off_s = inf, now_s + LEAVE_S
                self._look_after_workers(worker.cut_off_s)
        if process.killed or process.explained or not cause:  # why it had to go is known
            return ()
        self._supervisor.explain(f"worker {pid} {cause}")
        fields = {"worker_pid": pid, "model": self._name, "cause": cause}
        return [Log(logging.WARNING, "worker ended", fields)]

    # --- the end

    def drain(self) -> Sequence[Action]:
        """Take no more requests and start no more workers; what is computed is finished."""
        actions: list[Action] = []
        if self._supervisor.close():
            actions.append(LoadFailed(f"The model '{self._name}' was stopped while it was loaded."))
        return [*actions, *[self._fail(request, self._last_word) for request in self._queue.take_all()]]

    def close(self, last_word: RequestError | None = None) -> Sequence[Action]:
        """Fail every request with `last_word`, let idle workers leave and kill the busy ones."""
        self._last_word = last_word or self._last_word
        actions = [*self.drain()]
        for worker in list(self._ledger.workers.values()):
            if worker.phase is Phase.STARTING:
                self._ledger.remove(worker.number)
                continue
            actions += [self._fail(each, self._last_word) for each in worker.requests.values() if not each.over]
            actions.append(HangUp(worker.number))
            if not worker.idle:
                actions += self._kill(worker)
        return actions

    # --- time

    def tick(self, now_s: float) -> list[Action]:
        """Do what is due, and fill the workers that have room.

        Called once in each round of the loop in which something happened, so that requests which came together are
        seen together; and at `next_due_s`.
        """
        actions: list[Action] = []
        if now_s >= self._workers_due_s:
            self._supervise(now_s, actions)
        if now_s >= self._expiry_due_s:
            self._expire(now_s, actions)
        self._hold_due_s = inf
        if self._queue:
            self._fill(now_s, actions)
        return actions

    def _supervise(self, now_s: float, actions: list[Action]) -> None:
        due_s = inf
        for worker in self._ledger.workers.values():
            if now_s >= worker.deadline_s:
                actions += self._hung(worker)
            if now_s >= worker.cut_off_s:
                worker.cut_off_s = inf
                actions.append(CutOff(worker.number))
            due_s = min(due_s, worker.deadline_s, worker.cut_off_s)
        for pid, process in self._processes.items():
            if now_s >= process.kill_s:  # it closed its socket and lives on
                process.kill_s, process.killed = inf, True
                actions.append(Kill(pid))
            due_s = min(due_s, process.kill_s)
        if self._supervisor.first_load_failed(now_s):
            cause = self._supervisor.last_cause or "its worker was gone"
            actions.append(LoadFailed(f"Loading the model '{self._name}' failed: {cause}."))
        if trouble := self._supervisor.crash_loop(now_s):
            actions.append(GiveUp(f"the model '{self._name}' {trouble}: {self._supervisor.last_cause}"))
        verify = self.state is State.LOADING
        for slot in self._supervisor.starts(now_s):
            worker = self._ledger.add(slot)
            gpu_id = self._supervisor.gpu_id(slot)
            actions.append(Start(worker.number, slot, gpu_id, verify=verify, prove=self._prove))
        self._workers_due_s = min(due_s, self._supervisor.next_due_s())

    def _hung(self, worker: Worker) -> list[Action]:
        worker.deadline_s = inf
        if worker.phase is Phase.LOADING:
            sentence = f"Loading the model took longer than {self._limits.load_timeout_s:g} s."
            said = [*self.load_failed(worker.number, sentence)]
        else:
            self._supervisor.explain(f"worker {worker.pid} took longer than {self._limits.timeout_s:g} s")
            worker.phase = Phase.HUNG
            message = "user code took longer than the time limit; the worker is replaced"
            said = [self._log(logging.ERROR, message, worker, timeout_s=self._limits.timeout_s)]
        # A process that waits for a device cannot even be killed: do not wait for its end to replace it.
        return [*said, *self._kill(worker), CutOff(worker.number)]

    def _expire(self, now_s: float, actions: list[Action]) -> None:
        limit_s = self._limits.max_queue_wait_s
        for request in self._queue.take_all(lambda each: now_s >= each.queued_s + limit_s):
            error = Overloaded(f"The request waited longer than {limit_s:g} s for a worker.")
            actions.append(self._fail(request, error))
        self._expiry_due_s = min((request.queued_s for request in self._queue), default=inf) + limit_s

    # --- filling the workers

    def _fill(self, now_s: float, actions: list[Action]) -> None:
        queue, limits = self._queue, self._limits
        ready = self._ledger.ready()
        idle = [worker for worker in ready if not worker.batches]
        while idle and queue.isolated:
            self._send(idle.pop(), [queue.isolated.popleft()], now_s, actions)
        if not queue.shared:
            return
        if not idle and limits.prefetch and not queue.isolated:
            idle = [worker for worker in ready if worker.has_room(limits.prefetch)]
        if not idle:
            return
        computing, waiting = self._ledger.computing, len(queue.shared)
        plan = plan_batches(
            waiting=waiting,
            idle=len(idle),
            computing=computing,
            busy=len(ready) - len(idle),
            expected=self._recent.expected(computing),
            oldest_wait_s=now_s - queue.shared[0].queued_s,
            max_size=self._joins.max_size(limits.max_batch_size) if self._may_join else 1,
            max_wait_s=limits.max_wait_s,
        )
        if plan.hold_s:
            self._hold_due_s = now_s + plan.hold_s
            return
        self._recent.record(waiting + computing)
        for size in plan.sizes:
            if batch := queue.take(size):
                self._send(idle.pop(), batch, now_s, actions)

    def _send(self, worker: Worker, batch: list[PendingRequest], now_s: float, actions: list[Action]) -> None:
        for request in batch:
            request.sent_s = now_s
            self._metrics.queue_s.observe(now_s - request.queued_s)
        first = not worker.batches
        self._ledger.give(worker, batch)
        if first:
            self._begin(worker, now_s)
        self._joins.sent(len(batch))
        actions.append(Send(worker.number, batch))

    # --- small steps

    def _enqueue(self, request: PendingRequest, now_s: float) -> None:
        request.queued_s = now_s
        self._queue.add(request)
        self._expiry_due_s = min(self._expiry_due_s, now_s + self._limits.max_queue_wait_s)

    def _begin(self, worker: Worker, now_s: float) -> None:
        """Let the deadline of the next batch run."""
        worker.begun_s = now_s
        worker.deadline_s = now_s + self._limits.timeout_s
        self._workers_due_s = min(self._workers_due_s, worker.deadline_s)

    def _heard(self, worker: Worker, now_s: float) -> None:
        if (worker.batches and worker.phase is Phase.READY) or worker.phase is Phase.TRYING:
            worker.deadline_s = now_s + self._limits.timeout_s
            self._workers_due_s = min(self._workers_due_s, worker.deadline_s)

    def _after_loss(self, request: PendingRequest, worker: Worker, now_s: float) -> Sequence[Action]:
        if self.state in (State.CLOSED, State.FAILED):
            return [self._fail(request, self._last_word)]
        hung = worker.phase is Phase.HUNG
        if worker.shared_by == 1 and not hung:
            request.deaths_isolated += 1
        fate = after_loss(
            shared_by=worker.shared_by, deaths_isolated=request.deaths_isolated, hung=hung, retry=self._limits.retry
        )
        if fate is Retry.HUNG:
            return [self._fail(request, HandlerTimedOut(f"The model took longer than {self._limits.timeout_s:g} s."))]
        if fate is Retry.DIED:
            return [self._fail(request, WorkerDied("The process that computed this request died."))]
        self._metrics.retries += 1
        request.isolated = True
        self._enqueue(request, now_s)
        return ()

    def _fail(self, request: PendingRequest, error: RequestError) -> Fail:
        request.over = True
        return Fail(request, error)

    def _kill(self, worker: Worker) -> list[Kill]:
        process = self._processes.get(worker.pid)
        if process is None:
            return []  # it has exited, and its pid may be another process's by now
        process.killed = True
        return [Kill(worker.pid)]

    def _look_after_workers(self, due_s: float = inf) -> None:
        self._workers_due_s = min(self._workers_due_s, due_s, self._supervisor.next_due_s())

    def _log(self, level: int, message: str, worker: Worker, **fields: object) -> Log:
        return Log(level, message, {"worker_pid": worker.pid, "model": self._name, **fields})


_PROVES_NO_MORE = (
    "a worker was lost while it tried whether requests may share a call; they do not from now on, unless the "
    "script defines collate_fn and split_fn, or the model is saved with save_model(batching=True)"
)
