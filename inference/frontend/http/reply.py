"""The reply of one request on its connection: the events of a response become bytes, in the framing that fits.

The head waits for the first part of the body, so that a plain answer is one write.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.response import LAST_CHUNK, encode_chunk, encode_head, error_response
from tidegate.inference.frontend.queue.reply import Failure

if TYPE_CHECKING:
    from tidegate.inference.errors import RequestError
    from tidegate.inference.frontend.http.connection import Connection
    from tidegate.inference.frontend.http.responders import Responder
    from tidegate.inference.frontend.metrics import StreamMetrics


class HttpReply:
    """What a connection keeps of a request until it is answered, and the sink of its response."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_head",
        "_left_bytes",
        "_silent",
        "_streams",
        "begun_s",
        "keep_alive",
        "refusal",
        "request",
        "reserved_bytes",
        "responder",
        "status",
        "whole",
    )

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self.request = request
        self.responder: Responder | None = None
        """What answers it; None where it was not admitted."""
        self.refusal: RequestError | None = None
        """Why it was not admitted, where its body is short enough to be read past and the connection kept."""
        self.reserved_bytes = 0
        """What is held of the byte budget for its body."""
        self.begun_s = 0.0
        """When the request was whole and its turn came."""
        self.status = 0
        """0 until the response begins."""
        self.keep_alive = False
        """Whether the connection goes on after the response; known when it begins."""
        self.whole = False
        """Whether nothing more of the response is to come."""
        self._silent = request.method == "HEAD"
        self._chunked = False
        self._head = b""
        self._left_bytes: int | None = None
        self._streams: StreamMetrics | None = None
        """Where it is counted as an open stream, while it is one."""

    @property
    def streams(self) -> bool:
        """Whether a part of the response is out and another is to come."""
        return self.status > 0 and not self._head and not self.whole and self._left_bytes != 0

    def start(self, status: int, content_type: str, headers: bytes, length: int | None) -> None:
        """Begin the response; see `queue.reply.Reply`."""
        self.status, self._left_bytes = status, length
        self.keep_alive = self.request.keep_alive and not self._connection.application.draining
        self._chunked = length is None and self.request.takes_chunks
        if length is None and not self._chunked:
            self.keep_alive = False  # to a client of HTTP/1.0 the end of the connection is the end of the body
        self._head = encode_head(
            status, content_type, headers, length, chunked=self._chunked, keep_alive=self.keep_alive
        )

    def write(self, data: bytes) -> None:
        """Send a part of the body, at once."""
        if self._silent or not data:
            return
        head, self._head = self._head, b""
        if self._left_bytes is None:
            self._write_part(head, encode_chunk(data) if self._chunked else data)
        else:
            self._left_bytes -= len(data)
            self._connection.outgoing.send(head, data)

    def _write_part(self, head: bytes, data: bytes) -> None:
        if head and self.responder is not None and self.responder.metrics is not None:
            self._streams = self.responder.metrics.streams
            self._streams.opened(monotonic() - self.begun_s)
        if self._streams is not None:
            self._streams.chunks += 1
        self._connection.outgoing.send_part(head + data)

    def end(self) -> None:
        """The body is complete."""
        if self._left_bytes and not self._silent:
            self._break_off("short")  # fewer bytes than were announced: the client must not take them for all
            return
        self.whole = True
        if self._streams is not None:
            self.stream_over()
        rest = LAST_CHUNK if self._chunked and not self._silent else b""
        if self._head or rest:
            self._connection.outgoing.send(self._head, rest)
            self._head = b""
        self._connection.answered(self)

    def fail(self, error: Failure) -> None:
        """End with `error`: a response of its own while nothing is out, else a body that is visibly broken off."""
        if self.status and not self._head:
            self._break_off(error.code)
        else:
            error_response(error, self.request.id, open_inference=self.request.open_inference).send(self)

    def stream_over(self, broken_by: str = "") -> None:
        """It is no open stream any more, where it was one."""
        if self._streams is not None:
            self._streams.closed(broken_by)
            self._streams = None

    def _break_off(self, reason: str) -> None:
        self.stream_over(reason)
        self.whole, self.keep_alive = True, False
        # Where the end of the connection is the end of the body, only a reset says that something is missing.
        self._connection.break_off(self, reset=self._left_bytes is None and not self._chunked)
