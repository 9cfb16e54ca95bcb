"""Asynchronous sources: `async for` over the results, while the stages run in threads as ever."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator

import pytest

from tests.inference.pipeline.threads import running
from tests.polling import until
from tidegate.pipeline import Pipeline, Stage

PIPELINE = Pipeline(Stage(lambda value: 2 * value, workers=3), Stage(list, batch_size=4), lambda value: value)


async def numbers(count: int | None = None) -> AsyncIterator[int]:
    for value in itertools.count() if count is None else range(count):
        if value % 7 == 0:
            await asyncio.sleep(0)
        yield value


@pytest.mark.parametrize("count", [0, 1, 50, 300])
def test_every_item_comes_out_once_in_order(count: int) -> None:
    """As with any other iterable."""

    async def main() -> list[int]:
        return [value async for value in PIPELINE(numbers(count))]

    assert asyncio.run(main()) == [2 * value for value in range(count)]


def test_the_loop_goes_on_while_a_stage_works() -> None:
    """The stage waits for what another task of the same loop does."""
    done = threading.Event()

    async def main() -> list[bool]:
        asyncio.get_running_loop().call_later(0.01, done.set)
        return [value async for value in Pipeline(lambda _: done.wait(60))(numbers(1))]

    assert asyncio.run(main()) == [True]


def test_the_source_is_read_only_so_far_ahead() -> None:
    """However fast it would be."""
    read = []

    async def source() -> AsyncIterator[int]:
        for value in itertools.count():
            read.append(value)
            yield value

    async def main() -> None:
        async with Pipeline(Stage(str, workers=2), max_in_flight=5)(source()) as results:
            assert [await anext(results) for _ in range(10)] == [str(value) for value in range(10)]

    asyncio.run(main())
    assert len(read) <= 10 + 5 + 1


@pytest.mark.parametrize("how", ["break", "aclose", "with", "cancel", "error"])
def test_a_consumer_that_stops_leaves_nothing_behind(how: str) -> None:
    """No thread, and the source is closed, within the same loop."""
    closed = threading.Event()

    async def source() -> AsyncIterator[int]:
        try:
            async for value in numbers():
                yield value
        finally:
            closed.set()

    async def consume() -> None:
        results = PIPELINE(source())
        if how == "with":
            async with results:
                await anext(results)
        elif how == "aclose":
            await anext(results)
            await results.aclose()
            assert [value async for value in results] == []
        else:
            async for _ in results:
                if how == "break":
                    break
                if how == "error":
                    raise LookupError
                await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(consume())
        if how == "cancel":
            await asyncio.sleep(0.02)
            task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() == (how == "cancel")
        assert isinstance(None if task.cancelled() else task.exception(), LookupError if how == "error" else type(None))
        del task
        await asyncio.to_thread(until, lambda: closed.is_set() and not running())

    asyncio.run(main())


def test_a_loop_that_ends_takes_everything_with_it() -> None:
    """Whoever leaves the results unread when `asyncio.run` returns."""

    async def main() -> None:
        results = PIPELINE(numbers())
        await anext(results)

    asyncio.run(main())
    until(lambda: not running())


def test_waiting_for_one_result_may_be_given_up() -> None:
    """It comes when it is asked for again: nothing is lost by a time limit on one."""
    released = threading.Event()

    async def main() -> list[bool]:
        results = Pipeline(lambda _: released.wait(60))(numbers(2))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(results), 0.02)
        released.set()
        return [value async for value in results]

    assert asyncio.run(main()) == [True, True]


def test_errors_of_stages_and_of_the_source_are_raised_in_their_turn() -> None:
    """With their notes."""

    async def source() -> AsyncIterator[int]:
        yield 1
        yield 0
        raise LookupError("the source")

    async def main() -> None:
        results = Pipeline(Stage(lambda value: 1 / value, on_error="null"))(source())
        assert [await anext(results), await anext(results)] == [1.0, None]
        with pytest.raises(LookupError, match="the source"):
            await anext(results)
        results = Pipeline(Stage(lambda value: 1 / value, name="invert"))(source())
        assert await anext(results) == 1.0
        with pytest.raises(ZeroDivisionError) as raised:
            await anext(results)
        assert raised.value.__notes__ == ["In stage 1 (invert) of the pipeline, item 1."]
        assert [value async for value in results] == []

    asyncio.run(main())
