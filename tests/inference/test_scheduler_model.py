"""The scheduler against a simple model of it, whatever happens in whatever order, with time.

The state machine is the world around a `Scheduler`: clients that ask and leave, workers that start, load, answer, die,
hang and close their sockets, and a clock. It carries out the actions as `ModelPool` does, and keeps by itself, in the
plainest way, who waits in which line and who has what; each action is held against that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.inference.stand_in_workers import limits
from tidegate.inference.errors import NotReady, Overloaded
from tidegate.inference.frontend.metrics import ModelMetrics
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
from tidegate.inference.frontend.queue.body import MemoryBody
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.frontend.queue.planner import FoundSize
from tidegate.inference.frontend.queue.scheduler import Scheduler
from tidegate.inference.frontend.queue.scheduling import MAX_HANDED_OVER, STUCK_S
from tidegate.inference.frontend.workers.model_health import State
from tidegate.inference.protocol import Done

TIMEOUT_S = 5.0
MAX_QUEUE_WAIT_S = 12.0
LOAD_TIMEOUT_S = 8.0
CRASH_LOOP_S = 40.0
LONGEST_DELAY_S = 10.0


class NoReply:
    """The scheduler never touches a reply."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the scheduler called {name} of a reply")


@dataclass(eq=False)
class Client:
    """One request, as the model sees it."""

    request: PendingRequest
    queued_s: float
    deaths: int = 0
    losses: int = 0
    """Workers that were lost when it was the next one."""
    outcome: str = ""


@dataclass
class Page:
    """What a worker has begun, as `BegunPage` has it, and the moment between a mark and a look at it."""

    exact = True
    count: int = 0
    taken_back: set[int] = field(default_factory=set)
    met: bool = False
    """Whether the worker looks at a place just when the frontend marks it."""

    def hand_over(self, place: int) -> None:
        self.taken_back.discard(place)

    def take_back(self, place: int) -> bool:
        self.taken_back.add(place)
        if self.met and place == self.count:
            self.count += 1
        return self.count <= place

    def close(self) -> None:
        raise AssertionError("it is a matter of the worker's socket")

    def begin(self, place: int) -> bool:
        self.count = max(self.count, place + 1)
        return place not in self.taken_back


class Batch(list[Client]):
    """What a worker was sent in one write."""

    alone: bool = False
    """Whether each of it is predicted by itself."""


@dataclass(eq=False)
class World:
    """One worker, as the model sees it."""

    start: Start
    page: Page = field(default_factory=Page)
    places: dict[Client, int] = field(default_factory=dict)
    """Where each that it was sent is among all of them, going by the last time."""
    handed_over: int = 0
    ghosts: list[int] = field(default_factory=list)
    """Places that were taken back, which it has not come to yet."""
    pid: int = 0
    phase: str = "starting"
    """starting ▶ loading ▶ ready."""
    batches: list[Batch] = field(default_factory=list)
    answered: set[Client] = field(default_factory=set)
    streams: dict[Client, bool] = field(default_factory=dict)
    """Announced; True where the response has begun."""
    paused: set[Client] = field(default_factory=set)
    heard_s: float = 0.0
    cut: bool = False
    hung: bool = False
    killed: bool = False
    hung_up: bool = False
    retiring: bool = False
    exited: bool = False

    @property
    def has(self) -> list[Client]:
        """Sent, and neither answered nor announced as a stream."""
        return [client for batch in self.batches for client in batch if client not in self.answered]

    @property
    def isolated(self) -> set[Client]:
        return {client for client in self.suspects if client.request.isolated}

    @property
    def owes(self) -> bool:
        return bool(self.batches) or len(self.streams) > len(self.paused)

    def has_begun(self, client: Client) -> bool:
        return self.places[client] < self.page.count

    @property
    def suspects(self) -> set[Client]:
        """Those that it may have died of."""
        return {
            client
            for batch in self.batches
            for client in batch
            if self.has_begun(client) and not (batch.alone and client in self.answered)
        } | self.streams.keys()

    def forget_stream(self, client: Client) -> None:
        del self.streams[client]
        self.paused.discard(client)


class SchedulerAndWorld(RuleBasedStateMachine):
    @initialize(
        workers=st.integers(1, 3),
        size=st.integers(1, 4),
        prefetch=st.integers(0, 1),
        retry=st.booleans(),
        queue_size=st.integers(3, 8),
        gpus=st.sampled_from([(0, 1), (1, 1), (2, 1), (2, 2), (4, 2)]),
        up=st.integers(0, 4),
        finds_size=st.booleans(),
    )
    def begin(
        self,
        workers: int,
        size: int,
        prefetch: int,
        retry: bool,
        queue_size: int,
        gpus: tuple[int, int],
        up: int,
        finds_size: bool,
    ) -> None:
        self.limits = limits(
            workers=workers,
            gpus=gpus[0],
            first_gpu=gpus[0] // 2 // gpus[1] * gpus[1],
            gpus_per_worker=gpus[1],
            max_batch_size=size,
            prefetch=prefetch,
            retry=retry,
            queue_size=queue_size,
            max_wait_s=0.5,
            batch_latency_s=0.5 if finds_size else None,
            timeout_s=TIMEOUT_S,
            max_queue_wait_s=MAX_QUEUE_WAIT_S,
            load_timeout_s=LOAD_TIMEOUT_S,
            crash_loop_s=CRASH_LOOP_S,
        )
        self.now_s = 1000.0
        self.scheduler = Scheduler("toy", self.limits, ModelMetrics(), prove=True)
        if isinstance(planner := self.scheduler.planner, FoundSize):
            planner.search._credit = 100.0  # else there were too few requests for a trial
        self.clients: list[Client] = []
        self.shared: list[Client] = []
        self.isolated: list[Client] = []
        self.workers: dict[int, World] = {}
        self.gone: list[World] = []
        self.pids = iter(range(1, 1 << 20))
        self.load_result = ""
        self.any_done = False
        self.gave_up = 0
        self.closed = False
        self.scheduler.supervisor.load(self.now_s)
        self.tick()
        if up:  # mostly: else few of the rules below find anything to do
            for _ in range(workers):
                for worker in [each for each in self.workers.values() if each.phase == "starting"]:
                    self.forked(worker, fails=False)
                    self.loaded(worker)
                self.tick()

    # --- the shell

    def tick(self) -> None:
        actions = self.scheduler.tick(self.now_s)
        for worker in self.workers.values():
            together = {client for batch in worker.batches if not batch.alone for client in batch}
            if taken := self.taken_from(worker):
                assert together.isdisjoint(taken), "a batch is begun as one"
                assert self.now_s >= worker.heard_s + STUCK_S, "it gets on"
                self.shared[:0] = [client for client in taken if not client.outcome]
        self.carry_out(actions)

    def taken_from(self, worker: World) -> list[Client]:
        """Those that were just taken back from a worker: no longer in its batches."""
        taken = [client for client in worker.has if self.is_taken(worker, client)]
        for client in taken:
            for batch in worker.batches:
                if client in batch:
                    batch.remove(client)
            worker.ghosts.append(worker.places[client])
        return taken

    def has_for_nothing(self, worker: World, client: Client) -> bool:
        """Whether a worker has a request that it has not begun, and is not just about to begin."""
        if client not in worker.has or worker.has_begun(client):
            return False
        return not (worker.page.met and worker.places[client] == worker.page.count)

    def is_taken(self, worker: World, client: Client) -> bool:
        return worker.places[client] in worker.page.taken_back and not worker.has_begun(client)

    def carry_out(self, actions: Any) -> None:
        for action in actions:
            self.carry_out_one(action)

    def check_gpus(self, slot: int, gpu_ids: tuple[int, ...]) -> None:
        gpus, each = self.limits.gpus, self.limits.gpus_per_worker
        assert len(gpu_ids) == (each if gpus else 0)
        for at, gpu_id in enumerate(gpu_ids):
            assert gpu_id == (self.limits.first_gpu + slot * each + at) % gpus

    def carry_out_one(self, action: Action) -> None:  # noqa: PLR0912 - one branch for each kind of action
        match action:
            case Start(number, slot, gpu_ids, verify):
                assert not self.closed, "a worker is started after the end"
                assert not self.gave_up
                assert slot < self.limits.workers
                assert all(other.start.slot != slot for other in self.workers.values()), "the slot is taken"
                self.check_gpus(slot, gpu_ids)
                assert verify == (not self.load_result)
                self.workers[number] = World(action)
            case Send(number, requests, alone):
                batch = Batch(self.client_of(each) for each in requests)
                batch.alone = alone
                self.check_batch(self.workers[number], batch)
            case Fail(request, error):
                client = self.client_of(request)
                assert not client.outcome, "a second outcome"
                client.outcome = error.code
                for line in (self.shared, self.isolated):
                    if client in line:
                        line.remove(client)
            case Kill(pid):
                for worker in (*self.workers.values(), *self.gone):
                    if worker.pid == pid:
                        assert not worker.exited, "its number may be another process's by now"
                        worker.killed = True
            case CutOff(number):
                worker = self.workers[number]
                if worker.phase == "ready" and not worker.exited:
                    assert worker.owes, "it is taken for hung though it owes nothing"
                    assert self.now_s >= worker.heard_s + TIMEOUT_S
                worker.cut = True
                worker.hung = worker.phase == "ready" and not worker.exited
            case HangUp(number):
                worker = self.workers[number]
                if worker.retiring and self.scheduler.state is State.SERVING:
                    assert not worker.hung_up, "a second time"
                    assert not worker.batches, "it has not finished"
                    assert not worker.streams
                worker.hung_up = True
            case Cancel() | Pause() | Resume():
                raise AssertionError("it is a matter of what a client did, and of no other moment")
            case Loaded():
                assert not self.load_result
                self.load_result = "loaded"
            case LoadFailed():
                assert not self.load_result
                self.load_result = "failed"
            case GiveUp():
                self.gave_up += 1
                assert self.gave_up == 1
            case Log():
                pass

    @property
    def ready_workers(self) -> list[World]:
        """Those that take requests."""
        ready = [worker for worker in self.workers.values() if worker.phase == "ready"]
        return [worker for worker in ready if not (worker.cut or worker.exited or worker.retiring)]

    def client_of(self, request: PendingRequest) -> Client:
        (found,) = [client for client in self.clients if client.request is request]
        return found

    def check_batch(self, worker: World, batch: Batch) -> None:
        assert worker.phase == "ready"
        assert not worker.retiring
        assert not worker.cut
        assert not worker.exited
        if not batch.alone:
            assert self.limits.max_batch_size > 1
            assert len(worker.batches) <= self.limits.prefetch, "more than it may be given ahead"
            assert 1 <= len(batch) <= self.limits.max_batch_size
        else:
            in_hand = len(worker.has) + len(batch)
            assert 1 <= in_hand <= (MAX_HANDED_OVER if self.any_done else 1 + self.limits.prefetch)
            ahead = self.limits.prefetch if all(each.batches for each in self.ready_workers) else 0
            gets_on = self.now_s < worker.heard_s + STUCK_S
            assert not worker.batches or gets_on or len(worker.batches) <= ahead, "it does not get on"
        for client in batch:
            assert not client.outcome, "sent though it has ended"
            assert all(client not in other.has for other in self.workers.values()), "with two workers at a time"
        if batch[0] in self.isolated:
            assert batch == self.isolated[:1], "an isolated request goes alone, in its turn"
            assert not worker.batches, "an isolated request shares its worker"
            if worker.streams:
                assert all(each.streams for each in self.workers.values()), "it endangers streams without need"
            del self.isolated[0]
        else:
            assert batch == self.shared[: len(batch)], "out of turn"
            assert not any(each.request.isolated for other in worker.batches for each in other), "behind a suspect"
            del self.shared[: len(batch)]
        if not worker.batches:
            worker.heard_s = self.now_s
        worker.batches.append(batch)
        for client in batch:
            worker.answered.discard(client)
            worker.places[client] = worker.handed_over
            worker.handed_over += 1

    # --- the clients

    @rule(count=st.integers(1, 5))
    def ask(self, count: int) -> None:
        for _ in range(count):
            client = Client(
                PendingRequest(content_type="", accept="", headers=b"", body=MemoryBody(), reply=NoReply()), self.now_s
            )
            full = len(self.shared) + len(self.isolated) >= self.limits.queue_size
            if self.scheduler.state is not State.SERVING:
                with pytest.raises(NotReady):
                    self.scheduler.submit(client.request, self.now_s)
            elif full:
                with pytest.raises(Overloaded):
                    self.scheduler.submit(client.request, self.now_s)
            else:
                self.scheduler.submit(client.request, self.now_s)
                self.clients.append(client)
                self.shared.append(client)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        streaming = None if client.outcome else self.streaming(client)
        unbegun = (
            [] if client.outcome else [each for each in self.workers.values() if self.has_for_nothing(each, client)]
        )
        actions = self.scheduler.cancel(client.request)
        client.outcome = client.outcome or "left"
        for worker in self.workers.values():
            assert self.taken_from(worker) == ([client] if worker in unbegun else []), "it is to be computed in vain"
        assert actions == ([Cancel(streaming.start.worker, client.request.id)] if streaming else ())
        if streaming:
            streaming.forget_stream(client)
        for line in (self.shared, self.isolated):
            if client in line:
                line.remove(client)

    def streaming(self, client: Client) -> World | None:
        """The worker that streams the response of `client`."""
        return next((worker for worker in self.workers.values() if client in worker.streams), None)

    @precondition(lambda self: self.any(lambda worker: worker.streams))
    @rule(data=st.data(), slow=st.booleans())
    def read(self, data: st.DataObject, slow: bool) -> None:
        """A client reads its stream too slowly, or has caught up."""
        streams = [client for worker in self.workers.values() for client in worker.streams]
        client = data.draw(st.sampled_from(streams))
        worker = self.streaming(client)
        request = client.request
        if slow:
            actions = self.scheduler.pause(request)
            fits = worker is not None and client not in worker.paused
            assert actions == ([Pause(worker.start.worker, request.id)] if worker and fits else ())
            if worker:
                worker.paused.add(client)
        else:
            actions = self.scheduler.resume(request, self.now_s)
            fits = worker is not None and client in worker.paused
            assert actions == ([Resume(worker.start.worker, request.id)] if worker and fits else ())
            if worker and fits:
                if not worker.owes:
                    worker.heard_s = self.now_s
                worker.paused.remove(client)

    # --- the workers

    def any(self, condition: Callable[[World], object]) -> bool:
        return any(condition(worker) for worker in self.workers.values())

    def some(self, data: st.DataObject, *phases: str, busy: bool = False) -> World | None:
        found = [worker for worker in self.workers.values() if worker.phase in phases and not worker.cut]
        found = [worker for worker in found if worker.batches or not busy]
        return data.draw(st.sampled_from(found)) if found else None

    @precondition(lambda self: self.any(lambda worker: worker.phase == "starting"))
    @rule(data=st.data(), fails=st.integers(0, 5))
    def fork(self, data: st.DataObject, fails: int) -> None:
        worker = self.some(data, "starting")
        if worker is not None:
            self.forked(worker, fails=fails == 0)

    def forked(self, worker: World, *, fails: bool) -> None:
        if fails:
            del self.workers[worker.start.worker]
            self.carry_out(self.scheduler.supervisor.start_failed(worker.start.worker, "no memory", self.now_s))
        else:
            worker.pid, worker.phase, worker.heard_s = next(self.pids), "loading", self.now_s
            self.scheduler.supervisor.started(worker.start.worker, worker.pid, self.now_s)

    @precondition(lambda self: self.any(lambda worker: worker.phase == "loading"))
    @rule(data=st.data(), how=st.sampled_from(["ready", "ready", "ready", "fails", "tries"]))
    def load(self, data: st.DataObject, how: str) -> None:
        worker = self.some(data, "loading")
        if worker is None or worker.hung_up:
            return
        if how == "tries":
            worker.heard_s = self.now_s
            self.scheduler.progress(worker.start.worker, self.now_s, proving=True)
        elif how == "fails":
            self.carry_out(
                self.scheduler.supervisor.load_failed(worker.start.worker, "model_fn raised.", too_large=False)
            )
        else:
            self.loaded(worker)

    def loaded(self, worker: World) -> None:
        worker.phase = "ready"
        supervisor, number = self.scheduler.supervisor, worker.start.worker
        self.carry_out(supervisor.ready(number, self.now_s, may_join=True, begun=worker.page))

    @precondition(lambda self: self.any(lambda worker: worker.batches))
    @rule(data=st.data(), steps=st.integers(1, 4), hopeless=st.booleans(), stream=st.booleans())
    def compute(self, data: st.DataObject, steps: int, hopeless: bool, stream: bool) -> None:
        worker = self.some(data, "ready", busy=True)
        if worker is not None:
            for _ in range(steps):
                self.step(worker, hopeless=hopeless, stream=stream)

    def step(self, worker: World, *, hopeless: bool = False, stream: bool = False) -> None:
        """Answer the next request of the first batch, or announce that it is a stream, or say that it is done."""
        if not worker.batches:
            return
        left = [client for client in worker.batches[0] if client not in worker.answered]
        worker.heard_s = self.now_s
        if left:
            client = left[0]
            if not self.begins(worker, client):
                self.pass_over(worker, client)
                return
            worker.answered.add(client)
            if stream:
                actions = self.scheduler.announced(worker.start.worker, client.request.id, self.now_s)
                assert actions == ([Cancel(worker.start.worker, client.request.id)] if client.outcome else ())
                if not client.outcome:
                    worker.streams[client] = False
                return
            found = self.scheduler.answered(worker.start.worker, client.request.id, self.now_s)
            if client.outcome:
                assert found is None, "who left, or was told, has no other answer"
            else:
                assert found is client.request
                client.outcome = "answered"
        else:
            size = len(worker.batches.pop(0))
            self.any_done = True
            joined = size > 1 and not hopeless
            done = Done(0, 0, 0, joined=joined, hopeless=hopeless, sizes=(size,) if joined else (1,) * size)
            self.carry_out(self.scheduler.done(worker.start.worker, done, self.now_s))

    def begins(self, worker: World, client: Client) -> bool:
        """Whether the worker begins a request now, or has begun it; with it all of a batch that is one."""
        together = [client] if worker.batches[0].alone else worker.batches[0]
        last = max(worker.places[each] for each in together)
        for place in [place for place in worker.ghosts if place < last]:
            worker.ghosts.remove(place)
            assert not worker.page.begin(place)
            self.scheduler.passed_over(worker.start.worker, place, self.now_s)
            worker.heard_s = self.now_s
        begun = [worker.page.begin(worker.places[each]) for each in together]
        return begun[together.index(client)]

    def pass_over(self, worker: World, client: Client) -> None:
        """It met the frontend at this place, and gave way: the request waits again where it waited."""
        place = worker.places[client]
        worker.batches[0].remove(client)
        if not client.outcome:
            (self.isolated if client.request.isolated else self.shared).insert(0, client)
        self.scheduler.passed_over(worker.start.worker, place, self.now_s)

    @precondition(lambda self: self.any(lambda worker: worker.batches))
    @rule(data=st.data(), meets=st.booleans())
    def take_up(self, data: st.DataObject, meets: bool) -> None:
        """A worker begins its next request, and says nothing; or it will meet the frontend at the one after."""
        worker = self.some(data, "ready", busy=True)
        if worker is not None:
            left = [client for client in worker.batches[0] if client not in worker.answered]
            if left and not self.is_marked(worker, left[0]):
                self.begins(worker, left[0])
            worker.page.met = meets

    def is_marked(self, worker: World, client: Client) -> bool:
        return worker.places[client] in worker.page.taken_back

    @precondition(lambda self: self.any(lambda worker: worker.streams))
    @rule(data=st.data(), part=st.booleans())
    def yield_something(self, data: st.DataObject, part: bool) -> None:
        """The next part of a stream, or its end."""
        streams = [(worker, client) for worker in self.workers.values() for client in worker.streams if not worker.cut]
        if streams:
            self.stream_step(*data.draw(st.sampled_from(streams)), part=part)

    def stream_step(self, worker: World, client: Client, *, part: bool) -> None:
        worker.heard_s = self.now_s
        number, request = worker.start.worker, client.request
        told = None if client.outcome else request  # it may have been told that the server stops
        if not part:
            assert self.scheduler.answered(number, request.id, self.now_s) is told
            client.outcome = client.outcome or "answered"
            worker.forget_stream(client)
            assert self.scheduler.streamed(number, request.id, self.now_s) is None
        elif worker.streams[client]:
            assert self.scheduler.streamed(number, request.id, self.now_s) is told
        else:
            assert self.scheduler.began(number, request.id, self.now_s) is told
            worker.streams[client] = True

    @precondition(lambda self: self.any(lambda worker: worker.batches))
    @rule(data=st.data(), proving=st.booleans())
    def say_something(self, data: st.DataObject, proving: bool) -> None:
        worker = self.some(data, "ready", busy=True)
        if worker is not None and worker.batches:
            worker.heard_s = self.now_s
            self.scheduler.progress(worker.start.worker, self.now_s, proving=proving)

    @precondition(lambda self: self.any(lambda worker: worker.pid))
    @rule(data=st.data(), exit_first=st.booleans(), busy=st.booleans())
    def die(self, data: st.DataObject, exit_first: bool, busy: bool) -> None:
        worker = self.some(data, "loading", "ready", busy=busy) or self.some(data, "loading", "ready")
        if worker is None:
            return
        if exit_first:
            self.exit(worker)
        else:
            self.socket_closes(worker)

    @precondition(lambda self: self.any(lambda worker: worker.phase == "ready"))
    @rule(data=st.data(), busy=st.booleans(), dies=st.booleans())
    def retire(self, data: st.DataObject, busy: bool, dies: bool) -> None:
        """A worker is to finish what it has, and to leave then; or it dies in the same round."""
        worker = self.some(data, "ready", busy=busy) or self.some(data, "ready")
        if worker is not None and not worker.exited and not worker.cut:
            worker.retiring = True
            self.scheduler.retire(worker.start.worker)
            if dies:
                self.socket_closes(worker)

    @precondition(lambda self: self.any(lambda worker: worker.batches))
    @rule(data=st.data())
    def crash_and_come_back(self, data: st.DataObject) -> None:
        """The worker dies of what it computes, and its successor is there at once."""
        worker = self.some(data, "ready", busy=True)
        if worker is None:
            return
        self.exit(worker)
        self.socket_closes(worker)
        self.tick()
        for successor in [each for each in self.workers.values() if each.phase == "starting"]:
            self.forked(successor, fails=False)
            self.loaded(successor)

    @precondition(lambda self: any(not worker.exited for worker in self.gone))
    @rule(data=st.data())
    def exit_later(self, data: st.DataObject) -> None:
        if left := [worker for worker in self.gone if not worker.exited]:
            self.exit(data.draw(st.sampled_from(left)))

    def exit(self, worker: World) -> None:
        if not worker.exited:
            worker.exited = True
            self.carry_out(self.scheduler.supervisor.exited(worker.pid, "was killed by signal 9", self.now_s))

    def socket_closes(self, worker: World) -> None:
        """What it had is expected to be tried again, isolated, or to fail."""
        del self.workers[worker.start.worker]
        self.gone.append(worker)
        serving = self.scheduler.state is State.SERVING
        suspects, failed, retried = worker.suspects, {}, []
        worker.page.met = False
        innocent = [client for client in worker.has if serving and not worker.has_begun(client)]
        if innocent and innocent == worker.has and not worker.streams:
            innocent[0].losses += 1
        for client in innocent:
            if client.losses == 2:
                client.request.isolated = True  # so that it is looked for in the right line
            elif client.losses > 2 and not client.outcome:
                failed[client] = "worker_died"
        again = [client for client in innocent if client not in failed]
        for line, isolated in ((self.shared, False), (self.isolated, True)):
            line[:0] = [each for each in again if each.request.isolated == isolated and not each.outcome]
        for client in (*worker.streams, *worker.has):
            if client.outcome or client in innocent:
                continue
            alone = suspects == {client} or client in worker.isolated
            client.deaths += alone and not worker.hung and serving
            if not serving:
                failed[client] = "not_ready"
            elif (
                self.limits.retry
                and not worker.streams.get(client)
                and (not alone or (not worker.hung and client.deaths < 2))
            ):
                retried.append(client)
            else:
                failed[client] = "handler_timed_out" if worker.hung else "worker_died"
        for client in retried:
            client.queued_s = self.now_s
            self.isolated.append(client)
        self.carry_out(self.scheduler.lost(worker.start.worker, self.now_s))
        assert {client: client.outcome for client in failed} == failed
        assert all(client.request.isolated for client in self.isolated)

    # --- time

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 4.0, TIMEOUT_S, 12.0]))
    def time_passes(self, seconds: float) -> None:
        """As the shell lets it: it ticks in the round in which something happened, and when something is due."""
        end_s = self.now_s + seconds
        self.settle_round()
        while (due_s := self.scheduler.next_due_s) <= end_s:
            assert due_s > self.now_s, "it is due for ever"
            self.now_s = due_s
            self.settle_round()
        self.now_s = end_s
        self.settle_round()

    def settle_round(self) -> None:
        self.tick()
        for worker in list(self.workers.values()):
            if worker.cut or (
                worker.hung_up and worker.phase != "starting" and not worker.batches and not worker.streams
            ):
                self.socket_closes(worker)
        self.tick()

    # --- the end

    @precondition(lambda self: len(self.clients) > 6 and not self.closed)
    @rule(gently=st.booleans())
    def stop(self, gently: bool) -> None:
        if gently:
            self.carry_out(self.scheduler.drain())
            assert not self.scheduler.waiting
        else:
            self.carry_out(self.scheduler.close())
            assert all(client.outcome for client in self.clients), "somebody was not told"
            for worker in [each for each in self.workers.values() if each.phase == "starting"]:
                del self.workers[worker.start.worker]  # its task is cancelled
            for worker in self.workers.values():
                assert worker.hung_up
                assert worker.killed or worker.exited or not (worker.batches or worker.streams)
        self.closed = True

    def teardown(self) -> None:
        """From any state, once nothing goes wrong any more, everybody is answered and every slot is filled."""
        if not hasattr(self, "scheduler"):
            return
        end_s = self.now_s + 3 * MAX_QUEUE_WAIT_S + LONGEST_DELAY_S + LOAD_TIMEOUT_S
        while self.now_s < end_s:
            for worker in list(self.workers.values()):
                if worker.phase == "starting":
                    self.forked(worker, fails=False)
                if worker.exited or worker.killed:
                    worker.cut = True
                elif worker.phase == "loading" and not worker.hung_up:
                    self.loaded(worker)
                while worker.batches and not worker.cut and not worker.killed:
                    self.step(worker)
                for client in list(worker.streams):
                    if not worker.cut and not worker.killed:
                        self.stream_step(worker, client, part=False)
            for worker in self.gone:
                self.exit(worker)
            self.settle_round()
            self.now_s += min(max(self.scheduler.next_due_s - self.now_s, 0.1), 0.5)
        assert all(client.outcome for client in self.clients), "somebody waits for ever"
        assert not self.scheduler.waiting
        if self.scheduler.state is State.SERVING:
            assert len(self.workers) == self.limits.workers
            self.ask(1)
            self.time_passes(self.limits.max_wait_s)
            (busy,) = [worker for worker in self.workers.values() if worker.batches]
            self.step(busy)
            self.step(busy)
            assert self.clients[-1].outcome == "answered"
            assert self.scheduler.supervisor.health.healthy(self.now_s)
        super().teardown()

    # --- at any time

    @invariant()
    def the_books_agree(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        assert self.scheduler.waiting == len(self.shared) + len(self.isolated)
        if not self.closed:
            assert self.scheduler.computing == sum(len(each.has) + len(each.streams) for each in self.workers.values())
        with_workers = {client for worker in self.workers.values() for client in (*worker.has, *worker.streams)}
        for client in self.clients:
            waits = client in self.shared or client in self.isolated
            assert waits + (client in with_workers and not client.outcome) == (not client.outcome)

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        if not hasattr(self, "scheduler"):
            return
        self.tick()
        ready = self.ready_workers
        if not self.closed:
            if self.isolated:
                needless = not all(worker.streams for worker in self.workers.values())
                assert all(worker.batches for worker in ready if not (needless and worker.streams))
            if self.shared and not all(worker.batches for worker in ready):
                # Where the size is to be found, a wait begins when a worker is idle.
                oldest_s = self.shared[0].queued_s if self.scheduler.choice is None else self.now_s
                assert self.now_s < self.scheduler.next_due_s <= oldest_s + self.limits.max_wait_s + 1e-9
        for client in (*self.shared, *self.isolated):
            assert self.now_s < client.queued_s + MAX_QUEUE_WAIT_S, "it waited longer than it may"
        for worker in self.workers.values():
            if worker.phase == "ready" and worker.owes and not worker.cut and not worker.exited:
                assert self.now_s < worker.heard_s + TIMEOUT_S, "it hangs, and nobody noticed"
                hands_over = self.limits.max_batch_size == 1 and not self.limits.prefetch
                if hands_over and len(worker.has) > 1 and not worker.page.met:
                    behind = [client for client in worker.has if not worker.has_begun(client)]
                    if behind == worker.has:
                        del behind[0]
                    assert not behind or self.now_s < worker.heard_s + STUCK_S, "they wait behind one that is long"
            if worker.phase == "loading" and not worker.cut:
                assert self.now_s < worker.heard_s + max(LOAD_TIMEOUT_S, TIMEOUT_S), "it loads for ever"
            assert worker.killed or not worker.cut or worker.exited
        if self.scheduler.state is State.SERVING:
            taken = {worker.start.slot for worker in self.workers.values()}
            if len(taken) < self.limits.workers:
                assert self.scheduler.next_due_s <= self.now_s + LONGEST_DELAY_S, "a slot stays empty"


TestScheduler = SchedulerAndWorld.TestCase
TestScheduler.settings = settings(
    max_examples=150, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)
