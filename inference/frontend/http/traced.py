"""The server where OpenTelemetry is on: one span for each request that asks for work, and one for its wait.

    SERVER span ─┬─ queue            from its place in the queue until a worker was given it, the last time
                 └─ input_fn, …      of the worker, which is told of the SERVER span by `traceparent`

What a request costs where this is off is nothing: none of it is imported then. Names and attributes are those of the
semantic conventions for HTTP: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from tidegate.inference.conversation_frames import Farewell, Opening
from tidegate.inference.errors import RequestError
from tidegate.inference.frontend.http.application import Application
from tidegate.inference.frontend.http.logged import LoggedApplication
from tidegate.inference.frontend.http.peer import Upgrade
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import CHAT, CONVERSE, Responder
from tidegate.inference.frontend.http.websocket import GOING_AWAY, NO_CODE, NORMAL
from tidegate.inference.frontend.http.websocket_connection import Conversation, Model
from tidegate.inference.frontend.idle_exit import counts
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.models.registry import Registry
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.frontend.queue.reply import Failure, Reply
from tidegate.inference.frontend.repository.repository import Repository
from tidegate.inference.frontend.workers.conversations import Client
from tidegate.inference.request_trace import carried, short
from tidegate.inference.settings import Settings
from tidegate.inference.span_export import LONGEST_ATTRIBUTE, Tracing, header_of, sent_along, writable

_NAMED = {"models": "name", "adapters": "name", "versions": "version"}
"""What follows these in a path is a name of the deployer's or the client's, and in a route its place."""
_WORDS = frozenset(
    (*_NAMED, "invocations", CONVERSE, "invoke", "infer", *CHAT.split("/")[1:], "v2", "repository", "index")
)

_LEFT = "client_left"
"""The `error.type` of a request whose client did not wait for all of its response."""


class TracedApplication(Application):
    """`Application` with a span for each request."""

    def __init__(
        self, settings: Settings, registry: Registry, repository: Repository | None = None, *, tracing: Tracing
    ) -> None:
        super().__init__(settings, registry, repository)
        self._tracing = tracing

    def admit(self, request: Request) -> Responder:
        """See `Application.admit`; what is refused here has a span too."""
        if not counts(request.method, request.path):
            return super().admit(request)
        started_ns = time.time_ns()
        try:
            return _TracedResponder(super().admit(request), self._tracing, started_ns)
        except RequestError as error:
            _RequestSpan(self._tracing, request, started_ns).fail(error)
            raise

    def _converse(self, request: Request, pool: Model, said: Mapping[str, str] | None = None) -> Upgrade:
        span = _RequestSpan(self._tracing, request, time.time_ns())
        try:
            return super()._converse(request, _TracedModel(pool, span), said)
        except RequestError as error:
            span.fail(error)
            raise


class LoggedTracedApplication(LoggedApplication, TracedApplication):
    """With a span and a log line for each request: the server of a transform job."""


def route_of(path: str) -> str | None:
    """The route of a path, in which names have their place only: few, however many models there are. None: no route."""
    parts: list[str] = []
    before = ""
    for part in path.removeprefix("/").split("/"):
        if before in _NAMED and part:
            parts.append("{" + _NAMED[before] + "}")
            before = ""
        elif part in _WORDS:
            parts.append(part)
            before = part
        else:
            return None
    return "/" + "/".join(parts)


class _RequestSpan:
    """The SERVER span of one request, until its end."""

    __slots__ = ("_span", "_tracing", "over", "status")

    def __init__(self, tracing: Tracing, request: Request, started_ns: int) -> None:
        """Begin it, and let `request` bring it to the worker in its headers."""
        route = route_of(request.path)
        attributes: dict[str, Any] = {
            "http.request.method": request.method,
            "url.path": writable(request.path[:LONGEST_ATTRIBUTE]),
            "url.scheme": "http",
            "network.protocol.version": "1.1" if request.takes_chunks else "1.0",
            "tidegate.request_id": short(request.id),
        }
        if route is not None:
            attributes["http.route"] = route
        if agent := request.header(b"user-agent"):
            attributes["user_agent.original"] = agent[:LONGEST_ATTRIBUTE]
        self._tracing = tracing
        self._span = tracing.tracer.start_span(
            f"{request.method} {route}" if route is not None else request.method,
            context=sent_along(carried(request.header_block())),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=started_ns,
        )
        self.status = 0
        self.over = False
        request.set_header(b"traceparent", header_of(self._span))

    def queued(self, pending: PendingRequest | None) -> None:
        """Tell of its wait, which is over, or ends with the request."""
        if pending is None or not pending.queued_s or not self._span.is_recording():
            return
        began_ns = time.time_ns() - time.monotonic_ns()
        sent_s = pending.sent_s if pending.sent_s >= pending.queued_s else time.monotonic()
        span = self._tracing.tracer.start_span(
            "queue",
            context=trace.set_span_in_context(self._span),
            start_time=began_ns + round(pending.queued_s * 1e9),
            attributes={"tidegate.isolated": True} if pending.isolated else None,
        )
        span.end(began_ns + round(sent_s * 1e9))

    def fail(self, error: Failure) -> None:
        """End it with an error, which after the beginning of the response has no status of its own any more."""
        self._end(self.status or error.status, error.code, error.message)

    def end(self, status: int, error: str = "", sentence: str = "") -> None:
        """End it with the status of the response, and with an error where the response is not whole."""
        self._end(status, error, sentence)

    def _end(self, status: int, error: str, sentence: str) -> None:
        if self.over:
            return
        self.over = True
        if status:
            self._span.set_attribute("http.response.status_code", status)
        if error:
            self._span.set_attribute("error.type", error)
        # Mistakes and whims of the client are no errors of the server; a response that is not whole is one.
        if status >= 500 or (error and error != _LEFT and self.status):
            self._span.set_status(Status(StatusCode.ERROR, writable(sentence)))
        self._span.end()


class _TracedResponder:
    """A responder whose reply ends a span; see `Responder`."""

    __slots__ = ("_responder", "_span", "_started_ns", "_tracing")

    def __init__(self, responder: Responder, tracing: Tracing, started_ns: int) -> None:
        self._responder = responder
        self._tracing = tracing
        self._started_ns = started_ns
        self._span: _RequestSpan | None = None

    @property
    def metrics(self) -> ModelMetrics | None:
        return self._responder.metrics

    @property
    def pending(self) -> PendingRequest | None:
        return self._responder.pending

    def begin(self, request: Request, reply: Reply) -> None:
        span = self._span = _RequestSpan(self._tracing, request, self._started_ns)
        try:
            self._responder.begin(request, _TracedReply(reply, span, self._responder))
        except RequestError as error:
            span.fail(error)
            raise
        except BaseException:
            span.end(500, RequestError.code)
            raise

    def cancel(self) -> None:
        self._responder.cancel()
        if self._span is not None:
            self._span.queued(self.pending)
            self._span.end(self._span.status, _LEFT)

    def pause(self) -> None:
        self._responder.pause()

    def resume(self) -> None:
        self._responder.resume()


class _TracedReply:
    """A reply that tells the span of its request how it ends."""

    __slots__ = ("_reply", "_responder", "_span", "write")

    def __init__(self, reply: Reply, span: _RequestSpan, responder: Responder) -> None:
        self._reply, self._span, self._responder = reply, span, responder
        self.write = reply.write

    def start(self, status: int, content_type: str, headers: bytes, length: int | None) -> None:
        self._span.status = status
        self._reply.start(status, content_type, headers, length)

    def end(self) -> None:
        self._span.queued(self._responder.pending)
        self._span.end(self._span.status)
        self._reply.end()

    def fail(self, error: Failure) -> None:
        self._span.queued(self._responder.pending)
        self._span.fail(error)
        self._reply.fail(error)


class _TracedModel:
    """The model as a WebSocket has it, with a span for the whole conversation; see `Model`."""

    def __init__(self, model: Model, span: _RequestSpan) -> None:
        self._model, self._span = model, span
        self.metrics = model.metrics

    def converse(self, client: Client) -> Conversation:
        """Begin a conversation. Raises `RequestError`."""
        talk = self._model.converse(_TracedClient(client, self._span))
        self._span.status = 101
        return _TracedTalk(talk, self._span)


class _TracedClient:
    """Hears how the model ends a conversation; see `Client`."""

    def __init__(self, client: Client, span: _RequestSpan) -> None:
        self._client, self._span = client, span
        self.message, self.hold, self.leave = client.message, client.hold, client.leave

    @property
    def opening(self) -> Opening:
        return self._client.opening

    def farewell(self, farewell: Farewell) -> None:
        failed = farewell.error or ("" if farewell.code in (NORMAL, GOING_AWAY) else str(farewell.code))
        self._span.end(101, failed, farewell.reason)
        self._client.farewell(farewell)


class _TracedTalk:
    """Hears how the client ends a conversation; see `Conversation`."""

    def __init__(self, talk: Conversation, span: _RequestSpan) -> None:
        self._talk, self._span = talk, span
        self.message, self.pause, self.resume = talk.message, talk.pause, talk.resume

    def close(self, code: int) -> None:
        """The client has left; or, by 1001, is going to be told to, and the model has its last words."""
        if code != GOING_AWAY:
            self._span.end(101, "" if code in (NORMAL, NO_CODE) else _LEFT)
        self._talk.close(code)
