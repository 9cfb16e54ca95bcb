"""A body in an unnamed file: what is too large to be held in memory while it arrives and waits.

The loop never writes: a disk that is behind would stop it, and with it `/ping`. Pieces go to a writer thread in their
order, one call at a time; what is not written yet counts as memory, and `behind` asks the socket to stop reading.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO, Protocol

from tidegate.inference.body_file import BodyFile
from tidegate.inference.errors import RequestError

BEHIND_BYTES = 4 * 1024 * 1024
"""Unwritten bytes of one body at which no more of it is read."""


class Place(Protocol):
    """What a file belongs to: see `spool.Spool`."""

    def reserve(self, size: int) -> None: ...
    def release(self, size: int) -> None: ...
    def hold_unwritten(self, size: int) -> None: ...
    def write(self, job: Callable[[], None]) -> asyncio.Future[None]: ...
    def full(self, error: OSError) -> RequestError: ...


class FileBody:
    """Implements `Body`. `reserved` bytes are held of the spool for it; more are reserved as they come."""

    __slots__ = (
        "_closed",
        "_file",
        "_pieces",
        "_place",
        "_reserved",
        "_unwritten",
        "_writing",
        "error",
        "moved",
        "size",
    )

    def __init__(self, place: Place, directory: str, reserved: int) -> None:
        self._place = place
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - closed by close()
        self._reserved = reserved
        self._pieces: list[bytes] = []
        self._unwritten = 0
        self._writing = False
        self._closed = False
        self.size = 0
        self.error: RequestError | None = None
        """Why it could not be written; nothing more of it is."""
        self.moved: Callable[[], None] | None = None
        """Called in the loop after each step of the writing."""

    @property
    def behind(self) -> bool:
        """Whether so much is unwritten that no more should be read."""
        return self._unwritten > BEHIND_BYTES

    @property
    def complete(self) -> bool:
        """Whether all that has arrived is in the file."""
        return not self._unwritten

    def make_room(self, size: int) -> None:
        """Reserve what a body of `size` bytes takes. Raises `Overloaded`."""
        if size > self._reserved:
            self._place.reserve(size - self._reserved)
            self._reserved = size

    def append(self, data: bytes) -> None:
        """Take the next piece. Raises `Overloaded` where the spool has no room for it."""
        size = self.size + len(data)
        self.make_room(size)
        self.size = size
        if self.error is not None:
            return
        self._pieces.append(data)
        self._count_unwritten(len(data))
        if not self._writing:
            self._write()

    def whole(self) -> bytes:
        """All of it in one piece, in memory."""
        return os.pread(self._file.fileno(), self.size, 0)

    def sent(self) -> bytes | BodyFile:
        """It for one worker, to read only and from its beginning: a request that is tried again is sent twice."""
        try:
            return BodyFile(self.size, os.open(f"/proc/self/fd/{self._file.fileno()}", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:  # no descriptor is left
            return self.whole()

    def close(self) -> None:
        """Let go of the file and of what is held for it, as soon as nobody writes to it."""
        if self._closed:
            return
        self._closed = True
        self.moved = None
        self._drop_pieces()
        self._place.release(self._reserved)
        if not self._writing:
            self._file.close()

    def _write(self) -> None:
        pieces, self._pieces = self._pieces, []
        self._writing = True
        written = self._place.write(partial(_write_all, self._file.fileno(), pieces))
        written.add_done_callback(partial(self._wrote, sum(map(len, pieces))))

    def _wrote(self, size: int, written: asyncio.Future[None]) -> None:
        self._writing = False
        self._count_unwritten(-size)
        failure = None if written.cancelled() else written.exception()
        if self._closed:
            self._file.close()
            return
        if isinstance(failure, OSError):
            self.error = self._place.full(failure)
            self._drop_pieces()
        elif self._pieces:
            self._write()
        if self.moved is not None:
            self.moved()

    def _drop_pieces(self) -> None:
        self._count_unwritten(-sum(map(len, self._pieces)))
        self._pieces.clear()

    def _count_unwritten(self, size: int) -> None:
        self._unwritten += size
        self._place.hold_unwritten(size)


def _write_all(fd: int, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        left = memoryview(piece)
        while left:
            left = left[os.write(fd, left) :]
