"""The frames of an AWS event stream (``application/vnd.amazon.eventstream``).

Layout: total length and header length (big-endian 32 bit), CRC-32 of these eight bytes, headers, payload, CRC-32 of all
before. A header is: length of its name (8 bit), name, 7 (the type "string"), length of its value (16 bit), value.
"""

from __future__ import annotations

import json
import struct
from binascii import crc32
from collections.abc import Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_MAX_PAYLOAD_BYTES = 1024 * 1024  # far below the format's bound of 16 MiB


def payload_parts(content: bytes) -> bytes:
    """``content`` as one or more PayloadPart events."""
    return b"".join(
        _frame(
            {":message-type": "event", ":event-type": "PayloadPart", ":content-type": "application/octet-stream"},
            content[start : start + _MAX_PAYLOAD_BYTES],
        )
        for start in range(0, len(content), _MAX_PAYLOAD_BYTES)
    )


def model_stream_error(*, code: str, message: str) -> bytes:
    """The exception that ends a stream which the container broke off; botocore raises it as EventStreamError."""
    return _frame(
        {":message-type": "exception", ":exception-type": "ModelStreamError", ":content-type": "application/json"},
        json.dumps({"Message": message, "ErrorCode": code}).encode(),
    )


def internal_stream_failure(message: str) -> bytes:
    """The exception that ends a stream which failed for a reason other than the model's own."""
    return _frame(
        {":message-type": "exception", ":exception-type": "InternalStreamFailure", ":content-type": "application/json"},
        json.dumps({"Message": message}).encode(),
    )


def _frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    head = b"".join(
        struct.pack(">B", len(name.encode()))
        + name.encode()
        + struct.pack(">BH", 7, len(value.encode()))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    message = prelude + struct.pack(">I", crc32(prelude)) + head + payload
    return message + struct.pack(">I", crc32(message))
