"""Where threads sleep until there is something for them, as a condition variable that `__del__` may ring too.

The garbage collector runs `__del__` in any thread at any time, also in one that holds the run's lock, so that what it
calls must never take a lock. `ring` takes none.
"""

from __future__ import annotations

from _thread import LockType, allocate_lock
from collections import deque
from collections.abc import Callable
from operator import methodcaller
from typing import Protocol

_RELEASE = methodcaller("release")


class Sleeper(Protocol):
    """What is woken: a lock that its owner waits for, or a future of an event loop."""

    def release(self) -> None: ...


class Bell:
    """Wakes those that `add` themselves, in their order. Safe without a lock: each step of a deque is whole."""

    __slots__ = ("_sleepers",)

    def __init__(self) -> None:
        self._sleepers: deque[Sleeper] = deque()

    def __bool__(self) -> bool:
        """Whether anybody sleeps."""
        return bool(self._sleepers)

    def add(self, sleeper: Sleeper) -> None:
        self._sleepers.append(sleeper)

    def _remove(self, sleeper: Sleeper) -> bool:
        """Forget one that has stopped waiting; False where it has been rung meanwhile."""
        try:
            self._sleepers.remove(sleeper)
        except ValueError:
            return False
        return True

    def ring(self) -> bool:
        """Wake the one that has slept longest; returns whether there was one."""
        # Both steps in C: between them, Ctrl-C would leave asleep one whom the list no longer has.
        try:
            next(map(_RELEASE, iter(self._sleepers.popleft, None)))
        except IndexError:
            return False
        return True

    def ring_all(self) -> None:
        while self.ring():
            pass

    def sleep(self, lock: LockType, over: Callable[[], bool], timeout_s: float = -1) -> bool:
        """Sleep until rung, for `timeout_s` at most (-1 is for ever), without `lock`, which the caller holds; returns
        whether rung. Not for the main thread, where Ctrl-C may fall into taking `lock` again.

        `over` is asked once the sleeper is in the list: whoever ends the run without the lock first says so and then
        rings, and so one of the two sees the other.
        """
        sleeper = allocate_lock()
        sleeper.acquire()
        self._sleepers.append(sleeper)
        rung = False
        lock.release()
        try:
            rung = not over() and sleeper.acquire(True, timeout_s)
        finally:
            lock.acquire()
            if not rung:
                rung = not self._remove(sleeper)
        return rung
