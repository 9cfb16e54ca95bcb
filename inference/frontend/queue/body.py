"""The body of one request, while it arrives and until the worker has it."""

from __future__ import annotations

from typing import Protocol

from tidegate.inference.body_file import BodyFile

_SMALL_PIECE_BYTES = 1024


class Body(Protocol):
    """A body, wherever it is kept."""

    @property
    def size(self) -> int:
        """The bytes that have arrived."""

    @property
    def behind(self) -> bool:
        """Whether so much of it waits to be written that no more should be read."""

    @property
    def complete(self) -> bool:
        """Whether all that has arrived can be read."""

    def append(self, data: bytes) -> None:
        """Take the next piece."""

    def whole(self) -> bytes:
        """All of it in one piece."""

    def sent(self) -> bytes | BodyFile:
        """What a worker is sent: all of it, or a file that the caller closes."""

    def close(self) -> None:
        """Let go of it."""


class MemoryBody:
    """A body in memory, in the pieces that the socket brought."""

    __slots__ = ("_pieces", "size")
    behind = False
    complete = True

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes | bytearray] = []

    def append(self, data: bytes) -> None:
        """Take the next piece. Small ones are joined: as objects of their own they would take thirty times as much."""
        self.size += len(data)
        if len(data) < _SMALL_PIECE_BYTES and self._pieces:
            if isinstance(self._pieces[-1], bytearray):
                self._pieces[-1] += data
            else:
                self._pieces.append(bytearray(data))
        else:
            self._pieces.append(data)

    def whole(self) -> bytes:
        """All of it in one piece."""
        return bytes(self._pieces[0]) if len(self._pieces) == 1 else b"".join(self._pieces)

    def sent(self) -> bytes:
        """All of it."""
        return self.whole()

    def beginning(self, size: int) -> bytes:
        """Its first bytes, at most `size`."""
        taken = bytearray()
        for piece in self._pieces:
            taken += piece[: size - len(taken)]
            if len(taken) == size:
                break
        return bytes(taken)

    def count(self, byte: bytes) -> int:
        """How often one byte is in it."""
        return sum(piece.count(byte) for piece in self._pieces)

    @property
    def ends_with_newline(self) -> bool:
        """Whether its last line has an end."""
        return bool(self._pieces) and self._pieces[-1].endswith(b"\n")

    def close(self) -> None:
        """Let go of it."""
        self._pieces.clear()
        self.size = 0
