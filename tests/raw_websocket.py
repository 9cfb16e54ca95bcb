"""Frames and an opening request by hand, as RFC 6455 has them: a client that shares no code with the server."""

from __future__ import annotations

import struct

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""What RFC 6455 section 1.3 answers to that key."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


def opening(path: str = "/invocations-bidirectional-stream", *more: bytes) -> bytes:
    """A whole request that opens a WebSocket."""
    lines = [
        f"GET {path} HTTP/1.1".encode(),
        b"Host: localhost",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Key: " + KEY,
        b"Sec-WebSocket-Version: 13",
        *more,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """A client's frame; the mask is fixed, which no server can tell from a random one."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    if len(data) < 126:
        head += bytes([mask_bit | len(data)])
    elif len(data) < 65536:
        head += struct.pack("!BH", mask_bit | 126, len(data))
    else:
        head += struct.pack("!BQ", mask_bit | 127, len(data))
    if not masked:
        return head + data
    mask = b"\x01\x02\x03\x04"
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(data))


def close(code: int | None = None, reason: bytes = b"") -> bytes:
    """A client's Close."""
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def parse(data: bytes) -> list[tuple[int, bool, bytes]]:
    """What a server sent, as (opcode, FIN, payload): unmasked frames and nothing else."""
    found = []
    at = 0
    while at < len(data):
        first, length = data[at], data[at + 1]
        at += 2
        assert not length & 0x80, "a server masks nothing"
        if length == 126:
            (length,) = struct.unpack_from("!H", data, at)
            at += 2
        elif length == 127:
            (length,) = struct.unpack_from("!Q", data, at)
            at += 8
        assert at + length <= len(data), "half a frame"
        found.append((first & 0x0F, bool(first & 0x80), data[at : at + length]))
        at += length
    return found


def closing(code: int) -> bytes:
    """The beginning of a Close frame's payload."""
    return struct.pack("!H", code)
