"""Bidirectional streams: a WebSocket of the caller's, passed through to one of the container's.

AWS's callers speak HTTP/2 to ``POST /endpoints/NAME/invocations-bidirectional-stream`` (port 8443), and the platform
speaks WebSocket to the container, one PayloadPart for each frame. There is no stable SDK of that for Python, so here
the caller speaks WebSocket, to the same path; what the container sees is the same. Once both have agreed, bytes go
through as they are: no frame is looked at, joined or split. Source: developer guide, "Custom Inference Code with
Hosting Services"; the 30 minutes: aws-samples/sample-sagemaker-marketplace-onboarding-skill, not the guide.
"""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial

from tidegate.local_cloud.sagemaker.container_answers import Answer, NoAnswer, Upgraded
from tidegate.local_cloud.sagemaker.errors import validation_error
from tidegate.local_cloud.sagemaker.http_messages import Request, Response
from tidegate.local_cloud.sagemaker.invocation_members import PREFIX
from tidegate.local_cloud.sagemaker.leases import Lease, first_taken
from tidegate.local_cloud.sagemaker.targets import Targets

DEFAULT_PATH = "invocations-bidirectional-stream"
MAX_PATH_CHARS = 100
MAX_QUERY_CHARS = 2048
ACCEPT_TIMEOUT_S = 60.0  # the guide's 250 ms are the container's duty; here a slow machine is not punished for them
_CHUNK_BYTES = 65_536
_PATH_HEADER = f"{PREFIX}Model-Invocation-Path"
_QUERY_HEADER = f"{PREFIX}Model-Query-String"
_MEMBERS = {f"{PREFIX}Target-Variant": "TargetVariant", f"{PREFIX}Inference-Component": "InferenceComponentName"}


@dataclass(frozen=True, slots=True)
class BidirectionalStreams:
    """Connects callers' WebSockets with containers'."""

    targets: Targets

    def open(self, name: str, request: Request) -> Response:
        """The container's 101 with what takes the connection over. Raises :class:`ServiceError`."""
        target = _container_target(request)
        members = {member: request.headers[h.lower()] for h, member in _MEMBERS.items() if h.lower() in request.headers}
        deadline = time.monotonic() + self.targets.limits.bidirectional_timeout_s
        with ExitStack() as stack:
            lease = stack.enter_context(self.targets.lease(name, members))
            lease.observed.ask()

            def ask(lease: Lease) -> Upgraded | Answer:
                return lease.client.upgrade(
                    target, headers=_passed_on(request) | dict(lease.headers), timeout_s=ACCEPT_TIMEOUT_S
                )

            try:
                lease, answer = first_taken(lease, ask)
            except NoAnswer as error:
                raise self.targets.no_answer(name, error, lease) from error
            if not isinstance(answer, Upgraded):
                raise self.targets.container_error(name, answer, answer.body, lease)
            stack.callback(answer.connection.close)
            held = stack.pop_all()
        return Response(
            status=101,
            headers=answer.headers,
            take_over=partial(_pass_through, answer.connection, answer.rest, deadline),
            release=held.close,
        )


def is_opening(request: Request) -> bool:
    """Whether a request asks for a WebSocket."""
    return request.method == "GET" and request.headers.get("upgrade", "").lower() == "websocket"


def _container_target(request: Request) -> str:
    path = request.headers.get(_PATH_HEADER.lower(), DEFAULT_PATH)
    query = request.headers.get(_QUERY_HEADER.lower(), request.query)
    if path.startswith("/"):
        raise validation_error(f"{_PATH_HEADER} is {path}; it must not begin with a slash.")
    for header, value, longest in ((_PATH_HEADER, path, MAX_PATH_CHARS), (_QUERY_HEADER, query, MAX_QUERY_CHARS)):
        if len(value) > longest:
            raise validation_error(f"{header} has {len(value)} characters; {longest} are allowed.")
        if not value.isascii() or not value.isprintable() or " " in value:
            raise validation_error(f"{header} holds characters that an address cannot have.")
    return f"/{path}?{query}" if query else f"/{path}"


def _passed_on(request: Request) -> dict[str, str]:
    """The handshake, and what SageMaker tells the container of the request."""
    told = ("connection", "upgrade", f"{PREFIX}Inference-Id".lower(), f"{PREFIX}Session-Id".lower())
    found = {n: v for n, v in request.headers.items() if n in told or n.startswith("sec-websocket-")}
    return found | {f"{PREFIX}Request-Id": request.id}


def _pass_through(container: socket.socket, rest: bytes, deadline: float, caller: socket.socket, early: bytes) -> None:
    """Returns when both have closed, or at the deadline, which closes both."""
    end = threading.Timer(max(0.0, deadline - time.monotonic()), partial(_shut, container, caller))
    end.daemon = True
    end.start()
    back = threading.Thread(target=_copy, args=(container, caller, rest), name="bidirectional", daemon=True)
    back.start()
    try:
        _copy(caller, container, early)
        back.join()
    finally:
        end.cancel()


def _copy(source: socket.socket, sink: socket.socket, first: bytes) -> None:
    """Until the source ends; its end is passed on, and where one side is lost the other is given up."""
    try:
        if first:
            sink.sendall(first)
        while piece := source.recv(_CHUNK_BYTES):
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        _shut(source, sink)


def _shut(*connections: socket.socket) -> None:
    for connection in connections:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
