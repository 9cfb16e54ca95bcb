"""One model: carries out what its `Scheduler` decides, with sockets, processes and one timer.

Whatever happens is told to the scheduler at once; in the next round of the loop it is asked what to do (`_tick`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from time import monotonic
from typing import Any

from tidegate.inference import protocol
from tidegate.inference.errors import DeploymentError, LoadInterrupted, ModelDoesNotFit, NotReady, RequestError
from tidegate.inference.frontend.metrics import ModelGauges, ModelMetrics
from tidegate.inference.frontend.queue.actions import (
    Action,
    Cancel,
    CutOff,
    Fail,
    GiveUp,
    HangUp,
    Kill,
    Loaded,
    LoadFailed,
    Log,
    Pause,
    Resume,
    Send,
    Start,
)
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.frontend.queue.pool_limits import PoolLimits
from tidegate.inference.frontend.queue.scheduler import Scheduler
from tidegate.inference.frontend.workers.adapters import Adapters
from tidegate.inference.frontend.workers.borrowing import Borrower, Borrowing
from tidegate.inference.frontend.workers.conversations import Client, Conversations, Talk
from tidegate.inference.frontend.workers.fork_server import ForkServer, ForkServerFailed, describe_exit
from tidegate.inference.frontend.workers.model_health import State
from tidegate.inference.frontend.workers.worker_link import WorkerLink
from tidegate.inference.protocol import (
    Answer,
    Bodies,
    Done,
    End,
    Error,
    Held,
    ModelSpec,
    Part,
    Payload,
    Progress,
    Ready,
    Request,
    ServedAs,
    Tensors,
)
from tidegate.inference.repository.catalogue import Revision

log = logging.getLogger("tidegate.model")

_UNLOAD_POLL_S = 0.005
_EXIT_S = 10.0


class ModelPool:
    """The queue of one model in front of its workers."""

    def __init__(
        self,
        spec: ModelSpec,
        limits: PoolLimits,
        fork_server: ForkServer,
        on_crash_loop: Callable[[str], None],
        metrics: ModelMetrics | None = None,
        *,
        max_adapters: int = 16,
    ) -> None:
        self.spec = spec
        self.limits = limits
        self.metrics = metrics or ModelMetrics()
        self.tensors: Tensors = {}
        """What the model takes and gives, as far as its workers say so."""
        self.form: ServedAs | None = None
        """Which form of the model its workers serve, and why, where it has any."""
        self.bodies: Bodies | None = None
        """Which bodies the model takes and gives, as far as its workers say so."""
        self.converses = False
        """Whether WebSockets may be opened to it."""
        self._alone: str | None = None
        """Why requests never share a call, where the size of batches is to be found."""
        self._scheduler = Scheduler(spec.name, limits, self.metrics, prove=spec.prove)
        self._supervisor = self._scheduler.supervisor
        self._conversations = Conversations(spec.name, spec.max_streams, self._scheduler)
        self.adapters = Adapters(max_adapters)
        """Those that requests may ask for by name."""
        self.borrowing: Borrowing | None = None
        """Where its scripts get other models, on a server that has a repository."""
        self.on_report: Callable[[Mapping[str, Any]], None] = lambda _said: None
        """Told what a worker says of its load in a rehearsal; of its end too, as `lost`."""
        self._fork_server = fork_server
        self._on_crash_loop = on_crash_loop
        self._loop = asyncio.get_running_loop()
        self._loaded: asyncio.Future[None] = self._loop.create_future()
        self._links: dict[int, WorkerLink] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._next_tick: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf

    # --- what the rest of the frontend asks

    async def load(self) -> None:
        """Return when one worker has loaded and checked the model; the others follow. Raises `DeploymentError`."""
        self._supervisor.load(monotonic())
        self._wake()
        await self._loaded

    @property
    def state(self) -> State:
        """Where the model is in its life."""
        return self._scheduler.state

    @property
    def healthy(self) -> bool:
        """Whether `/ping` may say 200 on behalf of this model."""
        return self._supervisor.health.healthy(monotonic())

    def owns(self, pid: int) -> bool:
        """Whether `pid` is a worker of this model."""
        return pid in self._supervisor.processes

    def worker_exited(self, pid: int, status: int) -> None:
        """Tell how the worker `pid` ended, as waitpid gives it."""
        cause = describe_exit(os.waitstatus_to_exitcode(status)) if status else ""
        self._carry_out(self._supervisor.exited(pid, cause, monotonic()))
        if self.borrowing is not None:
            self.borrowing.look(self.owns)
        self._wake()

    @property
    def gauges(self) -> ModelGauges:
        """What `/metrics` says about this model now."""
        choice = self._scheduler.choice
        return ModelGauges(
            metrics=self.metrics,
            waiting=self._scheduler.waiting,
            computing=self._scheduler.computing,
            workers=self._scheduler.ready_workers,
            batch_limit=choice.size if choice is not None else None,
            batch_wait_s=choice.wait_s if choice is not None else None,
        )

    @property
    def described(self) -> dict[str, object]:
        """What the list of models says of it: `form` and `batching`, each where there was something to find out."""
        told: dict[str, object] = {} if self.form is None else {"form": self.form}
        if (choice := self._scheduler.choice) is not None:
            size, wait_s, why = choice
            why = why if self._alone is None else f"requests are answered one by one: {self._alone}"
            told["batching"] = {"max_batch_size": size, "max_wait_ms": round(1000 * wait_s, 3), "why": why}
        return told

    def admit(self) -> None:
        """Raise, and count, the error for a request that must not wait, before its body is read.

        It is `NotReady` or `Overloaded`.
        """
        try:
            self._scheduler.admit()
        except RequestError as error:
            self.metrics.responses[error.status] += 1
            raise

    def submit(self, request: PendingRequest) -> None:
        """Queue a request; its reply is told what becomes of it, never before this returns.

        Raises what `admit` raises where that has become true while the body was on its way.
        """
        self._scheduler.submit(request, monotonic())
        self._wake()

    def cancel(self, request: PendingRequest) -> None:
        """Forget a request whose client has left; its reply is told nothing more."""
        self._carry_out(self._scheduler.cancel(request))
        self._wake()

    def pause(self, request: PendingRequest) -> None:
        """The client reads more slowly than its response comes: a stream waits for it."""
        self._carry_out(self._scheduler.pause(request))

    def resume(self, request: PendingRequest) -> None:
        """It has caught up."""
        self._carry_out(self._scheduler.resume(request, monotonic()))
        self._wake()

    def converse(self, client: Client) -> Talk:
        """Begin a conversation with the worker that has the fewest. Raises `NotFound`, `NotReady` or `Overloaded`."""
        if self.state is not State.SERVING:
            raise NotReady(f"The model '{self.spec.name}' is not ready.")
        return self._conversations.begin(client)

    @property
    def busy(self) -> bool:
        """Whether anything waits here, is computed, or converses."""
        return bool(self._scheduler.waiting or self._scheduler.computing or self._conversations)

    @property
    def has_processes(self) -> bool:
        """Whether a worker has not exited."""
        return bool(self._supervisor.processes)

    async def settle(self, timeout_s: float, *, hurry: bool) -> None:
        """Return when nothing waits here or is computed any more, or `timeout_s` are over; nothing new is to come.

        In a hurry, conversations are asked to end.
        """
        if hurry:
            self._conversations.leave()
        deadline_s = monotonic() + timeout_s
        # A batch ends in one place and a process in another; looking is simpler than being told by both.
        while self.busy and monotonic() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(_UNLOAD_POLL_S)

    async def unload(self, timeout_s: float) -> None:
        """Take no more traffic, finish what is computed, end the workers; returns when their memory is free."""
        self._carry_out(self._scheduler.drain())
        deadline_s = monotonic() + timeout_s
        await self.settle(timeout_s, hurry=True)
        self.close()
        while self.has_processes and monotonic() < deadline_s + _EXIT_S:  # noqa: ASYNC110
            await asyncio.sleep(_UNLOAD_POLL_S)

    def close(self, last_word: RequestError | None = None) -> None:
        """Give up: fail what waits with `last_word`, let idle workers leave and kill the busy ones."""
        for task in self._starting:
            task.cancel()
        self._conversations.close()
        self._carry_out(self._scheduler.close(last_word))

    # --- what the workers say (see `worker_link.WorkerEvents`)

    def worker_answered(self, worker: int, outcome: Answer | Error) -> None:
        """One request is answered."""
        request = self._scheduler.answered(worker, outcome.id, monotonic())
        self._wake()
        if request is None:
            return
        if isinstance(outcome, Answer):
            request.reply.start(outcome.status, outcome.content_type, outcome.headers, len(outcome.body))
            request.reply.write(outcome.body)
            request.reply.end()
        else:
            request.reply.fail(outcome)

    def stream_announced(self, worker: int, request_id: int) -> None:
        """One request is going to be answered by a stream."""
        self._carry_out(self._scheduler.announced(worker, request_id, monotonic()))

    def stream_began(self, worker: int, start: protocol.Start) -> None:
        """Its first part is there."""
        request = self._scheduler.began(worker, start.id, monotonic())
        if request is not None:
            request.reply.start(start.status, start.content_type, start.headers, start.length)

    def stream_part(self, worker: int, part: Part) -> None:
        """A part of its body is there."""
        request = self._scheduler.streamed(worker, part.id, monotonic())
        if request is not None:
            request.reply.write(bytes(part.data))

    def stream_ended(self, worker: int, end: End) -> None:
        """Its body is complete."""
        request = self._scheduler.answered(worker, end.id, monotonic())
        if request is not None:
            request.reply.end()
        self._wake()

    def worker_goes_on(self, worker: int, progress: Progress) -> None:
        """A step is done."""
        self._scheduler.progress(worker, monotonic(), proving=progress.proving)
        self._wake()

    def worker_holds(self, worker: int, held: Held) -> None:
        """It holds more of its GPUs, or less."""
        self._supervisor.holds(worker, held.gpu_bytes)

    def worker_done(self, worker: int, done: Done) -> None:
        """A batch is done."""
        self._carry_out(self._scheduler.done(worker, done, monotonic()))
        self._wake()

    def worker_passed_over(self, worker: int, place: int) -> None:
        """A request that was about to be taken back is not begun."""
        self._scheduler.passed_over(worker, place, monotonic())
        self._wake()

    def worker_ready(self, worker: int, ready: Ready) -> None:
        """The model is loaded."""
        self.tensors, self.form = ready.tensors, ready.form
        self.bodies, self.converses = ready.bodies, ready.converses
        first = self.state is State.LOADING
        if self._scheduler.choice is not None and (first or ready.alone != self._alone):
            found = "how many requests share a call is found on live traffic"
            said = found if ready.alone is None else f"requests are answered one by one: {ready.alone}"
            log.info("%s", said, extra={"model": self.spec.name})
        self._alone = ready.alone
        self._conversations.ready(worker, self._links[worker], offered=ready.converses)
        self.adapters.ready(worker, self._links[worker])
        told = self._supervisor.ready(
            worker,
            monotonic(),
            may_join=ready.may_join,
            gpu_bytes=tuple(ready.gpu_bytes),
            begun=self._links[worker].begun if ready.has_page else None,
        )
        self._carry_out(told)
        self._wake()

    def worker_failed(self, worker: int, message: str, *, too_large: bool) -> None:
        """The model cannot be loaded."""
        self._carry_out(self._supervisor.load_failed(worker, message, too_large=too_large))

    def worker_reports(self, worker: int, payload: Payload) -> None:  # noqa: ARG002 - a rehearsal has one
        """A step of a rehearsal, or what came of it."""
        self.on_report(protocol.parse_report(payload))

    def worker_adapts(self, worker: int, payload: Payload) -> None:
        """What came of loading an adapter."""
        self.adapters.heard(worker, payload)

    def worker_lost(self, worker: int) -> None:
        """A worker's socket has closed."""
        self.on_report({"lost": True})
        self._links.pop(worker, None)
        self._carry_out(self._scheduler.lost(worker, monotonic()))
        self._conversations.lost(worker)
        self.adapters.lost(worker)
        if self.borrowing is not None:
            self.borrowing.lost(worker)
            self.borrowing.look(self.owns)
        self._wake()

    def worker_borrows(self, worker: int, payload: Payload) -> None:
        """Its script asks for another model, or says something of those that it holds."""
        if self.borrowing is None:
            return

        def borrower(revision: Revision | None) -> Borrower:
            return Borrower(
                revision=revision,
                pid=self._scheduler.pid_of(worker),
                link=self._links[worker],
                begin=lambda: self._scheduler.heard_of(worker, monotonic()),
                retire=lambda: self._retire(worker),
            )

        self.borrowing.heard(worker, payload, borrower)

    def _retire(self, worker: int) -> None:
        self._scheduler.retire(worker)
        self._wake()

    def worker_talks(self, worker: int, kind: int, payload: Payload) -> None:
        """A frame of one of its conversations."""
        self._conversations.heard(worker, kind, payload)

    def worker_blocked(self, worker: int, *, on: bool) -> None:
        """Its socket takes no more, or takes more again."""
        self._conversations.blocked(worker, on=on)

    # --- doing what is decided

    def _wake(self) -> None:
        if self._next_tick is None:
            self._next_tick = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._next_tick = None
        now_s = monotonic()
        self._carry_out(self._scheduler.tick(now_s))
        due_s = self._scheduler.next_due_s
        # One timer for everything, left alone as long as it comes early enough.
        if due_s < self._timer_s:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_s = due_s
            # Up to the next millisecond: one that came too early would have to be set again.
            self._timer = self._loop.call_later(math.ceil((due_s - now_s) * 1000) / 1000, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer, self._timer_s = None, math.inf
        self._tick()

    def _carry_out(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                on_the_wire = [_on_the_wire(request) for request in action.requests]
                self._links[action.worker].compute(on_the_wire, alone=action.alone)
            elif isinstance(action, Fail):
                action.request.reply.fail(action.error)
            else:
                self._carry_out_seldom(action)

    def _carry_out_seldom(self, action: Action) -> None:
        match action:
            case Log(level, message, fields):
                log.log(level, message, extra=fields)
            case Cancel(worker, request_id):
                self._links[worker].cancel(request_id)
            case Pause(worker, request_id):
                self._links[worker].pause(request_id)
            case Resume(worker, request_id):
                self._links[worker].resume(request_id)
            case Start():
                task = self._loop.create_task(self._start(action))
                self._starting.add(task)
                task.add_done_callback(self._starting.discard)
            case Kill(pid):
                self._kill(pid)
            case CutOff(worker):
                self._links[worker].cut_off()
            case HangUp(worker):
                self._links[worker].hang_up()
            case Loaded() if not self._loaded.done():  # whoever loaded it may have given up waiting
                self._loaded.set_result(None)
            case LoadFailed(reason, too_large, interrupted) if not self._loaded.done():
                kind = ModelDoesNotFit if too_large else LoadInterrupted if interrupted else DeploymentError
                self._loaded.set_exception(kind(reason))
                self._loaded.exception()  # marked as seen: there may be nobody who waits for it
            case GiveUp(cause):
                self._on_crash_loop(cause)

    async def _start(self, start: Start) -> None:
        try:
            pid, channel = await self._fork_server.start(self.spec.packages_dir)
        except (ForkServerFailed, OSError) as error:  # also where this process has no file descriptor left
            self._carry_out(self._supervisor.start_failed(start.worker, str(error), monotonic()))
        else:
            link = self._links[start.worker] = WorkerLink(self, start.worker)
            self._supervisor.started(start.worker, pid, monotonic())
            spec = replace(self.spec, verify=start.verify, prove=start.prove, gpu_ids=start.gpu_ids)
            await link.attach(channel, spec)
        self._wake()

    def _kill(self, pid: int) -> None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            self._carry_out(self._supervisor.exited(pid, "", monotonic()))


def _on_the_wire(request: PendingRequest) -> Request:
    body = request.body.sent()
    return Request(request.id, request.content_type, request.accept, request.headers, body, request.form)
