"""The one clock of the cloud, which a test may advance, and the timers on it.

It goes with the machine's clock, ahead by what it was advanced. What is a time *of the cloud* (time stamps, schedules,
periods of alarms, cooldowns) asks it; limits that guard real work, such as the time-outs of sockets, stay real.

:meth:`Clock.advance` fires, in the order of their due times, all timers that become due, each while the clock stands at
its due time. A thread that waits on the clock (:meth:`Clock.wait`) and becomes due has the clock stand until it waits
again or ends, at most ten real seconds.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

logger = logging.getLogger(__name__)

LONGEST_ADVANCE_S = 31 * 24 * 3600.0
SHORTEST_INTERVAL_S = 1.0
_SETTLE_S = 10.0
_LOOK_S = 0.02
_LONGEST_SLEEP_S = 60.0  # the machine's own clock may be set while a thread sleeps

Action = Callable[[], None]
Guard = Callable[[datetime, datetime], None]
"""Raises :class:`ClockRefused` where the clock cannot go from one moment to the other in one go."""


class ClockRefused(ValueError):
    """The clock does not go there; the text says why, and what to do."""


@dataclass(slots=True, kw_only=True)
class Timer:
    """A timer's plain values. ``interval_s`` is None where it fires once."""

    number: int
    name: str
    due: datetime
    interval_s: float | None = None


@dataclass(slots=True, kw_only=True)
class ClockState:
    """What the clock would have to remember: how far it is ahead of the machine's, and what is to come."""

    ahead: timedelta = timedelta()
    timers: dict[int, Timer] = field(default_factory=dict)


class Clock:
    """Timers fire from :meth:`start` to :meth:`close`, one at a time, in a thread of the clock's or of :meth:`advance`.

    An action that fails is logged, and one that takes long holds up all others: it should hand its work to a thread.
    """

    def __init__(self, state: ClockState | None = None) -> None:
        self.state = state or ClockState()
        self._held: datetime | None = None  # where the clock stands while it is advanced
        self._actions: dict[int, Action] = {}
        self._queue: list[tuple[datetime, int]] = []
        self._numbers = itertools.count(max(self.state.timers, default=0) + 1)
        self._guards: list[Guard] = []
        self._woken: dict[threading.Thread, float] = {}
        self._changed = threading.Condition()
        self._firing = threading.Lock()
        self._fires: threading.Thread | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)

    def now(self) -> datetime:
        """The cloud's time, UTC."""
        return self._held or datetime.now(UTC) + self.state.ahead

    @property
    def is_advanced(self) -> bool:
        """Whether it is being advanced just now, and stands still while an action runs."""
        return self._held is not None

    def time(self) -> float:
        """The cloud's time in seconds since 1970."""
        return self.now().timestamp()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Fires nothing more; an advance that is under way ends with :class:`ClockRefused`. Threads that wait go on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def call_at(self, moment: datetime, action: Action, *, name: str) -> Timer:
        """Calls ``action`` once, when ``moment`` has come; at once where it has passed."""
        return self._add(Timer(number=next(self._numbers), name=name, due=moment), action)

    def call_later(self, delay_s: float, action: Action, *, name: str) -> Timer:
        """Calls ``action`` once, ``delay_s`` from now."""
        return self.call_at(self.now() + timedelta(seconds=delay_s), action, name=name)

    def every(self, interval_s: float, action: Action, *, name: str, first: datetime | None = None) -> Timer:
        """Calls ``action`` at ``first`` (default: after one interval), and every ``interval_s`` from there.

        Without :meth:`advance`, intervals that passed while the machine slept are left out.
        """
        if not interval_s >= SHORTEST_INTERVAL_S:
            raise ValueError(f"timer {name} would fire every {interval_s} s; at least {SHORTEST_INTERVAL_S:g} s")
        due = first or self.now() + timedelta(seconds=interval_s)
        return self._add(Timer(number=next(self._numbers), name=name, due=due, interval_s=interval_s), action)

    def cancel(self, timer: Timer) -> bool:
        """Whether the timer was still to fire; it does not any more, but an action that runs goes on."""
        with self._changed:
            self._actions.pop(timer.number, None)
            return self.state.timers.pop(timer.number, None) is not None

    def add_guard(self, guard: Guard) -> None:
        """Lets ``guard`` refuse an advance before it begins."""
        self._guards.append(guard)

    def coming(self, at_most: int = 100) -> list[Timer]:
        """What is to fire, the next first."""
        with self._changed:
            timers = [replace(timer) for timer in self.state.timers.values()]
        return sorted(timers, key=lambda timer: timer.due)[:at_most]

    def wait(self, delay_s: float, *, goes_on: Callable[[], bool] = lambda: True, name: str = "a thread") -> None:
        """Returns when ``delay_s`` have passed on this clock, when ``goes_on`` says no, or when the clock is closed."""
        due, thread = threading.Event(), threading.current_thread()

        def wake() -> None:
            if self._held is not None:
                with self._changed:
                    self._woken[thread] = time.monotonic()
            due.set()

        with self._changed:  # in one: or an advance could wake this thread before it says that it waits
            timer = self.call_later(delay_s, wake, name=name)
            self._woken.pop(thread, None)
            self._changed.notify_all()
        try:
            while not due.wait(_LOOK_S) and goes_on() and not self._closed:
                pass
        finally:
            self.cancel(timer)

    def advance(self, seconds: float) -> datetime:
        """Sets the clock ahead and returns its new time, after all that became due in between has fired.

        Raises :class:`ClockRefused` for anything but 0 to 31 days, and where a guard says so; then nothing has
        happened.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
            raise ClockRefused(f"advance_s is {seconds!r}; it must be a number of seconds.")
        if seconds < 0:
            raise ClockRefused(f"advance_s is {seconds:g}; time does not go back.")
        if seconds > LONGEST_ADVANCE_S:
            raise ClockRefused(
                f"advance_s is {seconds:.10g}; one call goes {LONGEST_ADVANCE_S:.0f} s (31 days) at most, because all"
                " that is due in between is done. Call it several times."
            )
        if self._fires is threading.current_thread():
            raise ClockRefused("What the clock calls cannot advance it.")
        with self._firing:
            begin = self.now()
            end = begin + timedelta(seconds=seconds)
            for guard in self._guards:
                guard(begin, end)
            self._held = begin
            try:
                while self._fire_next(end):
                    self._await_woken()
                    if self._closed:
                        raise ClockRefused("The local cloud is shutting down.")
                self._held = end
            finally:
                self.state.ahead = self.now() - datetime.now(UTC)
                self._held = None
                with self._changed:
                    self._changed.notify_all()
            return end

    def _add(self, timer: Timer, action: Action) -> Timer:
        with self._changed:
            self.state.timers[timer.number] = timer
            self._actions[timer.number] = action
            heapq.heappush(self._queue, (timer.due, timer.number))
            self._changed.notify_all()
        return timer

    def _run(self) -> None:
        while not self._closed:
            with self._changed:
                pause_s = self._pause_s()
                if pause_s > 0:
                    self._changed.wait(pause_s)
                    continue
            with self._firing:
                self._fire_next(self.now(), leave_out=True)

    def _pause_s(self) -> float:
        """Until the next timer is due. Called with ``_changed`` held."""
        if self._closed:
            return 0.0
        if self._held is not None or not self._queue:
            return _LONGEST_SLEEP_S
        return min(_LONGEST_SLEEP_S, (self._queue[0][0] - self.now()).total_seconds())

    def _fire_next(self, until: datetime, *, leave_out: bool = False) -> bool:
        """Fires the first timer that is due at ``until``, and says whether there was one."""
        with self._changed:
            while True:
                if not self._queue or self._queue[0][0] > until or self._closed:
                    return False
                due, number = heapq.heappop(self._queue)
                timer = self.state.timers.get(number)
                if timer is not None:
                    break
            action = self._actions[number]
            if timer.interval_s is None:
                del self.state.timers[number], self._actions[number]
            else:
                passed = (until - due).total_seconds() // timer.interval_s if leave_out else 0
                timer.due = due + timedelta(seconds=timer.interval_s * (1 + passed))
                heapq.heappush(self._queue, (timer.due, number))
        if self._held is not None:
            self._held = max(self._held, due)
        self._fires = threading.current_thread()
        try:
            action()
        except Exception:
            logger.exception("the timer %s failed", timer.name)
        finally:
            self._fires = None
        return True

    def _await_woken(self) -> None:
        """Returns when the threads that were woken wait on the clock again, or have ended."""
        with self._changed:
            while self._woken and not self._closed:
                now = time.monotonic()
                gone = [thread for thread, at in self._woken.items() if not thread.is_alive() or now > at + _SETTLE_S]
                for thread in gone:
                    del self._woken[thread]
                if self._woken:
                    self._changed.wait(_LOOK_S)


CLOCK = Clock()
"""The clock of this process, which is one cloud: moto's state is the process's too."""


def written(moment: datetime) -> str:
    """A moment as answers write it: ISO 8601 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
