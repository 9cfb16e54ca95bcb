"""Bytes in, events out: what a client sends on one connection, without any I/O.

    Request ─ bytes… ─▶ END ─ Request ─ …            a head, the pieces of its body, its end; then the next
    UpgradeOffer                                     a head that asks for another protocol: nothing comes after it until
                                                     the offer is taken (`take_upgrade`) or declined (`decline_upgrade`)
    RequestError                                     the bytes are not HTTP, or are over a limit: nothing comes after it

llhttp (through httptools) parses, and refuses what smuggles.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final, Literal, NamedTuple

import httptools

from tidegate.inference.errors import (
    BadRequest,
    MethodNotAllowed,
    RequestError,
    UnknownTransferCoding,
    VersionNotSupported,
)
from tidegate.inference.frontend.http.limits import Framing, HeadLimit
from tidegate.inference.frontend.http.request import Request


class _Mark(Enum):
    END = auto()


END: Final = _Mark.END
"""The body is complete."""


class UpgradeOffer(NamedTuple):
    """The head of a request that the client would rather continue in another protocol."""

    request: Request


Event = Request | bytes | Literal[_Mark.END] | UpgradeOffer | RequestError


_VERSIONS = ("1.0", "1.1")


class RequestParser:
    """The requests of one connection."""

    def __init__(self, limit: HeadLimit) -> None:
        self._limit = limit
        self._llhttp = httptools.HttpRequestParser(self)
        self._events: list[Event] = []
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._offer: Request | None = None
        self._rest = b""
        self._in_body = False
        self._parts = 0
        self._open_part = 0
        """The number of the head, or of what came after a chunk's size and may be trailers, that is not complete."""
        self._part_bytes = 0
        """Those of the open part that came after the piece in which it began."""
        self._most_bytes = 0
        """The same with all of that piece."""
        self._fed_bytes = 0
        self._in_chunks = 0
        """The number of the part with which the message began whose chunks are coming, or 0."""
        self._framing = Framing(limit.max_bytes)

    def feed(self, data: bytes) -> list[Event]:
        """What `data` completes. An error is the last event of this parser."""
        events = self._events = []
        part, chunks, self._fed_bytes = self._open_part, self._in_chunks, len(data)
        if part:
            self._part_bytes += len(data)
            self._most_bytes += len(data)
        try:
            self._llhttp.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            self._rest = data[stop.args[0] :]
            events.append(self._offered())
        except httptools.HttpParserError as broken:
            events.append(BadRequest(f"The request is not valid HTTP/1.1: {broken}."))
        # llhttp keeps a header until it is whole, and trailers are told to nobody: endless ones are only seen here.
        if (
            part == self._open_part > 0
            and (error := self._limit.error(self._part_bytes, len(self._headers))) is not None
        ):
            events.append(error)
        elif chunks == self._in_chunks > 0 or not (events or self._open_part):
            self._framing.add(len(data), sum([len(event) for event in events if type(event) is bytes]))
            if (too_much := self._framing.error()) is not None:
                events.append(too_much)
        elif self._framing.bytes:
            self._framing = Framing(self._limit.max_bytes)
        self._events = []  # an idle connection keeps nothing of what it has read
        return events

    @property
    def in_head(self) -> bool:
        """Whether a head has begun and is not complete."""
        return self._open_part > 0 and not self._in_body

    def decline_upgrade(self) -> list[Event]:
        """Read the request once more without its offer, as HTTP allows.

        Java's client makes an offer with every first request, body and all; llhttp would skip that body.
        """
        offered, self._offer = self._offer, None
        if offered is None:
            return []
        offer = (b"upgrade", b"connection", b"http2-settings")
        offered.headers = [header for header in offered.headers if header[0] not in offer]
        offered.headers.append((b"connection", b"close"))
        self._llhttp = httptools.HttpRequestParser(self)
        return self.feed(offered.head_bytes() + self.take_upgrade())

    def take_upgrade(self) -> bytes:
        """The bytes that came after the head: they belong to the other protocol."""
        rest, self._rest, self._offer = self._rest, b"", None
        return rest

    def _open(self) -> None:
        self._parts += 1
        self._open_part, self._part_bytes, self._most_bytes = self._parts, 0, self._fed_bytes

    def _offered(self) -> Event:
        if self._offer is None or self._offer.method == "CONNECT":  # without its offer it would still be one
            return MethodNotAllowed("CONNECT is not supported: this server is not a proxy.")
        return UpgradeOffer(self._offer)

    # --- called by httptools

    def on_message_begin(self) -> None:
        self._in_body = False
        self._open()
        self._target, self._headers = b"", []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer is no header: nobody on the way who looked at the headers has seen it.
        if not self._in_body:
            # llhttp leaves the white space behind a value, which is no part of it (RFC 9110 section 5.5).
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self._open_part, self._in_body = 0, True
        headers, size, limit = self._headers, self._most_bytes, self._limit
        if size > limit.max_bytes:  # with what came in one piece with it; so now exactly
            size = len(self._target) + sum([len(name) + len(value) + 4 for name, value in headers])
        over = size > limit.max_bytes or len(headers) > limit.max_count
        if over and (too_large := limit.error(size, len(headers))) is not None:
            self._events.append(too_large)
            return
        llhttp = self._llhttp
        version = llhttp.get_http_version()
        if version not in _VERSIONS:
            self._events.append(VersionNotSupported(f"HTTP/{version} is not spoken here; HTTP/1.1 and HTTP/1.0 are."))
            return
        request = Request(
            method=llhttp.get_method().decode("latin-1"),
            target=self._target,
            headers=headers,
            keep_alive=llhttp.should_keep_alive(),
            takes_chunks=version == "1.1",
        )
        if llhttp.should_upgrade():
            self._offer = request
        else:
            by_name = request.by_name
            plain = b"host" in by_name and len(by_name) == len(headers) and b"transfer-encoding" not in by_name
            self._events.append(request if plain else _ambiguity(request) or request)

    def on_chunk_header(self) -> None:
        if not self._in_chunks:
            self._in_chunks = self._parts
        self._open()

    def on_body(self, body: bytes) -> None:
        self._open_part = 0
        self._events.append(body)

    def on_message_complete(self) -> None:
        self._open_part = self._in_chunks = 0
        if self._offer is None:
            self._events.append(END)


def _ambiguity(request: Request) -> RequestError | None:
    """What another server on the way could have read otherwise, beyond what llhttp refuses."""
    if (coding := request.header(b"transfer-encoding")) and coding.lower() != "chunked":
        return UnknownTransferCoding(f"The Transfer-Encoding '{coding[:100]}' is not read here; only chunked is.")
    if (hosts := request.count(b"host")) != 1 and (hosts or request.takes_chunks):
        if hosts:
            return BadRequest("The request has more than one Host header.")
        return BadRequest("The request has no Host header, which HTTP/1.1 demands (RFC 9112 section 3.2).")
    return None
