"""What a worker has begun of the requests that it was handed: a page of memory that the frontend and the worker share.

The frontend hands over several requests in one write. Each has a place: they are counted from 0 in the order in which
they are handed over. Which of them user code has seen must be known exactly, also of a worker that hangs or is killed,
and must cost no message: the worker notes it here just before it begins.

    page := u64 how many places have been begun | 4,088 marks, one byte for each place, used again and again

Both sides first write and then look (Dekker's way), so that of two who meet at a place at least one gives way: the
frontend where the place has been begun, the worker where it is marked. Where both do, the worker says so (PASSED_OVER).
"""

from __future__ import annotations

import mmap
import os
from threading import Lock
from typing import Protocol

PAGE_BYTES = 4096
_COUNT_BYTES = 8
MARKS = PAGE_BYTES - _COUNT_BYTES
"""More than twice as many as the places that a worker is handed ahead of the one that it has come to."""


class Begun(Protocol):
    """What the frontend asks of a worker's page."""

    exact: bool
    """Whether it tells one request that was begun from another that was not."""

    @property
    def count(self) -> int:
        """How many places have been begun: all that are lower."""

    def hand_over(self, place: int) -> None:
        """A request is about to be sent for this place."""

    def take_back(self, place: int) -> bool:
        """Have the worker pass over a place; False where it may have begun it."""

    def close(self) -> None:
        """The worker is gone, and is asked about no more."""


class BegunPage:
    """One side's view of the page in the file of `descriptor`, which the caller may close.

    Raises OSError and ValueError where it cannot be mapped.
    """

    exact = True

    def __init__(self, descriptor: int) -> None:
        self._page = mmap.mmap(descriptor, PAGE_BYTES)
        with memoryview(self._page) as view, view[:_COUNT_BYTES] as head:
            self._count = head.cast("Q")
            self._marks = view[_COUNT_BYTES:]
        self._fence = Lock()
        self._fence.acquire()

    @property
    def count(self) -> int:
        """How many places have been begun."""
        return self._count[0]

    def hand_over(self, place: int) -> None:
        """A request is about to be sent for this place."""
        self._marks[place % MARKS] = 0

    def take_back(self, place: int) -> bool:
        """Have the worker pass over a place; False where it may have begun it."""
        self._marks[place % MARKS] = 1
        self._order_memory()
        return self._count[0] <= place

    def close(self) -> None:
        """Let go of the memory, and of the descriptor that a mapping keeps."""
        self._count.release()
        self._marks.release()
        self._page.close()

    def begin(self, place: int) -> bool:
        """In the worker: note that a place and all before it are begun; False where it was taken back."""
        self._count[0] = place + 1
        self._order_memory()
        return not self._marks[place % MARKS]

    def _order_memory(self) -> None:
        # A processor may look ahead of its own write. Nothing passes a release and the acquisition behind it.
        self._fence.release()
        self._fence.acquire()


class AllBegun:
    """Of a worker that has no page: whatever it was handed may have been begun."""

    exact = False
    count = 2**64

    def hand_over(self, place: int) -> None:
        """Nothing to note."""

    def take_back(self, place: int) -> bool:  # noqa: ARG002 - it is the same for each
        """Nothing can be taken back."""
        return False

    def close(self) -> None:
        """Nothing to let go of."""


def new_page_file() -> int:
    """The descriptor of an empty page in a file without a name. Raises OSError."""
    descriptor = os.memfd_create("begun", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, PAGE_BYTES)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
