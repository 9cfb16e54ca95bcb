"""One open stream: what of its generator has been sent, and what its next item makes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from tidegate.inference.errors import HandlerFailed
from tidegate.inference.protocol import Answer, Event, Part, Progress, Start
from tidegate.inference.worker.chunks import StreamBody
from tidegate.inference.worker.request import Request
from tidegate.inference.worker.response import start_of_stream

MAX_PART_BYTES = 256 * 1024
"""A larger chunk leaves in several parts, between which its reader may pause it and others have their turn."""
SIGN_OF_LIFE_S = 0.1
"""How long the frontend hears nothing, at most, of a generator that yields empty chunks only."""


@dataclass(slots=True, kw_only=True, eq=False)
class OpenStream:
    """A stream, from its announcement to its last frame."""

    request: Request
    body: StreamBody
    max_chunk_bytes: int
    started: bool = False
    paused: bool = False
    rest: memoryview | None = None
    """What is left to send of a large chunk."""
    answer: Answer | None = None
    """The answer whose body `rest` is, where it is no stream but is sent like one because it is large."""
    heard_s: float = 0.0

    @property
    def id(self) -> int:
        """The id of the request."""
        return self.request.received.id

    @property
    def is_async(self) -> bool:
        """Whether its items are awaited."""
        return isinstance(self.body.source, AsyncIterator)

    def begin(self, length: int | None = None) -> list[Event]:
        """The start of the response, where it has not begun; `length` is the body's, where all of it is there.

        Raises `HandlerFailed`.
        """
        if self.started:
            return []
        if self.answer is not None:
            start = Start(*self.answer[:-1], len(self.answer.body))
        else:
            start = start_of_stream(self.body.chunks.content_type, self.request)._replace(length=length)
        self.started = True
        return [start]

    def take(self, item: Any) -> list[Event]:
        """What the next item is sent as. Raises `RequestError` where it cannot be sent."""
        data = self.body.chunks.encode(item)
        if data is None:
            return self._sign_of_life()
        return self._send(data)

    def finish(self) -> list[Event]:
        """What is sent when there are no more items. Raises `RequestError` where it cannot be sent."""
        data = self.body.chunks.finish()
        events = self._send(data, whole=not self.started) if data else self.begin(0)
        while self.rest is not None:
            events.append(self.next_part())
        return events

    def _send(self, data: bytes, *, whole: bool = False) -> list[Event]:
        if len(data) > self.max_chunk_bytes:
            raise HandlerFailed(f"A chunk of the answer has {len(data)} bytes; the limit is {self.max_chunk_bytes}.")
        events = self.begin(len(data) if whole else None)
        if len(data) > MAX_PART_BYTES:
            self.rest = memoryview(data)
            events.append(self.next_part())
        elif data:
            events.append(Part(self.id, data))
        return events or self._sign_of_life()

    def _sign_of_life(self) -> list[Event]:
        now_s = time.monotonic()
        if now_s - self.heard_s < SIGN_OF_LIFE_S:
            return []
        self.heard_s = now_s
        return [Progress(proving=False)]

    def next_part(self) -> Part:
        """The next piece of the chunk in `rest`."""
        assert self.rest is not None  # noqa: S101 - only asked where there is one
        part, rest = self.rest[:MAX_PART_BYTES], self.rest[MAX_PART_BYTES:]
        self.rest = rest if len(rest) else None
        return Part(self.id, part)
