"""The threads of one call of a pipeline: they do what `flow` decides.

A feeder iterates the source, each group has up to `workers` threads that are started as items come, and a watch
abandons calls that are overdue. All state is behind one lock, which nothing of the user's runs under; `stop` alone
takes no lock, because the garbage collector calls it too (`bell`).
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

from tidegate.inference.pipeline import at_exit
from tidegate.inference.pipeline.bell import Bell, Sleeper
from tidegate.inference.pipeline.calls import Callee, Fate, NoOutcome, Outcome, perform
from tidegate.inference.pipeline.child import Children, InProcess
from tidegate.inference.pipeline.errors import StageTimeout
from tidegate.inference.pipeline.flow import Flow, Item, Plan
from tidegate.inference.pipeline.team import Call, Team


class Nothing(Enum):
    """What the consumer gets in place of an item."""

    YET = auto()
    MORE = auto()


class Run:
    """One call of a pipeline. Threads start as it is fed; whoever made it calls `stop` in the end."""

    def __init__(self, plans: Sequence[Plan], max_in_flight: int, *, keyed: bool) -> None:
        self.stopped = False
        self._flow = Flow(plans, max_in_flight)
        self._keyed = keyed
        self._lock = allocate_lock()
        self._teams = [Team(group) for group in self._flow.groups]
        self._consumer = Bell()
        self._feeder = Bell()
        self._watch = Bell()
        self._is_watched = False
        self._watch_is_idle = False
        self._calls: set[Call] = set()
        self._threads: set[Thread] = set()
        self._children = Children()
        self._raised: BaseException | None = None
        self._context = copy_context()
        self._process = os.getpid()
        at_exit.runs.add(self)

    def stop(self) -> None:
        """Start no further call and let the threads end; calls under way are not waited for. Takes no lock."""
        self.stopped = True
        for bell in (self._consumer, self._feeder, self._watch, *(team.bell for team in self._teams)):
            bell.ring_all()
        self._children.kill()

    def join(self) -> None:
        """Wait for the threads of a run that is worked off: none is in a call any more, but those given up."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            if thread is not current_thread():
                thread.join()

    def _is_stopped(self) -> bool:
        return self.stopped

    def _is_going(self) -> bool:
        return not self.stopped

    def _start(self, name: str, target: Callable[..., None], *arguments: object) -> RuntimeError | None:
        """A thread of the run, with the lock held; returns why it could not be started."""
        thread = Thread(
            target=self._context.copy().run,
            args=(self._guard, target, *arguments),
            name=f"pipeline-{name}",
            daemon=True,
        )
        self._threads.add(thread)
        at_exit.threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # the container's limit on processes counts threads
            self._threads.discard(thread)
            at_exit.threads.discard(thread)
            return error
        return None

    def _guard(self, target: Callable[..., None], *arguments: object) -> None:
        try:
            target(*arguments)
        except BaseException as error:  # SystemExit of a stage's function, too: the consumer gets it
            self._abort(error)
        finally:
            # Of `_threads` none takes itself out: it is alive for a moment yet, and `join` waits for that too.
            at_exit.threads.discard(current_thread())

    def _abort(self, error: BaseException) -> None:
        self._raised = error
        self.stop()

    # The source

    def feed_from(self, source: Iterator[Any]) -> None:
        """Iterate `source` in a thread."""
        with self._lock:
            if (error := self._start("feeder", self._feed, source)) is not None:
                raise error

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
        while True:
            try:
                value = next(source)
            except StopIteration:
                self.end()
                return
            except BaseException as error:
                self.end(error)
                return
            with lock:
                self._take_in(value)
                del value
                while self.wants_more and not flow.has_room:
                    self._feeder.sleep(lock, self._is_stopped)
                if not self.wants_more:
                    return

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
        sleeper = allocate_lock()
        sleeper.acquire()
        # Asleep outside of the lock's `with`: Ctrl-C reaches this thread alone, and may do so anywhere in here.
        while (item := self.poll(sleeper)) is Nothing.YET:
            sleeper.acquire()
        return item

    def poll(self, sleeper: Sleeper) -> Item | Nothing:
        """`next` without waiting: `Nothing.YET` where there is nothing, and `sleeper` is woken when there is."""
        self._demand_own_process()
        with self._lock:
            item = self._poll()
            if item is Nothing.YET:
                self._add(self._consumer, sleeper)
            return item

    def _demand_own_process(self) -> None:
        # Before the lock is asked for: in a fork it may be held for ever, by a thread of the other process.
        if self._process != os.getpid():
            raise RuntimeError("This call of a pipeline was begun before a fork; its threads are in the other process.")

    def _poll(self) -> Item | Nothing:
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
        plan = team.group.plan
        function = plan.steps[0].function
        if plan.pickled is None or function is None:
            self._work_with(team, function)
            return
        in_process = InProcess(function, plan.pickled, plan.timeout_s, self._children)
        try:
            self._work_with(team, in_process)
        finally:
            in_process.close()

    def _work_with(self, team: Team, function: Callee | None) -> None:
        lock, plan = self._lock, team.group.plan
        # A process has a time-out of its own, and can be ended.
        timeout_s = plan.timeout_s if plan.pickled is None else None
        with lock:
            team.coming -= 1
            while items := self._next_items(team):
                call = self._timed(team, items, timeout_s) if timeout_s is not None else None
                lock.release()
                try:
                    outcomes = perform(
                        plan.steps,
                        function,
                        [item.value for item in items],
                        partial(self._label, items),
                        is_batch=plan.batch_size is not None,
                        claim=self._is_going if call is None else partial(self._claim, call),
                    )
                finally:
                    lock.acquire()
                if self.stopped:
                    return
                if outcomes is NoOutcome.ABANDONED:
                    team.late -= 1
                    if not team.takes_threads:
                        return
                    team.live += 1
                    self._threads.add(current_thread())
                else:
                    self._settle(team, items, outcomes)
                del items, outcomes, call  # while this thread sleeps, nothing is to be held by it

    def _settle(self, team: Team, items: list[Item], outcomes: list[Outcome] | NoOutcome) -> None:
        now_s = monotonic()
        if isinstance(outcomes, NoOutcome):
            self._flow.retry_alone(team.group, items)
        else:
            for item, outcome in zip(items, outcomes, strict=True):
                self._flow.settle(team.group, item, outcome, now_s)
        self._wake(now_s)

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
                rung = team.bell.sleep(self._lock, self._is_stopped)
            else:
                team.timers += 1
                rung = team.bell.sleep(self._lock, self._is_stopped, goes_at_s - now_s)
                team.timers -= 1
            team.coming -= rung
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
        if self._flow.ready(group, now_s):
            if len(group.waiting) <= team.coming * (group.batch_size or 1):
                return
        elif group.max_wait_s is None or team.timers or team.coming:
            return
        if team.bell.ring():
            team.coming += 1
        elif team.takes_threads:
            self._add_thread(team)

    def _add_thread(self, team: Team) -> None:
        team.live += 1
        team.coming += 1
        error = self._start(f"{team.group.plan.name}-{team.started}", self._work, team)
        team.started += 1
        if error is not None:
            team.live -= 1
            team.coming -= 1
            if not team.live:
                self._abort(error)
            team.limit = team.live

    # Calls that are overdue

    def _timed(self, team: Team, items: list[Item], timeout_s: float) -> Call:
        call = Call(team, items, monotonic() + timeout_s, current_thread())
        self._calls.add(call)
        if not self._is_watched:
            self._is_watched = True
            if (error := self._start("watch", self._watch_calls)) is not None:
                self._abort(error)
        elif self._watch_is_idle:
            self._watch.ring()
        return call

    def _claim(self, call: Call) -> bool:
        with self._lock:
            self._calls.discard(call)
            return not call.is_abandoned and not self.stopped

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
                    if call in self._calls:  # it may have ended while `on_error` was asked about another
                        self._abandon(call, now_s)
                for team in self._teams:
                    if team.is_stuck and (team.group.waiting and team.stuck_until_s(now_s) <= now_s):
                        self._give_up(
                            team,
                            self._flow.take_all(team.group),
                            "no thread was free for so long: all are in calls that took longer",
                        )
                self._wake(monotonic())

    def _next_due_s(self, now_s: float) -> float | None:
        dues = [call.due_s for call in self._calls]
        dues += [team.stuck_until_s(now_s) for team in self._teams if team.is_stuck]
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
        step = team.group.plan.steps[0]
        for position, item in enumerate(items):
            error = StageTimeout(f"Stage {step.name!r} has a timeout_s of {team.group.plan.timeout_s:g}, and {why}.")
            self._lock.release()
            try:
                outcome = step.failed(item.value, self._label(items, position), error)
            finally:
                self._lock.acquire()
            self._flow.settle(team.group, item, outcome, monotonic())
