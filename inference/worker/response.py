"""From what output_fn returned to the answer that the client gets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from tidegate.inference.errors import HandlerFailed
from tidegate.inference.protocol import Answer
from tidegate.inference.worker import defaults
from tidegate.inference.worker.request import Request
from tidegate.inference.worker.user_code import one_line

_SERVERS_HEADERS = frozenset(
    {"connection", "content-length", "content-type", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Response headers that user code cannot set: a second one would tell the client another length than is sent."""


def answer_of(result: Any, request: Request, max_bytes: int) -> Answer:
    """The answer that `result`, a body or a body with its type, makes. Raises `HandlerFailed`."""
    body, content_type = result if isinstance(result, tuple) and len(result) == 2 else (result, request.accept)
    data = _to_bytes(body)
    if len(data) > max_bytes:
        raise HandlerFailed(f"The answer has {len(data)} bytes; the limit is {max_bytes}.")
    processor = request.processor
    headers = _header_lines(processor.response_headers) if processor.response_headers else b""
    status = processor.response_status or 200
    if not 200 <= status <= 599:
        raise HandlerFailed(f"The handler set the status {status}; an answer has one from 200 to 599.")
    if status in {204, 205, 304}:
        data = b""  # HTTP has no body here: a client would take one for the start of the next answer
    return Answer(
        request.received.id,
        status,
        _line(str(processor.response_content_type or content_type or request.accept)),
        headers,
        data,
    )


def _to_bytes(body: Any) -> bytes:
    if isinstance(body, bytes):
        return body
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, torch.Tensor):
        return defaults.tensor_bytes(body)
    try:
        return json.dumps(body).encode()
    except (TypeError, ValueError) as error:
        raise HandlerFailed(
            f"output_fn returned a {type(body).__name__}; it must return bytes, str, a tensor or what JSON can hold "
            f"({one_line(error)})."
        ) from error


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
