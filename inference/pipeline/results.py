"""What a call of a pipeline gives: the results one by one, and the end of everything behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

from tidegate.inference.pipeline.calls import Fate
from tidegate.inference.pipeline.flow import Item
from tidegate.inference.pipeline.run import Nothing, Run


class Results(Iterator[Any]):
    """The results in the source's order, computed ahead of the consumer as far as `max_in_flight` allows.

    No thread runs before the first is asked for. They end with the last result, and where the consumer stops before
    it: by `close()` or the end of a `with`, by dropping the iterator (as `break` does), by an exception here. A call
    that a thread is in then is not waited for; what it returns is dropped.
    """

    def __init__(self, run: Run, source: Iterator[Any], *, pairs: bool) -> None:
        self._run = run
        self._source: Iterator[Any] | None = source
        self._pairs = pairs

    def __iter__(self) -> Results:
        return self

    def __next__(self) -> Any:
        """The next result, or (key, result) of a mapping. Raises the exception of a stage, or of the source."""
        run = self._run
        try:
            if (source := self._source) is not None:
                self._source = None
                run.feed_from(source)
                del source
            item = run.next()
            if item is Nothing.MORE:
                if not run.stopped:
                    run.join()
                raise StopIteration
            result = _result(item)
        except BaseException:
            self.close()
            raise
        return (item.key, result) if self._pairs else result

    def close(self) -> None:
        """Stop here: no further call is begun, and every thread ends with the call that it is in."""
        self._source = None
        self._run.stop()

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._run.stop()


class AsyncResults(AsyncIterator[Any]):
    """`Results` for an asynchronous source, which is iterated on the event loop; the stages run in threads."""

    def __init__(self, run: Run, source: AsyncIterable[Any]) -> None:
        self._run = run
        self._source: AsyncIterable[Any] | None = source
        self._feeder: asyncio.Task[None] | None = None

    def __aiter__(self) -> AsyncResults:
        return self

    async def __anext__(self) -> Any:
        """The next result. Raises the exception of a stage, or of the source."""
        loop = asyncio.get_running_loop()
        if self._source is not None:
            self._feeder = loop.create_task(_feed(self._run, self._source))
            self._source = None
        try:
            while True:
                sleeper = _LoopSleeper(loop)
                item = self._run.poll(sleeper)
                if item is Nothing.MORE:
                    raise StopAsyncIteration
                if item is not Nothing.YET:
                    return _result(item)
                await sleeper.woken
        except asyncio.CancelledError:
            raise  # whoever waited has gone, as with a time limit on one result; the next may be asked for
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Stop here, as `Results.close` does, and wait for the source to be left."""
        self._source = None
        self._run.stop()
        feeder, self._feeder = self._feeder, None
        if feeder is not None:
            feeder.cancel()
            with suppress(asyncio.CancelledError):
                await feeder

    async def __aenter__(self) -> AsyncResults:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._run.stop()
        feeder = self._feeder
        if feeder is not None and not feeder.done():
            with suppress(RuntimeError):  # its loop is closed, and the task with it
                feeder.get_loop().call_soon_threadsafe(feeder.cancel)


class _LoopSleeper:
    """Wakes a coroutine from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.woken: asyncio.Future[None] = loop.create_future()

    def release(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


async def _feed(run: Run, source: AsyncIterable[Any]) -> None:
    loop = asyncio.get_running_loop()
    try:
        async for value in source:
            sleeper = _LoopSleeper(loop)
            while not run.offer(value, sleeper):
                await sleeper.woken
                sleeper = _LoopSleeper(loop)
            if not run.wants_more:
                return
    except asyncio.CancelledError:
        raise
    except Exception as error:
        run.end(error)
    else:
        run.end()


def _result(item: Item) -> Any:
    fate, value = item.outcome or (Fate.DROPPED, None)
    if fate is Fate.FAILED and isinstance(value, BaseException):
        item.outcome = None
        try:
            raise value
        finally:
            del value  # its traceback holds this frame
    return value
