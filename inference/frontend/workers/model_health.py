"""How a model fares, and when its next worker is started: rules on plain data, with the time passed in.

LOADING ─ first worker ready ─▶ SERVING ─ crash loop ─▶ FAILED
   │└───────── cannot be loaded ──────────────────────────▲
   └──────────── unloaded, or the server stops ──────────────▶ CLOSED
"""

from __future__ import annotations

from enum import Enum, auto
from math import inf

from tidegate.inference.frontend.queue.pool_limits import PoolLimits

DEATHS_IN_A_ROW = 10
"""Workers that may die of their requests, with no batch done in between, before the model counts as unhealthy."""
PING_GRACE_S = 10.0
"""How long a model that worked may be without a worker and still count as healthy: a restart is not a fault. At most
half of the time after which the server gives up, so that `/ping` has said so for a while before."""
EXIT_STATUS_S = 0.2
"""How long the exit status of the first worker is waited for: it is the reason why the model could not be loaded."""


class State(Enum):
    """Where a model is in its life."""

    LOADING = auto()
    SERVING = auto()
    FAILED = auto()
    CLOSED = auto()


class ModelHealth:
    """What is known of a model by what has become of its workers."""

    def __init__(self, limits: PoolLimits) -> None:
        self._limits = limits
        self._state = State.LOADING
        self._starts: dict[int, float] = {}
        self._last_cause = ""
        self._load_fails_s = inf
        self._failures = 0
        self._deaths = 0
        self._dying_since_s = 0.0
        self._unhealthy_since_s = inf
        self._down_since_s = inf
        self._grace_s = PING_GRACE_S

    # --- what is so

    @property
    def state(self) -> State:
        """Where the model is in its life."""
        return self._state

    @property
    def last_cause(self) -> str:
        """Why the last worker was lost, in words; empty where nobody has said so."""
        return self._last_cause

    def healthy(self, now_s: float) -> bool:
        """Whether `/ping` may say 200 on behalf of this model."""
        if self._state is not State.SERVING or self._deaths >= DEATHS_IN_A_ROW:
            return False
        return now_s - self._down_since_s < self._grace_s

    # --- what is due

    def next_due_s(self) -> float:
        """When to look again; infinity where nothing is due at any time."""
        due_s = min(self._load_fails_s, *self._starts.values(), inf)
        if self._state is State.SERVING:
            due_s = min(due_s, self._down_since_s + self._limits.crash_loop_s)
            due_s = min(due_s, self._deaths_end_s())
        return due_s

    def _deaths_end_s(self) -> float:
        # `/ping` has said so for a while before.
        limit_s = self._limits.crash_loop_s
        return max(self._dying_since_s + limit_s, self._unhealthy_since_s + limit_s / 2)

    def starts(self, now_s: float) -> list[int]:
        """The slots for which a worker is to be started now."""
        slots = [slot for slot, due_s in self._starts.items() if due_s <= now_s]
        for slot in slots:
            del self._starts[slot]
        return slots

    def first_load_failed(self, now_s: float) -> bool:
        """Whether to give up the first load now, because its worker was gone a moment ago."""
        if now_s < self._load_fails_s:
            return False
        self._fail()
        return True

    def crash_loop(self, now_s: float) -> str:
        """What has gone on for too long, in words, said once; empty where nothing has."""
        limit_s = self._limits.crash_loop_s
        if self._state is not State.SERVING:
            return ""
        if now_s >= self._down_since_s + limit_s:
            self._fail()
            return f"had no worker for {limit_s:g} s"
        if now_s >= self._deaths_end_s():
            self._fail()
            return f"lost {self._deaths} workers in more than {limit_s:g} s and finished nothing in between"
        return ""

    # --- what happens

    def load(self, now_s: float) -> None:
        """Start the first worker; the others follow when it is ready."""
        self._starts[0] = now_s

    def ready(self, now_s: float) -> bool:
        """A worker has the model loaded; returns whether that ends the first load."""
        self._down_since_s = inf
        if self._state is not State.LOADING:
            return False
        self._state = State.SERVING
        self._starts = dict.fromkeys(range(1, self._limits.workers), now_s)
        return True

    def batch_done(self) -> None:
        """A worker has done a batch: what went wrong before is over."""
        self._failures = self._deaths = 0
        self._unhealthy_since_s = inf

    def explain(self, cause: str) -> None:
        """Note why a worker is lost, in words."""
        self._last_cause = cause

    def could_not_load(self, cause: str) -> bool:
        """A worker cannot load the model; returns whether that ends the first load."""
        self._last_cause = cause
        if self._state is not State.LOADING or self._load_fails_s < inf:
            return False
        self._fail()
        return True

    def could_not_start(self, slot: int, cause: str, now_s: float) -> bool:
        """A worker cannot be forked; returns whether that ends the first load. Otherwise it is tried again."""
        self._last_cause = cause
        if self._state is State.LOADING:
            self._fail()
            return True
        if self._state is State.SERVING:
            self._failures += 1
            self._starts[slot] = now_s + restart_delay_s(self._failures)
        return False

    def lost(self, slot: int, *, busy: bool, hung: bool, proving: bool, ready: int, now_s: float) -> None:
        """A worker is gone, and its successor is due; `ready` others are there.

        `busy` says that it had requests. In the first load only one that was `proving` has a successor, as it had
        loaded the model.
        """
        if self._state is State.LOADING:
            if proving:
                self._starts[slot] = now_s
            else:
                self._load_fails_s = now_s + EXIT_STATUS_S
        if self._state is not State.SERVING:
            return
        if not ready and self._down_since_s == inf:
            self._down_since_s = now_s
            # That all workers hung is no ordinary restart: the user's code is in trouble, and /ping says so at once.
            self._grace_s = 0.0 if hung else min(PING_GRACE_S, self._limits.crash_loop_s / 2)
        if not self._deaths:
            self._dying_since_s = now_s
        self._deaths += 1
        if self._deaths == DEATHS_IN_A_ROW:
            self._unhealthy_since_s = now_s
        self._failures = 0 if busy or hung else self._failures + 1
        self._starts[slot] = now_s + restart_delay_s(self._failures)

    def close(self) -> bool:
        """Start nothing more; returns whether that ends the first load."""
        loading = self._state is State.LOADING
        self._fail()
        self._state = State.CLOSED
        return loading

    def _fail(self) -> None:
        self._state = State.FAILED
        self._starts.clear()
        self._load_fails_s = inf


def restart_delay_s(failures: int) -> float:
    """How long to wait before the next worker, after this many in a row that did not come up or died unprovoked."""
    return min(0.1 * 2 ** min(failures - 1, 10), 10.0) if failures > 0 else 0.0
