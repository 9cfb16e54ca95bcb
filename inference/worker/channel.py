"""The worker's end of the socket to the frontend."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque

from tidegate.inference import protocol
from tidegate.inference.protocol import Event, FrameReader, Kind, Payload
from tidegate.inference.worker.leaving import leave

RECEIVE_BYTES = 1 << 18


class HungUp(Exception):
    """The frontend has closed its end."""


class UnexpectedFrame(Exception):
    """A frame that a worker does not expect: the other end is of another version, or the stream is damaged."""


class Channel:
    """Frames out and in. Only the process that made it may send: a fork of user code may come back here."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = FrameReader()
        self._frames: deque[tuple[int, Payload]] = deque()
        self._pid = os.getpid()
        self._sending = threading.Lock()

    def send(self, *events: Event) -> None:
        """Send the frames of `events` together. Raises `HungUp`."""
        if events:
            self.send_frame(b"".join(map(protocol.event_frame, events)))

    def send_frame(self, data: bytes) -> None:
        """Send what is a frame already, from any thread. Raises `HungUp`."""
        if os.getpid() != self._pid:
            leave(0)  # without running what the worker's own end would run
        try:
            with self._sending:
                self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise HungUp from None

    def receive(self, *, wait: bool) -> bool:
        """Take in what has come, and wait for a frame where there is none; False where the frontend has hung up."""
        wait = wait and not self._frames
        while True:
            try:
                data = self._socket.recv(RECEIVE_BYTES, 0 if wait else socket.MSG_DONTWAIT)
            except BlockingIOError:
                return True
            except ConnectionResetError:
                return False
            if not data:
                return False
            self._frames.extend(self._reader.feed(data))
            if self._frames or not wait:
                return True

    def next_frame(self, *expected: Kind) -> tuple[Kind, Payload] | None:
        """The next frame that has been received, which must be of one of these kinds. Raises `UnexpectedFrame`."""
        if not self._frames:
            return None
        number, payload = self._frames.popleft()
        for kind in expected:
            if kind == number:
                return kind, payload
        names = ", ".join(kind.name for kind in expected)
        raise UnexpectedFrame(f"a frame of the kind {number} came where {names} may come")

    def fileno(self) -> int:
        """The socket, which is readable when something has come."""
        return self._socket.fileno()
