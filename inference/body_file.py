"""A body that is in an unnamed file, by its descriptor: how it goes from the frontend to a worker without a copy."""

from __future__ import annotations

import io
import mmap
import os
from contextlib import suppress
from typing import BinaryIO

NOT_HERE = -1
"""The descriptor of a body whose file is still on its way."""


class BodyFile:
    """Owns the descriptor, which is open for reading. The file is whole: nobody writes to it any more."""

    __slots__ = ("_maps", "_opened", "descriptor", "size")

    def __init__(self, size: int, descriptor: int = NOT_HERE) -> None:
        self.size = size
        self.descriptor = descriptor
        self._opened: BinaryIO | None = None
        self._maps: list[tuple[mmap.mmap, memoryview]] = []

    def __len__(self) -> int:
        return self.size

    def read(self) -> bytearray:
        """All of it, in memory of the caller's own."""
        content = bytearray(self.size)
        with io.FileIO(self.descriptor, closefd=False) as file:
            file.seek(0)
            view = memoryview(content)
            while view and (count := file.readinto(view)):
                view = view[count:]
        return content

    def view(self) -> memoryview:
        """All of it, mapped: pages are read when they are looked at, and copied where they are written to."""
        pages = mmap.mmap(self.descriptor, self.size, access=mmap.ACCESS_COPY)
        view = memoryview(pages)
        self._maps.append((pages, view))
        return view

    def open(self) -> BinaryIO:
        """It as a file to read from, at its beginning, closed with this object."""
        if self._opened is not None:
            self._opened.close()
        # Not a duplicate, which would share its place in the file with others.
        self._opened = open(f"/proc/self/fd/{self.descriptor}", "rb")  # noqa: PTH123, SIM115 - as it says
        return self._opened

    def close(self) -> None:
        """Let go of the file; what of it is mapped stays as long as an array is in it."""
        if self._opened is not None:
            self._opened.close()
        while self._maps:
            pages, view = self._maps.pop()
            with suppress(BufferError):
                view.release()
                pages.close()
        if self.descriptor != NOT_HERE:
            with suppress(OSError):  # user code may close what it finds
                os.close(self.descriptor)
            self.descriptor = NOT_HERE

    __del__ = close
