"""Bodies that a client has packed, as its Content-Encoding says: unpacked before user code sees them.

In the worker, because it takes time. What a body may unpack to is bounded while it is unpacked: a gzip file of one
megabyte holds a gigabyte of zeros. What cannot be unpacked is the client's mistake.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator

from tidegate.inference.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType

Body = bytes | bytearray | memoryview

_GZIP, _DEFLATE = ("gzip", "x-gzip"), ("deflate",)
_GZIP_BITS = 16 + zlib.MAX_WBITS
"""By which zlib knows that a stream has gzip's header."""
_MAX_MEMBERS = 100_000
_MAX_CODINGS = 2
"""Each one more costs as much again, and clients do not pack what is packed."""
_STEP_BYTES, _PIECE_BYTES = 1 << 11, 1 << 20


def unpack(body: Body, encoding: str, max_decoded_bytes: int) -> Body:
    """The body without the codings that the header names, the last one first.

    Raises `UnsupportedMediaType` for other codings than gzip, deflate and identity, `PayloadTooLarge` for what unpacks
    to more than the limit, and `BadRequest` for what is damaged.
    """
    codings = [coding for part in encoding.lower().split(",") if (coding := part.strip()) not in ("", "identity")]
    unknown = next((coding for coding in codings if coding not in _GZIP + _DEFLATE), None)
    if unknown is not None:
        raise UnsupportedMediaType(
            f"Content-Encoding '{unknown[:40]}' cannot be unpacked; send gzip, deflate, or the body as it is."
        )
    if len(codings) > _MAX_CODINGS:
        raise UnsupportedMediaType(
            f"Content-Encoding names {len(codings)} codings, one upon the other; at most {_MAX_CODINGS} are unpacked."
        )
    for coding in reversed(codings):
        body = _unpacked(body, coding, max_decoded_bytes)
    return body


def _unpacked(body: Body, coding: str, limit: int) -> bytearray:
    unpacked = bytearray()
    try:
        for piece in _members(memoryview(body)) if coding in _GZIP else _deflated(memoryview(body)):
            unpacked += piece
            if len(unpacked) > limit:
                raise PayloadTooLarge(f"The body unpacks to more than {limit} bytes, which is the limit.")
    except EOFError:
        raise BadRequest(f"The body ends before its Content-Encoding '{coding}' does: it is cut off.") from None
    except zlib.error:
        raise BadRequest(f"The body does not match its Content-Encoding '{coding}', or it is damaged.") from None
    return unpacked


def _members(body: memoryview) -> Iterator[bytes]:
    """A gzip file is any number of members, one after the other; zeros may follow the last (RFC 1952, 2.2)."""
    at = 0
    for _ in range(_MAX_MEMBERS):
        at = yield from _stream(body, at, _GZIP_BITS)
        if not any(body[at : at + 1]) and not any(body[at:]):
            return
    raise zlib.error("more members than any writer makes")


def _deflated(body: memoryview) -> Iterator[bytes]:
    """Deflate is a zlib stream (RFC 9110, 8.4.1.2), or a raw one, as some clients send it."""
    has_header = len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0
    at = yield from _stream(body, 0, zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
    if at < len(body):
        raise zlib.error("something follows the end of the stream")


def _stream(body: memoryview, at: int, bits: int) -> Generator[bytes, None, int]:
    """The bytes of the stream that begins at `at`; returns where it ends. Raises `EOFError` where it does not."""
    stream = zlib.decompressobj(bits)
    while not stream.eof:
        packed: bytes | memoryview = stream.unconsumed_tail
        if not packed:
            # In small steps: what follows the end of a stream is copied.
            packed = body[at : at + _STEP_BYTES]
            at += len(packed)
            if not packed:
                raise EOFError
        yield stream.decompress(packed, _PIECE_BYTES)
    return at - len(stream.unused_data)
