"""OpenTelemetry in one process: a tracer, and the thread that sends what it has made by OTLP over HTTP.

A span that has ended goes into a queue of bounded length; where that is full it is dropped. Nobody who answers a
request ever waits for the receiver. All that OpenTelemetry has a variable for is read by its SDK from that.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from threading import Thread
from time import monotonic
from typing import cast

from opentelemetry import propagate, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.aws import AwsXRayPropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tidegate.inference import log_lines
from tidegate.inference.errors import RequestError, one_line, text_of
from tidegate.inference.request_trace import BAGGAGE, TRACEPARENT, TRACESTATE, XRAY, header
from tidegate.inference.version import own_version

REPEATED_S = 60.0
"""How long the log says nothing of an export that goes on failing in the same way."""
LONGEST_ATTRIBUTE = 256
"""Characters of what a client sent that a span has."""
LONGEST_TRACEBACK = 8192
"""Characters of a traceback that a span has, its last ones."""
_W3C = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
"""From the frontend to its workers, whatever OTEL_PROPAGATORS says about others."""


class Tracing:
    """What makes and sends the spans of this process. Raises `ValueError` for a variable of OpenTelemetry's."""

    def __init__(self, process: str) -> None:
        _take_over_log()
        if not os.environ.get("OTEL_PROPAGATORS"):
            # The last that finds something counts, so traceparent goes before X-Amzn-Trace-Id.
            propagate.set_global_textmap(CompositePropagator([AwsXRayPropagator(), _W3C]))
        resource = Resource.create()
        if str(resource.attributes.get(SERVICE_NAME, "")).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: "tidegate"}))
        resource = resource.merge(
            Resource({"service.version": own_version(), "process.pid": os.getpid(), "tidegate.process": process})
        )
        self._exporter = OTLPSpanExporter()
        # Not at exit: that would wait for half a minute.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(cast(SpanExporter, _Writable(self._exporter))))
        self.tracer = self._provider.get_tracer("tidegate", own_version())
        self._closing: Thread | None = None

    def publish(self) -> None:
        """Let spans that user code makes go the same way as ours."""
        trace.set_tracer_provider(self._provider)

    def stop(self) -> None:
        """Make no more spans, and begin to send those that are left; see `close`."""
        if self._closing is None:
            self._closing = Thread(target=self._send_all, name="spans-at-the-end", daemon=True)
            self._closing.start()

    def _send_all(self) -> None:
        self._provider.shutdown()

    def close(self, limit_s: float) -> None:
        """Send what is left, for no longer than `limit_s`."""
        self.stop()
        if self._closing is not None:
            self._closing.join(limit_s)
            if self._closing.is_alive():
                give_up: Callable[[], object] = self._exporter.shutdown
                give_up()  # it may be waiting for its next try


def sent_along(headers: Mapping[str, str]) -> Context:
    """The context in which a client asks, by the headers of `request_trace.carried`; empty where it has none."""
    named = {"X-Amzn-Trace-Id" if name == XRAY else name: value for name, value in headers.items()}
    return propagate.extract(named, Context())


def header_of(span: trace.Span) -> bytes:
    """The traceparent of a span, for the worker that goes on with its request."""
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier, trace.set_span_in_context(span, Context()))
    return carrier.get(TRACEPARENT, "").encode()


def handed_over(header_lines: bytes) -> Context | None:
    """The context that the frontend gave a request of these header lines; None where it gave none."""
    parent = header(header_lines, TRACEPARENT)
    if not parent:
        return None
    return _handed_over(parent, header(header_lines, TRACESTATE), header(header_lines, BAGGAGE))


@lru_cache(maxsize=256)
def _handed_over(parent: str, state: str, baggage: str) -> Context:
    return _W3C.extract({TRACEPARENT: parent, TRACESTATE: state, BAGGAGE: baggage}, Context())


def note(span: trace.Span, error: BaseException) -> None:
    """Let a span say how what it is about has failed. What user code says is the client's mistake is no error."""
    if isinstance(error, RequestError) and error.status < 500:
        span.set_attribute("error.type", error.code)
        return
    told = {
        "exception.type": f"{type(error).__module__}.{type(error).__qualname__}",
        "exception.message": writable(text_of(error)),
        "exception.stacktrace": writable("".join(traceback.format_tb(error.__traceback__)))[-LONGEST_TRACEBACK:],
    }
    span.add_event("exception", told)
    span.set_status(trace.Status(trace.StatusCode.ERROR, writable(one_line(error))))


def writable(text: str) -> str:
    """`text` as UTF-8 can write it: what quotes a client's JSON may hold half of a pair of surrogates."""
    return text.encode(errors="replace").decode()


class _Writable:
    """An exporter that leaves out the spans that cannot be written, and would take all that go with them along."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See `SpanExporter`."""
        fit = [span for span in spans if _is_writable(span)]
        if len(fit) < len(spans):
            logging.getLogger("tidegate.tracing").warning(
                "spans are dropped, because their name or status is no text that UTF-8 can write"
            )
        return self._exporter.export(fit)

    def shutdown(self) -> None:
        """See `SpanExporter`."""
        give_up: Callable[[], object] = self._exporter.shutdown
        give_up()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See `SpanExporter`."""
        return bool(self._exporter.force_flush(timeout_millis))


def _is_writable(span: ReadableSpan) -> bool:
    try:
        "".join([span.name, span.status.description or "", *(event.name for event in span.events)]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _take_over_log() -> None:
    """Let OpenTelemetry's own lines be lines as ours, each of them once in a while."""
    logger = logging.getLogger("opentelemetry")
    handler = log_lines.handler()
    handler.addFilter(_Seldom())
    logger.handlers = [handler]
    logger.propagate = False


class _Seldom(logging.Filter):
    """Lets each sentence through once in `REPEATED_S`, and without its traceback."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        said, now_s = (record.name, str(record.msg)), monotonic()
        if now_s < self._next_s.get(said, 0.0):
            return False
        if len(self._next_s) >= 256:  # sentences that are all different
            self._next_s.clear()
        self._next_s[said] = now_s + REPEATED_S
        record.exc_info = record.exc_text = None
        return True
