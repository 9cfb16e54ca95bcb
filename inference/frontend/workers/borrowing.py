"""The workers of one model whose scripts hold other models (`context.get_model`): known until their memory is free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tidegate.inference.protocol import Payload
from tidegate.inference.repository.catalogue import Revision


class Link(Protocol):
    """A worker's socket."""

    def send(self, data: bytes) -> None: ...


@dataclass(slots=True, eq=False)
class Borrower:
    """One of them."""

    revision: Revision | None
    """What of the repository it serves itself."""
    pid: int
    link: Link | None
    begin: Callable[[], None]
    """Its time limit begins anew: it has waited for the frontend."""
    retire: Callable[[], None]
    """Has it finish what it has, and end; another takes its place."""

    def tell(self, data: bytes) -> None:
        """Send a frame; it may have gone."""
        if self.link is not None:
            self.begin()
            self.link.send(data)


class Lender(Protocol):
    """Who has the models."""

    def heard(self, borrower: Borrower, payload: Payload) -> None:
        """A MODEL frame of a worker."""

    def ended(self, borrower: Borrower) -> None:
        """A worker is gone, and its memory free."""


class Borrowing:
    """Those of one pool, by the numbers of the workers."""

    def __init__(self, lender: Lender, revision: Revision | None) -> None:
        self._lender = lender
        self._revision = revision
        self._borrowers: dict[int, Borrower] = {}

    def heard(self, worker: int, payload: Payload, borrower: Callable[[Revision | None], Borrower]) -> None:
        """A MODEL frame of a worker; the first one makes it a `borrower`."""
        found = self._borrowers.get(worker)
        if found is None:
            found = self._borrowers[worker] = borrower(self._revision)
        found.begin()
        self._lender.heard(found, payload)

    def lost(self, worker: int) -> None:
        """A worker's socket has closed."""
        if (borrower := self._borrowers.get(worker)) is not None:
            borrower.link = None

    def look(self, is_alive: Callable[[int], bool]) -> None:
        """Something has ended: whoever has neither socket nor process is gone."""
        for number, borrower in list(self._borrowers.items()):
            if borrower.link is None and not is_alive(borrower.pid):
                del self._borrowers[number]
                self._lender.ended(borrower)
