"""S3 as it can be: moto's real server, and before it a proxy that delays, truncates, refuses and lies.

Started as processes and threads of their own, so that any test or benchmark may use them:

    with S3() as s3, Proxy(s3.port) as proxy:
        s3.client().create_bucket(Bucket="models")
        proxy.fault = always(SLOW_DOWN, lambda asked: asked.lists)
        … AWS_ENDPOINT_URL=proxy.url …
"""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Of whoever asks, beside AWS_ENDPOINT_URL."""
_CHUNK_BYTES = 64 << 10
_FROM_FILES = """
from moto.server import main
from tidegate.local_cloud import objects_in_files
objects_in_files.install()
main()
"""


class S3:
    """moto's server in a process of its own; `from_files` as the local cloud has it, which reads only what is asked."""

    def __init__(self, *, from_files: bool = False) -> None:
        program = ["-c", _FROM_FILES] if from_files else ["-m", "moto.server"]
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", *program, "--host", "127.0.0.1", "--port", "0"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"Running on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            raise AssertionError("moto's server did not start")
        self._drain = threading.Thread(target=self._process.stderr.read, daemon=True)
        self._drain.start()
        self.url = f"http://127.0.0.1:{self.port}"

    def client(self) -> Any:
        """A client that goes past every proxy."""
        return client_of(self.url)

    def close(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()
        self._drain.join()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def __enter__(self) -> S3:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def client_of(url: str) -> Any:
    """A boto3 client of the S3 at an address."""
    import boto3

    return boto3.session.Session().client(
        "s3",
        endpoint_url=url,
        region_name=ENVIRONMENT["AWS_DEFAULT_REGION"],
        aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, as the proxy sees it."""

    method: str
    bucket: str
    key: str
    range: str | None
    query: Mapping[str, list[str]]

    @property
    def lists(self) -> bool:
        """Whether it asks for a page of a listing."""
        return self.method == "GET" and not self.key and "list-type" in self.query

    @property
    def is_first_page(self) -> bool:
        """Whether a listing begins with it."""
        return self.lists and "continuation-token" not in self.query


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to a request."""

    status: int = 0
    """Answered in the store's place, if not 0."""
    code: str = ""
    body: bytes | None = None
    """In place of an error's XML."""
    page_keys: int | None = None
    """How many keys a page of a listing has, in place of 1,000."""
    delay_s: float = 0.0
    truncate_at: int | None = None
    """So many bytes of the answer's body, and the connection is cut."""
    stall_at: int | None = None
    """So many bytes of the answer's body, and nothing more until the proxy is released."""
    spoil_at: int | None = None
    """This byte of the answer's body is another."""


FORBIDDEN = Fault(status=403, code="AccessDenied")
BROKEN = Fault(status=500, code="InternalError")
SLOW_DOWN = Fault(status=503, code="SlowDown")
EMPTY_LISTING = Fault(
    status=200,
    body=b'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>models</Name>'
    b"<Prefix></Prefix><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>",
)
CAPTIVE_PORTAL = Fault(status=200, body=b"<html><body>Please sign in.</body></html>")


def no_fault(_: Asked) -> Fault | None:
    """Every request is passed on."""
    return None


def always(fault: Fault, those: Callable[[Asked], bool] = lambda _: True) -> Callable[[Asked], Fault | None]:
    """A fault of all requests of a kind."""
    return lambda asked: fault if those(asked) else None


def once(fault: Fault, those: Callable[[Asked], bool] = lambda _: True) -> Callable[[Asked], Fault | None]:
    """A fault of the first request of a kind."""
    left = [fault]
    return lambda asked: left.pop() if left and those(asked) else None


def of_weights(asked: Asked) -> bool:
    """Whether a request is about the weights of a version."""
    return asked.key.endswith("model.pth")


class Proxy:
    """Stands before an S3 at a port of this machine. `fault` may be set at any time, from any thread."""

    def __init__(self, port: int) -> None:
        self.fault: Callable[[Asked], Fault | None] = no_fault
        self.asked: list[Asked] = []
        """Every request, in the order in which they came."""
        self._released = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy, self._server.upstream = self, port
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What makes an unmodified boto3 come here."""
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL": self.url}

    def release(self) -> None:
        """Let go on what stalls; nothing stalls any more."""
        self._released.set()

    def wait_for_release(self, timeout_s: float) -> None:
        """Until `release`, or so long."""
        self._released.wait(timeout_s)

    def close(self) -> None:
        """End it."""
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: Proxy
    upstream: int

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is killed in the middle is what tests do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    _upstream: http.client.HTTPConnection | None = None

    def log_message(self, *arguments: object) -> None:
        """Quiet."""

    def finish(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        super().finish()

    def _answer(self) -> None:
        split = urlsplit(self.path)
        bucket, _, key = split.path.lstrip("/").partition("/")
        query = parse_qs(split.query, keep_blank_values=True)
        asked = Asked(method=self.command, bucket=bucket, key=key, range=self.headers.get("Range"), query=query)
        proxy = self.server.proxy
        proxy.asked.append(asked)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = proxy.fault(asked) or Fault()
        if fault.delay_s:
            proxy.wait_for_release(fault.delay_s)
        if fault.status:
            self._refuse(fault)
        else:
            self._pass_on(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - the names that http.server looks for

    def _refuse(self, fault: Fault) -> None:
        content = fault.body
        if content is None:
            content = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>No.</Message></Error>".encode()
        self.send_response(fault.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _pass_on(self, body: bytes, fault: Fault) -> None:
        if self._upstream is None:
            self._upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
        path = self.path if fault.page_keys is None else f"{self.path}&max-keys={fault.page_keys}"
        self._upstream.request(self.command, path, body, headers)
        answer = self._upstream.getresponse()
        length = answer.headers.get("Content-Length")
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        if length is None:
            content = answer.read()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self._send(iter([content]), fault)
            return
        self.end_headers()
        self._send(iter(lambda: answer.read(_CHUNK_BYTES), b""), fault)

    def _send(self, pieces: Any, fault: Fault) -> None:
        sent = 0
        stop = fault.truncate_at if fault.stall_at is None else fault.stall_at
        for given in pieces:
            piece = given
            if fault.spoil_at is not None and sent <= fault.spoil_at < sent + len(piece):
                at = fault.spoil_at - sent
                piece = piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]
            if stop is not None and sent + len(piece) > stop:
                self.wfile.write(piece[: stop - sent])
                self.wfile.flush()
                if fault.stall_at is not None:
                    self.server.proxy.wait_for_release(3600)
                self.close_connection = True
                if self._upstream is not None:
                    self._upstream.close()
                    self._upstream = None
                self.connection.shutdown(2)
                return
            self.wfile.write(piece)
            sent += len(piece)
