"""Responses as bytes: whole ones, and the head, the chunks and the end of one that is streamed. No I/O."""

from __future__ import annotations

import json
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from tidegate.inference.errors import MethodNotAllowed, ModelLoading, ModelNotFound, UpgradeRequired
from tidegate.inference.frontend.queue.reply import Failure, Reply
from tidegate.inference.protocol import REQUEST_ID_HEADER

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Response(NamedTuple):
    """Status, type, body, and a block of further header lines, each with its CRLF."""

    status: int
    content_type: str
    body: bytes
    headers: bytes = b""

    def send(self, reply: Reply) -> None:
        """Answer with it."""
        reply.start(self.status, self.content_type, self.headers, len(self.body))
        reply.write(self.body)
        reply.end()


def encode_head(
    status: int,
    content_type: str,
    headers: bytes,
    length: int | None,
    *,
    chunked: bool = False,
    keep_alive: bool = True,
) -> bytes:
    """Everything before the body. Without a length and not chunked, the body lasts until the connection ends."""
    if length is not None:
        framing = b"content-length: %d\r\n" % length
    else:
        framing = b"transfer-encoding: chunked\r\n" if chunked else b""
    end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
    return b"".join((_status_and_type(status, content_type), framing, headers, end))


def encode(response: Response, *, keep_alive: bool = True) -> bytes:
    """A whole response."""
    status, content_type, body, headers = response
    return encode_head(status, content_type, headers, len(body), keep_alive=keep_alive) + body


def encode_chunk(data: bytes) -> bytes:
    """One chunk; of no bytes, nothing, because a chunk of no bytes is the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


@lru_cache(maxsize=256)
def _status_and_type(status: int, content_type: str) -> bytes:
    line = f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\ncontent-type: "
    return line.encode() + content_type.encode("latin-1", "replace") + b"\r\n"


def json_response(content: object) -> Response:
    """A 200 with `content` as JSON."""
    return Response(200, "application/json", json.dumps(content).encode())


def error_response(error: Failure, request_id: str, *, open_inference: bool = False) -> Response:
    """`{"error": {"code", "message", "request_id"}}`, with Retry-After where trying again later makes sense.

    OpenAI's clients read the same object; where a chat names no model that is loaded, it has OpenAI's other members.
    The open inference protocol has the sentence alone: `{"error": message}`.
    """
    content = {"code": error.code, "message": error.message, "request_id": request_id}
    if isinstance(error, ModelNotFound) and error.param is not None:
        content |= {"type": "invalid_request_error", "param": error.param}
    headers = b"retry-after: 1\r\n" if error.status == 503 else b""
    if isinstance(error, ModelLoading):
        headers = b"retry-after: %d\r\n" % error.retry_after_s
    if isinstance(error, MethodNotAllowed):
        headers += f"allow: {', '.join(error.allowed)}\r\n".encode()
    if isinstance(error, UpgradeRequired):
        headers += b"upgrade: websocket\r\n"
    if open_inference:
        headers += f"{REQUEST_ID_HEADER}: {request_id}\r\n".encode("latin-1", "replace")
    body = {"error": error.message if open_inference else content}
    return Response(error.status, "application/json", json.dumps(body).encode(), headers)
