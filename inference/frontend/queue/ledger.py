"""What each worker has in hand, and until when it must be heard of."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from math import inf

from tidegate.inference.begun_page import AllBegun, Begun
from tidegate.inference.frontend.queue.pending_request import PendingRequest


class Phase(Enum):
    """How far a worker has come."""

    STARTING = auto()
    LOADING = auto()
    TRYING = auto()
    """Has loaded the model and runs the user's functions on the example, under the deadline of a batch."""
    READY = auto()
    RETIRING = auto()
    """Finishes what it has, and is then hung up on."""
    HUNG = auto()
    EXITED = auto()
    """Its process has ended; what it wrote before may still be on its way."""


@dataclass(slots=True, eq=False)
class Handful:
    """Requests that a worker was given in one write."""

    requests: list[PendingRequest]
    alone: bool
    """Whether each is predicted by itself, and to blame for itself only."""


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """One worker, from the request for its start until its socket closes."""

    number: int
    slot: int
    gpu_ids: tuple[int, ...] = ()
    pid: int = 0
    phase: Phase = Phase.STARTING
    may_join: bool = True
    proving: bool = False
    gpu_bytes: tuple[int, ...] = ()
    """What it holds of each of its GPUs; empty where it uses none."""
    requests: dict[int, PendingRequest] = field(default_factory=dict)
    """Sent and not answered, by id; also those whose client has left, for the worker computes them all the same."""
    streams: dict[int, PendingRequest] = field(default_factory=dict)
    """Those that are answered by a stream which has not ended, by id; their batch may be done."""
    paused: set[int] = field(default_factory=set)
    """The streams that wait for their readers."""
    conversations: int = 0
    """How many WebSockets talk to it."""
    batches: deque[Handful] = field(default_factory=deque)
    """What is not done; the worker computes the first."""
    handed_over: int = 0
    """How many requests it was ever given."""
    begun: Begun = field(default_factory=AllBegun)
    """Which of them it has begun."""
    begun_s: float = 0.0
    """When it took up that batch."""
    heard_s: float = 0.0
    """When it was last heard of, or given something to do."""
    deadline_s: float = inf
    """When it counts as hung unless it was heard of."""
    cut_off_s: float = inf
    """When its socket is closed, because its process has exited."""

    @property
    def ready(self) -> bool:
        """Whether it has the model loaded and takes batches."""
        return self.phase is Phase.READY

    @property
    def busy(self) -> bool:
        """Whether it has any request or conversation."""
        return bool(self.requests or self.streams or self.conversations)

    @property
    def lasting(self) -> int:
        """How many streams and conversations it has open: its loss would break them, and they may last for ever."""
        return len(self.streams) + self.conversations

    @property
    def owes(self) -> bool:
        """Whether it must be heard of: it computes a batch, asks a stream for more, or tries the example."""
        if self.phase in (Phase.READY, Phase.RETIRING):
            return bool(self.batches) or len(self.streams) > len(self.paused)
        return self.phase is Phase.TRYING

    def has_room(self, prefetch: int) -> bool:
        """Whether it may be given a batch ahead."""
        return len(self.batches) <= prefetch and not self.suspicious

    @property
    def suspicious(self) -> bool:
        """Whether it has a request that is isolated: nothing may wait behind that."""
        return any(each.isolated for batch in self.batches for each in batch.requests)

    @property
    def not_begun(self) -> list[PendingRequest]:
        """The requests that no user code has seen, in the order in which they were given."""
        count = self.begun.count
        if count >= self.handed_over:
            return []
        sent = (request for batch in self.batches for request in batch.requests if request.place >= count)
        return [request for request in sent if request.id in self.requests]

    @property
    def shared_by(self) -> int:
        """How many may be to blame for its loss: requests that were begun, open streams, and conversations.

        Those that are answered are among them as long as their batch is not done, but not where each was by itself.
        """
        count, blamed = self.begun.count, set(self.streams)
        for batch in self.batches:
            begun = {request.id for request in batch.requests if request.place < count}
            blamed |= begun & self.requests.keys() if batch.alone else begun
        return len(blamed) + self.conversations


class Ledger:
    """The workers of one model, by number."""

    __slots__ = ("_numbers", "computing", "may_join", "streaming", "workers")

    def __init__(self) -> None:
        self._numbers = count(1)
        self.workers: dict[int, Worker] = {}
        self.computing = 0
        """Requests that are with a worker, open streams among them."""
        self.streaming = 0
        """Open streams."""
        self.may_join = True
        """Whether no worker says that requests never share a call."""

    def add(self, slot: int, gpu_ids: tuple[int, ...] = ()) -> Worker:
        """A worker that is about to be started."""
        worker = Worker(number=next(self._numbers), slot=slot, gpu_ids=gpu_ids)
        self.workers[worker.number] = worker
        return worker

    def remove(self, number: int) -> Worker | None:
        """Forget a worker; it still has its requests."""
        worker = self.workers.pop(number, None)
        if worker is not None:
            self.computing -= len(worker.requests) + len(worker.streams)
            self.streaming -= len(worker.streams)
            self.may_join = all(each.may_join for each in self.workers.values())
        return worker

    def set_may_join(self, worker: Worker, may_join: bool) -> None:
        """Note what a worker says of its model."""
        worker.may_join = may_join
        self.may_join = all(each.may_join for each in self.workers.values())

    def ready(self) -> list[Worker]:
        """Workers that have the model loaded."""
        return [worker for worker in self.workers.values() if worker.phase is Phase.READY]

    def give(self, worker: Worker, requests: list[PendingRequest], *, alone: bool) -> None:
        """Note that requests are sent."""
        for request in requests:
            request.worker, request.place = worker.number, worker.handed_over
            worker.begun.hand_over(request.place)
            worker.handed_over += 1
            worker.requests[request.id] = request
        worker.batches.append(Handful(list(requests), alone))
        self.computing += len(requests)

    def take_unbegun(self, worker: Worker, request: PendingRequest) -> bool:
        """Take a request from a worker that has not begun it, and will pass it over; False where it may have."""
        if request.id not in worker.requests or not worker.begun.take_back(request.place):
            return False
        self._take_out(worker, request)
        return True

    def passed_over(self, worker: Worker, place: int) -> PendingRequest | None:
        """Take the request of a place that the worker passed over; None where it is taken already."""
        for request in worker.requests.values():
            if request.place == place:
                self._take_out(worker, request)
                return request
        return None

    def _take_out(self, worker: Worker, request: PendingRequest) -> None:
        # Out of its batch too: it may come to this worker once more before the batch is done.
        for batch in worker.batches:
            if request in batch.requests:
                batch.requests.remove(request)
        del worker.requests[request.id]
        self.computing -= 1

    def announce(self, worker: Worker, request_id: int) -> PendingRequest | None:
        """Note that a request is answered by a stream; None for one that the worker was not asked."""
        request = worker.requests.pop(request_id, None)
        if request is not None:
            worker.streams[request_id] = request
            self.streaming += 1
        return request

    def take_back(self, worker: Worker, request_id: int) -> PendingRequest | None:
        """Note that a request is answered, or its stream has ended; None for one that the worker does not have."""
        request = worker.requests.pop(request_id, None)
        if request is None and (request := worker.streams.pop(request_id, None)) is not None:
            worker.paused.discard(request_id)
            self.streaming -= 1
        if request is not None:
            self.computing -= 1
        return request
