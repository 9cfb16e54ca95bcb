"""From what a generator yields to the bytes of a body, chunk by chunk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple, Protocol

from tidegate.inference.errors import NotAcceptable
from tidegate.inference.worker.accept import demand_some
from tidegate.inference.worker.content import CSV, JSON, JSON_LINES, split_media_type
from tidegate.inference.worker.encoding import encode, to_bytes

Source = Iterator[Any] | AsyncIterator[Any]
"""What a stream is made of: a generator, or whatever else is asked for its next item."""

TEXT, OCTETS = "text/plain; charset=utf-8", "application/octet-stream"
_OF_LINES = (JSON_LINES, CSV)
_BY_LINE = (JSON, *_OF_LINES)
_RAW = str | bytes | bytearray | memoryview


def is_source(value: Any) -> bool:
    """Whether `value` is what streams are made of. A list is not: it is there already."""
    kind = type(value)  # an isinstance of Iterator takes ten times as long, for every answer
    return hasattr(kind, "__next__") or hasattr(kind, "__anext__")


class Chunks(Protocol):
    """Encodes the items of one stream. The content type is known when the first of them is encoded."""

    @property
    def content_type(self) -> str: ...
    def encode(self, item: Any) -> bytes | None:
        """The bytes of one item; None where the response is not to begin yet."""

    def finish(self) -> bytes:
        """What follows the last item."""


class StreamBody(NamedTuple):
    """A body that comes in pieces: where they come from, how they are encoded, and which function to name in errors.

    `inner` is what `source` reads from, where output_fn was given a generator: it is closed with it.
    """

    source: Source
    chunks: Chunks
    function: str
    inner: Source | None = None


def _line(item: Any, media_type: str) -> bytes:
    return encode(item, CSV, records=1) if media_type == CSV else encode(item, JSON) + b"\n"


class BodyChunks:
    """What output_fn or transform_fn yields: pieces of the body, each of what these functions may return.

    `str` and `bytes` are pieces as they are. Every other object is a line of JSON Lines or a row of CSV, where the body
    is of these types: whoever reads it could not tell two of them apart otherwise.
    """

    def __init__(self, content_type: str) -> None:
        self.content_type = content_type
        self._media_type = split_media_type(content_type)[0]

    def encode(self, item: Any) -> bytes:
        """One piece. Raises `HandlerFailed`, or `NotAcceptable` for what is no row of CSV."""
        if self._media_type not in _OF_LINES or isinstance(item, _RAW):
            return to_bytes(item)
        return _line(item, self._media_type)

    def finish(self) -> bytes:
        """Nothing."""
        return b""


class ItemChunks:
    """What predict_fn yields where no output_fn encodes it: items, each encoded by itself.

    JSON and JSON Lines have a line for each, CSV a row. `str` and `bytes` are sent as they are, unless the client named
    one of these types. Raises `NotAcceptable` for every other type that the client named.
    """

    def __init__(self, accept: str, *, named: bool) -> None:
        demand_some(accept)
        self._media_type = split_media_type(accept)[0]
        self._named = named
        if self._media_type == JSON:
            self.content_type = JSON_LINES
        else:
            self.content_type = accept
        self._raw: bool | None = None

    def encode(self, item: Any) -> bytes:
        """One item. Raises `NotAcceptable`, or `HandlerFailed` for what no type can hold."""
        if self._raw is None:
            self._begin(item)
        if self._raw and isinstance(item, _RAW):
            return to_bytes(item)
        if self._media_type in _BY_LINE:
            return _line(item, self._media_type)
        raise NotAcceptable(
            f"Accept '{self._media_type}' cannot be answered with a stream of items of the type {type(item).__name__}; "
            f"this model streams {', '.join(_BY_LINE)}."
        )

    def finish(self) -> bytes:
        """Nothing."""
        return b""

    def _begin(self, first: Any) -> None:
        by_line = self._media_type in _BY_LINE
        self._raw = isinstance(first, _RAW) and not (by_line and self._named)
        if self._raw and by_line:
            self.content_type = TEXT if isinstance(first, str) else OCTETS
