"""A small threaded HTTP/1.1 server on loopback: kept-alive connections, no Nagle delay, bodies with a known length.

The standard library's server does the protocol; this adds what its handler leaves to the user: one function from
request to response, one ``send`` for a whole answer, chunks for a streamed one, and a limit on the body.
"""

from __future__ import annotations

import io
import logging
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from tidegate.local_cloud.sagemaker.caller import Caller

logger = logging.getLogger(__name__)

_DISCARD_BYTES = 1024 * 1024
_LAST_WORDS_S = 1.0  # for the event that says that the time has run out


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request with its whole body. Header names are in lower case; ``path`` is decoded, ``query`` as it was sent."""

    caller: Caller

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str]
    body: bytes
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """An answer; with ``pieces`` it is streamed, each piece in an HTTP chunk of its own, and ``body`` is not used.

    A caller that has not taken a piece by ``deadline`` (of :func:`time.monotonic`) is hung up on. ``release`` is called
    when the answer has been sent, or cannot be.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    pieces: Iterator[bytes] | None = None
    deadline: float | None = None
    release: Callable[[], None] | None = None
    take_over: Callable[[socket.socket, bytes], None] | None = None
    """Gets the connection behind the head, and what has come on it already: another protocol, until this returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimit:
    """The largest body that is read, and the answer to a larger one."""

    max_bytes: int
    response: Response


class BrokenOff(Exception):
    """Raised by the ``pieces`` of a response that cannot be ended: the caller sees a body without its last chunk."""


class HttpServer:
    """Binds ``port`` of loopback at once, or a free one; answers from :meth:`start` to :meth:`close`."""

    def __init__(
        self, application: Callable[[Request], Response], *, body_limit: BodyLimit, name: str, port: int = 0
    ) -> None:
        class Handler(_Handler):
            answer = staticmethod(application)
            limit = body_limit

        self._server = ThreadingHTTPServer(("127.0.0.1", port if is_free(port) else 0), Handler)
        # Threads of idle kept-alive connections must not hold up the end of the process.
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name=name, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def is_free(port: int) -> bool:
    """Whether a server can listen at this port of loopback."""
    with socket.socket() as probe:
        # As servers do: connections of the one before that are still closing do not hold the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except (OSError, OverflowError):
            return False
    return True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "local-cloud"
    disable_nagle_algorithm = True
    answer: Callable[[Request], Response]
    limit: BodyLimit

    def handle(self) -> None:
        with suppress(ConnectionError):  # a caller that hangs up between two requests
            super().handle()

    def _serve(self) -> None:
        try:
            length = int(self.headers.get("Content-Length", "0"))
        except ValueError:
            length = -1
        if length < 0 or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self._send(Response(status=HTTPStatus.LENGTH_REQUIRED, body=b"The request needs a Content-Length."))
            return
        if length > self.limit.max_bytes:
            # Read to its end all the same: a client that is still sending would not see the answer.
            while length > 0:
                length -= len(self.rfile.read(min(length, _DISCARD_BYTES))) or length
            self._send(self.limit.response)
            return
        body = self.rfile.read(length)
        if len(body) < length:  # the caller left in the middle of it
            self.close_connection = True
            return
        request = Request(
            method=self.command,
            path=unquote(urlsplit(self.path).path),
            query=urlsplit(self.path).query,
            headers={name.lower(): _as_sent(value) for name, value in self.headers.items()},
            body=body,
            caller=Caller(self.connection),
        )
        try:
            response = self.answer(request)
        except Exception:
            logger.exception("%s %s could not be answered", self.command, self.path)
            response = Response(status=500, body=b"The local cloud failed; its log has the traceback.")
        self._send(response)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the names that http.server calls

    def _send(self, response: Response) -> None:
        try:
            head = [f"HTTP/1.1 {int(response.status)} {_phrase(response.status)}"]
            head += [f"{name}: {value}" for name, value in response.headers.items()]
            if response.take_over is not None:
                self.close_connection = True
                self.wfile.write(_as_read("\r\n".join([*head, "", ""])))
                response.take_over(self.connection, self._already_read())
                return
            if response.pieces is None:
                head += [f"Content-Length: {len(response.body)}", "", ""]
                self.wfile.write(_as_read("\r\n".join(head)) + response.body)
                return
            head += ["Transfer-Encoding: chunked", "", ""]
            self.wfile.write(_as_read("\r\n".join(head)))
            for piece in response.pieces:
                if response.deadline is not None:
                    self.connection.settimeout(max(_LAST_WORDS_S, response.deadline - time.monotonic()))
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            self.connection.settimeout(None)
        except (BrokenPipeError, ConnectionResetError, TimeoutError, BrokenOff):
            self.close_connection = True  # the caller left, or does not read, or there is nothing more to read
        finally:
            if response.release is not None:
                response.release()

    def _already_read(self) -> bytes:
        """What of the connection's next bytes lies in the reader's buffer."""
        reader = cast("io.BufferedReader", self.rfile)
        self.connection.setblocking(False)
        try:
            return reader.read1(len(reader.peek())) or b""
        finally:
            self.connection.setblocking(True)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that http.server has
        logger.debug(format, *args)


def _as_sent(value: str) -> str:
    """A header's text: boto3 and its kin send UTF-8, and http.server reads it as Latin-1."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def _as_read(head: str) -> bytes:
    """Python's clients, boto3 among them, read headers as Latin-1; what that does not have goes out as UTF-8."""
    try:
        return head.encode("latin-1")
    except UnicodeEncodeError:
        return head.encode()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
