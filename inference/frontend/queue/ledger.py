"""What each worker has in hand, and until when it must be heard of."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from math import inf

from tidegate.inference.frontend.queue.pending_request import PendingRequest


class Phase(Enum):
    """How far a worker has come."""

    STARTING = auto()
    LOADING = auto()
    TRYING = auto()
    """Has loaded the model and runs the user's functions on the example, under the deadline of a batch."""
    READY = auto()
    HUNG = auto()


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """One worker, from the request for its start until its socket closes."""

    number: int
    slot: int
    pid: int = 0
    phase: Phase = Phase.STARTING
    may_join: bool = True
    proving: bool = False
    gpu_bytes: int = 0
    requests: dict[int, PendingRequest] = field(default_factory=dict)
    """Sent and not answered, by id; also those whose client has left, for the worker computes them all the same."""
    batches: deque[int] = field(default_factory=deque)
    """How many requests each batch had that is not done; the worker computes the first."""
    begun_s: float = 0.0
    """When it took up that batch."""
    deadline_s: float = inf
    """When it counts as hung unless it was heard of."""
    cut_off_s: float = inf
    """When its socket is closed, because its process has exited."""

    @property
    def ready(self) -> bool:
        """Whether it has the model loaded and takes batches."""
        return self.phase is Phase.READY

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return self.phase is Phase.READY and not self.batches

    def has_room(self, prefetch: int) -> bool:
        """Whether it may be given a batch ahead; not behind a request that is isolated, which is suspected."""
        return len(self.batches) <= prefetch and not any(request.isolated for request in self.requests.values())

    @property
    def shared_by(self) -> int:
        """How many requests it was given in the batches that are not done: any may be to blame for its loss."""
        return sum(self.batches)


class Ledger:
    """The workers of one model, by number."""

    __slots__ = ("_numbers", "computing", "workers")

    def __init__(self) -> None:
        self._numbers = count(1)
        self.workers: dict[int, Worker] = {}
        self.computing = 0
        """Requests that are with a worker."""

    def add(self, slot: int) -> Worker:
        """A worker that is about to be started."""
        worker = Worker(number=next(self._numbers), slot=slot)
        self.workers[worker.number] = worker
        return worker

    def remove(self, number: int) -> Worker | None:
        """Forget a worker; it still has its requests."""
        worker = self.workers.pop(number, None)
        if worker is not None:
            self.computing -= len(worker.requests)
        return worker

    def give(self, worker: Worker, requests: Sequence[PendingRequest]) -> None:
        """Note that a batch is sent."""
        for request in requests:
            worker.requests[request.id] = request
        worker.batches.append(len(requests))
        self.computing += len(requests)

    def answered(self, worker: Worker, request_id: int) -> PendingRequest | None:
        """Note that a request is answered; None for one that the worker was not asked."""
        request = worker.requests.pop(request_id, None)
        if request is not None:
            self.computing -= 1
        return request

    def ready(self) -> list[Worker]:
        """Workers that have the model loaded."""
        return [worker for worker in self.workers.values() if worker.phase is Phase.READY]

    def may_join(self) -> bool:
        """Whether all workers say that requests may share a call."""
        return all(worker.may_join for worker in self.workers.values())
