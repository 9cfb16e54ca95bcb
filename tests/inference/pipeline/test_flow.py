"""What is decided, without a thread or a clock: batches, the window, the order, what a failure leaves undone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tidegate.inference.pipeline.calls import Fate, Outcome
from tidegate.inference.pipeline.flow import Flow, Group, Item, Plan
from tidegate.inference.pipeline.team import LATE_PER_WORKER, Team


def goes_on(value: Any) -> Outcome:
    return Outcome(Fate.GOES_ON, value)


def flow_of(*plans: Plan, max_in_flight: int = 10, items: int = 0) -> Flow:
    flow = Flow(plans, max_in_flight)
    for value in range(items):
        flow.feed(value, now_s=float(value))
    return flow


def batches_of(size: int, wait_s: float | None = None) -> Plan:
    return Plan(steps=(), batch_size=size, max_wait_s=wait_s)


ONE = Plan(steps=())


def test_a_full_batch_goes_at_once_and_a_smaller_one_waits() -> None:
    """For what the source may still give."""
    flow = flow_of(batches_of(3), items=2)
    group = flow.groups[0]
    assert flow.ready(group, now_s=1e9) == 0
    flow.feed(2, now_s=2.0)
    flow.feed(3, now_s=2.0)
    assert [item.value for item in flow.take(group, now_s=2.0)] == [0, 1, 2]
    assert flow.ready(group, now_s=1e9) == 0


def test_a_batch_goes_when_its_first_item_has_waited_long_enough() -> None:
    """Counted from when the item came to this stage."""
    flow = flow_of(batches_of(3, wait_s=0.5), items=2)
    group = flow.groups[0]
    assert flow.goes_at_s(group) == 0.5
    assert flow.ready(group, now_s=0.49) == 0
    assert flow.ready(group, now_s=0.5) == 2
    assert len(flow.take(group, now_s=0.5)) == 2
    assert flow.goes_at_s(group) is None


def test_a_batch_goes_when_the_source_has_ended_and_nothing_is_before_it() -> None:
    """What another stage still works on may join it."""
    flow = flow_of(ONE, batches_of(3), items=2)
    first, second = flow.groups
    flow.end()
    one, two = (flow.take(first, now_s=9.0)[0] for _ in range(2))
    flow.settle(first, one, goes_on("one"), now_s=9.0)
    assert flow.ready(second, now_s=9.0) == 0
    flow.settle(first, two, Outcome(Fate.DROPPED, None), now_s=9.0)
    assert flow.ready(second, now_s=9.0) == 1


def test_a_batch_goes_when_the_window_is_full_and_the_consumer_waits() -> None:
    """It holds the item that the consumer waits for, or one whose room the source needs."""
    flow = flow_of(batches_of(5), max_in_flight=3, items=2)
    group = flow.groups[0]
    assert flow.ready(group, now_s=9.0) == 0
    flow.feed(2, now_s=2.0)
    assert not flow.has_room
    assert flow.ready(group, now_s=9.0) == 3


def test_a_batch_waits_while_the_consumer_has_something_to_take() -> None:
    """A slow consumer must not make the batches small: it makes room when it takes what is ready."""
    flow = flow_of(batches_of(2), max_in_flight=3, items=3)
    group = flow.groups[0]
    for item in flow.take(group, now_s=3.0):
        flow.settle(group, item, goes_on(None), now_s=3.0)
    assert flow.next_is_ready()
    assert not flow.has_room
    assert flow.ready(group, now_s=9.0) == 0
    flow.deliver()
    flow.deliver()
    assert flow.ready(group, now_s=9.0) == 0, "there is room for another now"


def test_the_items_of_a_failed_batch_go_one_by_one_before_the_others() -> None:
    """In their order."""
    flow = flow_of(batches_of(2), items=4)
    group = flow.groups[0]
    flow.retry_alone(group, flow.take(group, now_s=4.0))
    taken = [[item.value for item in flow.take(group, now_s=4.0)] for _ in range(3)]
    assert taken == [[0], [1], [2, 3]]


def test_an_item_that_went_alone_is_no_loner_in_the_next_stage() -> None:
    """There it may be in a batch again."""
    flow = flow_of(batches_of(2), batches_of(2), items=2)
    first, second = flow.groups
    flow.retry_alone(first, flow.take(first, now_s=2.0))
    for _ in range(2):
        [item] = flow.take(first, now_s=2.0)
        flow.settle(first, item, goes_on(item.value), now_s=2.0)
    assert flow.ready(second, now_s=2.0) == 2


def test_a_failure_forgets_what_is_behind_it_and_keeps_what_is_before() -> None:
    """Wherever it is: waiting, at work, or tried again."""
    flow = flow_of(ONE, batches_of(9), items=6)
    first, second = flow.groups
    items = [flow.take(first, now_s=6.0)[0] for _ in range(5)]
    flow.settle(first, items[0], goes_on("before"), now_s=6.0)
    flow.settle(first, items[3], goes_on("behind"), now_s=6.0)
    flow.settle(first, items[2], Outcome(Fate.FAILED, LookupError()), now_s=6.0)
    assert flow.ended
    assert [item.index for item in second.waiting] == [0]
    assert not first.waiting
    flow.settle(first, items[4], goes_on("behind, too"), now_s=6.0)
    flow.feed("too late", now_s=6.0)
    assert flow.ready(second, now_s=6.0) == 0, "the second item may join"
    flow.settle(first, items[1], goes_on("before, too"), now_s=6.0)
    assert flow.ready(second, now_s=6.0) == 2


def test_an_earlier_failure_moves_the_end_forward() -> None:
    """The later one is never delivered: who reads to the first stops there."""
    flow = flow_of(ONE, items=4)
    [group] = flow.groups
    items = [flow.take(group, now_s=4.0)[0] for _ in range(4)]
    for index in (2, 1):
        flow.settle(group, items[index], Outcome(Fate.FAILED, LookupError(index)), now_s=4.0)
    flow.settle(group, items[0], goes_on(None), now_s=4.0)
    flow.settle(group, items[3], goes_on(None), now_s=4.0)
    outcomes = [flow.deliver().outcome for _ in range(2)]
    assert [outcome and outcome.fate for outcome in outcomes] == [Fate.GOES_ON, Fate.FAILED]
    assert flow.is_worked_off


@pytest.mark.parametrize("workers", [1, 3])
def test_a_team_is_stuck_when_it_may_have_no_thread_more(workers: int) -> None:
    """It waits so long as a call may take, from when the last thread was lost or the item came."""
    group = Group(0, Plan(steps=(), workers=workers, timeout_s=2.0))
    team = Team(group)
    team.live, team.late = 0, LATE_PER_WORKER * workers - 1
    assert team.takes_threads
    assert not team.is_stuck
    team.late += 1
    assert not team.takes_threads
    assert team.is_stuck
    team.stuck_since_s = 10.0
    assert team.stuck_until_s(now_s=11.0) == 13.0, "nothing waits: looked at again after the time of a call"
    item = Item(0, None, None)
    item.arrived_s = 4.0
    group.waiting.append(item)
    assert team.stuck_until_s(now_s=11.0) == 12.0
    team.live = 1
    assert not team.is_stuck


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_team_has_no_thread_above_its_bound_in_whatever_order_calls_become_late(workers: int) -> None:
    """A thread whose call is not late yet counts: its call may become so."""
    team = Team(Group(0, Plan(steps=(), workers=workers, timeout_s=2.0)))
    for _ in range(10 * workers):
        while team.takes_threads:
            team.live += 1
        assert team.live + team.late <= LATE_PER_WORKER * workers
        if team.live:
            team.live, team.late = team.live - 1, team.late + 1
    assert team.late == LATE_PER_WORKER * workers
    assert team.is_stuck


class Flows(RuleBasedStateMachine):
    """Any order of what may happen: nothing is lost, nothing comes twice or out of order, and it always goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.flow = Flow([batches_of(3), ONE, batches_of(4, wait_s=5.0), batches_of(2)], max_in_flight=7)
        self.fed = 0
        self.now_s = 0.0
        self.working: list[tuple[Group, list[Item]]] = []
        self.delivered: list[int] = []

    @precondition(lambda self: self.flow.has_room and not self.flow.ended)
    @rule()
    def feed(self) -> None:
        self.flow.feed(self.fed, self.now_s)
        self.fed += 1

    @rule()
    def end(self) -> None:
        self.flow.end()

    @rule(seconds=st.floats(0, 6))
    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(number=st.integers(0, 3))
    def take(self, number: int) -> None:
        group = self.flow.groups[number]
        if items := self.flow.take(group, self.now_s):
            self.working.append((group, items))

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        group, items = self.working.pop(data.draw(st.integers(0, len(self.working) - 1)))
        if len(items) > 1 and data.draw(st.booleans()):
            self.flow.retry_alone(group, items)
            return
        for item in items:
            fate = data.draw(st.sampled_from([Fate.GOES_ON, Fate.GOES_ON, Fate.DROPPED, Fate.DONE]))
            self.flow.settle(group, item, Outcome(fate, item.index), self.now_s)

    @precondition(lambda self: self.flow.next_is_ready())
    @rule()
    def deliver(self) -> None:
        item = self.flow.deliver()
        assert item.outcome is not None
        self.delivered.append(item.index)

    @invariant()
    def results_are_in_order_and_the_window_is_kept(self) -> None:
        assert self.delivered == [*range(len(self.delivered))]
        assert len(self.flow.in_flight) <= self.flow.max_in_flight
        assert len(self.delivered) + len(self.flow.in_flight) == self.fed

    @invariant()
    def somebody_can_always_do_something(self) -> None:
        """Feed, work, deliver, or wait for a batch's time: or all is over."""
        flow = self.flow
        assert (
            (flow.has_room and not flow.ended)
            or self.working
            or flow.next_is_ready()
            or any(flow.ready(group, self.now_s) or flow.goes_at_s(group) for group in flow.groups)
            or flow.is_delivered
        )

    @invariant()
    def what_is_held_is_what_waits_and_what_is_at_work(self) -> None:
        for group in self.flow.groups:
            at_work = sum(len(items) for other, items in self.working if other is group)
            assert group.held == len(group.waiting) + at_work


TestFlows = Flows.TestCase
TestFlows.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
