"""What has arrived from the frontend: batches in their order, and before them orders about streams and adapters."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol

from tidegate.inference.protocol import Kind, Payload
from tidegate.inference.worker.bidirectional import Conversations
from tidegate.inference.worker.channel import Channel
from tidegate.inference.worker.computation import Batch, Computation

_EXPECTED = (Kind.COMPUTE, Kind.CANCEL, Kind.PAUSE, Kind.RESUME, Kind.ADAPTER)

IDLE_S = 10
"""How long `look` waits at one time."""

Control = tuple[Kind, Payload]
"""CANCEL, PAUSE and RESUME, each with the id of a request; or ADAPTER, with an order."""


class Intake(Protocol):
    """Arrivals, as far as `look` has seen them. `fileno` is readable when there may be more."""

    controls: deque[Control]
    batches: deque[Batch]
    hung_up: bool

    def look(self, *, wait: bool) -> None:
        """Take what has arrived; `wait` for something where nothing has, but no longer than `IDLE_S`.

        Raises `UnexpectedFrame`.
        """

    def fileno(self) -> int: ...


class DirectIntake:
    """Reads the socket in the thread of user code, between two of its functions; batches are decoded later there."""

    def __init__(self, channel: Channel, computation: Computation) -> None:
        self.controls: deque[Control] = deque()
        self.batches: deque[Batch] = deque()
        self.hung_up = False
        self._channel = channel
        self._computation = computation
        channel.limit_waits(IDLE_S)

    def look(self, *, wait: bool) -> None:
        """Take what has arrived; `wait` for something where nothing has. Raises `UnexpectedFrame`."""
        wait = wait and not self.batches
        if not self._channel.receive(wait=wait):
            self.hung_up = True
        while (frame := self._channel.next_frame(*_EXPECTED)) is not None:
            kind, payload = frame
            if kind is Kind.COMPUTE:
                alone, requests = self._channel.compute(payload)
                self.batches.append(self._computation.begin(requests, alone=alone))
            else:
                self.controls.append((kind, payload))

    def fileno(self) -> int:
        """The socket."""
        return self._channel.fileno()


class ThreadedIntake:
    """Reads the socket in a thread of its own, so that conversations go on while a batch is predicted.

    With `threads`, so many decode the next batch meanwhile.
    """

    def __init__(
        self, channel: Channel, computation: Computation, *, threads: int, conversations: Conversations | None = None
    ) -> None:
        self.controls: deque[Control] = deque()
        self.batches: deque[Batch] = deque()
        self.hung_up = False
        self._channel = channel
        self._computation = computation
        self._threads = threads
        self._conversations = conversations
        self._arrived: SimpleQueue[Control | Batch | BaseException | None] = SimpleQueue()
        self._undecoded: SimpleQueue[Payload | None] = SimpleQueue()
        self._signals = False
        self._signal_read, self._signal_write = os.pipe()
        for end in (self._signal_read, self._signal_write):
            os.set_blocking(end, False)
        for target in (self._read, self._decode) if threads else (self._read,):
            Thread(target=target, daemon=True).start()

    def look(self, *, wait: bool) -> None:
        """Take what has arrived; `wait` for something where nothing has. Raises what the threads have raised."""
        if self._signals:
            with suppress(BlockingIOError):
                os.read(self._signal_read, 4096)
        try:
            self._sort(self._arrived.get(block=wait and not self.batches, timeout=IDLE_S))
            while True:
                self._sort(self._arrived.get_nowait())
        except Empty:
            pass

    def fileno(self) -> int:
        """A pipe that has a byte in it after each arrival from now on."""
        if not self._signals:
            self._signals = True
            self._signal()  # something may have arrived already
        return self._signal_read

    def _sort(self, arrived: Control | Batch | BaseException | None) -> None:
        if isinstance(arrived, Batch):
            self.batches.append(arrived)
        elif isinstance(arrived, tuple):
            self.controls.append(arrived)
        elif arrived is None:
            self.hung_up = True
        else:
            raise arrived

    # --- in the other threads

    def _put(self, arrived: Control | Batch | BaseException | None) -> None:
        self._arrived.put(arrived)
        if self._signals:
            self._signal()

    def _signal(self) -> None:
        with suppress(BlockingIOError):  # there are bytes enough in it
            os.write(self._signal_write, b"\0")

    def _read(self) -> None:
        talks = self._conversations
        expected = _EXPECTED if talks is None else (*_EXPECTED, *talks.KINDS)
        try:
            while self._channel.receive(wait=True):
                while (frame := self._channel.next_frame(*expected)) is not None:
                    kind, payload = frame
                    if talks is not None and talks.take(kind, payload):
                        continue
                    if kind is not Kind.COMPUTE:
                        self._put((kind, payload))
                    elif self._threads:
                        self._undecoded.put(payload)
                    else:
                        alone, requests = self._channel.compute(payload)
                        self._put(self._computation.begin(requests, alone=alone))
            if self._threads:
                self._undecoded.put(None)
            else:
                self._put(None)
        except BaseException as error:
            self._put(error)

    def _decode(self) -> None:
        try:
            with ThreadPoolExecutor(self._threads, thread_name_prefix="input_fn") as decoders:
                while (payload := self._undecoded.get()) is not None:
                    alone, requests = self._channel.compute(payload)
                    self._put(self._computation.begin(requests, decoders, alone=alone))
            self._put(None)
        except BaseException as error:
            self._put(error)
