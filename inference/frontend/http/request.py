"""One request, as HTTP has it. Header names are lower-case `bytes`, values `bytes` as they came."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import unquote

from tidegate.inference.frontend.queue.body import Body, MemoryBody

_ENCODED_SLASH = re.compile("%2[Ff]")


class Request:
    """The head of a request, and its body as far as it has arrived."""

    __slots__ = (
        "body",
        "by_name",
        "content_length",
        "headers",
        "id",
        "keep_alive",
        "method",
        "path",
        "query",
        "takes_chunks",
        "target",
    )

    def __init__(
        self,
        *,
        method: str,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        keep_alive: bool = True,
        takes_chunks: bool = True,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.keep_alive = keep_alive
        self.takes_chunks = takes_chunks
        """Whether the client speaks HTTP/1.1, and so understands a chunked response."""
        self.id = ""
        """Given at admission: the client's own where it sent one."""
        self.body: Body = MemoryBody()
        self.path, self.query = split_target(target)
        self.by_name = by_name = dict(headers)
        """The last value of each header."""
        self.content_length = int(by_name[b"content-length"]) if b"content-length" in by_name else 0
        """What the client announced; 0 where it announced nothing, as with a chunked body."""

    @property
    def open_inference(self) -> bool:
        """Whether its path is one of the open inference protocol, in whose form it is answered."""
        return self.path.startswith("/v2/") or self.path == "/v2"

    def header(self, name: bytes) -> str:
        """The value of a header, or an empty string. The last of several wins."""
        return self.by_name[name].decode("latin-1") if name in self.by_name else ""

    def set_header(self, name: bytes, value: bytes) -> None:
        """Put one header in the place of all that have this name."""
        self.headers = [*(header for header in self.headers if header[0] != name), (name, value)]
        self.by_name[name] = value

    def count(self, name: bytes) -> int:
        """How often a header came."""
        if len(self.by_name) == len(self.headers):
            return int(name in self.by_name)
        return sum(each == name for each, _ in self.headers)

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body; one of HTTP/1.0 knows of no such thing.

        Source: RFC 9110 section 10.1.1.
        """
        return self.takes_chunks and b"expect" in self.by_name and self.header(b"expect").lower() == "100-continue"

    def header_block(self) -> bytes:
        """All headers as lines, each with its CRLF."""
        return b"\r\n".join([*map(b": ".join, self.headers), b""])

    def head_bytes(self) -> bytes:
        """The head as bytes again, for a protocol that wants to read the request for an upgrade itself."""
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (self.method.encode("latin-1"), self.target, self.header_block())


@lru_cache(maxsize=256)
def split_target(target: bytes) -> tuple[str, str]:
    """The request target as (path, query): `/a%20b?x=1` → `('/a b', 'x=1')`; an absolute URI loses its authority.

    An encoded slash stays `%2F`: it is part of a name, and separates none (RFC 3986 section 2.2).
    """
    try:
        text = target.decode()
    except UnicodeDecodeError:
        text = target.decode("latin-1")
    if not text.startswith("/"):
        _, slashes, rest = text.partition("://")
        text = "/" + rest.partition("/")[2] if slashes else text
    path, _, query = text.partition("?")
    return ("%2F".join(map(unquote, _ENCODED_SLASH.split(path))) if "%" in path else path), query
