"""Bodies that a client has packed, as its Content-Encoding says: unpacked before user code sees them.

In the worker, because it takes time. What a body may unpack to is bounded while it is unpacked: a gzip file of one
megabyte holds a gigabyte of zeros. What cannot be unpacked is the client's mistake.
"""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Protocol

from inference.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType

Body = bytes | bytearray | memoryview

_GZIP, _DEFLATE = ("gzip", "x-gzip"), ("deflate",)
_MAX_CODINGS = 2
"""Each one more costs as much again, and nobody packs what is packed."""
_PIECE_BYTES = 1 << 20


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...


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
    source: _Source = gzip.GzipFile(fileobj=io.BytesIO(body)) if coding in _GZIP else _Inflated(body)
    unpacked = bytearray()
    try:
        while piece := source.read(_PIECE_BYTES):
            unpacked += piece
            if len(unpacked) > limit:
                raise PayloadTooLarge(f"The body unpacks to more than {limit} bytes, which is the limit.")
    except EOFError:
        raise BadRequest(f"The body ends before its Content-Encoding '{coding}' does: it is cut off.") from None
    except (OSError, zlib.error):
        raise BadRequest(f"The body is not what its Content-Encoding '{coding}' says, or it is damaged.") from None
    return unpacked


class _Inflated:
    """A body of the coding deflate: a zlib stream (RFC 9110, 8.4.1.2), or a raw one, as some clients send it."""

    def __init__(self, body: Body) -> None:
        head = bytes(body[:2])
        has_header = len(head) == 2 and head[0] & 0x0F == zlib.DEFLATED and int.from_bytes(head) % 31 == 0
        self._stream = zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)
        self._rest: Body = body

    def read(self, size: int, /) -> bytes:
        if self._stream.eof:
            if self._stream.unused_data:
                raise zlib.error("something follows the end of the stream")
            return b""
        piece = self._stream.decompress(self._rest, size)
        self._rest = self._stream.unconsumed_tail
        if not piece and not self._stream.eof:
            raise EOFError
        return piece
