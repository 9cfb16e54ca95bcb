"""A client of streams that notes when each piece of the socket came, and takes the chunks apart afterwards."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from bisect import bisect_left
from dataclasses import dataclass

from benchmarks.load import HOST

END = b"\r\n0\r\n\r\n"
STREAM_TIMEOUT_S = 120.0


class Broken(Exception):
    """A stream without its end, or none at all; the text says how it went."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One chunk as the server cut it, with the moment in `time.monotonic_ns` at which its last byte was here."""

    data: bytes
    arrived_ns: int


class Reader(asyncio.Protocol):
    """One connection, one stream."""

    def __init__(self) -> None:
        self.asked_ns = 0
        self.pieces: list[tuple[int, bytes]] = []
        self.transport: asyncio.Transport | None = None
        self.ended = asyncio.get_running_loop().create_future()
        self.begun = asyncio.get_running_loop().create_future()
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.monotonic_ns(), data))
        if not self.begun.done():
            self.begun.set_result(None)
        self._tail = (self._tail + data)[-len(END) :]
        if self._tail == END and not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        for each in (self.begun, self.ended):
            if not each.done():
                each.set_exception(Broken(f"the connection ended after {self.raw()[-200:]!r}: {exc}"))
                each.exception()  # read here, because not everybody waits for both

    def vanish(self) -> None:
        """Leave as a process that was killed does: with a reset."""
        assert self.transport is not None
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.transport.abort()

    def raw(self) -> bytes:
        return b"".join(piece for _, piece in self.pieces)

    def chunks(self) -> list[Chunk]:
        """The whole stream, taken apart. Raises `Broken` for anything but a complete chunked 200."""
        raw = self.raw()
        head, _, body = raw.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 ") or b"chunked" not in head.lower():
            raise Broken(f"no stream: {raw[:300]!r}")
        ends = list(itertools.accumulate(len(piece) for _, piece in self.pieces))
        found, at = [], 0
        while at < len(body):
            line, _, _ = body[at:].partition(b"\r\n") if len(body) - at < 64 else body[at : at + 64].partition(b"\r\n")
            size, start = int(line, 16), at + len(line) + 2
            if size == 0:
                return found
            last = len(head) + 4 + start + size
            moment, _ = self.pieces[bisect_left(ends, last)]
            found.append(Chunk(data=body[start : start + size], arrived_ns=moment))
            at = start + size + 2
        raise Broken("the stream has no end")


async def begin(port: int, path: str, asked: bytes) -> Reader:
    """Ask for a stream; its first bytes, or its failure, are still to come."""
    _, reader = await asyncio.get_running_loop().create_connection(Reader, HOST, port)
    assert reader.transport is not None
    head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
    reader.asked_ns = time.monotonic_ns()
    reader.transport.write(f"{head}Content-Length: {len(asked)}\r\n\r\n".encode() + asked)
    return reader


async def whole(port: int, path: str, asked: bytes) -> Reader:
    """Ask for a stream and read it to its end. Raises `Broken`."""
    reader = await begin(port, path, asked)
    try:
        await asyncio.wait_for(reader.ended, STREAM_TIMEOUT_S)
    except TimeoutError:
        raise Broken(f"no end after {STREAM_TIMEOUT_S:g} s: {reader.raw()[-200:]!r}") from None
    finally:
        close(reader)
    return reader


def close(reader: Reader) -> None:
    """Close the connection in peace."""
    if reader.transport is not None:
        reader.transport.close()
