"""A small HTTP/1.1 server on loopback: kept-alive connections, no Nagle delay, bodies with a known length.

A connection begins in :mod:`.http_front`, where one thread answers the short and ordinary requests of all of them. The
first other request takes it to a thread of its own, here. There the standard library's server does the protocol; this
adds what its handler leaves to the user: one function from request to response, one ``send`` for a whole answer, chunks
for a streamed one, and a limit on the body.
"""

from __future__ import annotations

import io
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from tidegate.local_cloud.sagemaker.caller import Caller
from tidegate.local_cloud.sagemaker.http_front import Begun, Front, Taken
from tidegate.local_cloud.sagemaker.http_heads import as_sent
from tidegate.local_cloud.sagemaker.http_messages import (
    FAILURE,
    BrokenOff,
    Request,
    Response,
    as_read,
    head_lines,
    plain_bytes,
)
from tidegate.local_cloud.sagemaker.received import Received

if TYPE_CHECKING:
    from socketserver import BaseServer

logger = logging.getLogger(__name__)

_DISCARD_BYTES = 1024 * 1024
_LAST_WORDS_S = 1.0  # for the event that says that the time has run out


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimit:
    """The largest body that is read, and the answer to a larger one."""

    max_bytes: int
    response: Response


class HttpServer:
    """Binds ``port`` of loopback at once, or a free one; answers from :meth:`start` to :meth:`close`.

    ``begin`` may begin a request, answer it, or (None) leave it to ``application``; it must not wait.
    """

    def __init__(
        self,
        application: Callable[[Request], Response],
        *,
        begin: Callable[[Request], Begun | Response | None],
        body_limit: BodyLimit,
        name: str,
        port: int = 0,
    ) -> None:
        class Handler(_Handler):
            answer = staticmethod(application)
            limit = body_limit

        self._handler = Handler
        self._name = name
        listener = socket.create_server(("127.0.0.1", port if is_free(port) else 0), backlog=128)
        self._port = int(listener.getsockname()[1])
        self._front = Front(listener, begin, self._take, longest_body=body_limit.max_bytes)
        self._thread = threading.Thread(target=self._front.run, name=name, daemon=True)

    @property
    def port(self) -> int:
        return self._port

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Threads of connections do not hold up the end of the process."""
        self._front.stop()
        if self._thread.is_alive():
            self._thread.join()
        self._front.close()

    def _take(self, taken: Taken) -> None:
        """Goes on with a connection in a thread of its own."""
        threading.Thread(target=self._serve, args=(taken,), name=f"{self._name} connection", daemon=True).start()

    def _serve(self, taken: Taken) -> None:
        connection = taken.connection
        try:
            self._handler(taken)
        except Exception:
            logger.exception("a connection broke")
        finally:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            connection.close()


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
    answer: Callable[[Request], Response]
    limit: BodyLimit

    def __init__(self, taken: Taken) -> None:
        self._taken = taken
        # The base class answers all requests before it returns; of the server it wants nothing.
        super().__init__(taken.connection, taken.connection.getsockname(), cast("BaseServer", None))

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(Received(self.connection, self._taken.received))

    def handle(self) -> None:
        with suppress(ConnectionError):  # a caller that hangs up between two requests
            self.close_connection = False
            if self._taken.unsent:
                self.wfile.write(self._taken.unsent)
            if self._taken.answer is not None:
                self._send(self._answered(partial(self._taken.answer, Caller(self.connection))))
            if not self.close_connection:
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
            headers={name.lower(): as_sent(value) for name, value in self.headers.items()},
            body=body,
            caller=Caller(self.connection),
        )
        self._send(self._answered(partial(self.answer, request)))

    @staticmethod
    def _answered(answer: Callable[[], Response]) -> Response:
        try:
            return answer()
        except Exception:
            logger.exception("a request could not be answered")
            return FAILURE

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the names that http.server calls

    def _send(self, response: Response) -> None:
        try:
            if response.pieces is None and response.take_over is None:
                self.wfile.write(plain_bytes(response))
                return
            head = head_lines(response)
            if response.take_over is not None:
                self.close_connection = True
                self.wfile.write(as_read("\r\n".join([*head, "", ""])))
                response.take_over(self.connection, self._already_read())
                return
            head += ["Transfer-Encoding: chunked", "", ""]
            self.wfile.write(as_read("\r\n".join(head)))
            for piece in response.pieces or ():
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
