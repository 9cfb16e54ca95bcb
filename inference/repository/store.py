"""Where a repository lies: what the rest asks of a folder and of a bucket alike."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

from tidegate.inference.repository.listing import Entry, Listing


class StoreFailed(Exception):
    """The store does not answer, or says no; the text is one sentence. Another try may succeed."""


class EntryChanged(StoreFailed):
    """The file or object is another than the one that was listed, or is gone; the next listing tells."""


class NotThere(StoreFailed):
    """There is no file or object of this name."""


class ContentDamaged(StoreFailed):
    """What came is not what the store says that it sent: all of it is worth nothing."""


class Store(Protocol):
    """A folder or a bucket. All methods block, and may be called from several threads."""

    whole_objects: bool
    """Whether a file appears only when all of it is there."""

    def list_all(self) -> Listing:
        """Everything that is there. Raises `StoreFailed`; what it returns is complete."""

    def read(self, entry: Entry, offset: int = 0) -> Generator[bytes, None, None]:
        """The content of a listed entry from `offset` on, in pieces, and never that of another.

        Raises `StoreFailed`, also in the middle: what came until then is right, and can be gone on from.
        """

    def address(self, path: str) -> str:
        """How people call it."""
