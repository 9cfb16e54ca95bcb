"""The heads of ordinary HTTP/1.1 messages, read from bytes.

Only what nearly every client and server sends is understood: a body of a stated length, each header once, and nothing
that asks for more than one answer to one request. All else is :data:`UNUSUAL`, and is read by the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal


class _Unusual(Enum):
    UNUSUAL = "unusual"


UNUSUAL: Final = _Unusual.UNUSUAL
Unusual = Literal[_Unusual.UNUSUAL]

_HEAD_BYTES = 65_536
_MOST_HEADERS = 100  # as in http.client
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIRST_LINE = re.compile(rb"(?:[^\r\n]+ HTTP/1\.[01]|HTTP/1\.[01] [^\r\n]*)\r\n")
# What of these changes how long the message is, or what comes next on the connection.
_CHANGES = frozenset({"transfer-encoding", "expect", "upgrade", "trailer"})


@dataclass(frozen=True, slots=True)
class Head:
    """A request's or an answer's. Header names are in lower case; the body begins at ``body_at``."""

    words: tuple[str, str, str]
    """Of the first line."""
    headers: Mapping[str, str]
    length: int
    """Of the body, in bytes."""
    body_at: int

    @property
    def end(self) -> int:
        """Where the message ends."""
        return self.body_at + self.length


def read_head(received: bytes | bytearray) -> Head | Unusual | None:
    """The head at the beginning of what was received; None where more of it is to come."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        # Who sends something else than HTTP/1.1 may wait for an answer before there is an empty line.
        is_usual = len(received) <= _HEAD_BYTES and (b"\n" not in received or _FIRST_LINE.match(received) is not None)
        return None if is_usual else UNUSUAL
    whole = bytes(received[:end])
    first, *lines = whole.decode("latin-1").split("\r\n")
    # What breaks a line in another way, some readers take for the end of it and some do not.
    clean = whole.count(b"\n") == whole.count(b"\r") == len(lines) and b"\0" not in whole
    if end > _HEAD_BYTES or not clean:
        return UNUSUAL
    words = first.split(" ", 2)
    if len(words) < 3 or len(lines) > _MOST_HEADERS:
        return UNUSUAL
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or name in headers or name in _CHANGES or _NAME.fullmatch(name) is None:
            return UNUSUAL
        value = value.strip(" \t")
        headers[name] = value if value.isascii() else as_sent(value)
    length = headers.get("content-length", "")
    if not length.isascii() or not length.isdigit() or len(length) > 18:
        return UNUSUAL
    return Head((words[0], words[1], words[2]), headers, int(length), end + 4)


def is_kept(headers: Mapping[str, str]) -> bool:
    """Whether the connection stays open behind the message."""
    return headers.get("connection", "keep-alive").lower() == "keep-alive"


def as_sent(value: str) -> str:
    """A header's text: boto3 and its kin send UTF-8, and Python's HTTP reads it as Latin-1."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value
