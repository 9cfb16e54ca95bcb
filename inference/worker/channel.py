"""The worker's end of the socket to the frontend."""

from __future__ import annotations

import os
import socket
from collections import deque

from tidegate.inference import protocol
from tidegate.inference.protocol import Event, FrameReader, Kind, Payload

RECEIVE_BYTES = 1 << 18


class HungUp(Exception):
    """The frontend has closed its end, or this process is not the one that may speak."""


class UnexpectedFrame(Exception):
    """A frame that a worker does not expect: the other end is of another version, or the stream is damaged."""


class Channel:
    """Frames out and in. Only the process that made it may send: a fork of user code may come back here."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = FrameReader()
        self._frames: deque[tuple[int, Payload]] = deque()
        self._pid = os.getpid()

    def send(self, *events: Event) -> None:
        """Send the frames of `events` together. Raises `HungUp`."""
        self.send_frame(b"".join(map(protocol.event_frame, events)))

    def send_frame(self, data: bytes) -> None:
        """Send what is a frame already. Raises `HungUp`."""
        if os.getpid() != self._pid:
            raise HungUp
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise HungUp from None

    def next_frame(self, *expected: Kind) -> tuple[Kind, Payload] | None:
        """Wait for a frame of one of these kinds; None where the frontend hangs up. Raises `UnexpectedFrame`."""
        while not self._frames:
            data = self._receive()
            if not data:
                return None
            self._frames.extend(self._reader.feed(data))
        number, payload = self._frames.popleft()
        for kind in expected:
            if kind == number:
                return kind, payload
        names = ", ".join(kind.name for kind in expected)
        raise UnexpectedFrame(f"a frame of the kind {number} came where {names} may come")

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(RECEIVE_BYTES)
        except ConnectionResetError:
            return b""
