"""Responses that are streams, between a pool and its workers: to the second, without a process."""

from __future__ import annotations

import asyncio
import signal
from itertools import pairwise

import pytest

from tests.inference.stand_in_workers import (
    StandInForkServer,
    StandInWorker,
    answer_at_once,
    do_nothing,
    house,
    outcomes,
    run,
    settled,
)
from tidegate.inference import protocol
from tidegate.inference.protocol import Done, End, Error, Part, Start, Stream

LIMIT_S = 5.0
DONE = protocol.done_frame(Done(0, 0, 0, sizes=(1,)))


def begun(worker: StandInWorker) -> None:
    """Answer every request of the batch by a stream whose first part is its body, and be free for the next batch."""
    for request in worker.batches[-1]:
        worker.write(
            protocol.stream_frame(Stream(request.id)),
            protocol.start_frame(Start(request.id, 200, "text/plain", b"")),
            protocol.part_frame(Part(request.id, bytes(request.body))),
        )
    worker.write(DONE)


def announced(worker: StandInWorker) -> None:
    """Say that every request of the batch is answered by a stream, and nothing more yet."""
    worker.write(*(protocol.stream_frame(Stream(request.id)) for request in worker.batches[-1]), DONE)


def part(request_id: int, data: bytes) -> bytes:
    return protocol.part_frame(Part(request_id, data))


def end(request_id: int) -> bytes:
    return protocol.end_frame(End(request_id))


def test_a_stream_goes_on_while_its_worker_computes_other_requests(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=begun)
        async with house(monkeypatch, fork_server) as home:
            await home.pool.load()
            (stream,) = home.ask("a")
            await settled()
            (worker,) = fork_server.started
            assert (stream.status, stream.body, stream.done()) == (200, b"a", False)
            fork_server.on_batch = answer_at_once
            assert await outcomes(home.ask("plain")) == [(200, "plain")]
            assert home.pool.gauges.computing == 1
            worker.write(part(stream.request.id, b"b"), part(stream.request.id, b"c"), end(stream.request.id))
            assert await outcomes([stream]) == [(200, "abc")]
            assert home.pool.gauges.computing == 0

    run(test())


def test_an_error_before_the_first_part_is_the_response_and_one_after_it_breaks_the_stream(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=announced)
        async with house(monkeypatch, fork_server) as home:
            await home.pool.load()
            (early,) = home.ask("early")
            await settled()
            fork_server.on_batch = begun
            (late,) = home.ask("late")
            await settled()
            assert not early.status
            for asked in (early, late):
                error = Error(asked.request.id, 500, "handler_failed", "It raised.")
                fork_server.started[0].write(protocol.error_frame(error))
            assert await outcomes([early, late]) == [(500, "handler_failed")] * 2
            assert (early.body, late.body) == (b"", b"late")

    run(test())


@pytest.mark.parametrize(
    ("how", "code"), [("dies", (500, "worker_died")), ("hangs", (504, "handler_timed_out"))], ids=["dies", "hangs"]
)
def test_a_lost_worker_breaks_what_has_begun_and_what_has_not_is_tried_again(monkeypatch, how, code):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=begun)
        async with house(monkeypatch, fork_server, timeout_s=LIMIT_S) as home:
            await home.pool.load()
            (begun_one,) = home.ask("a")
            await settled()
            fork_server.on_batch = announced
            (waits,) = home.ask("b")
            await settled()
            fork_server.on_batch = answer_at_once
            if how == "dies":
                fork_server.started[0].end(signal.SIGKILL)
            assert await outcomes([begun_one, waits]) == [code, (200, "b")]
            assert begun_one.body == b"a", "it was not begun anew"
            assert fork_server.started[1].bodies == [["b"]]

    run(test())


def test_a_stream_that_says_something_in_time_has_no_end(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=begun)
        async with house(monkeypatch, fork_server, timeout_s=LIMIT_S) as home:
            await home.pool.load()
            (stream,) = home.ask("a")
            for _ in range(20):
                await asyncio.sleep(LIMIT_S * 0.9)
                fork_server.started[0].write(part(stream.request.id, b"."))
            await settled()
            assert stream.body == b"a" + b"." * 20
            assert fork_server.killed == []

    run(test())


def test_a_stream_that_waits_for_its_reader_has_no_deadline_until_the_reader_has_caught_up(monkeypatch):
    async def test() -> None:
        loop = asyncio.get_running_loop()
        fork_server = StandInForkServer(on_batch=begun)
        async with house(monkeypatch, fork_server, timeout_s=LIMIT_S) as home:
            await home.pool.load()
            (stream,) = home.ask("a")
            await settled()
            home.pool.pause(stream.request)
            home.pool.pause(stream.request)
            await asyncio.sleep(10 * LIMIT_S)
            assert not stream.done()
            home.pool.resume(stream.request)
            resumed_s = loop.time()
            assert await outcomes([stream]) == [(504, "handler_timed_out")]
            assert loop.time() - resumed_s == pytest.approx(LIMIT_S, abs=0.01)
            request_id = stream.request.id
            assert fork_server.started[0].controls == [("PAUSE", request_id), ("RESUME", request_id)]

    run(test())


def test_a_batch_has_its_deadline_though_all_streams_wait_for_their_readers(monkeypatch):
    async def test() -> None:
        loop = asyncio.get_running_loop()
        fork_server = StandInForkServer(on_batch=begun)
        async with house(monkeypatch, fork_server, timeout_s=LIMIT_S, retry=False) as home:
            await home.pool.load()
            (stream,) = home.ask("a")
            await settled()
            home.pool.pause(stream.request)
            fork_server.on_batch = do_nothing
            asked_s, (hangs,) = loop.time(), home.ask("b")
            assert await outcomes([stream, hangs]) == [(504, "handler_timed_out")] * 2
            assert loop.time() - asked_s == pytest.approx(LIMIT_S, abs=0.01)

    run(test())


def test_a_reader_that_leaves_has_its_stream_closed_and_the_worker_owes_nothing_more(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=begun)
        async with house(monkeypatch, fork_server, timeout_s=LIMIT_S) as home:
            await home.pool.load()
            (stream,) = home.ask("a")
            await settled()
            stream.leave()
            (worker,) = fork_server.started
            worker.write(part(stream.request.id, b"on its way already"))
            await asyncio.sleep(10 * LIMIT_S)
            assert worker.controls == [("CANCEL", stream.request.id)]
            assert fork_server.killed == []
            assert home.pool.gauges.computing == 0

    run(test())


def test_a_stream_whose_reader_left_before_it_was_announced_is_closed_when_it_is(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=do_nothing)
        async with house(monkeypatch, fork_server) as home:
            await home.pool.load()
            (stream,) = home.ask("a")
            await settled()
            stream.leave()
            (worker,) = fork_server.started
            await settled()
            assert worker.controls == [], "nobody knows yet that there is anything to close"
            announced(worker)
            await settled()
            assert worker.controls == [("CANCEL", stream.request.id)]
            fork_server.on_batch = answer_at_once
            assert await outcomes(home.ask("b")) == [(200, "b")]

    run(test())


def test_requests_go_to_the_worker_with_the_fewest_streams(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=begun)
        async with house(monkeypatch, fork_server, workers=3) as home:
            await home.pool.load()
            await settled()
            counts = []
            for _ in range(9):
                home.ask("a")
                await settled()
                counts.append(sorted(len(worker.batches) for worker in fork_server.started))
            assert counts[-1] == [3, 3, 3]
            assert all(max(after) - min(after) <= 1 for after in counts)
            assert all(sum(later) == sum(earlier) + 1 for earlier, later in pairwise(counts))

    run(test())


def test_unloading_waits_for_the_end_of_open_streams(monkeypatch):
    async def test() -> None:
        loop = asyncio.get_running_loop()
        fork_server = StandInForkServer(on_batch=begun)
        async with house(monkeypatch, fork_server, timeout_s=LIMIT_S) as home:
            await home.pool.load()
            (stream,) = home.ask("a")
            await settled()
            unloading = asyncio.ensure_future(home.pool.unload(timeout_s=60.0))
            loop.call_later(3.0, fork_server.started[0].write, part(stream.request.id, b"b"), end(stream.request.id))
            assert await outcomes([stream]) == [(200, "ab")]
            await unloading
            assert fork_server.alive == []

    run(test())


def test_a_stream_that_outlasts_the_unloading_is_broken(monkeypatch):
    async def test() -> None:
        fork_server = StandInForkServer(on_batch=begun)
        async with house(monkeypatch, fork_server, timeout_s=100.0) as home:
            await home.pool.load()
            (stream,) = home.ask("a")
            await settled()
            await home.pool.unload(timeout_s=LIMIT_S)
            assert await outcomes([stream]) == [(503, "not_ready")]
            assert stream.body == b"a"
            assert fork_server.alive == []

    run(test())
