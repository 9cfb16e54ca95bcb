"""The open streams of a worker: each generator is asked for its next item in turn, in the thread of user code.

Between any two items the worker looks at its socket and takes a batch where one waits. A generator is closed when its
reader leaves, and waits while its reader is slow.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import cast

from tidegate.inference.errors import AdapterLoadFailed, HandlerFailed, OutOfMemory, Overloaded, RequestError, one_line
from tidegate.inference.protocol import Answer, End, Error, Event, Kind
from tidegate.inference.protocol import Stream as Announced
from tidegate.inference.worker.chunks import BodyChunks, StreamBody
from tidegate.inference.worker.device_errors import empty_cache, give_up_if_device_is_lost
from tidegate.inference.worker.event_loop import Arrivals, EventLoop
from tidegate.inference.worker.open_stream import OpenStream
from tidegate.inference.worker.request import Request
from tidegate.inference.worker.steps import Steps

log = logging.getLogger("tidegate.worker")


class Streams:
    """The streams of one model in this worker. `step` takes one item of one of them, `control` obeys the frontend."""

    def __init__(self, steps: Steps, *, max_open: int, timeout_s: float) -> None:
        self._steps = steps
        self._max_open = max_open
        self._open: dict[int, OpenStream] = {}
        self._running: dict[int, OpenStream] = {}
        """The plain generators that are not paused."""
        self._turn: deque[OpenStream] = deque()
        """Those of them that are still to be asked in this turn."""
        self._loop = EventLoop(self, timeout_s=timeout_s)

    def __len__(self) -> int:
        return len(self._open)

    @property
    def running(self) -> bool:
        """Whether there is a plain generator to ask at once."""
        return bool(self._running)

    @property
    def awaiting(self) -> bool:
        """Whether asynchronous generators are open, for which the event loop must run."""
        return len(self._loop) > 0

    def open(self, request: Request) -> Event:
        """Take over a request whose body is a stream; returns what the frontend is told."""
        body = request.stream
        assert body is not None  # noqa: S101 - it is why this is called
        request.data = request.prediction = request.kept = None  # the last reference to a generator closes it
        stream = OpenStream(request=request, body=body, max_chunk_bytes=self._steps.max_response_bytes)
        if any(body.source is each.body.source for each in self._open.values()):
            # Each reader would get some of the items, and take them for all.
            request.stream = None
            shared = HandlerFailed(f"{body.function} gave two requests the same {type(body.source).__name__}.")
            return self._steps.failure(shared, body.function, request)
        if stream.is_async and len(self._steps.adapters):
            request.stream = None
            shared_model = AdapterLoadFailed(
                "An asynchronous stream cannot run while adapters are registered: they share one model."
            )
            return self._steps.failure(shared_model, body.function, request)
        if len(self._open) >= self._max_open:
            self._close(stream)
            full = Overloaded(
                f"The worker has {self._max_open} open streams, and TIDEGATE_MAX_STREAMS_PER_WORKER allows no more."
            )
            return Error(stream.id, full.status, full.code, full.message)
        self._open[stream.id] = stream
        if stream.is_async:
            self._loop.start(stream)
        else:
            self._running[stream.id] = stream
        return Announced(stream.id)

    def send(self, request: Request, answer: Answer) -> Event:
        """Take over an answer that is there, but so large that it is sent in parts: a slow reader can pause it, and in
        the meantime it is nowhere else. Without a place for it, it is sent whole.
        """
        if len(self._open) >= self._max_open:
            return answer
        if not request.compared:
            request.data = request.prediction = None
        body = StreamBody(iter(()), BodyChunks(answer.content_type), "output_fn")
        stream = OpenStream(request=request, body=body, max_chunk_bytes=self._steps.max_response_bytes)
        stream.answer, stream.rest = answer, memoryview(answer.body)
        self._open[stream.id] = self._running[stream.id] = stream
        return Announced(stream.id)

    def control(self, kind: Kind, request_id: int) -> None:
        """Cancel, pause or resume a stream. One that has ended meanwhile needs nothing any more."""
        stream = self._open.get(request_id)
        if stream is None:
            return
        if kind is not Kind.CANCEL:
            stream.paused = kind is Kind.PAUSE
        if stream.is_async:
            self._loop.control(kind, stream)
        elif kind is Kind.CANCEL:
            self.ended(stream)
            self._close(stream)
        elif kind is Kind.PAUSE:
            self._running.pop(request_id, None)
        else:
            self._running[request_id] = stream

    def step(self) -> list[Event]:
        """Ask the next plain generator for an item; at the beginning of a turn let the event loop go once around."""
        if not self._turn:
            self._turn.extend(self._running.values())
            if self.awaiting:
                return self._loop.run_once()
        while self._turn:
            stream = self._turn.popleft()
            if stream.id in self._running:
                return self._advance(stream)
        return []

    def wait(self, arrivals: Arrivals | None = None) -> list[Event]:
        """Run the event loop until a generator yields, or something arrives from the frontend."""
        return self._loop.run_until_something(arrivals)

    def close(self) -> None:
        """Close all generators: the frontend has hung up."""
        for stream in list(self._open.values()):
            self.control(Kind.CANCEL, stream.id)
        self._loop.close()

    # --- plain generators

    def _advance(self, stream: OpenStream) -> list[Event]:
        if stream.rest is not None:
            return [*stream.begin(), stream.next_part()]
        self.put_at_hand(stream)
        try:
            self._turn_to_adapter(stream)
            item = next(cast(Iterator[object], stream.body.source))
        except StopIteration:
            return self._end(stream)
        except BaseException as error:
            failure = self.failure(stream, error)
        else:
            try:
                return stream.take(item)
            except BaseException as error:
                failure = self.failure(stream, error)
        self.ended(stream)
        self._close(stream)
        if failure.status == OutOfMemory.status:
            empty_cache()
        return [failure]

    def _end(self, stream: OpenStream) -> list[Event]:
        self.ended(stream)
        self._close(stream)
        return self.end_of(stream)

    def _close(self, stream: OpenStream) -> None:
        """Run what the generator has in `finally`, now and in this thread."""
        self.put_at_hand(stream)
        for source in (stream.body.source, stream.body.inner):
            close = getattr(source, "close", None)
            try:
                if close is not None:
                    with suppress(AdapterLoadFailed):  # its reader may have left before its adapter did
                        self._turn_to_adapter(stream)
                    close()
            except BaseException as error:
                self.not_closed(stream, error)
        stream.request.let_go()

    def _turn_to_adapter(self, stream: OpenStream) -> None:
        self._steps.adapters.turn_to(stream.request.adapter)

    # --- what the event loop needs too

    def put_at_hand(self, stream: OpenStream) -> None:
        """Let the context be about this request, as in the functions that made the generator."""
        self._steps.context.turn_to(stream.request)

    def failure(self, stream: OpenStream, error: BaseException) -> Error:
        """What the client is told of an error of the generator."""
        return self._steps.failure(error, stream.body.function, stream.request)

    def end_of(self, stream: OpenStream) -> list[Event]:
        """What is told of a generator that has yielded all."""
        try:
            return [*stream.finish(), End(stream.id)]
        except RequestError as error:
            return [self.failure(stream, error)]

    def not_closed(self, stream: OpenStream, error: BaseException) -> None:
        """Note in the log that closing a generator raised; its reader has gone, or has been told of another error."""
        give_up_if_device_is_lost(error)
        log.warning(
            "closing the generator of %s raised %s: %s",
            stream.body.function,
            type(error).__name__,
            one_line(error),
            extra={"request_id": self._steps.context.get_request_id(0)},
        )

    def ended(self, stream: OpenStream) -> None:
        """Forget a stream that needs no more steps."""
        self._open.pop(stream.id, None)
        self._running.pop(stream.id, None)
        if not self._open:
            self._turn.clear()
        if stream.is_async:  # a plain one is closed later
            stream.request.let_go()
