"""Decides for one model what waits, what each worker computes, what becomes of a lost worker's requests.

It does nothing itself: it is told what happened and when, and answers with actions for `ModelPool` to carry out. No
socket, clock or process is reached from here. The lives of the workers are its `Supervisor`'s matter. Its laws, which
`test_scheduler_model` holds it to:

* Every request ends exactly once: answered, failed, or cancelled.
* No request is with two workers at a time, none is tried again once its response has begun, and what is isolated is
  alone in its batch.
* No request waits while a worker is idle, except for a batch to fill, for `max_wait_s` at most.
* A request that no user code has seen is to blame for nothing: it is taken back from a worker that is lost or says
  nothing for a while, and waits again where it waited.
* A worker that says nothing for `timeout_s` while it has a batch, or a stream that does not wait for its reader, is
  killed, cut off and replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import count
from math import inf

from tidegate.inference.begun_page import MARKS
from tidegate.inference.errors import HandlerTimedOut, NotReady, Overloaded, RequestError, WorkerDied
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.queue.actions import Action, Cancel, Fail, HangUp, Pause, Resume, Send
from tidegate.inference.frontend.queue.batch_search import Choice
from tidegate.inference.frontend.queue.ledger import Ledger, Phase, Worker
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.frontend.queue.planner import planner_of
from tidegate.inference.frontend.queue.pool_limits import PoolLimits
from tidegate.inference.frontend.queue.request_queue import RequestQueue
from tidegate.inference.frontend.queue.scheduling import (
    MAX_HANDED_OVER_BYTES,
    NOT_BEGUN_FAILED,
    NOT_BEGUN_ISOLATED,
    STUCK_S,
    JoinsLately,
    RejectReason,
    Retry,
    after_loss,
    hand_over_limit,
    reject_reason,
)
from tidegate.inference.frontend.workers.model_health import State
from tidegate.inference.frontend.workers.supervisor import Supervisor
from tidegate.inference.protocol import Done

_DIED = "The process that computed this request died."


class Scheduler:
    """The queue of one model in front of its workers. `supervisor` is told of their lives, this of all else."""

    def __init__(self, name: str, limits: PoolLimits, metrics: ModelMetrics, *, prove: bool) -> None:
        self._name = name
        self._limits = limits
        self._metrics = metrics
        self._ids = count(1)
        self._queue = RequestQueue()
        self._ledger = Ledger()
        self.supervisor = Supervisor(name, limits, self._ledger, metrics, prove=prove)
        self._health = self.supervisor.health
        self._joins = JoinsLately()
        self.planner = planner_of(name, limits, metrics)
        """What says how many requests make a batch."""
        self._retiring: list[Worker] = []
        self._item_s = 0.0
        """How long a request keeps a worker busy, lately."""
        self._in_hand_limit = 1
        """How many requests a worker may have in hand where each is predicted alone."""
        self._last_word: RequestError = NotReady("The model was stopped before this request was done.")
        self._expiry_due_s = inf
        """No later than when the first request has waited too long, and maybe earlier."""
        self._hold_due_s = inf
        self._stuck_due_s = inf

    # --- what is so

    @property
    def state(self) -> State:
        """Where the model is in its life."""
        return self._health.state

    @property
    def choice(self) -> Choice | None:
        """The size of batches and their wait as they were found, where that is asked for."""
        return self.planner.choice

    @property
    def waiting(self) -> int:
        """Requests that no worker has."""
        return len(self._queue)

    @property
    def computing(self) -> int:
        """Requests that are with a worker, open streams among them."""
        return self._ledger.computing

    @property
    def ready_workers(self) -> dict[int, dict[int, int]]:
        """What each worker that has the model loaded holds of its GPUs, by pid and GPU."""
        ready = self._ledger.ready()
        return {worker.pid: dict(zip(worker.gpu_ids, worker.gpu_bytes, strict=False)) for worker in ready}

    @property
    def next_due_s(self) -> float:
        """By when `tick` must be called though nothing happens; infinity where it need not."""
        return min(self.supervisor.due_s, self._expiry_due_s, self._hold_due_s, self._stuck_due_s)

    # --- the clients

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
                RejectReason.QUEUE_FULL: f"its queue of {limits.queue_size} is full",
                RejectReason.TOO_LONG_A_WAIT: f"the wait would be longer than {limits.max_queue_wait_s:g} s",
            }[reason]
            raise Overloaded(f"The model '{self._name}' is overloaded: {sentence}.")

    def submit(self, request: PendingRequest, now_s: float) -> None:
        """Queue a request. Raises what `admit` raises where that has become true while the body was on its way."""
        if self._health.state is not State.SERVING or len(self._queue) >= self._limits.queue_size:
            self.admit()
        request.id = next(self._ids)
        self._enqueue(request, now_s)

    def open_streams(self, number: int) -> int:
        """How many streams a worker has open."""
        worker = self._ledger.workers.get(number)
        return len(worker.streams) if worker is not None else 0

    def pid_of(self, number: int) -> int:
        """The process of a worker; 0 where it is gone."""
        worker = self._ledger.workers.get(number)
        return worker.pid if worker is not None else 0

    def heard_of(self, number: int, now_s: float) -> None:
        """A worker goes on with what it does."""
        worker = self._ledger.workers.get(number)
        if worker is not None:
            self.supervisor.watch(worker, now_s)

    def retire(self, number: int) -> None:
        """Have a worker finish what it has, and then end: a successor takes its place."""
        worker = self._ledger.workers.get(number)
        if worker is not None and worker.phase is Phase.READY:
            worker.phase = Phase.RETIRING
            self._retiring.append(worker)

    def note_conversations(self, number: int, count: int) -> None:
        """A worker has `count` conversations now: its loss is that of one at work."""
        worker = self._ledger.workers.get(number)
        if worker is not None:
            worker.conversations = count

    def cancel(self, request: PendingRequest) -> Sequence[Action]:
        """Forget a request whose client has left; a worker that computes its batch does so in vain."""
        if request.over:
            return ()
        request.over = True
        worker = self._ledger.workers.get(request.worker)
        if worker is None:
            self._queue.remove(request)
            self._metrics.abandoned["waiting"] += 1
            return ()
        if self._ledger.take_unbegun(worker, request):
            self._metrics.abandoned["waiting"] += 1
            return ()
        self._metrics.abandoned["computing"] += 1
        return self._close_stream(worker, request.id) if request.id in worker.streams else ()

    def pause(self, request: PendingRequest) -> Sequence[Action]:
        """The client reads its stream more slowly than it comes: the worker is to wait for it."""
        worker = self._with_stream(request)
        if worker is None or request.id in worker.paused:
            return ()
        worker.paused.add(request.id)
        if not worker.owes:
            worker.deadline_s = inf
        return [Pause(worker.number, request.id)]

    def resume(self, request: PendingRequest, now_s: float) -> Sequence[Action]:
        """The client has caught up."""
        worker = self._with_stream(request)
        if worker is None or request.id not in worker.paused:
            return ()
        owed = worker.owes
        worker.paused.remove(request.id)
        if not owed:
            self.supervisor.watch(worker, now_s)
        return [Resume(worker.number, request.id)]

    def _with_stream(self, request: PendingRequest) -> Worker | None:
        worker = self._ledger.workers.get(request.worker)
        return worker if worker is not None and request.id in worker.streams else None

    # --- what the workers say

    def answered(self, number: int, request_id: int, now_s: float) -> PendingRequest | None:
        """A request is answered, or its stream has ended; returns it where somebody is to be told."""
        worker = self._ledger.workers.get(number)
        if worker is None:
            return None
        request = self._ledger.take_back(worker, request_id)
        self.supervisor.watch(worker, now_s)
        if request is None or request.over:
            return None
        request.over = True
        return request

    def passed_over(self, number: int, place: int, now_s: float) -> None:
        """A worker met a request that was about to be taken back from it: it has not begun it."""
        worker = self._ledger.workers.get(number)
        if worker is None:
            return
        self.supervisor.watch(worker, now_s)
        request = self._ledger.passed_over(worker, place)
        if request is not None and not request.over:
            self._wait_again([request])

    def announced(self, number: int, request_id: int, now_s: float) -> Sequence[Action]:
        """A request is going to be answered by a stream."""
        worker = self._ledger.workers.get(number)
        if worker is None:
            return ()
        request = self._ledger.announce(worker, request_id)
        self.supervisor.watch(worker, now_s)
        # Its client may have left before anybody knew that there is something to close.
        return self._close_stream(worker, request_id) if request is not None and request.over else ()

    def began(self, number: int, request_id: int, now_s: float) -> PendingRequest | None:
        """A stream has begun; returns its request where somebody is to be told."""
        request = self.streamed(number, request_id, now_s)
        if request is not None:
            request.started = True
        return request

    def streamed(self, number: int, request_id: int, now_s: float) -> PendingRequest | None:
        """A part of a stream is there; returns its request where somebody is to be told."""
        worker = self._ledger.workers.get(number)
        if worker is None:
            return None
        self.supervisor.watch(worker, now_s)
        request = worker.streams.get(request_id)
        return None if request is None or request.over else request

    def progress(self, number: int, now_s: float, *, proving: bool) -> None:
        """A step of a batch is done; or, while the model is loaded, something is tried that has a batch's deadline."""
        worker = self._ledger.workers.get(number)
        if worker is None:
            return
        worker.proving = proving
        if worker.phase is Phase.LOADING:
            worker.phase = Phase.TRYING
        self.supervisor.watch(worker, now_s)

    def done(self, number: int, done: Done, now_s: float) -> Sequence[Action]:
        """A worker has done a batch: it may be given another one, whatever streams are open."""
        worker = self._ledger.workers.get(number)
        if worker is None:
            return ()
        if fault := _fault_of_done(worker):
            return [self.supervisor.log(logging.ERROR, fault, worker), *self.supervisor.kill(worker)]
        size = len(worker.batches.popleft().requests)
        if size:  # not all were taken back
            item_s = (now_s - worker.begun_s) / size
            self._item_s = self._item_s + 0.1 * (item_s - self._item_s) if self._item_s else item_s
            self._in_hand_limit = hand_over_limit(self._item_s)
        busy_s = now_s - worker.begun_s
        told = self.planner.done(number, done, size=size, busy_s=busy_s, others=self._in_flight, now_s=now_s)
        worker.begun_s, worker.proving = now_s, False
        self._health.batch_done()
        self._joins.record(done)
        self._metrics.count_batch(done)
        self.supervisor.watch(worker, now_s)
        return told

    def _in_flight(self) -> int:
        """What waits or is computed, but for streams."""
        return len(self._queue) + self._ledger.computing - self._ledger.streaming

    def lost(self, number: int, now_s: float) -> Sequence[Action]:
        """A worker's socket has closed: what it had is tried again or failed, and a successor is due."""
        worker = self._ledger.remove(number)
        if worker is None:
            return ()
        if worker in self._retiring:
            self._retiring.remove(worker)  # it has left by itself
        self.planner.lost(number, now_s)
        actions = self.supervisor.lost(worker, now_s)
        not_begun = worker.not_begun if self.state is State.SERVING else []
        innocent = [request for request in not_begun if worker.begun.take_back(request.place)]
        if innocent and len(innocent) == len(worker.requests) and not worker.lasting:
            innocent[0].losses_not_begun += 1
        if predicted := len(worker.requests) - len(innocent):
            self._metrics.batch_size.observe(predicted)  # nobody can say how many of them together
        for request in innocent:
            del worker.requests[request.id]
        for request in innocent:
            request.isolated |= request.losses_not_begun >= NOT_BEGUN_ISOLATED
            if request.losses_not_begun >= NOT_BEGUN_FAILED and not request.over:
                actions.append(self._fail(request, WorkerDied(_DIED)))
        self._wait_again([request for request in innocent if not request.over])
        shared_by = worker.shared_by
        for request in (*worker.streams.values(), *worker.requests.values()):
            if not request.over:
                actions += self._after_loss(request, worker, shared_by, now_s)
        if self.state is not State.SERVING and not self._ledger.workers:
            actions += [self._fail(request, self._last_word) for request in self._queue.take_all()]
        return actions

    # --- the end

    def drain(self) -> list[Action]:
        """Take no more requests and start no more workers; what is computed is finished."""
        actions = [*self.supervisor.start_no_more()]
        actions += [self._fail(request, self._last_word) for request in self._queue.take_all()]
        return actions

    def close(self, last_word: RequestError | None = None) -> list[Action]:
        """Fail every request with `last_word`, let idle workers leave and kill the busy ones."""
        self._last_word = last_word or self._last_word
        actions = self.drain()
        for worker in self._ledger.workers.values():
            for request in (*worker.streams.values(), *worker.requests.values()):
                if not request.over:
                    actions.append(self._fail(request, self._last_word))
        return actions + self.supervisor.end_all()

    # --- time

    def tick(self, now_s: float) -> list[Action]:
        """Do what is due, and fill the workers that have room.

        Called once in each round of the loop in which something happened, so that requests which came together are
        seen together; and at `next_due_s`.
        """
        actions = self.supervisor.supervise(now_s) if now_s >= self.supervisor.due_s else []
        self._stuck_due_s = inf
        if self._ledger.computing > 1 and not self._limits.prefetch:
            self._take_back_from_stuck(now_s)
        if now_s >= self._expiry_due_s:
            self._expire(now_s, actions)
        self._hold_due_s = inf
        if self._retiring:
            self._see_off(actions)
        if self._queue:
            self._fill(now_s, actions)
        return actions

    def _see_off(self, actions: list[Action]) -> None:
        done = [worker for worker in self._retiring if not (worker.batches or worker.busy)]
        for worker in done:
            self._retiring.remove(worker)
            actions.append(HangUp(worker.number))

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
        if queue.isolated:
            self._send_isolated(ready, now_s, actions)
        if not queue.shared:
            return
        if self._one_by_one:
            self._hand_over(ready, now_s, actions)
            return
        idle = [worker for worker in ready if not worker.batches]
        if not idle and limits.prefetch and not queue.isolated:
            idle = [worker for worker in ready if worker.has_room(limits.prefetch)]
        if not idle:
            return
        _fewest_streams_last(idle)
        plan = self.planner.plan(
            waiting=len(queue.shared),
            idle=len(idle),
            computing=self._ledger.computing - self._ledger.streaming,
            busy=len(ready) - len(idle),
            oldest_wait_s=now_s - queue.shared[0].queued_s,
            now_s=now_s,
        )
        if plan.hold_s:
            self._hold_due_s = now_s + plan.hold_s
            return
        for size in plan.sizes:
            if batch := queue.take(size):
                self._send(idle.pop(), batch, now_s, actions, alone=False)

    @property
    def _one_by_one(self) -> bool:
        """Whether each request is to be predicted alone, whatever comes with it."""
        return self._limits.max_batch_size == 1 or not self._ledger.may_join or self._joins.in_vain

    def _hand_over(self, ready: list[Worker], now_s: float, actions: list[Action]) -> None:
        """Give out requests that are predicted one by one: several in one write, where they are short.

        A worker with half of what it may have in hand is given more, so that it never has to wait for it.
        """
        queue, prefetch = self._queue, self._limits.prefetch
        # What is decoded ahead is begun when it arrives: no more than one request is risked by that.
        limit = 1 if prefetch else self._in_hand_limit
        takers = [worker for worker in ready if not worker.batches]
        if not queue.isolated:
            ahead = prefetch if not takers else 0
            takers += [worker for worker in ready if worker.batches and self._may_have_more(worker, now_s, ahead)]
        if not takers:
            return
        if len(takers) > 1:
            takers.sort(key=lambda worker: (len(worker.requests), worker.lasting))
        in_hand = sum(len(worker.requests) for worker in ready)
        share = max(1, min(limit, -(-(len(queue.shared) + in_hand) // len(ready))))
        for worker in takers:
            most = share if worker.begun.exact else 1
            room = max(most - len(worker.requests), 1 if worker.has_room(prefetch) else 0)
            if room and (batch := queue.take(room, MAX_HANDED_OVER_BYTES)):
                self._send(worker, batch, now_s, actions, alone=True)

    def _may_have_more(self, worker: Worker, now_s: float, prefetch: int) -> bool:
        """Whether a worker that has something may be given more: it gets on, or decodes ahead."""
        if self._limits.prefetch:
            return bool(prefetch) and worker.has_room(prefetch)
        gets_on = now_s < worker.heard_s + STUCK_S and worker.handed_over - worker.begun.count < MARKS // 2
        return gets_on and len(worker.requests) <= self._in_hand_limit // 2 and not worker.suspicious

    def _take_back_from_stuck(self, now_s: float) -> None:
        """What a worker has not begun waits for the next one, where that worker is not getting on."""
        due_s = inf
        for worker in self._ledger.workers.values():
            if len(worker.requests) > 1 and worker.batches[-1].alone and (waiting := worker.not_begun):
                if now_s >= worker.heard_s + STUCK_S:
                    # One that is between two items of a stream takes up its first request next: that stays, or all
                    # of them would go to and fro, always too late.
                    behind = waiting[1:] if len(waiting) == len(worker.requests) else waiting
                    taken = [request for request in behind if self._ledger.take_unbegun(worker, request)]
                    self._wait_again([request for request in taken if not request.over])
                else:
                    due_s = min(due_s, worker.heard_s + STUCK_S)
        self._stuck_due_s = due_s

    def _send_isolated(self, ready: list[Worker], now_s: float, actions: list[Action]) -> None:
        # What is suspected goes to a worker without streams, which it would break, and waits for one that is busy or
        # coming up. Only where there is none it goes to the one that has the fewest: streams may last for ever.
        if not all(worker.lasting for worker in self._ledger.workers.values()):
            ready = [worker for worker in ready if not worker.lasting]
        idle = [worker for worker in ready if not worker.batches]
        _fewest_streams_last(idle)
        while idle and self._queue.isolated:
            self._send(idle.pop(), [self._queue.isolated.popleft()], now_s, actions, alone=True)

    def _send(
        self, worker: Worker, batch: list[PendingRequest], now_s: float, actions: list[Action], *, alone: bool
    ) -> None:
        for request in batch:
            request.sent_s = now_s
            self._metrics.queue_s.observe(now_s - request.queued_s)
        first = not worker.batches
        self._ledger.give(worker, batch, alone=alone)
        if first:
            worker.begun_s = now_s
            self.supervisor.watch(worker, now_s)
        self._joins.sent(len(batch))
        self.planner.sent(worker.number, len(batch), now_s, planned=not (alone or batch[0].isolated))
        actions.append(Send(worker.number, batch, alone))

    # --- small steps

    def _enqueue(self, request: PendingRequest, now_s: float) -> None:
        request.queued_s, request.worker = now_s, 0
        self._queue.add(request)
        self._expiry_due_s = min(self._expiry_due_s, now_s + self._limits.max_queue_wait_s)

    def _wait_again(self, requests: Sequence[PendingRequest]) -> None:
        # Where and since when they waited: nothing was done with them.
        for request in requests:
            request.worker = 0
            self._expiry_due_s = min(self._expiry_due_s, request.queued_s + self._limits.max_queue_wait_s)
        self._queue.put_back(requests)

    def _close_stream(self, worker: Worker, request_id: int) -> Sequence[Action]:
        self._ledger.take_back(worker, request_id)
        if not worker.owes:
            worker.deadline_s = inf
        return [Cancel(worker.number, request_id)]

    def _after_loss(self, request: PendingRequest, worker: Worker, shared_by: int, now_s: float) -> Sequence[Action]:
        if self.state in (State.CLOSED, State.FAILED):
            return [self._fail(request, self._last_word)]
        hung = worker.phase is Phase.HUNG
        # What was isolated is to blame, whatever streams the worker had.
        shared_by = 1 if request.isolated else shared_by
        if shared_by == 1 and not hung:
            request.deaths_isolated += 1
        fate = after_loss(
            shared_by=shared_by, deaths_isolated=request.deaths_isolated, hung=hung, retry=self._limits.retry
        )
        if fate is Retry.ISOLATED and not request.started:
            self._metrics.retries += 1
            request.isolated = True
            self._enqueue(request, now_s)
            return ()
        if hung:
            return [self._fail(request, HandlerTimedOut(f"The model took longer than {self._limits.timeout_s:g} s."))]
        return [self._fail(request, WorkerDied(_DIED))]

    def _fail(self, request: PendingRequest, error: RequestError) -> Fail:
        request.over = True
        return Fail(request, error)


def _fault_of_done(worker: Worker) -> str:
    """Why a worker cannot have done its batch, in words; empty where it can."""
    if not worker.batches:
        return "a worker answered an unknown request"
    if worker.requests and any(request.id in worker.requests for request in worker.batches[0].requests):
        return "a worker left requests unanswered"
    return ""


def _fewest_streams_last(workers: list[Worker]) -> None:
    if len(workers) > 1 and any(worker.lasting for worker in workers):
        workers.sort(key=lambda worker: -worker.lasting)
