"""Which items go together, when, and what is delivered next: plain data with the time passed in, no thread or clock.

* Results keep the source's order: `in_flight` holds every item from the source to the consumer, oldest first, and the
  consumer takes the first once it is settled.
* `max_in_flight` bounds them all together, those that wait for a slow predecessor too: this is the back-pressure.
* A batch goes when it is full, when its first item has waited `max_wait_s`, and when it cannot grow: nothing is before
  its stage, and the source gives nothing more, because it has ended or because the window is full and the consumer
  waits. Without the last rule a batch could wait for an item that only its own result makes room for.
* After a failure nothing behind the failed item is worth a call: those before it are finished and delivered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tidegate.inference.pipeline.calls import Fate, Outcome, Step


class Item:
    """One item of the source on its way. `outcome` is None until it is settled."""

    __slots__ = ("alone", "arrived_s", "index", "key", "outcome", "value")

    def __init__(self, index: int, value: Any, key: Any) -> None:
        self.index = index
        self.value = value
        self.key = key
        self.alone = False
        """The batch that it was in has failed: it is called by itself."""
        self.arrived_s = 0.0
        self.outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Stages that run in the same threads; the first may take batches, have a time-out, or run in processes."""

    steps: tuple[Step, ...]
    workers: int = 1
    pickled: bytes | None = None
    """The function of the first for the processes that call it; None where threads do."""
    batch_size: int | None = None
    max_wait_s: float | None = None
    timeout_s: float | None = None

    @property
    def name(self) -> str:
        return "+".join(step.name for step in self.steps)


class Group:
    """A plan at work: what waits for it."""

    __slots__ = ("batch_size", "held", "max_wait_s", "number", "plan", "waiting")

    def __init__(self, number: int, plan: Plan) -> None:
        self.number = number
        self.plan = plan
        self.batch_size = plan.batch_size
        self.max_wait_s = plan.max_wait_s
        self.waiting: deque[Item] = deque()
        self.held = 0
        """Items that wait here or are being worked on."""


class Flow:
    """The state of one call of a pipeline. Its caller holds a lock around each method."""

    def __init__(self, plans: Sequence[Plan], max_in_flight: int) -> None:
        self.groups = tuple(Group(number, plan) for number, plan in enumerate(plans))
        self.max_in_flight = max_in_flight
        self.in_flight: deque[Item] = deque()
        self.ended = False
        """Whether the source gives nothing more."""
        self._fed = 0
        self._failed_at: int | None = None

    # The source

    @property
    def has_room(self) -> bool:
        return len(self.in_flight) < self.max_in_flight

    def feed(self, value: Any, now_s: float, key: Any = None) -> None:
        """Take one more item of the source."""
        if self.ended:
            return
        item = Item(self._fed, value, key)
        self._fed += 1
        self.in_flight.append(item)
        if self.groups:
            self._arrive(item, 0, now_s)
        else:
            item.outcome = Outcome(Fate.GOES_ON, value)

    def end(self, error: BaseException | None = None) -> None:
        """The source is exhausted, or has raised `error`, which is delivered after its last item."""
        if error is not None and not self.ended:
            item = Item(self._fed, None, None)
            item.outcome = Outcome(Fate.FAILED, error)
            self.in_flight.append(item)
        self.ended = True

    # The stages

    def ready(self, group: Group, now_s: float) -> int:
        """How many of the items that wait for `group` one call takes now."""
        waiting = group.waiting
        if not waiting:
            return 0
        if group.batch_size is None or waiting[0].alone:
            return 1
        if len(waiting) >= group.batch_size:
            return group.batch_size
        if group.max_wait_s is not None and now_s >= waiting[0].arrived_s + group.max_wait_s:
            return len(waiting)
        return 0 if self._may_grow(group) else len(waiting)

    def take(self, group: Group, now_s: float) -> list[Item]:
        """The items of the next call."""
        return [group.waiting.popleft() for _ in range(self.ready(group, now_s))]

    def take_all(self, group: Group) -> list[Item]:
        """Everything that waits: nobody is there to work on it."""
        items = list(group.waiting)
        group.waiting.clear()
        return items

    def goes_at_s(self, group: Group) -> float | None:
        """When the batch that is coming together goes as it is; None where it has no such time."""
        if group.max_wait_s is None or not group.waiting:
            return None
        return group.waiting[0].arrived_s + group.max_wait_s

    def settle(self, group: Group, item: Item, outcome: Outcome, now_s: float) -> None:
        """`item` has passed all steps of `group`, or has ended there."""
        group.held -= 1
        item.alone = False
        if outcome.fate is Fate.GOES_ON and group.number + 1 < len(self.groups):
            if self._failed_at is None or item.index < self._failed_at:
                item.value = outcome.value
                self._arrive(item, group.number + 1, now_s)
                return
            outcome = Outcome(Fate.DROPPED, None)
        item.value = None
        item.outcome = outcome
        if outcome.fate is Fate.FAILED and (self._failed_at is None or item.index < self._failed_at):
            self._fail_at(item.index)

    def retry_alone(self, group: Group, items: Sequence[Item]) -> None:
        """The call with all of `items` has failed: each is called by itself, before what else waits."""
        for item in items:
            item.alone = True
        group.waiting.extendleft(reversed(items))
        self._forget_what_is_behind_the_failure(group)

    # The consumer

    def next_is_ready(self) -> bool:
        return bool(self.in_flight) and self.in_flight[0].outcome is not None

    @property
    def is_delivered(self) -> bool:
        """Whether nothing more will come."""
        return self.ended and not self.in_flight

    @property
    def is_worked_off(self) -> bool:
        """Whether the stages have nothing left to do."""
        return self.ended and not any(group.held for group in self.groups)

    def deliver(self) -> Item:
        """The oldest item, which is settled."""
        return self.in_flight.popleft()

    def _arrive(self, item: Item, number: int, now_s: float) -> None:
        group = self.groups[number]
        item.arrived_s = now_s
        group.held += 1
        group.waiting.append(item)

    def _may_grow(self, group: Group) -> bool:
        if any(before.held for before in self.groups[: group.number]):
            return True
        return not self.ended and (self.has_room or self.next_is_ready())

    def _fail_at(self, index: int) -> None:
        self._failed_at = index
        self.ended = True
        for group in self.groups:
            self._forget_what_is_behind_the_failure(group)

    def _forget_what_is_behind_the_failure(self, group: Group) -> None:
        failed_at = self._failed_at
        if failed_at is None:
            return
        kept: deque[Item] = deque()
        for item in group.waiting:
            if item.index < failed_at:
                kept.append(item)
            else:
                group.held -= 1
                item.outcome = Outcome(Fate.DROPPED, None)
        group.waiting = kept
