"""The requests that wait for a worker: in the order in which they came, the isolated ones before all others."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from tidegate.inference.frontend.queue.pending_request import PendingRequest

MAX_BATCH_BYTES = 1024 * 1024 * 1024
"""Bodies of one batch together, so that its frame's length fits the field that it has."""


class RequestQueue:
    """Two lines: a request that is isolated goes to a worker by itself, the others as the plan of batches says."""

    __slots__ = ("isolated", "shared")

    def __init__(self) -> None:
        self.isolated: deque[PendingRequest] = deque()
        self.shared: deque[PendingRequest] = deque()

    def __len__(self) -> int:
        return len(self.isolated) + len(self.shared)

    def __iter__(self) -> Iterator[PendingRequest]:
        return chain(self.isolated, self.shared)

    def add(self, request: PendingRequest) -> None:
        """Let a request wait behind its like."""
        (self.isolated if request.isolated else self.shared).append(request)

    def put_back(self, requests: Sequence[PendingRequest]) -> None:
        """Let requests that were taken for nothing wait before all others of their like, in their order."""
        for request in reversed(requests):
            (self.isolated if request.isolated else self.shared).appendleft(request)

    def remove(self, request: PendingRequest) -> bool:
        """Take a request out; returns whether it waited."""
        try:
            (self.isolated if request.isolated else self.shared).remove(request)
        except ValueError:
            return False
        return True

    def take(self, size: int, max_bytes: int = MAX_BATCH_BYTES) -> list[PendingRequest]:
        """Take the next batch: at most `size` requests that are not isolated, and `max_bytes` but for the first."""
        batch: list[PendingRequest] = []
        batch_bytes = 0
        while self.shared and len(batch) < size:
            batch_bytes += self.shared[0].body.size
            if batch and batch_bytes > max_bytes:
                break
            batch.append(self.shared.popleft())
        return batch

    def take_all(self, unwanted: Callable[[PendingRequest], bool] = lambda _: True) -> list[PendingRequest]:
        """Take out every request of which `unwanted` is true."""
        # All are looked at, not only the first ones: one that is tried again waits anew before others that waited long.
        found = [request for request in self if unwanted(request)]
        for request in found:
            self.remove(request)
        return found
