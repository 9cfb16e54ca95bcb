"""The frontend's end of one worker's socket: frames out, frames in. It decides nothing."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol, cast

from tidegate.inference import protocol
from tidegate.inference.begun_page import AllBegun, Begun, BegunPage, new_page_file
from tidegate.inference.conversation_frames import is_of_conversation
from tidegate.inference.frontend.workers.body_files import BodyFiles
from tidegate.inference.protocol import (
    Answer,
    Done,
    End,
    Error,
    FrameReader,
    Held,
    Kind,
    ModelSpec,
    Part,
    Payload,
    Progress,
    Ready,
    Request,
    Start,
)

_READ_BYTES = 1 << 18


class WorkerEvents(Protocol):
    """Who is told what a worker says, by the worker's number."""

    def worker_ready(self, worker: int, ready: Ready) -> None: ...
    def worker_failed(self, worker: int, message: str, *, too_large: bool) -> None: ...
    def worker_answered(self, worker: int, outcome: Answer | Error) -> None: ...
    def stream_announced(self, worker: int, request_id: int) -> None: ...
    def stream_began(self, worker: int, start: Start) -> None: ...
    def stream_part(self, worker: int, part: Part) -> None: ...
    def stream_ended(self, worker: int, end: End) -> None: ...
    def worker_goes_on(self, worker: int, progress: Progress) -> None: ...
    def worker_holds(self, worker: int, held: Held) -> None: ...
    def worker_done(self, worker: int, done: Done) -> None: ...
    def worker_passed_over(self, worker: int, place: int) -> None: ...
    def worker_talks(self, worker: int, kind: int, payload: Payload) -> None: ...
    def worker_borrows(self, worker: int, payload: Payload) -> None: ...
    def worker_reports(self, worker: int, payload: Payload) -> None: ...
    def worker_adapts(self, worker: int, payload: Payload) -> None: ...
    def worker_blocked(self, worker: int, *, on: bool) -> None: ...
    def worker_lost(self, worker: int) -> None: ...


class WorkerLink(asyncio.Protocol):
    """One worker's socket, from its fork until it closes."""

    def __init__(self, events: WorkerEvents, worker: int) -> None:
        self._events = events
        self._worker = worker
        self._reader = FrameReader()
        self._files = BodyFiles()
        self._transport: asyncio.WriteTransport | None = None
        self._page: int | None = None
        self._rest: socket.socket | None = None
        """The same socket, for what is left in it when the transport has failed."""
        self.begun: Begun = self._begun()
        """What the worker has begun of that which it was sent."""

    def _begun(self) -> Begun:
        try:
            self._page = new_page_file()
            return BegunPage(self._page)
        except (OSError, AttributeError):  # no descriptor is left; a C library of before 2018
            return AllBegun()

    async def attach(self, channel: socket.socket, spec: ModelSpec) -> None:
        """Take over the frontend's end of the socket and have the worker load its model."""
        loop = asyncio.get_running_loop()
        with suppress(OSError):  # no descriptor is left
            self._rest = channel.dup()
        further = () if self._page is None else (self._page,)
        rest = self._files.open(channel, protocol.frame(Kind.LOAD, spec.to_json()), *further)
        for page in further:
            os.close(page)
        self._page = None
        try:
            await loop.create_unix_connection(lambda: self, sock=channel)
        except BaseException:
            if self._rest is not None:
                self._rest.close()  # or the worker would not learn that nobody is here
            raise
        self._write(rest)

    def compute(self, requests: Sequence[Request], *, alone: bool) -> None:
        """Send a batch, or requests that are each `alone`. The worker takes them up when it has done those before."""
        self._write(protocol.compute_frame([self._files.hand_over(each) for each in requests], alone=alone))

    def cancel(self, request_id: int) -> None:
        """Have the worker close a stream."""
        self._write(protocol.cancel_frame(request_id))

    def pause(self, request_id: int) -> None:
        """Have the worker hold a stream."""
        self._write(protocol.pause_frame(request_id))

    def resume(self, request_id: int) -> None:
        """Have the worker go on with a stream."""
        self._write(protocol.resume_frame(request_id))

    def send(self, data: bytes) -> None:
        """Send a frame that somebody else has made."""
        self._write(data)

    def hang_up(self) -> None:
        """Let the worker leave when it has finished what it is doing."""
        if self._transport is not None:
            self._transport.close()

    def cut_off(self) -> None:
        """Let go of the socket at once, whatever is still on its way: `worker_lost` follows."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        worker, events = self._worker, self._events
        for kind, payload in self._reader.feed(data):
            if kind == Kind.ANSWER:
                events.worker_answered(worker, protocol.parse_answer(payload))
            elif kind == Kind.ERROR:
                events.worker_answered(worker, protocol.parse_error(payload))
            elif kind == Kind.DONE:
                events.worker_done(worker, protocol.parse_done(payload))
            elif kind == Kind.PART:
                events.stream_part(worker, protocol.parse_part(payload))
            elif kind == Kind.STREAM:
                events.stream_announced(worker, protocol.parse_id(payload))
            elif kind == Kind.START:
                events.stream_began(worker, protocol.parse_start(payload))
            elif kind == Kind.END:
                events.stream_ended(worker, protocol.parse_end(payload))
            elif kind == Kind.PROGRESS:
                events.worker_goes_on(worker, protocol.parse_progress(payload))
            elif kind == Kind.PASSED_OVER:
                events.worker_passed_over(worker, protocol.parse_id(payload))
            else:
                self._hear_seldom(kind, payload)

    def _hear_seldom(self, kind: int, payload: Payload) -> None:
        worker, events = self._worker, self._events
        if kind == Kind.READY:
            events.worker_ready(worker, protocol.parse_ready(payload))
        elif kind == Kind.HELD:
            events.worker_holds(worker, protocol.parse_held(payload))
        elif kind == Kind.MODEL:
            events.worker_borrows(worker, payload)
        elif kind == Kind.REPORT:
            events.worker_reports(worker, payload)
        elif kind == Kind.ADAPTER:
            events.worker_adapts(worker, payload)
        elif is_of_conversation(kind, payload):
            events.worker_talks(worker, kind, payload)
        else:
            message, too_large = protocol.parse_failed(payload)
            events.worker_failed(worker, message, too_large=too_large)

    def pause_writing(self) -> None:
        self._events.worker_blocked(self._worker, on=True)

    def resume_writing(self) -> None:
        self._events.worker_blocked(self._worker, on=False)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._rest is not None:
            with self._rest:
                if isinstance(exc, ConnectionError):
                    self._read_rest(self._rest)
        self._files.close()
        self._events.worker_lost(self._worker)
        self.begun.close()

    def _read_rest(self, channel: socket.socket) -> None:
        # A write to a worker that has just died ends the transport, and its last answers are still to be read.
        channel.setblocking(False)
        with suppress(OSError):
            while data := channel.recv(_READ_BYTES):
                self.data_received(data)
