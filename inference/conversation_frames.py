"""The frames of a conversation: one WebSocket of a client, carried between frontend and worker.

    frontend ▶ worker   OPEN     one opening                 call stream_fn
                        MESSAGE  one data frame              of the client
                        CLOSE    one farewell                the client left; or (GOING_AWAY) will be told to leave
                        PAUSE    u64 id                      the client does not read
                        RESUME   u64 id                      it reads again
    worker ▶ frontend   MESSAGE  one data frame              for the client
                        PAUSE    u64 id                      stream_fn does not read
                        RESUME   u64 id                      it reads again
                        CLOSE    one farewell                stream_fn has ended; exactly one for each OPEN

The kinds have their numbers in `protocol`, whose PAUSE and RESUME are also those of response streams: ids of
conversations begin at `FIRST_ID`, so that none is mistaken for a request's.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tidegate.inference.protocol import FRAME, Kind, Payload, frame, parse_id

_OPENING = struct.Struct("<QIIII")
_MESSAGE = struct.Struct("<QB")
_FAREWELL = struct.Struct("<QHH")

_TEXT, _LAST = 1, 2

FIRST_ID = 1 << 63
"""The ids of conversations."""


class Opening(NamedTuple):
    """A client that asks for a conversation. `path` and `query` are as it sent them, `headers` a block of lines."""

    id: int
    path: str
    query: str
    content_type: str
    headers: bytes


class Message(NamedTuple):
    """One data frame: UTF-8 where `is_text`; `is_last` where the message has no further frames."""

    id: int
    data: bytes
    is_text: bool
    is_last: bool


class Farewell(NamedTuple):
    """Why a conversation ends, as a WebSocket says it; with an `error` code where the model's side failed."""

    id: int
    code: int
    reason: str
    error: str = ""


def opening_frame(opening: Opening) -> bytes:
    """The OPEN frame."""
    parts = [text.encode("latin-1", "replace") for text in (opening.path, opening.query, opening.content_type)]
    head = _OPENING.pack(opening.id, *map(len, parts), len(opening.headers))
    return frame(Kind.OPEN, b"".join((head, *parts, opening.headers)))


def parse_opening(payload: Payload) -> Opening:
    """The opening of an OPEN payload."""
    id_, *sizes = _OPENING.unpack_from(payload)
    at, parts = _OPENING.size, []
    for size in sizes:
        parts.append(bytes(payload[at : at + size]))
        at += size
    path, query, content_type = (part.decode("latin-1") for part in parts[:3])
    return Opening(id_, path, query, content_type, parts[3])


def message_frame(message: Message) -> bytes:
    """The MESSAGE frame."""
    head = _MESSAGE.pack(message.id, _TEXT * message.is_text | _LAST * message.is_last)
    return b"".join((FRAME.pack(len(head) + len(message.data), Kind.MESSAGE), head, message.data))


def parse_message(payload: Payload) -> Message:
    """The data frame of a MESSAGE payload."""
    id_, flags = _MESSAGE.unpack_from(payload)
    return Message(id_, bytes(payload[_MESSAGE.size :]), bool(flags & _TEXT), bool(flags & _LAST))


def farewell_frame(farewell: Farewell) -> bytes:
    """The CLOSE frame."""
    error = farewell.error.encode()
    head = _FAREWELL.pack(farewell.id, farewell.code, len(error))
    return frame(Kind.CLOSE, head + error + farewell.reason.encode(errors="replace"))


def parse_farewell(payload: Payload) -> Farewell:
    """The farewell of a CLOSE payload."""
    id_, code, error_size = _FAREWELL.unpack_from(payload)
    at = _FAREWELL.size + error_size
    return Farewell(id_, code, payload[at:].decode(), payload[_FAREWELL.size : at].decode())


def is_of_conversation(kind: int, payload: Payload) -> bool:
    """Whether a frame is for or from a conversation."""
    if kind in (Kind.PAUSE, Kind.RESUME):
        return parse_id(payload) >= FIRST_ID
    return kind in (Kind.OPEN, Kind.MESSAGE, Kind.CLOSE)
