"""A connection as a file, of which somebody else has read the beginning."""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Received(io.RawIOBase):
    """What was received, and then what comes. Closing it leaves the connection open."""

    def __init__(self, connection: socket.socket, received: bytes) -> None:
        self._connection = connection
        self._received = memoryview(received)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if not self._received:
            try:
                return self._connection.recv_into(buffer)
            except BlockingIOError:
                return None
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._received))
        view[:count] = self._received[:count]
        self._received = self._received[count:]
        return count

    def makefile(self, mode: str) -> io.BufferedReader:
        """What :class:`http.client.HTTPResponse` asks of a socket."""
        del mode  # it reads
        return io.BufferedReader(self)
