"""Asynchronous generators out of user functions: they share one event loop, in the thread of all other functions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from threading import Event as Flag
from threading import current_thread
from typing import Any

import pytest

from tests.contract.running import wait_until
from tests.inference.test_streams import TEXT, endless, streaming
from tests.inference.ticking import ticking
from tests.inference.toy_models import JSON, computation, request
from tests.inference.working import working
from tidegate.inference.protocol import Answer, End, Error, Kind, Part, Start, Stream
from tidegate.inference.worker import event_loop
from tidegate.inference.worker.asking import ask
from tidegate.inference.worker.context import Context


async def forever(_: Any) -> AsyncIterator[str]:
    while True:
        await asyncio.sleep(0.001)
        yield "x"


@pytest.mark.parametrize("input_threads", [0, 1])
def test_asynchronous_generators_wait_side_by_side_in_the_thread_of_the_functions(input_threads: int) -> None:
    threads: set[int] = set()
    meeting = asyncio.Event()

    async def chunks(data: int) -> AsyncIterator[str]:
        threads.add(current_thread().ident or 0)
        yield f"{data} waits"
        if data == 2:
            meeting.set()
        await meeting.wait()
        yield f"{data} has met"

    def predict(data: Any) -> Any:
        threads.add(current_thread().ident or 0)
        return chunks(data)

    with working(streaming(predict), input_threads=input_threads) as frontend:
        frontend.ask(1, 1)
        assert frontend.until(Part) == Part(1, b"1 waits")
        frontend.ask(2, 2)
        parts, ended = [], 0
        while ended < 2:
            event = frontend.next()
            if isinstance(event, Part):
                parts.append(bytes(event.data))
            ended += isinstance(event, End)
    assert sorted(parts) == [b"1 has met", b"2 has met", b"2 waits"]
    assert len(threads) == 1


def test_output_fn_may_be_an_asynchronous_generator_over_another() -> None:
    closed: list[str] = []

    async def items(_: Any) -> AsyncIterator[int]:
        try:
            while True:
                yield 7
        finally:
            closed.append("items")

    async def output_fn(prediction: AsyncIterator[int], _: str) -> AsyncIterator[str]:
        try:
            async for item in prediction:
                yield f"{item};"
        finally:
            closed.append("output_fn")

    toy = streaming(items, output_fn=output_fn)
    with working(toy) as frontend:
        frontend.ask(1, accept="text/plain")
        assert frontend.until(Part) == Part(1, b"7;")
        frontend.cancel(1)
        wait_until(lambda: closed == ["output_fn", "items"], "both are closed")
        wait_until(lambda: len(toy.streams) == 0, "it is forgotten")


def test_plain_and_asynchronous_generators_and_batches_take_turns() -> None:
    ways: dict[str, Any] = {"plain": endless, "async": forever}
    with working(streaming(lambda data: ways[data](data) if isinstance(data, str) else data)) as frontend:
        frontend.ask(1, "plain")
        frontend.ask(2, "async")
        seen: set[int] = set()
        while seen != {1, 2}:
            seen.add(frontend.until(Part).id)
        frontend.ask(3, [3])
        assert frontend.until(Answer) == Answer(3, 200, JSON, b"", b"[3]")
        seen.clear()
        while seen != {1, 2}:
            seen.add(frontend.until(Part).id)


def test_one_that_never_waits_does_not_keep_the_others_waiting() -> None:
    async def busy(_: Any) -> AsyncIterator[str]:
        while True:
            yield "x"

    with working(streaming(lambda data: busy(data) if isinstance(data, int) else data)) as frontend:
        frontend.compute(request(1, 1), request(2, 2))
        seen: set[int] = set()
        while seen != {1, 2}:
            seen.add(frontend.until(Part).id)
        frontend.ask(3, [3])
        assert frontend.until(Answer).id == 3


@pytest.mark.parametrize("where", ["awaiting", "yielded"])
def test_a_reader_that_leaves_ends_it_wherever_it_is(where: str) -> None:
    closed = Flag()

    waits = Flag()

    async def chunks(_: Any) -> AsyncIterator[str]:
        try:
            yield "x"
            if where == "awaiting":
                waits.set()
                await asyncio.Event().wait()
            while True:
                yield "x"
        finally:
            closed.set()

    toy = streaming(chunks)
    with working(toy) as frontend:
        frontend.ask(1)
        frontend.until(Part)
        if where == "yielded":
            frontend.pause(1)
        else:
            assert waits.wait(60)
        frontend.cancel(1)
        assert closed.wait(60)
        wait_until(lambda: len(toy.streams) == 0, "it is forgotten")


def test_one_that_is_cancelled_before_it_has_begun_is_forgotten() -> None:
    begun: list[Any] = []

    async def chunks(data: Any) -> AsyncIterator[str]:
        begun.append(data)
        yield "x"

    toy = streaming(chunks)
    toy.streams.open(_request_of(toy))
    toy.streams.control(Kind.CANCEL, 1)
    while toy.streams:
        toy.streams.step()
    toy.streams.close()
    assert begun == []


def _request_of(toy: Any) -> Any:
    received = toy.steps.receive(request(1, 1))
    for step in (toy.steps.decode, toy.steps.predict, toy.steps.encode):
        step(received)
    return received


@pytest.mark.parametrize("chunks_before", [0, 2])
@pytest.mark.parametrize("raised", [RuntimeError("no"), SystemExit(1), asyncio.CancelledError(), TimeoutError()])
def test_an_error_is_an_ordinary_one_before_the_first_chunk_and_breaks_the_stream_after_it(
    chunks_before: int, raised: BaseException
) -> None:
    async def chunks(_: Any) -> AsyncIterator[str]:
        for _ in range(chunks_before):
            yield "x"
        raise raised

    with working(streaming(chunks)) as frontend:
        frontend.ask(1)
        events = list(frontend.events(1))
        frontend.ask(2)
        assert frontend.next() == Stream(2), "the worker goes on"
    start = [Start(1, 200, TEXT, b"")] if chunks_before else []
    message = f"predict_fn raised {type(raised).__name__}; the log has its traceback under this request id."
    assert events == [
        Stream(1),
        *start,
        *[Part(1, b"x")] * chunks_before,
        Error(1, 500, "handler_failed", message),
    ]


@pytest.mark.parametrize("chunks_before", [0, 1])
def test_one_that_keeps_its_reader_waiting_too_long_is_ended_and_no_other(chunks_before: int) -> None:
    closed = Flag()

    async def hanging(_: Any) -> AsyncIterator[str]:
        try:
            for _ in range(chunks_before):
                yield "x"
            await asyncio.Event().wait()
        finally:
            closed.set()

    ways: dict[str, Any] = {"hanging": hanging, "forever": forever}
    with ticking(event_loop), working(streaming(lambda data: ways[data](data), timeout_s=0.3)) as frontend:
        frontend.ask(1, "forever")
        frontend.ask(2, "hanging")
        error = frontend.until(Error)
        assert (error.id, error.status, error.code) == (2, 504, "handler_timed_out")
        assert error.message == "The model took longer than 0.3 s for the next chunk."
        assert closed.wait(60)
        assert frontend.until(Part).id == 1


def test_the_time_in_which_it_is_paused_is_not_its_own() -> None:
    with ticking(event_loop), working(streaming(forever, timeout_s=0.1)) as frontend:
        frontend.ask(1)
        frontend.until(Part)
        frontend.pause(1)
        frontend.ask(2)  # which has the time limit, and so outlasts the pause
        for _ in range(500):
            while frontend.until(Part).id != 2:
                pass
        frontend.resume(1)
        while frontend.until(Part).id != 1:
            pass


def test_one_that_does_not_close_is_left_to_itself(caplog: pytest.LogCaptureFixture) -> None:
    waits = Flag()

    async def stubborn(_: Any) -> AsyncIterator[str]:
        yield "x"
        while True:
            try:
                waits.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.Event().wait()

    toy = streaming(stubborn, timeout_s=0.1)
    with working(toy) as frontend:
        frontend.ask(1)
        assert waits.wait(60)
        frontend.cancel(1)
        wait_until(lambda: len(toy.streams) == 0, "it is forgotten")
    assert "a generator does not close" in caplog.text


def test_each_finds_its_own_request_in_the_context_after_it_has_waited() -> None:
    context = Context(model_name="model", manifest={}, system_properties={})

    async def chunks(_: Any) -> AsyncIterator[str]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield context.get_request_header(0, "x-number") or ""

    bodies: dict[int, bytes] = {1: b"", 2: b""}
    with working(streaming(chunks, context=context)) as frontend:
        frontend.compute(*(request(n, n, headers=b"x-number: %d\r\n" % n) for n in bodies))
        for _ in bodies:
            while not isinstance(event := frontend.next(), End):
                if isinstance(event, Part):
                    bodies[event.id] += event.data
    assert bodies == {1: b"111", 2: b"222"}


def test_a_large_chunk_leaves_in_parts_too() -> None:
    async def chunks(_: Any) -> AsyncIterator[bytes]:
        yield b"x" * 1_000_000
        yield b"y"

    with working(streaming(chunks)) as frontend:
        frontend.ask(1)
        parts = [event.data for event in frontend.events(1) if isinstance(event, Part)]
    assert len(parts) == 5
    assert b"".join(parts) == b"x" * 1_000_000 + b"y"


def test_the_self_check_reads_it_to_its_end() -> None:
    async def items(data: list[int]) -> AsyncIterator[int]:
        for each in data:
            await asyncio.sleep(0)
            yield each

    def plain(data: list[int]) -> Iterator[int]:
        yield from data

    toy = computation(
        input_fn=lambda body, _: json.loads(body),
        predict_fn=lambda data, _: items(data) if data[0] % 2 else plain(data),
    )
    found, _ = ask(toy, [request([1, 2], 0), request([2, 3], 1)])
    toy.streams.close()
    assert found == [
        Answer(0, 200, "application/jsonlines", b"", b"1\n2\n"),
        Answer(1, 200, "application/jsonlines", b"", b"2\n3\n"),
    ]
