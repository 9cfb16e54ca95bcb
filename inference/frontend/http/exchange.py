"""One request and its answer, apart from the bytes of HTTP.

A connection makes the exchange when the headers are there, fills `body` as it arrives, and writes what `answer` is
given. Header names are lower-case `bytes`, as they came.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

from tidegate.inference.errors import MethodNotAllowed, RequestError


class Response(NamedTuple):
    """Status, type, body, and a block of further header lines, each with its CRLF."""

    status: int
    content_type: str
    body: bytes
    headers: bytes = b""


@dataclass(slots=True, eq=False)
class Exchange:
    """A request on its way in. `route` is set by whoever admitted it."""

    id: str
    method: str
    path: str
    query: str
    headers: list[tuple[bytes, bytes]]
    keep_alive: bool
    body: list[bytes | bytearray] = field(default_factory=list)
    body_bytes: int = 0
    route: object = None
    refusal: RequestError | None = None
    """Why it was not admitted, where its body is short enough to be read past and the connection kept."""
    content_length: int = field(init=False)
    """What the client announced; 0 where it announced nothing, as with a chunked body."""
    _by_name: dict[bytes, bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._by_name = dict(self.headers)
        self.content_length = int(self._by_name.get(b"content-length", 0))

    def header(self, name: bytes) -> str:
        """The value of a header, or an empty string. The last of several wins."""
        return self._by_name.get(name, b"").decode("latin-1")

    @property
    def has_repeated_headers(self) -> bool:
        """Whether a header's name came more than once."""
        return len(self._by_name) != len(self.headers)

    @property
    def whole_body(self) -> bytes:
        """The body in one piece."""
        return bytes(self.body[0]) if len(self.body) == 1 else b"".join(self.body)


@lru_cache(maxsize=256)
def split_target(target: bytes) -> tuple[str, str]:
    """The request target as (path, query): `/a%20b?x=1` → `('/a b', 'x=1')`; an absolute URI loses its authority."""
    text = target.decode("latin-1")
    if not text.startswith("/"):
        _, slashes, rest = text.partition("://")
        text = "/" + rest.partition("/")[2] if slashes else text
    path, _, query = text.partition("?")
    return (unquote(path) if "%" in path else path), query


def error_response(error: RequestError, request_id: str) -> Response:
    """What a client reads instead of an answer."""
    response = error_body(error.status, error.code, error.message, request_id)
    if isinstance(error, MethodNotAllowed):
        return response._replace(headers=f"allow: {', '.join(error.allowed)}\r\n".encode())
    return response


def error_body(status: int, code: str, message: str, request_id: str) -> Response:
    """`{"error": {"code", "message", "request_id"}}` with Retry-After where trying again later makes sense."""
    content = {"error": {"code": code, "message": message, "request_id": request_id}}
    headers = b"retry-after: 1\r\n" if status == 503 else b""
    return Response(status, "application/json", json.dumps(content).encode(), headers)
