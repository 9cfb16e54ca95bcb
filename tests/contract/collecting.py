"""A receiver of OTLP over HTTP on loopback: it reads the spans that a server sends, or behaves badly."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.polling import until


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span as it came, with the resource that sent it; ids are hexadecimal."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: list[str]
    events: list[str]
    failed: bool


@dataclass(slots=True)
class Collector:
    """What has come. `status` answers everything; while `held` is cleared nothing is answered."""

    port: int = 0
    status: int = 200
    asked: int = 0
    paths: set[str] = field(default_factory=set)
    spans: list[Span] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, trace_id: str) -> list[Span]:
        return [span for span in list(self.spans) if span.trace_id == trace_id]

    def wait_for(self, trace_id: str, *names: str) -> dict[str, Span]:
        """The spans of a trace by name, as soon as all of `names` are there."""

        def found() -> dict[str, Span] | None:
            spans = {span.name: span for span in self.of(trace_id)}
            return spans if spans.keys() >= set(names) else None

        return until(found, f"{names} of {trace_id} have come")


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """A receiver that takes everything."""
    collector = Collector()
    collector.held.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.asked += 1
            collector.held.wait()
            if collector.status == 200:
                collector.paths.add(self.path)
                packed = self.headers.get("content-encoding") == "gzip"
                collector.spans += _spans(gzip.decompress(body) if packed else body)
            with contextlib.suppress(OSError):  # the server may have ended
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002 - its base calls it so

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        collector.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            collector.held.set()
            server.shutdown()
            thread.join()


def _spans(body: bytes) -> Iterator[Span]:
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Span(
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    start_ns=span.start_time_unix_nano,
                    end_ns=span.end_time_unix_nano,
                    attributes=_values(span.attributes),
                    resource=_values(group.resource.attributes),
                    links=[link.span_id.hex() for link in span.links],
                    events=[event.name for event in span.events],
                    failed=span.status.code == 2,
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
