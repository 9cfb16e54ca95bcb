"""asyncio in the thread of user code, for asynchronous generators: it runs while some are open, and only when told to.

An asynchronous generator needs an event loop, and it must be in the thread in which all functions of the script run;
conversations, which have threads of their own, have another one (`bidirectional`). A generator that keeps its reader
waiting for longer than the time limit is ended here; one that blocks the thread is the frontend's matter, as any
function is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Protocol, cast

from tidegate.inference.errors import HandlerTimedOut
from tidegate.inference.protocol import Error, Event, Kind, Progress
from tidegate.inference.worker.device_errors import DeviceLost
from tidegate.inference.worker.open_stream import OpenStream

log = logging.getLogger("tidegate.worker")

CLOSE_S = 1.0
"""How long generators may take to close when the frontend has hung up."""


class Arrivals(Protocol):
    """A file descriptor that is readable when something has arrived from the frontend."""

    def fileno(self) -> int: ...


class Owner(Protocol):
    """What the event loop asks about a stream, and tells of it."""

    def put_at_hand(self, stream: OpenStream) -> None: ...
    def failure(self, stream: OpenStream, error: BaseException) -> Error: ...
    def end_of(self, stream: OpenStream) -> list[Event]: ...
    def not_closed(self, stream: OpenStream, error: BaseException) -> None: ...
    def ended(self, stream: OpenStream) -> None: ...


@dataclass(slots=True, kw_only=True, eq=False)
class _Driven:
    """An asynchronous generator and the task that asks it."""

    stream: OpenStream
    task: asyncio.Task[None] | None = None
    resumed: asyncio.Future[None] | None = None
    due_s: float = inf
    """By when the generator must have yielded, or must have closed."""
    paused_s: float = 0.0
    leaving: bool = False
    """Whether it is to end, because its reader has left or because it took too long."""
    silent: bool = False
    """Whether there is no more to tell of it."""


class EventLoop:
    """The event loop: made for the first asynchronous generator, and kept, because what scripts keep belongs to it."""

    def __init__(self, owner: Owner, *, timeout_s: float) -> None:
        self._owner = owner
        self._timeout_s = timeout_s
        self._watch_s = min(max(timeout_s / 20, 0.01), 1.0)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._driven: dict[int, _Driven] = {}
        self._said: list[Event] = []
        self._left_s = 0.0
        self._device_lost: DeviceLost | None = None

    def __len__(self) -> int:
        return len(self._driven)

    def start(self, stream: OpenStream) -> None:
        """Ask `stream` for its items from now on."""
        if self._loop is None:
            self._loop = asyncio.SelectorEventLoop()
        if not self._driven:
            self._left_s = monotonic()
            self._loop.call_later(self._watch_s, self._watch)
        driven = self._driven[stream.id] = _Driven(stream=stream)
        driven.task = self._loop.create_task(self._drive(driven))
        driven.task.add_done_callback(lambda _: self._end(driven))  # also where it is cancelled before it has begun

    def control(self, kind: Kind, stream: OpenStream) -> None:
        """Cancel, pause or resume a stream."""
        driven = self._driven[stream.id]
        if driven.silent:  # it is being closed already
            return
        if kind is Kind.CANCEL:
            self._leave(driven)
            driven.silent = True
        elif kind is Kind.PAUSE:
            driven.paused_s = driven.paused_s or monotonic()
        else:
            driven.due_s += monotonic() - driven.paused_s if driven.paused_s else 0.0
            driven.paused_s = 0.0
            if driven.resumed is not None and not driven.resumed.done():
                driven.resumed.set_result(None)

    def run_once(self) -> list[Event]:
        """Let everything run that can without waiting; returns what there is to tell."""
        if self._loop is not None:
            self._loop.call_soon(self._loop.stop)
            self._run(self._loop)
        return self._take()

    def run_until_something(self, arrivals: Arrivals | None) -> list[Event]:
        """Run until there is something to tell, or something arrives."""
        if self._loop is not None and not self._said:
            if arrivals is not None:
                self._loop.add_reader(arrivals.fileno(), self._loop.stop)
            try:
                self._run(self._loop)
            finally:
                if arrivals is not None:
                    self._loop.remove_reader(arrivals.fileno())
        return self._take()

    def close(self) -> None:
        """Give generators that are being closed a moment, and end the loop."""
        if self._loop is None:
            return
        until_s = monotonic() + CLOSE_S
        while self._driven and monotonic() < until_s:
            self._loop.call_later(CLOSE_S / 10, self._loop.stop)
            self._run(self._loop)
        self._loop.close()
        self._loop = None

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        # While other functions ran, the generators could not: that is not their time.
        away_s = monotonic() - self._left_s
        for driven in self._driven.values():
            driven.due_s += away_s
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:  # of a task that the script has started itself
            log.error("a task of the script ended with %s", type(error).__name__, exc_info=error)
        self._left_s = monotonic()
        if self._device_lost is not None:
            raise self._device_lost

    def _take(self) -> list[Event]:
        said, self._said = self._said, []
        return said

    def _say(self, driven: _Driven, events: list[Event]) -> None:
        if events and not driven.silent and self._loop is not None:
            self._said += events
            self._loop.stop()

    async def _drive(self, driven: _Driven) -> None:
        stream = driven.stream
        self._owner.put_at_hand(stream)  # for this task, and for what it starts
        try:
            await self._send_all(driven)
        except DeviceLost as error:
            self._device_lost = error

    async def _send_all(self, driven: _Driven) -> None:
        stream = driven.stream
        try:
            await self._ask(driven)
        except StopAsyncIteration:
            self._say(driven, self._owner.end_of(stream))
        except BaseException as error:
            if self._loop is None:  # it was left to itself, and is collected
                raise
            if not driven.silent:
                self._say(driven, [self._owner.failure(stream, self._reason(driven, error))])
        driven.silent = True
        driven.due_s = monotonic() + self._timeout_s
        for source in (stream.body.source, stream.body.inner):
            try:
                if (aclose := getattr(source, "aclose", None)) is not None:
                    await aclose()
                elif (close := getattr(source, "close", None)) is not None:
                    close()
            except BaseException as error:
                self._owner.not_closed(stream, error)

    async def _ask(self, driven: _Driven) -> None:
        """Send item after item until there are no more, which raises `StopAsyncIteration`."""
        stream = driven.stream
        source = cast(AsyncIterator[object], stream.body.source)
        while True:
            await self._while_paused(driven)
            driven.due_s = monotonic() + self._timeout_s
            item = await anext(source)
            if driven.leaving:
                raise asyncio.CancelledError  # the generator has suppressed the first one
            driven.due_s = inf
            self._say(driven, stream.take(item))
            while stream.rest is not None:
                await asyncio.sleep(0)
                await self._while_paused(driven)
                self._say(driven, [stream.next_part()])
            await asyncio.sleep(0)  # one that never waits must not keep the others waiting

    async def _while_paused(self, driven: _Driven) -> None:
        while driven.stream.paused:
            driven.resumed = asyncio.get_running_loop().create_future()
            await driven.resumed

    def _reason(self, driven: _Driven, error: BaseException) -> BaseException:
        if not driven.leaving:
            return error
        return HandlerTimedOut(f"The model took longer than {self._timeout_s:g} s for the next chunk.")

    def _leave(self, driven: _Driven) -> None:
        driven.leaving = True
        driven.due_s = monotonic() + self._timeout_s
        if driven.task is not None:
            driven.task.cancel()

    def _end(self, driven: _Driven) -> None:
        if self._driven.pop(driven.stream.id, None) is not None:
            self._owner.ended(driven.stream)
        if self._loop is not None:
            self._loop.stop()

    def _watch(self) -> None:
        """End what takes too long, and say that this worker lives."""
        now_s = monotonic()
        for driven in list(self._driven.values()):
            closing = driven.leaving or driven.silent
            if now_s < driven.due_s or (driven.stream.paused and not closing):
                continue
            if not closing:
                self._leave(driven)
                continue
            log.error("a generator does not close; it is left to itself", extra={"stream": driven.stream.body.function})
            if not driven.silent:
                self._say(driven, [self._owner.failure(driven.stream, self._reason(driven, TimeoutError()))])
            driven.silent = True
            self._end(driven)
        if self._loop is not None and self._driven:
            self._said.append(Progress(proving=False))
            self._loop.stop()
            self._loop.call_later(self._watch_s, self._watch)
