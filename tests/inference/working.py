"""A worker's loop around toy functions, in a thread, with the frontend's end of its socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from threading import Thread
from typing import Any

from tests.inference.toy_models import request
from tidegate.inference import protocol
from tidegate.inference.protocol import Done, End, Error, Event, FrameReader, Kind, Part, Progress
from tidegate.inference.worker.allocator import FreedMemory
from tidegate.inference.worker.channel import Channel, HungUp
from tidegate.inference.worker.computation import Computation
from tidegate.inference.worker.intake import DirectIntake, Intake, ThreadedIntake
from tidegate.inference.worker.serving import work

_PARSERS: dict[Kind, Any] = {
    Kind.ANSWER: protocol.parse_answer,
    Kind.ERROR: protocol.parse_error,
    Kind.STREAM: protocol.parse_stream,
    Kind.START: protocol.parse_start,
    Kind.PART: protocol.parse_part,
    Kind.END: protocol.parse_end,
    Kind.DONE: protocol.parse_done,
    Kind.PROGRESS: protocol.parse_progress,
}


class Frontend:
    """The other end of the socket: sends batches and orders, and reads events one by one."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._socket.settimeout(60)
        self._frames = self._read()

    def compute(self, *requests: protocol.Request) -> None:
        """Send one batch."""
        self._socket.sendall(protocol.compute_frame(requests))

    def ask(self, number: int = 1, body: Any = None, **how: Any) -> None:
        """Send one request as a batch."""
        self.compute(request(body, number, **how))

    def cancel(self, number: int) -> None:
        self._socket.sendall(protocol.cancel_frame(number))

    def pause(self, number: int) -> None:
        self._socket.sendall(protocol.pause_frame(number))

    def resume(self, number: int) -> None:
        self._socket.sendall(protocol.resume_frame(number))

    def next(self) -> Event:
        """The next event but for signs of life."""
        while isinstance(event := next(self._frames), Progress):
            pass
        return event

    def events(self, number: int) -> Iterator[Event]:
        """What is said of one request until it has ended; the accounts of batches are passed over."""
        while True:
            event = self.next()
            if isinstance(event, Done):
                continue
            assert event.id == number, event  # type: ignore[union-attr]
            yield event
            if not isinstance(event, protocol.Stream | protocol.Start | Part):
                return

    def body(self, number: int) -> bytes:
        """The whole body of a stream, which must end well."""
        events = list(self.events(number))
        assert isinstance(events[-1], End), events[-1]
        return b"".join(event.data for event in events if isinstance(event, Part))

    def error(self, number: int) -> Error:
        """The error that a request ends with."""
        *_, last = self.events(number)
        assert isinstance(last, Error)
        return last

    def until(self, kind: type[Event]) -> Any:
        """The next event of this type; others are passed over."""
        while not isinstance(event := self.next(), kind):
            pass
        return event

    def _read(self) -> Iterator[Event]:
        reader = FrameReader()
        while data := self._socket.recv(65536):
            for kind, payload in reader.feed(data):
                yield _PARSERS[Kind(kind)](payload)


@contextmanager
def working(
    toy: Computation, *, input_threads: int = 0, freed: FreedMemory | None = None, conversations: Sized = ()
) -> Iterator[Frontend]:
    """A worker with this computation, which has left when the block is left."""
    ours, theirs = socket.socketpair()
    ended: list[BaseException] = []

    def run() -> None:
        with theirs:
            channel = Channel(theirs)
            intake: Intake = (
                ThreadedIntake(channel, toy, threads=input_threads) if input_threads else DirectIntake(channel, toy)
            )
            try:
                work(channel, intake, toy, freed or FreedMemory(kept=False), conversations=conversations)
            except HungUp:
                pass
            except BaseException as error:
                ended.append(error)
            toy.streams.close()

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        with ours:
            yield Frontend(ours)
    finally:
        thread.join(timeout=60)
    assert not thread.is_alive(), "the worker does not leave"
    if ended:
        raise ended[0]
