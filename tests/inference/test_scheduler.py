"""Decisions of the scheduler in cases that chance seldom brings about; `test_scheduler_model` has the others."""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import Any

import pytest

from tests.inference.stand_in_workers import limits
from tidegate.inference.errors import HandlerTimedOut, WorkerDied
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.queue.actions import Action, CutOff, Fail, HangUp, Kill, Log, Send, Start
from tidegate.inference.frontend.queue.batch_search import BatchSearch
from tidegate.inference.frontend.queue.body import MemoryBody
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.frontend.queue.planner import FoundSize
from tidegate.inference.frontend.queue.scheduler import Scheduler
from tidegate.inference.frontend.queue.scheduling import STUCK_S
from tidegate.inference.frontend.workers.supervisor import LEAVE_S
from tidegate.inference.protocol import Done


class Ignored:
    """A reply that nobody reads."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the scheduler called {name} of a reply")


def request(size_bytes: int = 0) -> PendingRequest:
    body = MemoryBody()
    body.append(bytes(size_bytes))
    return PendingRequest(content_type="", accept="", headers=b"", body=body, reply=Ignored())


class Page:
    """What a worker has begun, as the test says."""

    exact = True

    def __init__(self, *, begins: bool) -> None:
        self.count = 0
        self._begins = begins

    def hand_over(self, place: int) -> None:
        if self._begins:
            self.count = place + 1

    def take_back(self, place: int) -> bool:
        return self.count <= place

    def close(self) -> None:
        """Nothing to let go of."""


class Story:
    """A scheduler, a clock, and every worker that it wants, which loads at once; its pid is its number."""

    def __init__(self, *, begins: bool = True, has_page: bool = True, may_join: bool = True, **changes: Any) -> None:
        self._begins, self._has_page, self._may_join = begins, has_page, may_join
        self.now_s = 100.0
        self.metrics = ModelMetrics()
        self.pages: dict[int, Page] = {}
        self.scheduler = Scheduler("toy", limits(**changes), self.metrics, prove=False)
        self.scheduler.supervisor.load(self.now_s)
        self.tick()

    def tick(self, after_s: float = 0.0) -> list[Action]:
        self.now_s += after_s
        actions = self.scheduler.tick(self.now_s)
        for start in [each for each in actions if isinstance(each, Start)]:
            page = self.pages[start.worker] = Page(begins=self._begins)
            self.scheduler.supervisor.started(start.worker, start.worker, self.now_s)
            self.scheduler.supervisor.ready(
                start.worker, self.now_s, may_join=self._may_join, begun=page if self._has_page else None
            )
            actions += self.tick()
        return actions

    def ask(self, count: int = 1, size_bytes: int = 0) -> list[PendingRequest]:
        asked = [request(size_bytes) for _ in range(count)]
        for each in asked:
            self.scheduler.submit(each, self.now_s)
        return asked

    def answer(self, send: Send, after_s: float = 0.0, *, hopeless: bool = False) -> None:
        """A worker answers what it was sent, in this time; `hopeless` where it finds nothing that may share a call."""
        self.now_s += after_s
        self.pages[send.worker].count = max(each.place for each in send.requests) + 1
        for each in send.requests:
            self.scheduler.answered(send.worker, each.id, self.now_s)
        self.scheduler.done(send.worker, Done(0, 0, 0, hopeless=hopeless), self.now_s)

    def learn(self, item_s: float) -> None:
        """Have it see that a request takes this long."""
        for _ in range(100):
            self.ask()
            (send,) = sent(self.tick())
            self.answer(send, item_s)


def sent(actions: list[Action]) -> list[Send]:
    return [each for each in actions if isinstance(each, Send)]


def test_nothing_is_sent_ahead_to_a_worker_that_computes_an_isolated_request():
    story = Story(max_batch_size=2, max_wait_s=0.0, prefetch=1)
    pair = story.ask(2)
    (first,) = sent(story.tick())
    assert first.requests == pair
    story.scheduler.lost(first.worker, story.now_s)
    (alone,) = sent(story.tick())
    assert alone.requests == pair[:1]
    (later,) = story.ask()
    assert sent(story.tick()) == []
    for expected in (pair[1], later):
        assert story.scheduler.answered(alone.worker, alone.requests[0].id, story.now_s)
        story.scheduler.done(alone.worker, Done(0, 0, 0), story.now_s)
        (alone,) = sent(story.tick())
        assert alone.requests == [expected]
    (ahead,) = story.ask()
    assert sent(story.tick()) == [Send(alone.worker, [ahead], alone=False)], "it computes nothing that is suspected"


def test_a_worker_that_says_done_and_has_not_answered_is_killed_and_its_requests_are_tried_again():
    story = Story(max_batch_size=2)
    pair = story.ask(2)
    (first,) = sent(story.tick())
    assert story.scheduler.answered(first.worker, pair[0].id, story.now_s) is pair[0]
    log, kill = story.scheduler.done(first.worker, Done(0, 0, 0), story.now_s)
    assert isinstance(log, Log)
    assert log.level == logging.ERROR
    assert kill == Kill(first.worker)
    story.scheduler.lost(first.worker, story.now_s)
    (again,) = sent(story.tick())
    assert again.requests == pair[1:]


def test_a_worker_that_answers_what_it_was_not_asked_is_killed():
    story = Story()
    assert story.scheduler.answered(1, 77, story.now_s) is None
    _, kill = story.scheduler.done(1, Done(0, 0, 0), story.now_s)
    assert kill == Kill(1)


def test_a_worker_that_exited_with_its_socket_open_has_died_and_does_not_hang():
    story = Story(timeout_s=5.0, retry=False)
    (asked,) = story.ask()
    (first,) = sent(story.tick())
    story.now_s += 4.5
    story.scheduler.supervisor.exited(first.worker, "was killed by signal 9", story.now_s)
    assert story.tick(after_s=LEAVE_S) == [CutOff(first.worker)]
    (fail,) = story.scheduler.lost(first.worker, story.now_s)
    assert isinstance(fail, Fail)
    assert fail.request is asked
    assert isinstance(fail.error, WorkerDied)


def test_a_request_that_hangs_in_a_batch_sent_ahead_has_a_deadline_from_when_it_is_taken_up():
    story = Story(prefetch=1, timeout_s=5.0, retry=False)
    first, second = story.ask(2)
    assert [each.requests for each in sent(story.tick())] == [[first]]
    assert [each.requests for each in sent(story.tick())] == [[second]]
    story.now_s += 4.0
    assert story.scheduler.answered(1, first.id, story.now_s) is first
    story.scheduler.done(1, Done(0, 0, 0), story.now_s)
    assert story.tick(after_s=4.9) == []
    *_, kill, cut_off = story.tick(after_s=0.1)
    assert (kill, cut_off) == (Kill(1), CutOff(1))
    (fail,) = story.scheduler.lost(1, story.now_s)
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, HandlerTimedOut)


def test_a_request_that_kills_once_it_is_announced_as_a_stream_is_failed_at_its_second_death():
    story = Story()
    (asked,) = story.ask()
    for _ in range(2):
        (batch,) = sent(story.tick())
        assert batch.requests == [asked]
        assert story.scheduler.announced(batch.worker, asked.id, story.now_s) == ()
        actions = story.scheduler.lost(batch.worker, story.now_s)
    (fail,) = actions
    assert isinstance(fail, Fail)
    assert isinstance(fail.error, WorkerDied)


def test_what_is_isolated_waits_for_a_worker_without_streams_where_one_is_busy():
    story = Story(workers=2, max_batch_size=2, max_wait_s=0.0)
    pair, (streamed,) = story.ask(2), story.ask()
    first, second = sent(story.tick())
    assert {len(first.requests), len(second.requests)} == {1, 2}
    (with_pair, with_stream) = (first, second) if len(first.requests) == 2 else (second, first)
    assert with_pair.requests == pair
    assert story.scheduler.announced(with_stream.worker, streamed.id, story.now_s) == ()
    story.scheduler.done(with_stream.worker, Done(0, 0, 0), story.now_s)
    story.scheduler.lost(with_pair.worker, story.now_s)
    (alone,) = sent(story.tick())
    assert alone.requests == pair[:1]
    assert alone.worker != with_stream.worker, "it is given to the successor, which has no streams"
    assert sent(story.tick()) == [], "the other one waits for it too"
    assert story.scheduler.answered(alone.worker, pair[0].id, story.now_s) is pair[0]
    story.scheduler.done(alone.worker, Done(0, 0, 0), story.now_s)
    assert sent(story.tick()) == [Send(alone.worker, pair[1:], alone=True)]


def test_a_worker_that_is_lost_with_conversations_is_replaced_at_once_however_often():
    story = Story(workers=1)
    for number in range(1, 6):
        story.scheduler.note_conversations(number, 2)
        assert story.scheduler.lost(number, story.now_s) == []
        assert [each for each in story.tick() if isinstance(each, Start)], "there is no growing delay"


def test_a_request_beside_a_conversation_is_not_alone_to_blame_for_a_death():
    story = Story(workers=1)
    (asked,) = story.ask()
    (first,) = sent(story.tick())
    story.scheduler.note_conversations(first.worker, 1)
    story.scheduler.lost(first.worker, story.now_s)
    assert asked.deaths_isolated == 0
    (again,) = sent(story.tick())
    assert again.requests == [asked]


def test_a_worker_that_retires_finishes_what_it_has_is_given_nothing_more_and_then_ends():
    story = Story(workers=1)
    story.ask()
    (first,) = sent(story.tick())
    story.scheduler.retire(first.worker)
    story.ask()
    assert story.tick() == []
    assert story.scheduler.answered(first.worker, first.requests[0].id, story.now_s) is first.requests[0]
    story.scheduler.done(first.worker, Done(0, 0, 0), story.now_s)
    assert story.tick() == [HangUp(first.worker)]
    assert story.tick() == [], "it is hung up on once"
    story.scheduler.lost(first.worker, story.now_s)
    assert sent(story.tick(after_s=1.0)), "its successor has what waited"


def test_nobody_hangs_up_on_a_worker_that_is_lost_while_it_retires():
    """Its socket is gone: what else is to be done in that round would be lost with it."""
    story = Story(workers=1)
    story.scheduler.retire(1)
    story.scheduler.lost(1, story.now_s)
    assert not [each for each in story.tick(after_s=1.0) if isinstance(each, HangUp)]


def test_the_scheduler_is_asked_at_most_once_more_while_nothing_is_at_hand():
    """So the shell has no timer that fires for nothing again and again."""
    story = Story()
    assert story.tick(after_s=story.scheduler.next_due_s - story.now_s) == []
    assert story.scheduler.next_due_s == float("inf")


def test_short_requests_are_handed_over_together_and_long_ones_one_by_one():
    for item_s, together in ((0.0001, 12), (0.00045, 4), (0.0015, 1), (1.0, 1)):
        story = Story()
        story.learn(item_s)
        asked = story.ask(12)
        assert sent(story.tick()) == [Send(1, asked[:together], alone=True)], item_s


def test_the_first_requests_of_a_model_are_handed_over_one_by_one():
    story = Story()
    asked = story.ask(3)
    assert sent(story.tick()) == [Send(1, asked[:1], alone=True)]


def test_requests_with_large_bodies_are_not_handed_over_together():
    story = Story()
    story.learn(0.0001)
    asked = story.ask(6, size_bytes=400_000)
    assert sent(story.tick()) == [Send(1, asked[:2], alone=True)]


def test_workers_share_short_requests_evenly_and_get_more_when_half_is_done():
    story = Story(workers=2)
    for _ in range(2):
        story.tick(1.0)
    story.learn(0.0001)
    asked = story.ask(8)
    first, second = sent(story.tick())
    assert sorted([first, second]) == [Send(1, asked[:4], alone=True), Send(2, asked[4:], alone=True)]
    later = story.ask(20)
    assert sum(len(each.requests) for each in sent(story.tick())) == 20, "nobody has half of what it may have yet"
    assert later[0].worker


def test_nothing_is_handed_over_behind_a_request_that_is_isolated():
    story = Story()
    story.learn(0.0001)
    pair = story.ask(2)
    (send,) = sent(story.tick())
    story.scheduler.lost(send.worker, story.now_s)
    (alone,) = sent(story.tick())
    assert alone.requests == pair[:1]
    story.ask(3)
    assert sent(story.tick()) == []


@pytest.mark.parametrize("retry", [True, False])
@pytest.mark.parametrize("hung", [True, False])
def test_only_what_was_begun_is_to_blame_for_the_loss_of_a_worker(hung: bool, retry: bool):
    story = Story(begins=False, retry=retry, timeout_s=5.0, max_queue_wait_s=60.0)
    story.learn(0.0001)
    asked = story.ask(4)
    (send,) = sent(story.tick())
    assert send.requests == asked
    story.pages[send.worker].count += 1
    story.scheduler.answered(send.worker, asked[0].id, story.now_s)
    story.pages[send.worker].count += 1
    story.tick(5.0 if hung else 0.0)
    told = [*story.scheduler.lost(send.worker, story.now_s), *story.tick(10.0)]
    failed = [(each.request, type(each.error)) for each in told if isinstance(each, Fail)]
    if hung:
        assert failed == [(asked[1], HandlerTimedOut)]
    else:
        assert failed == ([] if retry else [(asked[1], WorkerDied)])
    isolated = [[asked[1]]] if retry and not hung else []
    again = [each.requests for each in sent(told)]
    assert again in (isolated or [asked[2:]], [asked[2:]])
    assert [each.isolated for each in asked] == [False, bool(isolated), False, False]
    assert all(each.deaths_isolated == 0 for each in asked[2:])


def test_what_waits_behind_a_request_that_turns_out_to_be_long_goes_to_another_worker():
    story = Story(begins=False, workers=2)
    for _ in range(2):
        story.tick(1.0)
    story.learn(0.0001)
    asked = story.ask(6)
    first, second = sent(story.tick())
    story.pages[first.worker].count += 1
    story.answer(second)
    assert sent(story.tick()) == []
    assert story.scheduler.next_due_s <= story.now_s + STUCK_S
    assert sent(story.tick(STUCK_S)) == [Send(second.worker, asked[1:3], alone=True)]
    assert {each.worker for each in asked} == {first.worker, second.worker}


def test_who_leaves_before_its_request_is_begun_was_not_computed():
    story = Story(begins=False)
    story.learn(0.0001)
    asked = story.ask(3)
    (send,) = sent(story.tick())
    story.pages[send.worker].count += 1
    assert [story.scheduler.cancel(each) for each in asked] == [(), (), ()]
    assert story.scheduler.computing == 1
    assert story.metrics.abandoned == {"waiting": 2, "computing": 1}


def test_a_worker_that_is_between_two_items_of_a_slow_stream_keeps_its_next_request():
    """Or all would go to and fro for as long as the stream lasts, each time too late."""
    story = Story(begins=False)
    story.learn(0.0001)
    (stream,) = story.ask()
    (send,) = sent(story.tick())
    story.pages[send.worker].count += 1
    story.scheduler.announced(send.worker, stream.id, story.now_s)
    story.scheduler.done(send.worker, Done(0, 0, 0), story.now_s)
    asked = story.ask(3)
    assert sent(story.tick()) == [Send(send.worker, asked, alone=True)]
    for _ in range(5):
        story.tick(STUCK_S)
        assert [each.worker for each in asked] == [send.worker, 0, 0]


def test_a_worker_without_a_page_is_handed_one_request_at_a_time():
    story = Story(has_page=False)
    story.learn(0.0001)
    asked = story.ask(3)
    assert sent(story.tick()) == [Send(1, asked[:1], alone=True)]


def test_requests_that_are_decoded_ahead_are_handed_over_one_by_one():
    story = Story(prefetch=1)
    story.learn(0.0001)
    asked = story.ask(4)
    assert sent(story.tick()) == [Send(1, asked[:1], alone=True)]
    assert sent(story.tick()) == [Send(1, asked[1:2], alone=True)]
    assert sent(story.tick()) == []


def test_of_a_last_worker_that_never_joins_only_the_request_at_work_is_to_blame():
    story = Story(max_batch_size=8, may_join=False, begins=False)
    story.learn(0.0001)
    asked = story.ask(3)
    (send,) = sent(story.tick())
    story.pages[send.worker].count += 2
    story.scheduler.answered(send.worker, asked[0].id, story.now_s)
    story.scheduler.lost(send.worker, story.now_s)
    assert [each.deaths_isolated for each in asked] == [0, 1, 0]


def test_where_batches_turn_out_to_be_of_no_use_requests_travel_together_and_are_predicted_alone():
    story = Story(max_batch_size=4, max_wait_s=0.0, begins=False)
    story.learn(0.0001)
    story.ask(4)
    (batch,) = sent(story.tick())
    assert (len(batch.requests), batch.alone) == (4, False)
    story.answer(batch, hopeless=True)
    asked = story.ask(6)
    assert sent(story.tick()) == [Send(1, asked, alone=True)]
    story.pages[1].count += 6
    for each in asked[:5]:
        story.scheduler.answered(1, each.id, story.now_s)
    story.scheduler.lost(1, story.now_s)
    assert [each.deaths_isolated for each in asked] == [0] * 5 + [1], "who is answered is to blame for nothing"


def test_a_request_that_kills_before_it_is_begun_is_not_tried_for_ever():
    story = Story(begins=False, retry=False)
    story.learn(0.0001)
    asked = story.ask(2)
    (first,) = sent(story.tick())
    assert first.requests == asked
    story.scheduler.lost(first.worker, story.now_s)
    (second,) = sent(story.tick(10.0))
    assert second.requests == asked, "it may have been chance"
    story.scheduler.lost(second.worker, story.now_s)
    (alone,) = sent(story.tick(10.0))
    assert alone.requests == asked[:1]
    (failed,) = [each for each in story.scheduler.lost(alone.worker, story.now_s) if isinstance(each, Fail)]
    assert (failed.request, type(failed.error)) == (asked[0], WorkerDied)
    (last,) = sent(story.tick(10.0))
    assert last.requests == asked[1:]


def test_what_waits_is_told_when_the_last_worker_of_a_model_that_is_unloaded_is_lost():
    story = Story(begins=False)
    story.learn(0.0001)
    asked = story.ask(3)
    (send,) = sent(story.tick())
    story.pages[send.worker].count += 1
    story.scheduler.drain()
    story.tick(STUCK_S)
    assert story.scheduler.waiting == 2
    told = story.scheduler.lost(send.worker, story.now_s)
    assert {each.request for each in told if isinstance(each, Fail)} == set(asked)
    assert not story.scheduler.waiting


def test_a_batch_size_that_is_found_is_logged_now_and_then_and_the_search_is_counted():
    story = Story(max_batch_size=64, batch_latency_s=0.05, max_wait_s=0.05)
    told: list[tuple[float, Log]] = []
    story.ask(8)
    for _ in range(3000):
        (send,) = sent(story.tick(after_s=0.0)) or sent(story.tick(after_s=0.05))
        story.now_s += 0.01
        story.pages[send.worker].count = max(each.place for each in send.requests) + 1
        for each in send.requests:
            story.scheduler.answered(send.worker, each.id, story.now_s)
        size = len(send.requests)
        done = Done(0, 0, 0, joined=int(size > 1), sizes=(size,))
        told += [(story.now_s, each) for each in story.scheduler.done(send.worker, done, story.now_s)]  # type: ignore[misc]
        story.ask(size)
    assert isinstance(planner := story.scheduler.planner, FoundSize)
    assert planner.search.size == 8
    lines = [line for _, line in told]
    assert 1 <= len(lines) <= 3, "not one for each step"
    assert lines[-1].fields["max_batch_size"] == 8
    assert all(later_s >= earlier_s + 10 for (earlier_s, _), (later_s, _) in pairwise(told))
    assert story.metrics.search_paid == planner.search.paid > 0


def test_where_requests_never_share_a_call_there_is_no_search():
    story = Story(max_batch_size=64, batch_latency_s=0.05, may_join=False)
    for _ in range(100):
        story.ask(8)
        while sends := sent(story.tick()):
            for send in sends:
                story.answer(send, 0.01)
    assert story.scheduler.choice == BatchSearch(max_size=64, max_wait_s=1, latency_s=1).choice
