"""The requests that wait until a revision is loaded, each until its deadline. No I/O."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import count

from tidegate.inference.errors import Overloaded
from tidegate.inference.frontend.repository.resolving import Key
from tidegate.inference.repository.catalogue import Revision


@dataclass(slots=True, kw_only=True, eq=False)
class Waiter:
    """One request, or one script that asked in its worker."""

    id: Hashable
    name: str
    key: Key
    worker: int | None
    deadline_s: float
    home: Revision | None = None
    """Of a script: the revision whose worker it runs in."""


class Waiters:
    """All of them, in the order in which they came."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_id: dict[Hashable, Waiter] = {}
        self._by_name: dict[str, dict[Hashable, Waiter]] = {}
        self._deadlines: list[tuple[float, int, Waiter]] = []
        self._turns = count()
        self._homes: Counter[Revision] = Counter()

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, waiter: Waiter) -> None:
        """One more waits. Raises `Overloaded`."""
        if len(self._by_id) >= self._most:
            raise Overloaded(f"The server is overloaded: {self._most} requests wait for models to be loaded.")
        assert waiter.id not in self._by_id, f"{waiter.id} waits already"  # noqa: S101 - the shell makes the ids
        self._by_id[waiter.id] = waiter
        if waiter.home is not None:
            self._homes[waiter.home] += 1
        self._by_name.setdefault(waiter.name, {})[waiter.id] = waiter
        heapq.heappush(self._deadlines, (waiter.deadline_s, next(self._turns), waiter))

    def get(self, waiter: Hashable) -> Waiter | None:
        """The one of this id, None where it waits no more."""
        return self._by_id.get(waiter)

    def of(self, name: str) -> list[Waiter]:
        """Those that wait for a model."""
        return list(self._by_name.get(name, {}).values())

    def in_worker(self, worker: int) -> list[Waiter]:
        """Those whose script asked in a worker."""
        return [waiter for waiter in self._by_id.values() if waiter.worker == worker]

    @property
    def homes(self) -> frozenset[Revision]:
        """The revisions whose scripts wait."""
        return frozenset(self._homes)

    def end(self, waiter: Waiter) -> None:
        """It has been answered, or has left."""
        del self._by_id[waiter.id]
        if waiter.home is not None:
            self._homes[waiter.home] -= 1
            if not self._homes[waiter.home]:
                del self._homes[waiter.home]
        of_name = self._by_name[waiter.name]
        del of_name[waiter.id]
        if not of_name:
            del self._by_name[waiter.name]

    @property
    def deadline_s(self) -> float:
        """The next deadline; infinite where nobody waits."""
        while self._deadlines and self._by_id.get(self._deadlines[0][2].id) is not self._deadlines[0][2]:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else math.inf

    def late(self, now_s: float) -> list[Waiter]:
        """Those whose deadline has passed; they wait no more."""
        late = []
        while self.deadline_s <= now_s:
            waiter = heapq.heappop(self._deadlines)[2]
            self.end(waiter)
            late.append(waiter)
        return late
