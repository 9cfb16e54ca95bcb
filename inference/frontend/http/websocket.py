"""One WebSocket without I/O: `feed` takes the socket's bytes and returns events, `take` has the bytes to write.

    HTTP request ─ WebSocket(…) ─▶ open ─ Close from either side ─▶ closing ─ Close from the other, or its end ─▶ over

`websockets` reads and writes the frames (docs/decisions/0012): masks, lengths, the order of fragments, pongs, the echo
of a Close. What it leaves to its user is here: text must be UTF-8 across fragments, a reason fits its frame, and
nothing is reported after a Close. No extension is negotiated, so a frame is what it is on the wire.
"""

from __future__ import annotations

import logging
from codecs import getincrementaldecoder
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import Protocol, Side, State
from websockets.server import ServerProtocol

from tidegate.inference.errors import BadRequest

NORMAL = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
NO_CODE = 1005
"""The client's Close frame named no code. Never on the wire, as the next."""
BROKEN_OFF = 1006
"""The connection ended without a Close frame."""
INVALID_TEXT = 1007
TOO_BIG = 1009
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013
"""RFC 6455 section 7.4.1, and 1013 of the IANA registry."""

MAX_REASON_BYTES = 123
"""A control frame carries 125 bytes, and the code takes two (RFC 6455 section 5.5)."""

_UTF8 = getincrementaldecoder("utf-8")
_library_log = logging.getLogger("tidegate.websocket")
_library_log.setLevel(logging.WARNING)  # it has a line for the end of each connection


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketLimits:
    """What a client may send: bytes of a message, in however many frames it comes, and bytes of a frame."""

    message_bytes: int
    frame_bytes: int


class Fragment(NamedTuple):
    """One data frame: a whole message where it is the first and `is_last`. Text is UTF-8 that may end in a character.

    `is_text` says of every frame of a message what the first one said.
    """

    data: bytes
    is_text: bool
    is_last: bool


class Pong(NamedTuple):
    """The client answered a ping."""

    payload: bytes


class Closed(NamedTuple):
    """The last event: the client sent a Close, left without one (1006), or broke a rule and is told `code`."""

    code: int
    reason: str


Event = Fragment | Pong | Closed


def is_opening(method: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request asks for a WebSocket; names of headers are lower-case. Other upgrades may be ignored."""
    return method == "GET" and any(name == b"upgrade" and value.lower() == b"websocket" for name, value in headers)


class WebSocket:
    """The server's side of one connection, from the request that opens it to the last byte."""

    def __init__(
        self,
        target: str,
        headers: Iterable[tuple[bytes, bytes]],
        limits: WebSocketLimits,
        said: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the opening request; `take` has the 101, with the headers in `said`.

        Raises `BadRequest` where it is no opening of RFC 6455.
        """
        lines = Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers])
        if lines.get("Content-Length", "0") != "0" or "Transfer-Encoding" in lines:
            raise BadRequest("The request that opens a WebSocket has no body.")
        handshake = ServerProtocol(logger=_library_log)
        response = handshake.accept(Request(target, lines))
        if response.status_code != 101:
            raise BadRequest(f"The WebSocket cannot be opened: {handshake.handshake_exc}.")
        response.headers.update(said or {})
        self._greeting = response.serialize()
        _take_apart(handshake)
        # One object for both would want to read the request itself.
        sizes = (limits.message_bytes, limits.frame_bytes)
        self._protocol = Protocol(Side.SERVER, max_size=sizes, logger=_library_log)
        self._is_text = False
        self._text = _UTF8()
        self._closed = False

    # --- what comes

    def feed(self, data: bytes) -> list[Event]:
        """The events of the socket's next bytes. `take` may have pongs or a Close to write afterwards."""
        if self._protocol.reader.eof:
            return []
        self._protocol.receive_data(data)
        return self._events()

    def end(self) -> list[Event]:
        """The events of the socket's end."""
        self._protocol.receive_eof()
        return self._events()

    def forget(self) -> None:
        """Let go of everything: the socket is gone. Nothing is called afterwards."""
        _take_apart(self._protocol)

    def _events(self) -> list[Event]:
        events: list[Event] = []
        for frame in self._protocol.events_received():
            if self._closed or not isinstance(frame, Frame):
                continue
            if frame.opcode is Opcode.PONG:
                events.append(Pong(bytes(frame.data)))
            elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                fragment = self._fragment(frame)
                events.append(fragment or self._closes(INVALID_TEXT, "A text message is not valid UTF-8."))
        protocol = self._protocol
        if not self._closed and protocol.state is not State.OPEN:
            # A Close that came is echoed; one that the library sent by itself says what rule was broken.
            found = protocol.close_rcvd if protocol.parser_exc is None else protocol.close_sent
            self._closed = True
            events.append(Closed(found.code, found.reason) if found else Closed(BROKEN_OFF, ""))
        return events

    def _fragment(self, frame: Frame) -> Fragment | None:
        if frame.opcode is not Opcode.CONT:
            self._is_text = frame.opcode is Opcode.TEXT
            self._text.reset()
        if self._is_text:
            try:
                self._text.decode(frame.data, frame.fin)
            except UnicodeDecodeError:
                return None
        return Fragment(bytes(frame.data), self._is_text, frame.fin)

    def _closes(self, code: int, reason: str) -> Closed:
        self._closed = True
        self._protocol.fail(code, reason)
        return Closed(code, reason)

    # --- what goes

    def send(self, data: bytes, *, is_text: bool, is_last: bool = True) -> None:
        """Write one data frame; each after one that was not the last goes on with the same message.

        After a Close, from either side, it goes nowhere.
        """
        if self._closed:
            return
        if self._protocol.expect_continuation_frame:
            self._protocol.send_continuation(data, is_last)
        elif is_text:
            self._protocol.send_text(data, is_last)
        else:
            self._protocol.send_binary(data, is_last)

    @property
    def in_message(self) -> bool:
        """Whether a message was begun that has no last frame yet: nothing else can be said before."""
        return self._protocol.expect_continuation_frame

    def ping(self, payload: bytes) -> None:
        """Ask whether the client is there; payload: at most 125 bytes."""
        if not self._closed:
            self._protocol.send_ping(payload)

    def close(self, code: int, reason: str) -> None:
        """Send the Close; `reason` is cut to what its frame holds. What still comes is no event any more."""
        if self._closed:
            return
        self._closed = True
        self._protocol.send_close(code, fitting(reason))

    def take(self) -> bytes:
        """The bytes to write now. The socket has to be closed behind them where `is_over`."""
        greeting, self._greeting = self._greeting, b""
        return b"".join((greeting, *self._protocol.data_to_send()))

    @property
    def waiting_bytes(self) -> int:
        """The bytes of a frame that is not whole yet."""
        return len(self._protocol.reader.buffer)

    @property
    def is_closed(self) -> bool:
        """Whether a Close was sent or has come, or the connection is broken."""
        return self._closed

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be written: the server is the one that closes the socket (RFC 6455 7.1.1)."""
        return self._protocol.eof_sent


def _take_apart(protocol: Protocol) -> None:
    """End the circles that it makes with its parser, and with the exception that ended that.

    Until a collection, half a message would stay with them: megabytes for which nobody is counted any more.
    """
    protocol.parser.close()
    protocol.parser_exc = None


def fitting(reason: str) -> str:
    """`reason` as far as a Close frame holds it, without half a character at the end."""
    encoded = reason.encode(errors="replace")
    return encoded[:MAX_REASON_BYTES].decode(errors="ignore")
