"""Requests and responses of our SageMaker, and the bytes of a response."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from tidegate.local_cloud.sagemaker.caller import Caller


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


FAILURE = Response(status=500, body=b"The local cloud failed; its log has the traceback.")


class BrokenOff(Exception):
    """Raised by the ``pieces`` of a response that cannot be ended: the caller sees a body without its last chunk."""


def head_lines(response: Response) -> list[str]:
    """The lines of the head, but for what tells the body's length."""
    head = [f"HTTP/1.1 {int(response.status)} {_phrase(response.status)}"]
    head += [f"{name}: {value}" for name, value in response.headers.items()]
    return head


def plain_bytes(response: Response) -> bytes:
    """A response that is no stream, to be sent at once."""
    head = [*head_lines(response), f"Content-Length: {len(response.body)}", "", ""]
    return as_read("\r\n".join(head)) + response.body


def as_read(head: str) -> bytes:
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
