"""What follows from what the librarian is told: who is answered, what is wanted and what goes, until nothing follows.

The librarian changes what is known, says of which models, and has it settled. No I/O.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections.abc import Collection, Iterable

from tidegate.inference.errors import ModelNotFound, RequestError
from tidegate.inference.frontend.repository.actions import (
    Action,
    Drop,
    Grant,
    Log,
    Place,
    Refuse,
    RemoveFromDisk,
    Unload,
)
from tidegate.inference.frontend.repository.cache import Cache
from tidegate.inference.frontend.repository.decision import Decision
from tidegate.inference.frontend.repository.repository_metrics import Counts
from tidegate.inference.frontend.repository.resolving import Key
from tidegate.inference.frontend.repository.room import Limits
from tidegate.inference.frontend.repository.shelf import Shelf
from tidegate.inference.frontend.repository.stock import Stage
from tidegate.inference.frontend.repository.switching import Failure, Fault, Switch
from tidegate.inference.frontend.repository.waiting import Waiter, Waiters
from tidegate.inference.repository.catalogue import Revision

_NO_ROOM_BESIDE = "raise the limits, or set TIDEGATE_RELOAD_ORDER=unload-first"


class Settling:
    """What the librarian knows, and what it comes to. `pinned` names models whose `latest` is loaded and stays."""

    def __init__(self, limits: Limits, pinned: Collection[str]) -> None:
        self.counts = Counts()
        self.cache = Cache(limits)
        self.waiters = Waiters(limits.max_waiters)
        self.switches: dict[str, Switch] = {}
        """One for each model of the catalogue."""
        self.shelves: dict[int, Shelf] = {}
        self.pinned = frozenset(pinned)
        self.parked: set[str] = set()
        """Models that somebody had unloaded and nobody asked for since."""
        self.listed = False
        """Whether there was a good listing, so that what is not in the catalogue is not there."""
        self._retries: list[tuple[float, str]] = []

    def knows(self, revision: Revision) -> bool:
        """Whether the catalogue says a revision, or said it last before what came after turned out not to load."""
        switch = self.switches.get(revision.name)
        return switch is not None and switch.knows(revision)

    def settle(self, names: set[str], now_s: float) -> list[Action]:
        """Decide for these models, and for all that this touches, until nothing follows any more."""
        actions: list[Action] = []
        misfits: set[Place] = set()
        while True:
            for name in sorted(names):
                actions += self._decide(name, misfits, now_s)
            names = set()
            self.cache.at_work = self.waiters.homes
            done, misfit = self.cache.advance(now_s)
            actions += done
            names |= self.count_evictions(done)
            for each in misfit:
                misfits.add(each.place)
                fault = Fault.BESIDE if each.beside else Fault.TOO_LARGE
                reason = f"{each.reason}; {_NO_ROOM_BESIDE}" if each.beside else each.reason
                actions += self.place_failed(each.place, fault, reason, now_s)
                names.add(each.place.revision.name)
            if not names:
                return actions

    def count_evictions(self, done: Iterable[Action]) -> set[str]:
        """Count what goes to make room; returns the models that are loaded again only when somebody asks."""
        names = set()
        for action in done:
            if isinstance(action, Unload | Drop) and action.reason == "evicted":
                self.counts.evictions += 1
                if isinstance(action, Unload) and (switch := self.switches.get(action.revision.name)) is not None:
                    switch.cooled(action.revision)
                    names.add(action.revision.name)
            self.counts.disk_evictions += isinstance(action, RemoveFromDisk)
        return names

    # --- one model

    def _decide(self, name: str, misfits: Collection[Place], now_s: float) -> list[Action]:
        """Who of a model is answered, what of it is wanted, and what of it goes."""
        switch = self.switches.get(name)
        if switch is None:
            return self._clear(name, now_s)
        keep_latest = name in self.pinned and name not in self.parked
        decision = Decision(switch, self.cache.stock, now_s, keep_latest, self.shelves)
        decision.decide(self.waiters.of(name))
        actions: list[Action] = [self._refuse(waiter, error) for waiter, error in decision.refusals]
        actions += [self._grant(waiter, place, now_s) for waiter, place in decision.grants]
        actions += [self._switched(name, key, before, after) for key, before, after in decision.switches]
        actions += [self.cache.let_go(held, reason, now_s) for held, reason in decision.superseded]
        actions += self._tidy_shelves(name, switch, now_s)
        self.cache.mark(name, decision.pins, decision.fallbacks)
        wishes = [wish for place, wish in decision.wishes.items() if place not in misfits]
        return actions + self.cache.want(name, wishes, switch.knows) + self._sweep(name)

    def _clear(self, name: str, now_s: float) -> list[Action]:
        """A model is gone."""
        error = ModelNotFound(f"The model '{name}' was removed from the repository.")
        actions: list[Action] = [self._refuse(waiter, error) for waiter in self.waiters.of(name)]
        for held in self.cache.stock.held_of(name):
            if held.stage is not Stage.GOING:
                actions.append(self.cache.let_go(held, "removed", now_s))
        self.cache.mark(name, frozenset(), frozenset())
        return actions + self.cache.want(name, [], lambda _: False) + self._sweep(name)

    def _sweep(self, name: str) -> list[Action]:
        """Have removed from the disk what the catalogue does not know any more."""
        if not (self.listed and self.cache.reachable):
            return []
        gone = [stored for stored in self.cache.removable(name) if not self.knows(stored.revision)]
        return [self.cache.remove(stored) for stored in gone]

    def _grant(self, waiter: Waiter, place: Place, now_s: float) -> Action:
        self.waiters.end(waiter)
        self.cache.stock.memory[place].used_s = now_s
        if waiter.worker is not None:
            self._shelf(waiter.worker).answered(waiter.name, waiter.key, place.revision)
        return Grant(waiter.id, place, self.cache.stock.disk[place.revision].directory)

    def _refuse(self, waiter: Waiter, error: RequestError) -> Action:
        self.waiters.end(waiter)
        return Refuse(waiter.id, error)

    def _switched(self, name: str, key: Key, before: Revision, after: Revision) -> Action:
        self.counts.switches += 1
        fields: dict[str, object] = {"model": name, "asked_for": str(key), "version": after.version}
        fields |= {"digest": after.digest, "version_before": before.version}
        return Log(logging.INFO, "another revision of a model answers", fields)

    def _shelf(self, worker: int) -> Shelf:
        return self.shelves.setdefault(worker, Shelf())

    def _tidy_shelves(self, name: str, switch: Switch, now_s: float) -> list[Action]:
        """Have workers drop what a script was given before it was given another for the same."""
        actions = []
        for held in self.cache.stock.held_of(name):
            worker = held.place.worker
            if worker is None or held.stage is not Stage.HERE:
                continue
            shelf = self._shelf(worker)
            shelf.forget(name, switch)
            if shelf.is_replaced(held.place.revision):
                actions.append(self.cache.let_go(held, "replaced", now_s))
        return actions

    # --- what cannot be had

    def place_failed(
        self, place: Place, fault: Fault, reason: str, now_s: float, *, private: bool = False
    ) -> list[Action]:
        """Pass a revision over for a while, everywhere or where it could not be loaded; returns what is to be said."""
        if place.worker is None:
            return self.failed(place.revision, fault, reason, now_s, private=private)
        if place.revision.name not in self.switches:
            return []
        failure = self._shelf(place.worker).failed(place.revision, fault, reason, now_s, private=private)
        return [_failure_line(place.revision, failure, now_s)]

    def failed(
        self,
        revision: Revision,
        fault: Fault,
        reason: str,
        now_s: float,
        *,
        on_disk: bool = False,
        private: bool = False,
    ) -> list[Action]:
        """Pass a revision over for a while; returns what is to be said of it."""
        switch = self.switches.get(revision.name)
        if switch is None or not switch.knows(revision):
            return []
        failure = switch.failed(revision, fault, reason, now_s, on_disk=on_disk, private=private)
        heapq.heappush(self._retries, (failure.retry_at_s, revision.name))
        if fault in (Fault.BESIDE, Fault.TOO_LARGE) and failure.tries > 1:
            return []  # nothing was tried: it was said once
        return [_failure_line(revision, failure, now_s)]

    @property
    def retry_s(self) -> float:
        """When the next back-off ends; infinite where there is none."""
        return self._retries[0][0] if self._retries else math.inf

    def to_retry(self, now_s: float) -> set[str]:
        """The models of which something may be tried again from now on; each time is told once."""
        names = set()
        while self.retry_s <= now_s:
            names.add(heapq.heappop(self._retries)[1])
        return names


def _failure_line(revision: Revision, failure: Failure, now_s: float) -> Log:
    fields = {
        "model": revision.name,
        "version": revision.version,
        "cause": failure.reason[:1000],
        "tries": failure.tries,
        "next_try_in_s": round(failure.retry_at_s - now_s, 1),
    }
    return Log(logging.ERROR, "a version of a model cannot be had", fields)
