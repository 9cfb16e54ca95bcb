"""Calls a container over kept-alive connections, with a deadline for the whole call and a limit on the answer."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import cast

from tidegate.local_cloud.sagemaker.caller import Caller
from tidegate.local_cloud.sagemaker.container_answers import (
    Answer,
    AnswerTooLarge,
    NoAnswer,
    NotTaken,
    PiecesReader,
    StreamedAnswer,
    TimedOut,
    Upgraded,
)
from tidegate.local_cloud.sagemaker.received import Received

_CHUNK_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class SizedBody:
    """A body of a known length that is read while it is sent."""

    size_bytes: int
    pieces: Iterable[bytes]


class ContainerClient:
    """A pool of connections to one container. Safe to use from many threads; a call has a connection to itself."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: list[http.client.HTTPConnection] = []
        self._closed = False
        self._lock = threading.Lock()

    def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | SizedBody | Iterable[bytes] | None = None,
        timeout_s: float,
        max_bytes: int | None = None,
        caller: Caller | None = None,
    ) -> Answer:
        """One exchange, the answer read to its end. An iterable body goes out in HTTP chunks.

        Once ``caller`` has hung up, so does this: the container need not go on computing.

        Raises :class:`TimedOut`, :class:`AnswerTooLarge`, :class:`NotTaken` or another :class:`NoAnswer`.
        """
        with self.stream(method, path, headers=headers, body=body, timeout_s=timeout_s, caller=caller) as answer:
            pieces, size = [], 0
            for piece in answer.pieces:
                pieces.append(piece)
                size += len(piece)
                if max_bytes is not None and size > max_bytes:
                    raise AnswerTooLarge(f"the answer is larger than {max_bytes} bytes")
            return Answer(status=answer.status, headers=answer.headers, body=b"".join(pieces))

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | SizedBody | Iterable[bytes] | None = None,
        timeout_s: float,
        caller: Caller | None = None,
    ) -> Iterator[StreamedAnswer]:
        """One exchange, the answer's body in pieces as they come. A connection that was read to the end is kept."""
        deadline = time.monotonic() + timeout_s
        whole = False

        def read_to_the_end() -> None:
            nonlocal whole
            whole = True

        with ExitStack() as watched:
            connection, plain_socket, response = self._asked(
                watched, method, path, headers=headers, body=body, deadline=deadline, caller=caller
            )
            try:
                yield StreamedAnswer(
                    status=response.status,
                    headers={name.lower(): value for name, value in response.getheaders()},
                    pieces=_pieces(response, plain_socket, deadline, read_to_the_end),
                )
            except BaseException:
                connection.close()
                raise
        response.close()
        with self._lock:
            kept = whole and connection.sock is not None and not self._closed
            if kept:
                self._idle.append(connection)
        if not kept:
            connection.close()

    @staticmethod
    def rest_of_answer(
        connection: socket.socket, received: bytes, *, deadline: float, max_bytes: int, caller: Caller
    ) -> Answer:
        """An answer of which something was received, read to its end; closes the connection.

        Raises as :meth:`call`.
        """
        with connection, caller.on_leave(lambda: _hang_up(connection)), _failures_told():
            response = http.client.HTTPResponse(cast("socket.socket", Received(connection, received)))
            connection.settimeout(_left(deadline))
            response.begin()
            pieces = _pieces(response, connection, deadline, lambda: None)
            body = PiecesReader(pieces, max_bytes=max_bytes, kept_bytes=0).read()
            headers = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=headers, body=body)

    def upgrade(self, target: str, *, headers: Mapping[str, str], timeout_s: float) -> Upgraded | Answer:
        """Asks for another protocol on a connection of its own: that connection, or the refusal.

        Raises :class:`TimedOut` or :class:`NoAnswer`.
        """
        deadline = time.monotonic() + timeout_s
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        with ExitStack() as stack:
            stack.callback(connection.close)
            plain_socket = _sent(connection, "GET", target, headers=headers, body=None, deadline=deadline)
            response = _response(connection, plain_socket, deadline)
            named = dict(response.getheaders())
            if response.status != HTTPStatus.SWITCHING_PROTOCOLS:
                with _failures_told():
                    said = response.read(_CHUNK_BYTES)
                return Answer(status=response.status, headers=named, body=said)
            plain_socket.setblocking(False)
            rest = response.fp.read1(len(response.fp.peek())) or b""
            kept = plain_socket.dup()
        kept.setblocking(True)
        return Upgraded(connection=kept, headers=named, rest=rest)

    def close(self) -> None:
        """Closes what is idle, and what is in use once it has been used."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for connection in idle:
            connection.close()

    def _asked(
        self,
        watched: ExitStack,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | SizedBody | Iterable[bytes] | None,
        deadline: float,
        caller: Caller | None,
    ) -> tuple[http.client.HTTPConnection, socket.socket, http.client.HTTPResponse]:
        """Sends the request and waits for the head of its answer; the connection, its socket and that answer.

        ``caller`` is watched as long as ``watched`` is open. Where the container closes a kept connection just now, the
        request goes out on another one, if its body is still there.
        """
        while True:
            connection, is_kept = self._take()
            try:
                with ExitStack() as leaving:
                    plain_socket = _sent(connection, method, path, headers=headers, body=body, deadline=deadline)
                    if caller is not None:
                        leaving.enter_context(caller.on_leave(partial(_hang_up, plain_socket)))
                    response = _response(connection, plain_socket, deadline)
                    watched.push(leaving.pop_all())
            except BaseException as error:
                connection.close()
                if isinstance(error, NotTaken) and is_kept and (body is None or isinstance(body, bytes)):
                    continue
                raise
            return connection, plain_socket, response

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was kept from an earlier call."""
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if not was_closed(connection.sock):
                    return connection, True
                connection.close()
        # http.client sets TCP_NODELAY by itself.
        return http.client.HTTPConnection("127.0.0.1", self.port), False


def _sent(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str],
    body: bytes | SizedBody | Iterable[bytes] | None,
    deadline: float,
) -> socket.socket:
    """Sends the request; the connection's socket."""
    connection.timeout = _left(deadline)
    with _failures_told():
        if connection.sock is not None:
            connection.sock.settimeout(_left(deadline))
        # Only the caller's headers reach the container, as behind SageMaker; http.client would add Accept-Encoding.
        connection.putrequest(method, path, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value.encode())
        try:
            match body:
                case None:
                    connection.endheaders()
                case bytes():
                    connection.putheader("Content-Length", str(len(body)))
                    connection.endheaders(body)
                case SizedBody():
                    connection.putheader("Content-Length", str(body.size_bytes))
                    connection.endheaders()
                    _send_pieces(connection, body.pieces, deadline)
                case _:
                    connection.putheader("Transfer-Encoding", "chunked")
                    connection.endheaders(body, encode_chunked=True)
        except ConnectionError as error:
            # A container that refuses a body may answer before it has read all of it.
            if connection.sock is None or not has_said(connection.sock):
                raise NotTaken(f"{type(error).__name__}: {error}") from error
    if connection.sock is None:
        raise NoAnswer("the connection was closed")
    return connection.sock


def _send_pieces(connection: http.client.HTTPConnection, pieces: Iterable[bytes], deadline: float) -> None:
    for piece in pieces:
        connection.sock.settimeout(_left(deadline))
        connection.sock.sendall(piece)


def _response(
    connection: http.client.HTTPConnection, plain_socket: socket.socket, deadline: float
) -> http.client.HTTPResponse:
    with _failures_told():
        plain_socket.settimeout(_left(deadline))
        try:
            is_over = not plain_socket.recv(1, socket.MSG_PEEK)
        except ConnectionResetError as error:
            raise NotTaken(f"{type(error).__name__}: {error}") from error
        if is_over and was_reset(plain_socket):
            raise NotTaken("the container closed the connection before it had read the request")
        return connection.getresponse()


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise TimedOut("the time for the answer ran out") from error
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from error


def _hang_up(plain_socket: socket.socket) -> None:
    """Ends a connection that another thread may be reading from."""
    with suppress(OSError):
        plain_socket.shutdown(socket.SHUT_RDWR)


def _pieces(
    response: http.client.HTTPResponse, plain_socket: socket.socket, deadline: float, at_end: Callable[[], None]
) -> Iterator[bytes]:
    try:
        while not response.isclosed():
            if plain_socket.fileno() >= 0:
                plain_socket.settimeout(_left(deadline))
            piece = response.read1(_CHUNK_BYTES)
            if not piece:
                break
            yield piece
        expected = response.length
        if expected == 0 and not response.isclosed():
            response.read()  # reads nothing, but only this tells http.client that the connection is free again
    except TimeoutError as error:
        raise TimedOut("the time for the answer ran out") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from error
    if expected:
        raise NoAnswer(f"the answer broke off {expected} bytes before its end")
    at_end()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def was_closed(plain_socket: socket.socket | None) -> bool:
    """A kept connection at which something is to be read was closed by the container (it owes us nothing).

    Like the next two, for a connection that is not waited for: it leaves the socket's timeout at 0.
    """
    if plain_socket is None:
        return True
    plain_socket.settimeout(0)
    try:
        return plain_socket.recv(1, socket.MSG_PEEK) is not None
    except BlockingIOError:
        return False
    except OSError:
        return True


def has_said(plain_socket: socket.socket) -> bool:
    """Whether something of an answer is there, on a connection that can no longer be sent to."""
    plain_socket.settimeout(0)
    try:
        return bool(plain_socket.recv(1, socket.MSG_PEEK))
    except OSError:
        return False


def was_reset(plain_socket: socket.socket) -> bool:
    """Whether a connection that the container has ended was reset as well, so that it had not read all that was sent.

    The kernel of whoever ends a connection that holds unread bytes, or gets some after its end, answers with a reset;
    a container that dies while it computes has read them all.
    """
    return plain_socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
