"""`context.get_model` seen from the frontend: what workers ask, and what the librarian's decisions mean to them.

worker: Want ─▶ Librarian.want(worker=…) ─▶ Load ─▶ worker: Held ─▶ Grant ─▶ worker: Granted
Drop ─▶ worker ─▶ Dropped                       the worker ends ─▶ all that it held is free
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

from tidegate.inference import model_frames as frames
from tidegate.inference.errors import Draining, ModelLoading, RequestError
from tidegate.inference.frontend.repository.actions import Action, Drop, Grant, Load, Place, Refuse
from tidegate.inference.frontend.repository.choice import Selector
from tidegate.inference.frontend.repository.librarian import Librarian
from tidegate.inference.frontend.workers.borrowing import Borrower
from tidegate.inference.protocol import Payload
from tidegate.inference.repository.catalogue import Revision

log = logging.getLogger("tidegate.repository")


@dataclass(eq=False, slots=True)
class _Asking:
    """A script's call; a waiter of the librarian, as a request is."""

    id: int
    borrower: Borrower

    def granted(self, revision: Revision) -> None:
        self.borrower.tell(frames.frame_of(frames.Granted(id=self.id, revision=revision)))

    def refused(self, error: RequestError) -> None:
        retry_after_s = error.retry_after_s if isinstance(error, ModelLoading) else 1
        refused = frames.Refused(id=self.id, code=error.code, message=error.message, retry_after_s=retry_after_s)
        self.borrower.tell(frames.frame_of(refused))


class ScriptModels:
    """All workers that hold models beside their own. `decided` is given what the librarian decides."""

    def __init__(
        self, librarian: Librarian, decided: Callable[[Iterable[Action]], None], now_s: Callable[[], float]
    ) -> None:
        self._librarian = librarian
        self._decided = decided
        self._now_s = now_s
        self._numbers = count(1)
        self._by_borrower: dict[Borrower, int] = {}
        self._by_number: dict[int, Borrower] = {}
        self._asking: dict[tuple[Borrower, int], _Asking] = {}
        self._closed = False

    # --- what workers say

    def heard(self, borrower: Borrower, payload: Payload) -> None:
        """A worker's MODEL frame."""
        message = frames.message_of(payload)
        number = self._number(borrower)
        now_s = self._now_s()
        match message:
            case frames.Want():
                self._want(borrower, number, message, now_s)
            case frames.Leave(id=id_):
                asking = self._asking.pop((borrower, id_), None)
                if asking is not None:
                    self._decided(self._librarian.leave(asking, now_s))
            case frames.Held(revision=revision, size_bytes=size_bytes):
                self._decided(self._librarian.loaded(Place(revision, number), size_bytes, now_s))
            case frames.NotHeld(revision=revision, tried=False):
                self._decided(self._librarian.not_tried(Place(revision, number), now_s))
            case frames.NotHeld(revision=revision, reason=reason, too_large=too_large):
                place = Place(revision, number)
                self._decided(self._librarian.load_failed(place, reason, now_s, too_large=too_large))
            case frames.Dropped(revision=revision):
                self._decided(self._librarian.unloaded(Place(revision, number), now_s))
            case frames.Overgrown(reason=reason):
                log.warning("a worker is replaced", extra={"worker_pid": borrower.pid, "why": reason})
                borrower.retire()

    def _want(self, borrower: Borrower, number: int, want: frames.Want, now_s: float) -> None:
        asking = _Asking(want.id, borrower)
        if self._closed:
            asking.refused(Draining("The server is stopping."))
            return
        for revision in want.used:
            self._librarian.used(Place(revision, number), now_s)
        self._asking[borrower, want.id] = asking
        selector = Selector(want.name, want.version)
        try:
            actions = self._librarian.want(
                asking, selector, now_s, now_s + want.wait_s, worker=number, home=borrower.revision
            )
        except RequestError as error:
            self._refuse(asking, error)
            return
        self._decided(actions)

    def _number(self, borrower: Borrower) -> int:
        number = self._by_borrower.get(borrower)
        if number is None:
            number = self._by_borrower[borrower] = next(self._numbers)
            self._by_number[number] = borrower
        return number

    def ended(self, borrower: Borrower) -> None:
        """A worker is gone, and its memory free."""
        number = self._by_borrower.pop(borrower, None)
        if number is None:
            return
        del self._by_number[number]
        for key in [key for key in self._asking if key[0] is borrower]:
            del self._asking[key]
        self._decided(self._librarian.worker_gone(number, self._now_s()))

    def close(self) -> None:
        """The server stops: nobody gets a model any more."""
        self._closed = True
        for asking in list(self._asking.values()):
            self._refuse(asking, Draining("The server is stopping."))

    def held_bytes(self, home: Revision) -> int:
        """What the scripts of a revision's workers hold beside it."""
        numbers = {number for borrower, number in self._by_borrower.items() if borrower.revision == home}
        return self._librarian.held_by(numbers) if numbers else 0

    # --- what is decided

    def carry_out(self, action: Action) -> bool:
        """Do what concerns a script; whether it did."""
        match action:
            case Grant(_Asking() as asking, place):
                self._asking.pop((asking.borrower, asking.id), None)
                asking.granted(place.revision)
            case Refuse(_Asking() as asking, error):
                self._refuse(asking, error)
            case Load(Place(revision, int(number)), directory):
                self._tell(number, frames.Load(revision=revision, directory=directory))
            case Drop(number, revision, reason):
                fields = {"model": revision.name, "version": revision.version, "why": reason}
                log.info("a script's worker is to let go of a model", extra=fields)
                self._tell(number, frames.Drop(revision=revision))
            case _:
                return False
        return True

    def _refuse(self, asking: _Asking, error: RequestError) -> None:
        self._asking.pop((asking.borrower, asking.id), None)
        asking.refused(error)

    def _tell(self, number: int, message: frames.ToWorker) -> None:
        borrower = self._by_number.get(number)
        if borrower is not None:  # else `ended` has told the librarian
            borrower.tell(frames.frame_of(message))
