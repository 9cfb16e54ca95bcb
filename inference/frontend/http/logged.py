"""The server of a batch transform job: it logs one line for each request, when its response is over.

Nobody reads `/metrics` of a transform job, and its containers are gone when it ends: these lines are what is left of
its requests, for `tidegate batch report`. A server that is no transform job's imports none of this.
"""

from __future__ import annotations

import logging
import zlib
from time import monotonic
from typing import Any

from tidegate.inference.errors import RequestError
from tidegate.inference.frontend.http.application import Application
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import Responder
from tidegate.inference.frontend.idle_exit import counts
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.queue.body import MemoryBody
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.frontend.queue.reply import Failure, Reply

log = logging.getLogger("tidegate.requests")

HEAD_BYTES = 4096
"""How much of a body its checksums are of: enough to find it again among the input, and soon reckoned."""
_LEFT = "client_left"
_LONGEST_SENTENCE = 1000


class LoggedApplication(Application):
    """`Application` with a line for each request that asks for work."""

    def admit(self, request: Request) -> Responder:
        """See `Application.admit`."""
        responder = super().admit(request)
        return _LoggedResponder(responder, monotonic()) if counts(request.method, request.path) else responder

    def refused(self, request: Request, error: RequestError) -> None:
        """Log a request that no responder has begun to answer."""
        if counts(request.method, request.path):
            _Line(request, monotonic()).failed(error)


class _Line:
    """What is noted of one request until its end."""

    __slots__ = ("_fields", "_over", "_response_bytes", "_started_s", "_status", "pending")

    def __init__(self, request: Request, started_s: float) -> None:
        self._started_s = started_s
        self._status = 0
        self._response_bytes = 0
        self._over = False
        self._fields: dict[str, Any] = {
            "request_id": request.id,
            "request_bytes": max(request.body.size, request.content_length),
        }
        self.pending: PendingRequest | None = None
        # A larger one is in a file, which is not read for this; of one that was refused nothing was kept.
        if isinstance(request.body, MemoryBody) and request.body.size:
            self._fields |= _seen_of(request.body)

    def started(self, status: int) -> None:
        self._status = status

    def wrote(self, size: int) -> None:
        self._response_bytes += size

    def failed(self, error: Failure) -> None:
        """End it with an error, which after the beginning of the response has no status of its own any more."""
        self.end(self._status or error.status, {"code": error.code, "error": error.message[:_LONGEST_SENTENCE]})

    def left(self) -> None:
        """End it with the client gone before all of the response was there."""
        self.end(self._status, {"code": _LEFT, "error": "The client did not wait for the response."})

    def end(self, status: int = 0, failure: dict[str, Any] | None = None) -> None:
        """Log it, once."""
        if self._over:
            return
        self._over = True
        now_s = monotonic()
        times: dict[str, Any] = {"duration_ms": _ms(now_s - self._started_s)}
        if (pending := self.pending) is not None and pending.queued_s:
            given_s = pending.sent_s if pending.sent_s >= pending.queued_s else now_s
            times |= {"queue_ms": _ms(given_s - pending.queued_s), "worker_ms": _ms(now_s - given_s)}
            if pending.isolated or pending.losses_not_begun or pending.deaths_isolated:
                times["tried_again"] = True
        log.info(
            "request",
            extra={
                **self._fields,
                "status": status or self._status,
                "response_bytes": self._response_bytes,
                **times,
                **(failure or {}),
            },
        )


def _seen_of(body: MemoryBody) -> dict[str, Any]:
    """How many lines it has, and by what it is known again: checksums of its first line, and of its beginning."""
    head = body.beginning(HEAD_BYTES)
    line = head.partition(b"\n")[0].removesuffix(b"\r")
    return {
        "lines": body.count(b"\n") + (not body.ends_with_newline),
        "line_crc32": f"{zlib.crc32(line):08x}",
        "head_crc32": f"{zlib.crc32(head):08x}",
    }


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)


class _LoggedResponder:
    """A responder whose reply ends a line; see `Responder`."""

    __slots__ = ("_line", "_responder", "_started_s")

    def __init__(self, responder: Responder, started_s: float) -> None:
        self._responder = responder
        self._started_s = started_s
        self._line: _Line | None = None

    @property
    def metrics(self) -> ModelMetrics | None:
        return self._responder.metrics

    @property
    def pending(self) -> PendingRequest | None:
        return self._responder.pending

    def begin(self, request: Request, reply: Reply) -> None:
        line = self._line = _Line(request, self._started_s)
        try:
            self._responder.begin(request, _LoggedReply(reply, line, self._responder))
        except RequestError as error:
            line.failed(error)
            raise
        except BaseException:
            line.end(RequestError.status, {"code": RequestError.code})
            raise

    def cancel(self) -> None:
        if self._line is not None:
            self._line.pending = self.pending
            self._line.left()
        self._responder.cancel()

    def pause(self) -> None:
        self._responder.pause()

    def resume(self) -> None:
        self._responder.resume()


class _LoggedReply:
    """A reply that tells the line of its request how it ends."""

    __slots__ = ("_line", "_reply", "_responder")

    def __init__(self, reply: Reply, line: _Line, responder: Responder) -> None:
        self._reply, self._line, self._responder = reply, line, responder

    def start(self, status: int, content_type: str, headers: bytes, length: int | None) -> None:
        self._line.started(status)
        self._reply.start(status, content_type, headers, length)

    def write(self, data: bytes) -> None:
        self._line.wrote(len(data))
        self._reply.write(data)

    def end(self) -> None:
        self._line.pending = self._responder.pending
        self._reply.end()
        self._line.end()

    def fail(self, error: Failure) -> None:
        self._line.pending = self._responder.pending
        self._line.failed(error)
        self._reply.fail(error)
