"""What comes back from a container: whole, piece by piece, as another protocol, or not at all."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# What the service calls the one container of a model; those of a pipeline have names of their own.
PRIMARY = "primary"


class NoAnswer(Exception):
    """The container gave no (complete) answer. ``container`` is its name."""

    container = PRIMARY


class NotTaken(NoAnswer):
    """The container has not taken the request: another one may be asked without executing anything twice.

    It refused the connection, or lost it before it had read the whole request.
    """


class TimedOut(NoAnswer):
    """The time for the call ran out."""


class AnswerTooLarge(NoAnswer):
    """The answer is larger than the caller takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A complete answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    container: str = PRIMARY


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedAnswer:
    """An answer whose body arrives piece by piece; ``pieces`` raises :class:`NoAnswer` when it breaks off."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]
    container: str = PRIMARY

    def beginning(self, size_bytes: int) -> bytes:
        """At least the first ``size_bytes`` of the body, where it has as many: enough to show what an error says."""
        said = b""
        while len(said) < size_bytes and (piece := next(self.pieces, b"")):
            said += piece
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded:
    """A connection that has changed its protocol; ``rest`` is what came behind the head of the answer."""

    connection: socket.socket
    headers: Mapping[str, str]
    rest: bytes


class PiecesReader:
    """The pieces of an answer as a file that is read once; keeps a copy of an answer of up to ``kept_bytes``."""

    def __init__(self, pieces: Iterator[bytes], *, max_bytes: int, kept_bytes: int) -> None:
        self._pieces = pieces
        self._left = b""
        self._size = 0
        self._max_bytes = max_bytes
        self._kept: bytearray | None = bytearray()
        self._kept_bytes = kept_bytes

    @property
    def kept(self) -> bytes | None:
        """All that was read, where it is no more than was to be kept."""
        return None if self._kept is None else bytes(self._kept)

    def read(self, size: int = -1) -> bytes:
        """Raises :class:`NoAnswer` where the answer breaks off, :class:`AnswerTooLarge` where it does not end."""
        found = [self._left]
        length = len(self._left)
        while (size < 0 or length < size) and (piece := next(self._pieces, b"")):
            found.append(piece)
            length += len(piece)
            self._size += len(piece)
            if self._size > self._max_bytes:
                raise AnswerTooLarge(f"the answer is larger than {self._max_bytes} bytes")
        joined = b"".join(found)
        wanted, self._left = (joined, b"") if size < 0 else (joined[:size], joined[size:])
        if self._kept is not None:
            self._kept += wanted
            if len(self._kept) > self._kept_bytes:
                self._kept = None
        return wanted
