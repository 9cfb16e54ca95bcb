"""What the frontend learns from its workers about batches, and what it does with it; without a process."""

from __future__ import annotations

import asyncio
import signal
from itertools import count
from typing import Any

import pytest

from tests.inference.stand_in_workers import (
    StandInForkServer,
    StandInWorker,
    answer_at_once,
    house,
    outcomes,
    run,
    settled,
)
from tidegate.inference import protocol
from tidegate.inference.frontend.queue import scheduler
from tidegate.inference.frontend.queue.scheduling import JoinsLately
from tidegate.inference.protocol import Answer, Done, Progress, Request

STEP_S = 3.0
LIMIT_S = 5.0


def answer_frame(item: Request) -> bytes:
    return protocol.answer_frame(Answer(item.id, 200, "text/plain", b"", bytes(item.body)))


def later(seconds: float, worker: StandInWorker, *frames: bytes) -> None:
    asyncio.get_running_loop().call_later(seconds, worker.write, *frames)


def one_after_the_other(worker: StandInWorker) -> None:
    """Answer each request of the batch when its time has come, as where nothing is joined."""
    items = worker.batches[-1]
    for place, item in enumerate(items, start=1):
        end = protocol.done_frame(Done(0, 0, 0, sizes=(1,) * len(items))) if place == len(items) else b""
        later(place * STEP_S, worker, answer_frame(item), end)


def test_each_answer_leaves_when_it_is_there_and_the_next_request_has_a_deadline_of_its_own(monkeypatch):
    async def test() -> None:
        loop = asyncio.get_running_loop()
        fork_server = StandInForkServer(on_batch=one_after_the_other)
        async with house(monkeypatch, fork_server, max_batch_size=4, timeout_s=LIMIT_S) as home:
            await home.pool.load()
            asked, started_s, at_s = home.ask("a", "b", "c", "d"), loop.time(), []
            for each in asked:
                await each.ended.wait()
                at_s.append(loop.time() - started_s)
            assert at_s == pytest.approx([STEP_S, 2 * STEP_S, 3 * STEP_S, 4 * STEP_S], abs=0.01)
            assert [each.outcome for each in asked] == [(200, name) for name in "abcd"]
            assert len(fork_server.started) == 1
            assert fork_server.killed == []

    run(test())


def test_one_that_hangs_behind_others_is_found_out_after_its_own_deadline(monkeypatch):
    async def test() -> None:
        def hang_after_two(worker: StandInWorker) -> None:
            for place, item in enumerate(worker.batches[-1][:2], start=1):
                if bytes(item.body) != b"bad":
                    later(place * STEP_S, worker, answer_frame(item))
            if len(worker.batches[-1]) == 1 and bytes(worker.batches[-1][0].body) != b"bad":
                later(STEP_S, worker, protocol.done_frame(Done(0, 0, 0)))

        loop = asyncio.get_running_loop()
        fork_server = StandInForkServer(on_batch=hang_after_two)
        async with house(monkeypatch, fork_server, max_batch_size=4, timeout_s=LIMIT_S) as home:
            await home.pool.load()
            started_s = loop.time()
            asked = home.ask("a", "b", "bad", "c")
            await home.passes_until(lambda: fork_server.killed)
            assert loop.time() - started_s == pytest.approx(2 * STEP_S + LIMIT_S, abs=0.01)
            assert await outcomes(asked) == [(200, "a"), (200, "b"), (504, "handler_timed_out"), (200, "c")]

    run(test())


def test_a_step_that_is_told_restarts_the_deadline(monkeypatch):
    """Four requests that share a call are decoded for 3 s each, with a limit of 5 s."""

    async def test() -> None:
        def decode_slowly(worker: StandInWorker) -> None:
            items = worker.batches[-1]
            for place in range(1, 4):
                later(place * STEP_S, worker, protocol.progress_frame(Progress(proving=False)))
            answers = (answer_frame(item) for item in items)
            later(4 * STEP_S, worker, *answers, protocol.done_frame(Done(0, 0, 0, joined=1, sizes=(4,))))

        fork_server = StandInForkServer(on_batch=decode_slowly)
        async with house(monkeypatch, fork_server, max_batch_size=4, timeout_s=LIMIT_S) as home:
            await home.pool.load()
            assert await outcomes(home.ask("a", "b", "c", "d")) == [(200, name) for name in "abcd"]
            assert fork_server.killed == []

    run(test())


@pytest.mark.parametrize("how", ["dies", "hangs"])
def test_a_worker_that_is_lost_while_it_compares_costs_no_answer_and_its_successor_compares_nothing(
    monkeypatch, caplog, how
):
    async def test() -> None:
        def compare(worker: StandInWorker) -> None:
            worker.write(*map(answer_frame, worker.batches[-1]), protocol.progress_frame(Progress(proving=True)))
            if how == "dies":
                asyncio.get_running_loop().call_soon(worker.end, signal.SIGKILL)

        fork_server = StandInForkServer(on_batch=compare)
        async with house(monkeypatch, fork_server, prove=True, max_batch_size=2, timeout_s=LIMIT_S) as home:
            await home.pool.load()
            assert await outcomes(home.ask("a", "b")) == [(200, "a"), (200, "b")]
            fork_server.on_batch = answer_at_once
            assert await outcomes(home.ask("c")) == [(200, "c")]
            assert [worker.spec.prove for worker in fork_server.started if worker.spec] == [True, False]
            assert home.pool.metrics.retries == 0

    run(test())
    (told,) = [message for message in caplog.messages if "share a call" in message]
    assert "collate_fn" in told


def test_where_nothing_may_ever_be_joined_requests_are_sent_one_by_one_until_they_are_known_to_be_short(monkeypatch):
    # How long one takes is read from a clock that jumps here.
    monkeypatch.setattr(scheduler, "hand_over_limit", lambda _item_s: 8)

    def ready(worker: StandInWorker) -> None:
        worker.write(protocol.ready_frame(may_join=False, has_page=True))

    async def test() -> None:
        fork_server = StandInForkServer(on_load=ready)
        async with house(monkeypatch, fork_server, workers=2, max_batch_size=8) as home:
            await home.pool.load()
            await settled()
            assert await outcomes(home.ask(*"ab")) == [(200, name) for name in "ab"]
            assert [worker.bodies for worker in fork_server.started] in ([[["a"]], [["b"]]], [[["b"]], [["a"]]])
            assert await outcomes(home.ask(*"cdefgh")) == [(200, name) for name in "cdefgh"]
            later = sorted(worker.bodies[-1] for worker in fork_server.started)
            assert later == [["c", "d", "e"], ["f", "g", "h"]], "each worker has its share, in one frame"

    run(test())


def test_where_nothing_turned_out_to_be_joined_requests_are_no_batches_for_a_while(monkeypatch):
    monkeypatch.setattr(scheduler, "hand_over_limit", lambda _item_s: 8)

    async def test() -> None:
        def hopeless(worker: StandInWorker) -> None:
            items = worker.batches[-1]
            done = Done(0, 0, 0, hopeless=not worker.alone[-1], sizes=(1,) * len(items))
            worker.write(*map(answer_frame, items), protocol.done_frame(done))

        fork_server = StandInForkServer(on_batch=hopeless)
        async with house(monkeypatch, fork_server, max_batch_size=4) as home:
            await home.pool.load()
            await outcomes(home.ask(*"abcd"))
            await outcomes(home.ask(*(str(number) for number in range(20))))
            (worker,) = fork_server.started
            sent = [(len(batch), alone) for batch, alone in zip(worker.batches, worker.alone, strict=True)]
            assert sent == [(4, False), (8, True), (8, True), (4, False)]

    run(test())


def test_predictions_are_counted_as_they_were_made(monkeypatch):
    async def test() -> None:
        def account(worker: StandInWorker) -> None:
            done = Done(0, 0, 0, joined=2, proved=1, refused=1, sizes=(1, 2, 2))
            worker.write(*map(answer_frame, worker.batches[-1]), protocol.done_frame(done))

        async with house(monkeypatch, StandInForkServer(on_batch=account), max_batch_size=5) as home:
            await home.pool.load()
            await outcomes(home.ask(*"abcde"))
            await settled()
            metrics = home.pool.metrics
            assert dict(metrics.joins) == {"joined": 2, "proved": 1, "refused": 1}
            assert (metrics.batch_size.counts[:2], metrics.batch_size.total) == ([1, 2], 5)

    run(test())


def sizes_sent(reports: dict[int, Any], requests: int) -> list[int]:
    """How many are sent together, batch by batch, when the worker says `reports[n]` of the n-th batch of several."""
    joins, sent, batches = JoinsLately(), [], count()
    while sum(sent) < requests:
        size = 1 if joins.in_vain else 8
        joins.sent(size)
        sent.append(size)
        if size > 1:
            joins.record(reports.get(next(batches), Done(0, 0, 0, hopeless=True)))
    return sent


def test_ever_more_requests_are_sent_one_by_one_until_a_batch_is_of_use():
    assert sizes_sent({}, 140) == [8, *[1] * 16, 8, *[1] * 32, 8, *[1] * 64, 8]
    assert sizes_sent({1: Done(0, 0, 0, joined=1)}, 60) == [8, *[1] * 16, 8, 8, *[1] * 16, 8]


def test_a_batch_that_might_prove_something_is_no_reason_to_stop():
    assert sizes_sent(dict.fromkeys(range(9), Done(0, 0, 0)), 64) == [8] * 8
