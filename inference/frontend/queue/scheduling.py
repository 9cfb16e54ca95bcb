"""When a batch is ready, who is admitted, who is tried again: rules on plain data, with the time passed in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from tidegate.inference.protocol import Done


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to send to the idle workers now, and how long to hold the rest back (0: until something happens)."""

    sizes: tuple[int, ...] = ()
    hold_s: float = 0.0


NOTHING = Plan()


def plan_batches(
    *,
    waiting: int,
    idle: int,
    computing: int,
    busy: int,
    expected: int,
    oldest_wait_s: float,
    max_size: int,
    max_wait_s: float,
) -> Plan:
    """Share `waiting` requests among `idle` workers, while `busy` others are `computing` theirs.

    `expected` is how many requests may be waiting at once, going by the last rounds (see `RecentLoad`). Batches are
    held back, for at most `max_wait_s` since the oldest request came, only while more than the waiting ones are
    expected and would still fit. So a lone client never waits.

    A worker gets no more than its share of all requests in flight: clients that send their next request when the last
    is answered would otherwise stay in the uneven batches (six and two, say) in which chance once put them.
    """
    if not waiting or not idle:
        return NOTHING
    max_size = min(max_size, -(-(max(waiting, expected) + computing) // (idle + busy)))
    # Less than a microsecond is a rounding error of the clock, and no time to wait for.
    if waiting < min(expected, max_size * idle) and max_wait_s - oldest_wait_s > 1e-6 and max_size > 1:
        return Plan(hold_s=max_wait_s - oldest_wait_s)
    sizes = []
    for workers_left in range(idle, 0, -1):
        size = min(max_size, -(-waiting // workers_left))
        if size == 0:
            break
        sizes.append(size)
        waiting -= size
    return Plan(sizes=tuple(sizes))


HANDED_OVER_S = 0.002
"""How much work a worker may have in hand of requests that are predicted one by one: more than it takes to hand over
the next ones, and little enough that none of them is late for having waited there and not in the queue."""
MAX_HANDED_OVER = 32
"""So many at the most, however short they are."""
MAX_HANDED_OVER_BYTES = 1024 * 1024
"""Bodies that are handed over together: larger ones take longer on their way than what is saved."""
STUCK_S = 0.02
"""After this time without a word what a worker has not begun is taken back."""


NOT_BEGUN_ISOLATED, NOT_BEGUN_FAILED = 2, 3
"""How many lost workers of which it was the next make a request suspected, and then the one to blame: what nobody has
begun should kill nothing, and is not tried for ever if it does."""


def hand_over_limit(item_s: float) -> int:
    """How many requests of `item_s` seconds each a worker may have in hand where each is predicted alone."""
    return max(1, min(MAX_HANDED_OVER, int(HANDED_OVER_S / max(item_s, 1e-6))))


class RecentLoad:
    """How many requests were in flight at each of the last rounds: what a batch may reasonably wait for."""

    __slots__ = ("_rounds",)

    def __init__(self, rounds: int = 4) -> None:
        self._rounds: deque[int] = deque(maxlen=rounds)

    def record(self, in_flight: int) -> None:
        """Note a round that was sent with this many requests waiting or computing."""
        self._rounds.append(in_flight)

    def expected(self, computing: int) -> int:
        """How many may be waiting now, when `computing` others are with the workers."""
        return max(self._rounds, default=0) - computing


class JoinsLately:
    """Whether requests that are sent together are of any use, going by what the workers say of their batches.

    After a batch of which no two requests will ever share a call, requests are no batches, so that each goes to the
    first worker that is free; then another batch is tried, after ever more requests as long as it is no better.
    """

    __slots__ = ("_one_by_one", "_pause")

    def __init__(self) -> None:
        self._one_by_one = 0
        self._pause = 0

    def record(self, done: Done) -> None:
        """Note what a worker says of a batch."""
        if done.joined or done.proved:
            self._one_by_one = self._pause = 0
        elif done.hopeless:
            self._pause = min(max(16, 2 * self._pause), 1024)
            self._one_by_one = self._pause

    def sent(self, requests: int) -> None:
        """Note that so many requests were sent."""
        self._one_by_one = max(0, self._one_by_one - requests)

    @property
    def in_vain(self) -> bool:
        """Whether it is of no use to send requests as a batch now."""
        return bool(self._one_by_one)


class RejectReason(Enum):
    """Why a request is not admitted."""

    QUEUE_FULL = auto()
    TOO_LONG_A_WAIT = auto()


def reject_reason(*, waiting: int, queue_size: int, expected_wait_s: float, max_wait_s: float) -> RejectReason | None:
    """Why one more request must be rejected, or None where it may wait."""
    if waiting >= queue_size:
        return RejectReason.QUEUE_FULL
    if expected_wait_s > max_wait_s:
        return RejectReason.TOO_LONG_A_WAIT
    return None


class Retry(Enum):
    """What becomes of a request whose worker was lost with it."""

    ISOLATED = auto()
    DIED = auto()
    HUNG = auto()


def after_loss(*, shared_by: int, deaths_isolated: int, hung: bool, retry: bool) -> Retry:
    """Decide for one request of a lost worker, which had `shared_by` requests.

    `deaths_isolated` counts the workers that died with it alone, this one included. Whatever shared its worker is tried
    again, isolated, because one of them is to blame and the others are not. A request that hung alone is not retried:
    it would only hang again. One that was alone at two deaths is the killer.
    """
    if not retry:
        return Retry.HUNG if hung else Retry.DIED
    if shared_by > 1:
        return Retry.ISOLATED
    if hung:
        return Retry.HUNG
    return Retry.ISOLATED if deaths_isolated < 2 else Retry.DIED
