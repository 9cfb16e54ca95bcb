"""A WebSocket client by hand on a blocking socket: what it sends is what the test wrote, byte for byte."""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

from tests.contract.running import Server
from tests.raw_websocket import ACCEPT, BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame, opening

PATH = "/invocations-bidirectional-stream"
PATIENCE_S = 60.0


class Refused(Exception):
    """The server answered with a status of HTTP instead."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body!r}")
        self.status, self.body = status, body


class Talker:
    """One connection. Received frames are (opcode, FIN, payload)."""

    def __init__(self, server: Server, path: str = PATH, *headers: bytes) -> None:
        """Open it. Raises `Refused`."""
        self.socket = server.socket()
        self.socket.settimeout(PATIENCE_S)
        self._received = b""
        self.socket.sendall(opening(path, *headers))
        head = self._until(b"\r\n\r\n")
        status = int(head.split(b" ")[1])
        if status != 101:
            with self.socket:
                raise Refused(status, self._received + self.socket.recv(65536))
        assert ACCEPT in head

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def _until(self, end: bytes) -> bytes:
        while end not in self._received:
            piece = self.socket.recv(65536)
            assert piece, f"the server hung up after {self._received!r}"
            self._received += piece
        found, _, self._received = self._received.partition(end)
        return found

    # --- out

    def say(self, data: str | bytes, *, fin: bool = True, more: bool = False) -> None:
        """Send a frame; `more`: of the message that was begun."""
        kind = CONTINUATION if more else TEXT if isinstance(data, str) else BINARY
        self.socket.sendall(frame(kind, data.encode() if isinstance(data, str) else data, fin=fin))

    def ping(self, data: bytes = b"") -> None:
        self.socket.sendall(frame(PING, data))

    def close(self, code: int = 1000) -> None:
        self.socket.sendall(close(code))

    def vanish(self) -> None:
        """Be gone without a word, as a machine is that loses its power (and comes back)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # --- in

    def frame(self) -> tuple[int, bool, bytes]:
        """The next frame. Fails where the server hangs up."""
        first, length = self._exactly(2)
        assert not length & 0x80, "a server masks nothing"
        if length == 126:
            (length,) = struct.unpack("!H", self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._exactly(8))
        return first & 0x0F, bool(first & 0x80), self._exactly(length)

    def hear(self) -> str | bytes:
        """The next message, which has one frame; pings are answered."""
        while True:
            kind, fin, data = self.frame()
            if kind == PING:
                self.socket.sendall(frame(PONG, data))
                continue
            assert fin, "a fragment"
            assert kind in (TEXT, BINARY), (kind, data)
            return data.decode() if kind == TEXT else data

    def farewell(self) -> tuple[int, str]:
        """The code and the reason of the Close that comes next, and then the end."""
        kind, _, data = self.frame()
        assert kind == CLOSE, (kind, data)
        self.socket.sendall(frame(CLOSE, data))
        assert self.socket.recv(1) == b""
        return struct.unpack("!H", data[:2])[0] if data else 1005, data[2:].decode()

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            piece = self.socket.recv(65536)
            assert piece, f"the server hung up after {self._received!r}"
            self._received += piece
        data, self._received = self._received[:size], self._received[size:]
        return data
