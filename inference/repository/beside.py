"""A large object in parts that are read beside each other and given in order.

One connection to S3 brings 85 to 90 MB/s, whatever the network could. (Source: Amazon S3 user guide, "Best practices
design patterns": a request at a time for each 85-90 MB/s that are wanted, each for 8 or 16 MB.) What is given is what a
single connection would have given, so whoever writes it down may stop anywhere and go on from there.

awscrt does likewise in C. Measured beside this (benchmarks/results/s3.md) it was no faster and took more memory, and it
knows neither the proxies nor the certificates that boto3 is told of.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator

Read = Callable[[int, int], Iterator[bytes]]
"""The bytes from the first number up to, but not with, the second."""


def read_beside(start: int, stop: int, read: Read, *, part_bytes: int, readers: int) -> Generator[bytes, None, None]:
    """The bytes from `start` to `stop`, by several threads that call `read` for parts of `part_bytes`.

    As many parts as there are `readers` are in memory at most. What a part brought before `read` raised is given before
    that is raised; later parts are then given up, and so is everything when the generator is closed.
    """
    parts = [(at, min(at + part_bytes, stop)) for at in range(start, stop, part_bytes)]
    window = _Window(len(parts), readers)
    for _ in range(min(readers, len(parts))):
        # Daemons: a process that ends waits for no socket.
        threading.Thread(target=_read_parts, args=(window, parts, read), daemon=True).start()
    try:
        for number in range(len(parts)):
            pieces, error = window.result(number)
            yield from pieces
            if error is not None:
                raise error
            window.given()
    finally:
        window.close()


class _Window:
    """Which part is read next, and what the others have brought."""

    def __init__(self, parts: int, readers: int) -> None:
        self._parts, self._readers = parts, readers
        self._next = self._given = 0
        self._results: dict[int, tuple[list[bytes], BaseException | None]] = {}
        self._changed = threading.Condition()
        self.closed = False

    def take(self) -> int | None:
        """The number of the next part, once there is room for it; None where there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self.closed or self._next < self._given + self._readers)
            if self.closed or self._next == self._parts:
                return None
            self._next += 1
            return self._next - 1

    def bring(self, number: int, pieces: list[bytes], error: BaseException | None) -> None:
        """What a part is, and what ended it early."""
        with self._changed:
            self._results[number] = pieces, error
            self._changed.notify_all()

    def result(self, number: int) -> tuple[list[bytes], BaseException | None]:
        """What `bring` was told, once it was."""
        with self._changed:
            self._changed.wait_for(lambda: number in self._results)
            return self._results.pop(number)

    def given(self) -> None:
        """Another part has left the memory."""
        with self._changed:
            self._given += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Nobody wants any more of it."""
        with self._changed:
            self.closed = True
            self._results.clear()
            self._changed.notify_all()


def _read_parts(window: _Window, parts: list[tuple[int, int]], read: Read) -> None:
    while (number := window.take()) is not None:
        pieces: list[bytes] = []
        error: BaseException | None = None
        try:
            for piece in read(*parts[number]):
                if window.closed:
                    return
                pieces.append(piece)
        except BaseException as raised:  # whoever waits for this part is to hear of it
            error = raised
        window.bring(number, pieces, error)
