"""What follows for one model from what is loaded and who waits: answers, errors, wishes, and what goes. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tidegate.inference.errors import RequestError
from tidegate.inference.frontend.repository.actions import Place
from tidegate.inference.frontend.repository.cache import Wish
from tidegate.inference.frontend.repository.resolving import LATEST, Key, key_of, nothing_to_load
from tidegate.inference.frontend.repository.shelf import Shelf
from tidegate.inference.frontend.repository.stock import Held, Stage, Stock
from tidegate.inference.frontend.repository.switching import Fault, Plan, Switch
from tidegate.inference.frontend.repository.waiting import Waiter
from tidegate.inference.repository.catalogue import Revision


@dataclass(slots=True)
class Decision:
    """One look at one model. `keep_latest` has its `latest` loaded whether or not anybody asks."""

    switch: Switch
    stock: Stock
    now_s: float
    keep_latest: bool
    shelves: Mapping[int, Shelf] = field(default_factory=dict)
    """What scripts were given, by worker."""
    grants: list[tuple[Waiter, Place]] = field(default_factory=list)
    refusals: list[tuple[Waiter, RequestError]] = field(default_factory=list)
    wishes: dict[Place, Wish] = field(default_factory=dict)
    switches: list[tuple[Key, Revision, Revision]] = field(default_factory=list)
    """Keys whose answer is another than it was, with both."""
    superseded: list[tuple[Held, str]] = field(default_factory=list)
    """What is in memory and answers nothing any more, and why."""
    pins: frozenset[Revision] = frozenset()
    fallbacks: frozenset[Revision] = frozenset()

    def decide(self, waiters: Iterable[Waiter]) -> Decision:
        """Fill in the rest."""
        requests = [waiter for waiter in waiters if waiter.worker is None and self._key_exists(waiter)]
        scripts = [waiter for waiter in waiters if waiter.worker is not None and self._key_exists(waiter)]
        keys = {*self.switch.live, *(waiter.key for waiter in requests), *([LATEST] if self.keep_latest else [])}
        plans = {key: self._plan(key, None) for key in sorted(keys, key=str)}
        for waiter in requests:
            self._answer(waiter, plans[waiter.key])
        replaced = self._note_answers(plans)
        self._wish(plans, {waiter.key for waiter in requests})
        for waiter in scripts:
            self._answer_script(waiter)
        self._find_superseded({plan.answer for key, plan in plans.items() if key in self.switch.live}, replaced)
        if self.keep_latest:
            self.pins = frozenset(each for each in (plans[LATEST].answer, plans[LATEST].wanted) if each is not None)
        return self

    def _plan(self, key: Key, worker: int | None) -> Plan:
        return plan(self.switch, self.stock, key, worker, self.now_s, shelves=self.shelves)

    def _key_exists(self, waiter: Waiter) -> bool:
        if self.switch.has(waiter.key):
            return True
        try:
            key_of(self.switch.model, str(waiter.key))
        except RequestError as error:
            self.refusals.append((waiter, error))
        return False

    # --- who is answered

    def _answer(self, waiter: Waiter, plan: Plan) -> None:
        if plan.answer is not None:
            self.grants.append((waiter, Place(plan.answer)))
        elif plan.wanted is None:
            self._pass_over(waiter, plan)

    def _answer_script(self, waiter: Waiter) -> None:
        plan = self._plan(waiter.key, waiter.worker)
        shelf = self.shelves.get(waiter.worker or 0)
        if plan.wanted is not None:  # a script that asks waits for what is newer: nothing else would load it
            place = Place(plan.wanted, waiter.worker)
            if place not in self.stock.memory or self.stock.memory[place].stage is Stage.GOING:
                self.wishes[place] = Wish(place=place, listed_bytes=self._listed_bytes(plan.wanted), asked=True)
        elif plan.answer is not None:
            self.grants.append((waiter, Place(plan.answer, waiter.worker)))
        else:
            self._pass_over(waiter, plan, shelf)

    def _pass_over(self, waiter: Waiter, plan: Plan, shelf: Shelf | None = None) -> None:
        """There is nothing to wait for but perhaps another try."""
        if plan.failed is None:
            self.refusals.append((waiter, nothing_to_load(self.switch.model, waiter.key)))
            return
        failure = shelf.failure(plan.failed, self.switch) if shelf is not None else None
        failure = failure or self.switch.failures[plan.failed]
        if failure.fault is not Fault.PASSING or failure.retry_at_s > waiter.deadline_s:
            self.refusals.append((waiter, failure.error(plan.failed, self.now_s)))

    # --- what takes over from what

    def _note_answers(self, plans: dict[Key, Plan]) -> set[Revision]:
        """Keep in the switch what answers; returns what does no more where it did."""
        replaced = set()
        for key, plan in plans.items():
            before = self.switch.last.get(key)
            if plan.answer is None:
                if plan.wanted is None:
                    self.switch.live.discard(key)
                continue
            if before is not None and before != plan.answer and key in self.switch.live:
                self.switches.append((key, before, plan.answer))
                replaced.add(before)
            self.switch.live.add(key)
            self.switch.last[key] = plan.answer
        return replaced

    def _wish(self, plans: dict[Key, Plan], asked: set[Key]) -> None:
        successors = self._successors(plans)
        fallbacks = set()
        for key, plan in plans.items():
            if plan.wanted is None:
                continue
            place = Place(plan.wanted)
            last = self.switch.last.get(key) if key in self.switch.live else None
            if last is not None and last != plan.wanted and plan.answer is None and self.stock.is_stored(plan.wanted):
                fallbacks.add(last)
            held = self.stock.memory.get(place)
            if held is not None and held.stage is not Stage.GOING:
                continue
            wish = self.wishes.get(place) or Wish(
                place=place, listed_bytes=self._listed_bytes(plan.wanted), asked=False
            )
            wish.asked = wish.asked or (plan.answer is None and key in asked)
            self.wishes[place] = wish
        self.fallbacks = frozenset(fallbacks)
        for place, wish in self.wishes.items():
            before = [old for old, new in successors.items() if place.revision in new]
            if not self.switch.unload_first:
                wish.beside = frozenset(old for old in before if old.version in self.switch.lines)
                continue
            wish.instead_of = frozenset(old for old in before if None not in successors[old])
            others = {new for old in wish.instead_of for new in successors[old]} - {place.revision}
            if not all(new is None or self.stock.is_stored(new) for new in others):
                # What answers goes when all that is to take over from it is at hand; a request does not wait for that.
                wish.held_back = not wish.asked
                wish.instead_of = frozenset()

    def _successors(self, plans: dict[Key, Plan]) -> dict[Revision, set[Revision | None]]:
        """What is to take over from each that answers; None among them: it goes on for some key."""
        successors = defaultdict(set)
        for key, plan in plans.items():
            last = self.switch.last.get(key) if key in self.switch.live else None
            if last is not None and last != plan.wanted:
                successors[last].add(plan.wanted)
        return successors

    def _find_superseded(self, answers: set[Revision | None], replaced: set[Revision]) -> None:
        for held in self.stock.held_of(self.switch.model.name):
            revision = held.place.revision
            if held.stage is Stage.GOING:
                continue
            known = self.switch.knows(revision)
            if held.place.worker is not None:
                if not known:
                    self.superseded.append((held, "replaced"))
            elif revision not in answers and (not known or (revision in replaced and held.stage is Stage.HERE)):
                gone = revision.version not in self.switch.lines
                self.superseded.append((held, "removed" if gone else "replaced"))

    def _listed_bytes(self, revision: Revision) -> int:
        for version in self.switch.model.versions:
            if version.number == revision.version:
                return version.size_bytes
        return 0


def plan(
    switch: Switch,
    stock: Stock,
    key: Key,
    worker: int | None,
    now_s: float,
    *,
    shelves: Mapping[int, Shelf] | None = None,
) -> Plan:
    """What a key of a model comes to, in workers of its own or in that of a script."""

    def loaded(revision: Revision) -> bool:
        return stock.is_loaded(Place(revision, worker))

    if worker is None:
        return switch.plan(key, now_s, loaded, stock.is_stored)
    shelf = (shelves or {}).get(worker) or Shelf()
    return switch.plan(key, now_s, loaded, stock.is_stored, lambda revision: shelf.failure(revision, switch))
