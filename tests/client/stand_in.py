"""SageMaker's runtime as far as a client sees it: answers that were prepared, one for each request, in their order."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3

from tidegate.local_cloud.sagemaker import event_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One answer. With `parts` it is sent in chunks; with `cut` the connection is lost before the last one."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    parts: Sequence[bytes] = ()
    cut: bool = False
    held: threading.Event | None = None
    """What the end waits for."""


@dataclass
class StandIn:
    """What it will answer, and what it was asked."""

    url: str = ""
    answers: list[Prepared] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def session(self) -> Any:
        """A boto3 session whose runtime client speaks to this server."""
        session = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="us-east-1")
        made = session.client

        def client(service: str, **options: Any) -> Any:
            return made(service, endpoint_url=self.url, **options)

        session.client = client  # type: ignore[method-assign]
        return session


def refused(code: str, message: str, status: int, **members: Any) -> Prepared:
    import json

    body = json.dumps({"Message": message, "message": message, **members}).encode()
    return Prepared(status=status, headers={"x-amzn-ErrorType": code, "Content-Type": "application/json"}, body=body)


def answered(body: bytes, **headers: str) -> Prepared:
    named = {"Content-Type": "application/json", "x-amzn-Invoked-Production-Variant": "primary", **headers}
    return Prepared(status=200, headers=named, body=body)


def streamed(
    *parts: bytes, ending: bytes = b"", cut: bool = False, held: threading.Event | None = None, **further: str
) -> Prepared:
    """An answer in these parts, and behind them the frame `ending`."""
    frames = [event_stream.payload_parts(part) for part in parts] + ([ending] if ending else [])
    headers = {
        "Content-Type": event_stream.CONTENT_TYPE,
        "X-Amzn-SageMaker-Content-Type": "text/plain",
        "x-Amzn-Invoked-Production-Variant": "primary",
        **further,
    }
    return Prepared(status=200, headers=headers, parts=frames, cut=cut, held=held)


@contextmanager
def running() -> Iterator[StandIn]:
    """A server on a free port for the length of the block."""
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stand_in.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            answer = stand_in.answers.pop(0)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if not answer.parts:
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
                return
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in answer.parts]
            with suppress(ConnectionError):  # a client that left
                self.wfile.write(b"".join(chunks))
                if answer.held is not None:
                    answer.held.wait(60)
                self.wfile.write(b"" if answer.cut else b"0\r\n\r\n")
            self.close_connection = self.close_connection or answer.cut

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stand_in
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
