"""From what output_fn returned to the answer that the client gets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from tidegate.inference.errors import HandlerFailed
from tidegate.inference.protocol import Answer, Start
from tidegate.inference.worker.context import RequestProcessor
from tidegate.inference.worker.encoding import to_bytes
from tidegate.inference.worker.request import Request

_SERVERS_HEADERS = frozenset(
    {"connection", "content-length", "content-type", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Response headers that user code cannot set: a second one would tell the client another length than is sent."""
_WITHOUT_BODY = frozenset({204, 205, 304})
"""Statuses after which HTTP has no body: a client would take one for the start of the next response."""


def body_and_type(result: Any, accept: str) -> tuple[Any, str]:
    """What a function returned: a body, or a body with its type, which else is the one that the client accepts."""
    body, content_type = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    return body, content_type or accept


def answer_of(body: Any, content_type: str, request: Request, max_bytes: int) -> Answer:
    """The answer that `body` makes. Raises `HandlerFailed`."""
    data = body if type(body) is bytes else to_bytes(body)
    if len(data) > max_bytes:
        raise HandlerFailed(f"The answer has {len(data)} bytes; the limit is {max_bytes}.")
    status, media_type, headers = _decided(content_type, request.told)
    return Answer(request.received.id, status, media_type, headers, data if status not in _WITHOUT_BODY else b"")


def start_of_stream(content_type: str, request: Request) -> Start:
    """The beginning of a response whose body is a stream. Raises `HandlerFailed`."""
    status, media_type, headers = _decided(content_type, request.told)
    if status in _WITHOUT_BODY:
        raise HandlerFailed(f"The handler set the status {status}, which has no body, and returned a generator.")
    return Start(request.received.id, status, media_type, headers)


def _decided(content_type: str, processor: RequestProcessor | None) -> tuple[int, str, bytes]:
    """Status, type and headers, as user code has decided them so far. Raises `HandlerFailed`."""
    if processor is None:
        return 200, _line(str(content_type)), b""
    headers = _header_lines(processor.response_headers) if processor.response_headers else b""
    status = processor.response_status or 200
    if not 200 <= status <= 599:
        raise HandlerFailed(f"The handler set the status {status}; an answer has one from 200 to 599.")
    return status, _line(str(processor.response_content_type or content_type)), headers


def _header_lines(headers: Mapping[Any, Any]) -> bytes:
    named = ((_token(key), _line(str(value))) for key, value in headers.items())
    lines = "".join(f"{name}: {value}\r\n" for name, value in named if name.lower() not in _SERVERS_HEADERS)
    return lines.encode("latin-1", "replace")


@lru_cache(maxsize=1024)
def _line(value: str) -> str:
    """A header value that cannot start a header of its own, nor hold what a client's parser refuses."""
    text = "".join(character if character.isprintable() else " " for character in value)
    return " ".join(text.split())


def _token(key: Any) -> str:
    text = "".join(c for c in str(key) if c.isascii() and (c.isalnum() or c in "-_."))
    if not text:
        raise HandlerFailed(f"The response header name {key!r} is not one.")
    return text
