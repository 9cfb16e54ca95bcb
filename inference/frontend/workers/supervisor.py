"""The lives of a model's workers: started, watched, replaced when they die or hang, ended. Pure: it returns actions.

A worker is counted by its socket: while that is open it is in the ledger. Its process may end before or after that; one
that lags behind for more than `LEAVE_S` is seen to.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf

from tidegate.inference.begun_page import Begun
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.queue.actions import (
    Action,
    CutOff,
    GiveUp,
    HangUp,
    Kill,
    Loaded,
    LoadFailed,
    Log,
    Start,
)
from tidegate.inference.frontend.queue.ledger import Ledger, Phase, Worker
from tidegate.inference.frontend.queue.pool_limits import PoolLimits
from tidegate.inference.frontend.workers.model_health import ModelHealth, State
from tidegate.inference.request_trace import fields_of_all, request_id_in

LEAVE_S = 1.0
"""How long the end of a worker's process and the end of its socket may be apart before one is taken for the other."""
_PROVES_NO_MORE = (
    "a worker was lost while it tried whether requests may share a call; they do not from now on, unless the "
    "script defines collate_fn and split_fn, or the model is saved with save_model(batching=True)"
)


@dataclass(slots=True, kw_only=True)
class _Process:
    """The process of a worker, until its exit is reported."""

    killed: bool = False
    explained: bool = False
    """Whether the worker said itself why it ends, which is more than its exit status does."""
    kill_s: float = inf
    """When it is killed, because its socket has closed."""
    had: dict[str, object] = field(default_factory=dict)
    """What a line of the log says of the requests that it had when its socket closed."""


class Supervisor:
    """As many workers as the limits say, whatever happens to them."""

    def __init__(self, name: str, limits: PoolLimits, ledger: Ledger, metrics: ModelMetrics, *, prove: bool) -> None:
        self.health = ModelHealth(limits)
        self.due_s = inf
        """No later than the first thing that is due, and maybe earlier: a batch costs no search for the first one."""
        self._name = name
        self._limits = limits
        self._ledger = ledger
        self._metrics = metrics
        self._prove = prove
        self._processes: dict[int, _Process] = {}

    @property
    def processes(self) -> Iterable[int]:
        """The pids of all workers that have not exited."""
        return self._processes.keys()

    # --- deadlines

    def watch(self, worker: Worker, now_s: float) -> None:
        """Let the deadline of a worker run from now, where it owes something."""
        worker.heard_s = now_s
        if worker.owes:
            worker.deadline_s = now_s + self._limits.timeout_s
            self.due_s = min(self.due_s, worker.deadline_s)
        elif worker.phase is not Phase.LOADING:
            worker.deadline_s = inf

    def supervise(self, now_s: float) -> list[Action]:
        """Do what is due."""
        actions: list[Action] = []
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
        actions += self._judge(now_s)
        actions += self._start(now_s)
        self.due_s = min(due_s, self.health.next_due_s())
        return actions

    def _judge(self, now_s: float) -> list[Action]:
        health = self.health
        if health.first_load_failed(now_s):
            cause = health.last_cause or "its worker was gone"
            return [LoadFailed(f"Loading the model '{self._name}' failed: {cause}.", interrupted=True)]
        if trouble := health.crash_loop(now_s):
            return [GiveUp(f"the model '{self._name}' {trouble}: {health.last_cause}")]
        return []

    def _start(self, now_s: float) -> list[Action]:
        verify = self.health.state is State.LOADING
        started = [self._ledger.add(slot, self._limits.gpus_of(slot)) for slot in self.health.starts(now_s)]
        return [Start(each.number, each.slot, each.gpu_ids, verify, self._prove) for each in started]

    def _hung(self, worker: Worker) -> list[Action]:
        worker.deadline_s = inf
        if worker.phase is Phase.LOADING:
            sentence = f"Loading the model took longer than {self._limits.load_timeout_s:g} s."
            said = [*self.load_failed(worker.number, sentence)]
        else:
            self.health.explain(f"worker {worker.pid} took longer than {self._limits.timeout_s:g} s")
            worker.phase = Phase.HUNG
            message = "user code took longer than the time limit; the worker is replaced"
            said = [self.log(logging.ERROR, message, worker, timeout_s=self._limits.timeout_s, **_in_hand(worker))]
        # A process that waits for a device cannot even be killed: do not wait for its end to replace it.
        return [*said, *self.kill(worker), CutOff(worker.number)]

    # --- what happens

    def load(self, now_s: float) -> None:
        """Start the first worker. `Loaded` or `LoadFailed` follows."""
        self.health.load(now_s)
        self._look_again()

    def started(self, number: int, pid: int, now_s: float) -> None:
        """A worker was forked, and is asked to load the model."""
        worker = self._ledger.workers[number]
        worker.pid, worker.phase = pid, Phase.LOADING
        worker.deadline_s = now_s + self._limits.load_timeout_s
        self._processes[pid] = _Process()
        self._look_again(worker.deadline_s)

    def start_failed(self, number: int, cause: str, now_s: float) -> Sequence[Action]:
        """A worker could not be forked."""
        worker = self._ledger.remove(number)
        if worker is None:
            return ()
        failed = self.health.could_not_start(worker.slot, cause, now_s)
        self._look_again()
        return [LoadFailed(f"The workers cannot be started: {cause}.", interrupted=True)] if failed else ()

    def ready(
        self,
        number: int,
        now_s: float,
        *,
        may_join: bool,
        gpu_bytes: tuple[int, ...] = (),
        begun: Begun | None = None,
    ) -> Sequence[Action]:
        """A worker has loaded the model, for which it holds `gpu_bytes`, and may be given batches.

        `begun` tells what it has begun of them; None where it has no page to write that on.
        """
        worker = self._ledger.workers.get(number)
        if worker is None or worker.phase not in (Phase.LOADING, Phase.TRYING):
            return ()
        worker.phase, worker.proving, worker.deadline_s = Phase.READY, False, inf
        worker.gpu_bytes = gpu_bytes
        worker.begun = begun or worker.begun
        self._ledger.set_may_join(worker, may_join)
        loaded = self.health.ready(now_s)
        self._look_again()
        return [self.log(logging.INFO, "worker is ready", worker), *([Loaded()] if loaded else [])]

    def holds(self, number: int, gpu_bytes: tuple[int, ...]) -> None:
        """A worker says what it holds of each of its GPUs."""
        worker = self._ledger.workers.get(number)
        if worker is not None:
            worker.gpu_bytes = gpu_bytes

    def load_failed(self, number: int, message: str, *, too_large: bool = False) -> Sequence[Action]:
        """A worker cannot load the model, for the reason in `message`; it exits."""
        worker = self._ledger.workers.get(number)
        if worker is None:
            return ()
        if worker.pid in self._processes:
            self._processes[worker.pid].explained = True
        line = self.log(logging.ERROR, "loading failed", worker, reason=message)
        if self.health.could_not_load(message):
            return [line, LoadFailed(message, too_large)]
        return [line]

    def lost(self, worker: Worker, now_s: float) -> list[Action]:
        """A worker's socket has closed, and it has been taken out of the ledger: a successor is due."""
        said: list[Action] = []
        if worker.pid in self._processes:
            self._processes[worker.pid].kill_s = now_s + LEAVE_S + self._limits.flush_s
            self._processes[worker.pid].had = _in_hand(worker)
        state = self.health.state
        if state is State.SERVING:
            self._metrics.worker_restarts += 1
        if worker.proving and state in (State.LOADING, State.SERVING):
            self._prove = False
            said.append(self.log(logging.WARNING, _PROVES_NO_MORE, worker))
        self.health.lost(
            worker.slot,
            busy=worker.busy,
            hung=worker.phase is Phase.HUNG,
            proving=worker.proving,
            ready=len(self._ledger.ready()),
            now_s=now_s,
        )
        self._look_again(now_s + LEAVE_S + self._limits.flush_s)
        return said

    def exited(self, pid: int, cause: str, now_s: float) -> Sequence[Action]:
        """A worker's process has ended; `cause` says how, in words, and is empty where it left of itself."""
        process = self._processes.pop(pid, None)
        if process is None:
            return ()
        had = process.had
        for worker in self._ledger.workers.values():
            if worker.pid == pid:
                had = _in_hand(worker)
                # Its last answers may still be on their way. The socket may also stay open for ever, where user code
                # forked a process of its own, so its end is not waited for.
                worker.deadline_s, worker.cut_off_s = inf, now_s + LEAVE_S
                if worker.phase is not Phase.HUNG:
                    worker.phase = Phase.EXITED
                self._look_again(worker.cut_off_s)
        if process.killed or process.explained or not cause:  # why it had to go is known
            return ()
        self.health.explain(f"worker {pid} {cause}")
        fields = {"worker_pid": pid, "model": self._name, "cause": cause, **had}
        return [Log(logging.WARNING, "worker ended", fields)]

    # --- the end

    def start_no_more(self) -> Sequence[Action]:
        """The model is unloaded, or the server stops."""
        if self.health.close():
            return [LoadFailed(f"The model '{self._name}' was stopped while it was loaded.")]
        return ()

    def end_all(self) -> list[Action]:
        """Let idle workers leave and kill the busy ones."""
        actions: list[Action] = []
        for worker in list(self._ledger.workers.values()):
            if worker.phase is Phase.STARTING:
                self._ledger.remove(worker.number)
                continue
            actions.append(HangUp(worker.number))
            if not worker.ready or worker.batches or worker.streams:
                actions += self.kill(worker)
        return actions

    def kill(self, worker: Worker) -> list[Action]:
        """What ends a worker's process; nothing where it has exited, since its pid may be another one's by now."""
        process = self._processes.get(worker.pid)
        if process is None:
            return []
        process.killed = True
        return [Kill(worker.pid)]

    def log(self, level: int, message: str, worker: Worker, **fields: object) -> Log:
        """A line of the log about a worker."""
        return Log(level, message, {"worker_pid": worker.pid, "model": self._name, **fields})

    def _look_again(self, due_s: float = inf) -> None:
        self.due_s = min(self.due_s, due_s, self.health.next_due_s())


def _in_hand(worker: Worker) -> dict[str, object]:
    """What a line of the log says of the requests that a worker has."""
    lines = (request.headers for request in (*worker.requests.values(), *worker.streams.values()))
    return fields_of_all((request_id_in(each), each) for each in lines)
