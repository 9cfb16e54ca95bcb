"""The threads of a group and the calls that they are in, as plain data: how many there may be, and what is overdue.

A thread cannot be killed. What an overdue call returns after all is dropped, and until it does a new thread takes its
place, as long as there are no more than `LATE_PER_WORKER` threads for each worker; then the group goes on with fewer
threads, and where none is left, what waits for it fails with `StageTimeout` as well.
"""

from __future__ import annotations

from threading import Thread

from tidegate.inference.pipeline.bell import Bell
from tidegate.inference.pipeline.flow import Group, Item

LATE_PER_WORKER = 4


class Team:
    """The threads of one group."""

    __slots__ = ("bell", "coming", "group", "late", "limit", "live", "started", "stuck_since_s", "timers")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.bell = Bell()
        self.limit = group.plan.workers
        self.started = 0
        self.live = 0
        self.coming = 0
        """Threads that have been woken or started and have not looked yet what there is."""
        self.late = 0
        """Threads in calls that have been abandoned."""
        self.timers = 0
        """Threads that wait for the time at which a batch goes."""
        self.stuck_since_s = 0.0

    @property
    def takes_threads(self) -> bool:
        # With those that are not late yet: each of them may become so.
        return self.live < self.limit and self.live + self.late < LATE_PER_WORKER * self.group.plan.workers

    def stuck_until_s(self, now_s: float) -> float:
        """When what waits for a team without a thread has waited too long."""
        waiting, timeout_s = self.group.waiting, self.group.plan.timeout_s or 0.0
        return (max(waiting[0].arrived_s, self.stuck_since_s) if waiting else now_s) + timeout_s

    @property
    def is_stuck(self) -> bool:
        return self.live == 0 and self.late > 0 and not self.takes_threads


class Call:
    """A call with a time-out, by `thread`."""

    __slots__ = ("due_s", "is_abandoned", "items", "team", "thread")

    def __init__(self, team: Team, items: list[Item], due_s: float, thread: Thread) -> None:
        self.team = team
        self.items = items
        self.due_s = due_s
        self.thread = thread
        self.is_abandoned = False
