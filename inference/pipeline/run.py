"""The threads of one call of a pipeline: they do what `flow` decides.

A feeder iterates the source, each group has up to `workers` threads that are started as items come, and a watch
abandons calls that are overdue. All state is behind one lock, which nothing of the user's runs under; `stop` alone
takes no lock, because the garbage collector calls it too (`bell`).

A thread cannot be killed. What an overdue call returns after all is dropped, and until it does a new thread takes its
place, up to `LATE_PER_WORKER` times; then the stage goes on with fewer threads, and where none is left, what waits
for it fails with `StageTimeout` as well.
"""

from __future__ import annotations

import os
import reprlib
from _thread import allocate_lock
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from enum import Enum, auto
from functools import partial
from threading import Thread, current_thread
from time import monotonic
from typing import Any, Literal

from tidegate.inference.pipeline.bell import Bell, Sleeper
from tidegate.inference.pipeline.calls import Fate, NoOutcome, perform
from tidegate.inference.pipeline.errors import StageTimeout
from tidegate.inference.pipeline.flow import Flow, Group, Item

LATE_PER_WORKER = 4


class Nothing(Enum):
    """What the consumer gets in place of an item."""

    YET = auto()
    MORE = auto()


class Call:
    """A call with a time-out, by the current thread."""

    __slots__ = ("due_s", "is_abandoned", "items", "team", "thread")

    def __init__(self, team: Team, items: list[Item], due_s: float) -> None:
        self.team = team
        self.items = items
        self.due_s = due_s
        self.thread = current_thread()
        self.is_abandoned = False


class Team:
    """The threads of one group."""

    __slots__ = ("bell", "group", "late", "live", "started", "stuck_since_s", "timers")

    def __init__(self, group: Group) -> None:
        self.group = group
        self.bell = Bell()
        self.started = 0
        self.live = 0
        self.late = 0
        """Threads in calls that have been abandoned."""
        self.timers = 0
        """Threads that wait for the time at which a batch goes."""
        self.stuck_since_s = 0.0

    @property
    def takes_threads(self) -> bool:
        return self.live < self.group.workers and self.late < LATE_PER_WORKER * self.group.workers

    @property
    def is_stuck(self) -> bool:
        return self.live == 0 and self.late > 0 and not self.takes_threads


class Run:
    """One call of a pipeline. Threads start as it is fed; whoever made it calls `stop` in the end."""

    def __init__(self, groups: Sequence[Group], max_in_flight: int, *, keyed: bool) -> None:
        self.stopped = False
        self._flow = Flow(groups, max_in_flight)
        self._keyed = keyed
        self._lock = allocate_lock()
        self._teams = [Team(group) for group in groups]
        self._consumer = Bell()
        self._feeder = Bell()
        self._watch = Bell()
        self._is_watched = False
        self._watch_is_idle = False
        self._calls: set[Call] = set()
        self._threads: set[Thread] = set()
        self._raised: BaseException | None = None
        self._context = copy_context()
        self._process = os.getpid()

    def stop(self) -> None:
        """Start no further call and let the threads end; calls under way are not waited for. Takes no lock."""
        self.stopped = True
        for bell in (self._consumer, self._feeder, self._watch, *(team.bell for team in self._teams)):
            bell.ring_all()

    def join(self) -> None:
        """Wait for the threads of a run that is worked off: none is in a call any more, but those given up."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            if thread is not current_thread():
                thread.join()

    def _is_stopped(self) -> bool:
        return self.stopped

    def _start(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        """A thread of the run; the lock is held."""
        thread = Thread(
            target=self._context.copy().run,
            args=(self._guard, target, *arguments),
            name=f"pipeline-{name}",
            daemon=True,
        )
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads
            self._threads.discard(thread)
            self._abort(error)

    def _guard(self, target: Callable[..., None], *arguments: object) -> None:
        try:
            target(*arguments)
        except BaseException as error:  # SystemExit of a stage's function, too: the consumer gets it
            self._abort(error)
        finally:
            with self._lock:
                self._threads.discard(current_thread())

    def _abort(self, error: BaseException) -> None:
        self._raised = error
        self.stop()

    # The source

    def feed_from(self, source: Iterator[Any]) -> None:
        """Iterate `source` in a thread."""
        with self._lock:
            self._start("feeder", self._feed, source)

    def offer(self, value: Any, sleeper: Sleeper) -> bool:
        """Take `value` of an asynchronous source; where there is no room now, `sleeper` is woken when there is."""
        with self._lock:
            if self.stopped or self._flow.ended:
                return True
            if not self._flow.has_room:
                self._add(self._feeder, sleeper)
                return False
            self._take_in(value)
            return True

    def end(self, error: BaseException | None = None) -> None:
        """The source is exhausted or has raised `error`."""
        with self._lock:
            self._flow.end(error)
            self._wake(monotonic())

    @property
    def wants_more(self) -> bool:
        return not self.stopped and not self._flow.ended

    def _feed(self, source: Iterator[Any]) -> None:
        lock, flow = self._lock, self._flow
        error: BaseException | None = None
        while True:
            try:
                value = next(source)
            except StopIteration:
                break
            except BaseException as raised:
                error = raised
                break
            with lock:
                self._take_in(value)
                del value
                while self.wants_more and not flow.has_room:
                    self._feeder.sleep(lock, self._is_stopped)
                if not self.wants_more:
                    return
        self.end(error)

    def _take_in(self, value: Any) -> None:
        now_s = monotonic()
        if self._keyed:
            key, value = value
            self._flow.feed(value, now_s, key)
        else:
            self._flow.feed(value, now_s)
        self._wake(now_s)

    def _add(self, bell: Bell, sleeper: Sleeper) -> None:
        bell.add(sleeper)
        if self.stopped:
            bell.ring_all()

    # The consumer

    def next(self) -> Item | Literal[Nothing.MORE]:
        """The next item in order, settled. Raises what ended a thread."""
        with self._lock:
            while (item := self._poll()) is Nothing.YET:
                self._consumer.sleep(self._lock, self._is_stopped)
            return item

    def poll(self, sleeper: Sleeper) -> Item | Nothing:
        """`next` for an event loop: `Nothing.YET` where there is nothing, and `sleeper` is woken when there is."""
        with self._lock:
            item = self._poll()
            if item is Nothing.YET:
                self._add(self._consumer, sleeper)
            return item

    def _poll(self) -> Item | Nothing:
        if self._process != os.getpid():
            raise RuntimeError("This call of a pipeline was begun before a fork; its threads are in the other process.")
        flow = self._flow
        while True:
            if self._raised is not None:
                raise self._raised
            if self.stopped or flow.is_delivered:
                return Nothing.MORE
            if not flow.next_is_ready():
                self._feeder.ring()
                return Nothing.YET
            item = flow.deliver()
            # Woken for every free place, the feeder would change places with the consumer once for each item.
            if not flow.next_is_ready() or 2 * len(flow.in_flight) <= flow.max_in_flight:
                self._feeder.ring()
            if item.outcome is not None and item.outcome.fate is not Fate.DROPPED:
                if self._consumer and (flow.next_is_ready() or flow.is_delivered):
                    self._consumer.ring()
                return item

    # The stages

    def _work(self, team: Team) -> None:
        lock, flow, group = self._lock, self._flow, team.group
        steps, is_batch, timeout_s = group.steps, group.batch_size is not None, group.timeout_s
        with lock:
            while items := self._next_items(team):
                call = self._timed(team, items, timeout_s) if timeout_s is not None else None
                lock.release()
                try:
                    outcomes = perform(
                        steps,
                        [item.value for item in items],
                        partial(self._label, items),
                        is_batch=is_batch,
                        claim=_always if call is None else partial(self._claim, call),
                    )
                finally:
                    lock.acquire()
                now_s = monotonic()
                if outcomes is NoOutcome.RETRY:
                    flow.retry_alone(group, items)
                elif outcomes is NoOutcome.ABANDONED:
                    team.late -= 1
                    if not team.takes_threads:
                        break
                    team.live += 1
                    self._threads.add(current_thread())
                else:
                    for item, outcome in zip(items, outcomes, strict=True):
                        flow.settle(group, item, outcome, now_s)
                del items, outcomes, call
                self._wake(now_s)
            else:
                team.live -= 1

    def _next_items(self, team: Team) -> list[Item]:
        flow, group = self._flow, team.group
        while not self.stopped:
            now_s = monotonic()
            if items := flow.take(group, now_s):
                self._wake_team(team, now_s)
                return items
            if flow.is_worked_off:
                break
            goes_at_s = flow.goes_at_s(group)
            if goes_at_s is None:
                team.bell.sleep(self._lock, self._is_stopped)
            else:
                team.timers += 1
                team.bell.sleep(self._lock, self._is_stopped, goes_at_s - now_s)
                team.timers -= 1
        return []

    def _label(self, items: list[Item], position: int) -> str:
        item = items[position]
        return f"key {reprlib.repr(item.key)}" if self._keyed else f"item {item.index}"

    def _wake(self, now_s: float) -> None:
        """Whoever has something to do after a change of the flow."""
        flow = self._flow
        for team in self._teams:
            if team.group.waiting:
                self._wake_team(team, now_s)
        if flow.next_is_ready() or flow.is_delivered:
            self._consumer.ring()
        if flow.ended:
            self._feeder.ring()
            if flow.is_worked_off:
                self._watch.ring()
                for team in self._teams:
                    team.bell.ring_all()

    def _wake_team(self, team: Team, now_s: float) -> None:
        group = team.group
        is_due = self._flow.ready(group, now_s) or (group.max_wait_s is not None and group.waiting and not team.timers)
        if is_due and not team.bell.ring() and team.takes_threads:
            team.live += 1
            self._start(f"{group.name}-{team.started}", self._work, team)
            team.started += 1

    # Calls that are overdue

    def _timed(self, team: Team, items: list[Item], timeout_s: float) -> Call:
        call = Call(team, items, monotonic() + timeout_s)
        self._calls.add(call)
        if not self._is_watched:
            self._is_watched = True
            self._start("watch", self._watch_calls)
        elif self._watch_is_idle:
            self._watch.ring()
        return call

    def _claim(self, call: Call) -> bool:
        with self._lock:
            self._calls.discard(call)
            return not call.is_abandoned

    def _watch_calls(self) -> None:
        with self._lock:
            while not self.stopped and not self._flow.is_worked_off:
                now_s = monotonic()
                due_s = self._next_due_s(now_s)
                if due_s is None or due_s > now_s:
                    self._watch_is_idle = due_s is None
                    self._watch.sleep(self._lock, self._is_stopped, -1 if due_s is None else due_s - now_s)
                    continue
                for call in [call for call in self._calls if call.due_s <= now_s]:
                    self._abandon(call, now_s)
                for team in self._teams:
                    if team.is_stuck and (team.group.waiting and _stuck_until_s(team, now_s) <= now_s):
                        self._give_up(team, self._flow.take_all(team.group), "no thread was free for it")
                self._wake(monotonic())

    def _next_due_s(self, now_s: float) -> float | None:
        dues = [call.due_s for call in self._calls]
        dues += [_stuck_until_s(team, now_s) for team in self._teams if team.is_stuck]
        return min(dues, default=None)

    def _abandon(self, call: Call, now_s: float) -> None:
        team = call.team
        self._calls.discard(call)
        self._threads.discard(call.thread)
        call.is_abandoned = True
        team.live -= 1
        team.late += 1
        team.stuck_since_s = now_s
        if len(call.items) > 1:
            self._flow.retry_alone(team.group, call.items)
        else:
            self._give_up(team, call.items, "the call took longer")

    def _give_up(self, team: Team, items: list[Item], why: str) -> None:
        """Fail `items`. The lock is left for the user's `on_error`."""
        step = team.group.steps[0]
        for position, item in enumerate(items):
            error = StageTimeout(f"Stage {step.name!r} has a timeout_s of {team.group.timeout_s:g}, and {why}.")
            self._lock.release()
            try:
                outcome = step.failed(item.value, self._label(items, position), error)
            finally:
                self._lock.acquire()
            self._flow.settle(team.group, item, outcome, monotonic())


def _stuck_until_s(team: Team, now_s: float) -> float:
    """When what waits for a team without a thread has waited too long."""
    waiting, timeout_s = team.group.waiting, team.group.timeout_s or 0.0
    return (max(waiting[0].arrived_s, team.stuck_since_s) if waiting else now_s) + timeout_s


def _always() -> bool:
    return True
