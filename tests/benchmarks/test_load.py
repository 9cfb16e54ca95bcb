"""The load generators: what they read and what they count."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest

from benchmarks import load
from benchmarks.bodies import Body

BODY = Body(data=b"hello", content_type="text/plain", file=Path("unused"))
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(status: int) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok".encode()


@asynccontextmanager
async def handled_by(handler: Handler) -> AsyncIterator[int]:
    """The port of a server; its end waits for the end of every connection, so that none is left to the next test."""
    running: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            running.append(task)
        with suppress(EOFError, OSError):
            await handler(reader, writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*running)


def serving(statuses: list[int]) -> AbstractAsyncContextManager[int]:
    """A server that answers with these statuses in turn, 0 for closing the connection without an answer."""
    order = iter(statuses)

    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(BODY.data))
            status = next(order, 200)
            if not status:
                return
            writer.write(answer(status))

    return handled_by(answers)


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(each) for each in range(1, 101)]
    assert [load.percentile(values, percent) for percent in (1, 50, 99, 100)] == [1.0, 50.0, 99.0, 100.0]
    assert load.percentile([7.0], 99) == 7.0
    assert math.isnan(load.percentile([], 50))


def test_the_result_of_wrk_is_read_from_its_line() -> None:
    line = (
        'RESULT {"requests": 200, "elapsed_us": 2000000, "p50_us": 1500, "p99_us": 9000, "max_us": 9900, '
        '"errors": {"connect": 0, "read": 3, "write": 0, "status": 50, "timeout": 0}, '
        '"statuses": {"200": 150, "503": 50}}'
    )
    result = load.read_wrk(f"Running 2s test\n{line}\n")
    assert (result.good_per_s, result.p50_ms, result.p99_ms) == (75.0, 1.5, 9.0)
    assert result.outcomes == {"200": 150, "503": 50, "lost": 3}


def test_an_answer_without_a_length_is_refused() -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        load.read_head(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_a_closed_connection_is_recognised_by_its_header() -> None:
    head = b"HTTP/1.1 503 Busy\r\nConnection: close\r\ncontent-length: 12\r\n\r\n"
    assert load.read_head(head) == (503, 12, False)


def test_a_closed_loop_counts_every_request_once_whatever_became_of_it() -> None:
    """Two refusals and a connection that closes without an answer are among forty requests."""

    async def run() -> load.Result:
        async with serving([200, 503, 0, 503]) as port:
            return await load.closed_loop(port, "/", lambda _: BODY, connections=4, seconds=30, requests=40)

    result = asyncio.run(run())
    assert sum(result.outcomes.values()) == result.answered == 40
    assert result.outcomes["503"] == 2
    assert result.outcomes["200"] == 37
    assert result.failed == 3


def test_an_open_loop_sends_what_was_planned_and_counts_every_outcome() -> None:
    async def run() -> load.Result:
        async with serving([200] * 10 + [503] * 10) as port:
            return await load.open_loop(port, "/", BODY, per_s=40, seconds=1)

    result = asyncio.run(run())
    assert result.outcomes == {"200": 30, "503": 10}


def test_an_open_loop_never_has_more_requests_out_than_it_may() -> None:
    async def run() -> load.Result:
        never = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await never.wait()

        async with handled_by(silent) as port:
            # Long after the last of them is due, on a machine however busy: none may be answered before.
            asyncio.get_running_loop().call_later(4.0, never.set)
            return await load.open_loop(port, "/", BODY, per_s=100, seconds=0.2, connections=5)

    outcomes = asyncio.run(run()).outcomes
    assert outcomes.pop("not sent") == 15
    assert sum(outcomes.values()) == 5


def test_a_steady_rate_is_taken_from_one_answer_to_another() -> None:
    """Batches of two every second: which of them fall into the window changes nothing."""
    ends = [(float(second), 10.0, "200") for second in range(1, 10) for _ in range(2)]
    for begin_s, end_s in ((2.0, 6.0), (2.5, 6.5), (2.9, 7.1)):
        result = load.Tally(ends=ends).steady(begin_s, end_s)
        assert result.good_per_s == pytest.approx(2.0)


def test_a_steady_window_holds_its_failures_and_no_other() -> None:
    ends = [(0.5, 1.0, "200"), (1.0, 1.0, "200"), (1.5, 1.0, "503"), (2.0, 9.0, "200"), (3.5, 1.0, "no answer")]
    result = load.Tally(ends=ends).steady(1.2, 3.0)
    assert (result.answered, result.failed, result.outcomes) == (2, 1, {"503": 1, "200": 1})
    assert (result.good_per_s, result.p50_ms) == (1.0, 9.0)


def test_a_steady_window_without_a_good_answer_has_a_rate_of_nothing() -> None:
    result = load.Tally(ends=[(1.5, 1.0, "500")]).steady(1.0, 3.0)
    assert (result.good_per_s, result.failed, result.elapsed_s) == (0.0, 1, 2.0)
