"""Decides for a model repository: what is fetched, loaded, switched to, evicted, and who waits for it. No I/O.

The shell tells what happened, with the time, and carries out the actions that come back, in their order:

    now_s = monotonic()
    revision = librarian.find(selector, now_s)            # warm: two look-ups and a time stamp
    if revision is None:
        carry_out(librarian.want(waiter, selector, now_s, deadline_s))     # Grant or Refuse ends it, perhaps at once

`Grant` is carried out by handing the request to the revision's pool. Whoever awaits anything between the grant and that
asks `find` again. `timer_s` says when `tick` is to be called, whatever happens; it may have changed after each call.
What follows from what is told is in `settling`.

Laws:
* A revision answers only after it was loaded here and passed its check, and only where the catalogue says it, or said
  it last before what came after turned out not to load.
* Nothing is loaded or fetched before its room is reserved; what must go is gone (`unloaded`, `removed`) before.
* Whoever waits is granted or refused exactly once, at the latest when its deadline has passed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Hashable, Iterable, Sequence

from tidegate.inference.errors import ModelLoading, NotReady, RequestError
from tidegate.inference.frontend.repository.actions import (
    Action,
    Grant,
    Log,
    Place,
    Refuse,
)
from tidegate.inference.frontend.repository.choice import Selector
from tidegate.inference.frontend.repository.decision import plan
from tidegate.inference.frontend.repository.report import ModelReport, report_of
from tidegate.inference.frontend.repository.resolving import LATEST, key_of, model_named
from tidegate.inference.frontend.repository.room import Limits
from tidegate.inference.frontend.repository.settling import Settling
from tidegate.inference.frontend.repository.stock import Held, Stage
from tidegate.inference.frontend.repository.switching import Fault, Switch
from tidegate.inference.frontend.repository.waiting import Waiter
from tidegate.inference.repository.catalogue import Model, Revision

_COME_BACK_S = 5
"""What a request is told whose model is on its way."""


class Librarian:
    """One for each server that has a repository. `pinned` names models whose `latest` is loaded and never evicted."""

    def __init__(self, limits: Limits, *, unload_first: bool = False, pinned: Collection[str] = ()) -> None:
        self._unload_first = unload_first
        self._settling = Settling(limits, pinned)
        self.counts = self._settling.counts
        self._cache, self._waiters = self._settling.cache, self._settling.waiters
        self._switches, self._parked = self._settling.switches, self._settling.parked
        self._models: dict[str, Model] = {}
        self._names: list[str] = []
        self._warm: dict[Selector, Held] = {}

    # --- requests

    def find(self, selector: Selector, now_s: float) -> Revision | None:
        """The loaded revision that answers a selector, and note its use; None: ask `want`."""
        held = self._warm.get(selector) or self._recall(selector, now_s)
        if held is None or held.stage is not Stage.HERE:
            return None
        held.used_s = now_s
        self.counts.hits += 1
        return held.place.revision

    def look(self, selector: Selector, now_s: float) -> Revision | None:
        """Which loaded revision would answer a selector, for those who only want to know: it is no use of it.

        Raises the four errors of `resolving`.
        """
        model = model_named(self._models, self._names, selector.name)
        key = key_of(model, selector.version)
        return plan(self._switches[model.name], self._cache.stock, key, None, now_s).answer

    def _recall(self, selector: Selector, now_s: float) -> Held | None:
        try:
            model = model_named(self._models, self._names, selector.name)
            key = key_of(model, selector.version)
        except RequestError:
            return None
        switch = self._switches[model.name]
        answer = plan(switch, self._cache.stock, key, None, now_s).answer
        if answer is None or key not in switch.live or switch.last.get(key) != answer:
            return None
        held = self._warm[selector] = self._cache.stock.memory[Place(answer)]
        return held

    def in_use(self, revision: Revision, now_s: float) -> None:
        """A loaded revision is still at work for requests that began before: it was used until now."""
        if (held := self._cache.stock.memory.get(Place(revision))) is not None:
            held.used_s = max(held.used_s, now_s)

    def want(
        self,
        waiter: Hashable,
        selector: Selector,
        now_s: float,
        deadline_s: float,
        *,
        worker: int | None = None,
        home: Revision | None = None,
    ) -> list[Action]:
        """Ask for a selector's revision, for a request or (`worker`) for a script's `get_model` in that worker.

        `Grant` or `Refuse` follows, in this answer or a later one. Raises `NotReady` before the first listing, the four
        errors of `resolving`, and `Overloaded`. For a script, `Load` names the worker: it loads then, and `loaded`,
        `load_failed` or `not_tried` of that place is told; `Grant` follows. `home` is the revision whose worker it is,
        if it is one of the repository's: it does not go while its script waits.
        """
        if not self._settling.listed:
            raise NotReady("The model repository has not been listed yet.")
        names = self._names
        if home is not None and selector.name is None:
            names = [name for name in names if name != home.name]  # the only other one is meant
        model = model_named(self._models, names, selector.name)
        key = key_of(model, selector.version)
        asking = Waiter(id=waiter, name=model.name, key=key, worker=worker, deadline_s=deadline_s, home=home)
        self._waiters.add(asking)
        self._parked.discard(model.name)
        actions = self._settle({model.name}, now_s)
        if any(isinstance(action, Grant) and action.waiter == waiter for action in actions):
            self.counts.hits += 1
        else:
            self.counts.misses += 1
        return actions

    def leave(self, waiter: Hashable, now_s: float) -> list[Action]:
        """The client has left: it is told nothing more."""
        found = self._waiters.get(waiter)
        if found is None:
            return []
        self._waiters.end(found)
        return self._settle({found.name}, now_s)

    def unload(self, name: str, now_s: float) -> list[Action]:
        """Somebody asked to have a model out of memory, pinned or not; a request that waits, or comes, loads it again.

        Raises `ModelNotFound`.
        """
        model_named(self._models, self._names, name)
        if not self._waiters.of(name):
            self._parked.add(name)
        self._switches[name].live.clear()
        actions = [
            self._cache.let_go(held, "asked", now_s)
            for held in self._cache.stock.held_of(name)
            if held.stage is not Stage.GOING
        ]
        return actions + self._settle({name}, now_s)

    # --- the repository

    def kept(self, revision: Revision, directory: str, size_bytes: int, now_s: float) -> list[Action]:
        """A revision is on the disk from an earlier life of the repository's process."""
        stored = self._cache.stock.disk.get(revision)
        if stored is not None and stored.stage is Stage.HERE:
            stored.told = True
        else:
            self._cache.stock.is_here(revision, directory, size_bytes, now_s)
        return []

    def changed(self, models: Iterable[Model], removed: Iterable[str], now_s: float) -> list[Action]:
        """Models are new, different or gone. A model that is not mentioned is as it was."""
        touched = set(removed)
        for name in touched:
            self._models.pop(name, None)
            self._switches.pop(name, None)
            self._parked.discard(name)
        for model in models:
            touched.add(model.name)
            self._models[model.name] = model
            if (switch := self._switches.get(model.name)) is not None:
                switch.update(model)
            else:
                self._switches[model.name] = Switch(model, self._unload_first)
        self._names = sorted(self._models)
        self._cache.stock.forget(lambda revision: revision.name in touched and not self._settling.knows(revision))
        return self._settle(touched, now_s)

    def listed(self, now_s: float) -> list[Action]:
        """A listing was good and is told in full. After the first, what is on the disk for no model goes."""
        if self._settling.listed:
            return []
        self._settling.listed = True
        missing: list[Action] = [
            Log(logging.WARNING, "a model of TIDEGATE_PINNED_MODELS is not in the repository", {"model": name})
            for name in sorted(self._settling.pinned - self._models.keys())
        ]
        return missing + self._settle(
            {*self._settling.pinned, *(revision.name for revision in self._cache.stock.disk)}, now_s
        )

    def fetched(self, revision: Revision, directory: str, size_bytes: int, now_s: float) -> list[Action]:
        """A revision is on the disk and verified."""
        self.counts.fetches += 1
        self._cache.stock.is_here(revision, directory, size_bytes, now_s)
        return self._settle({revision.name}, now_s)

    def fetch_failed(
        self,
        revision: Revision,
        reason: str,
        now_s: float,
        *,
        passing: bool,
        needed_bytes: int | None = None,
        disk_full: bool = False,
    ) -> list[Action]:
        """A revision could not be brought; it takes nothing on the disk.

        Where that is full, what was not used for longest makes room for it, as where the disk has a limit.
        """
        stored = self._cache.stock.disk.get(revision)
        if stored is None or stored.stage is not Stage.COMING:
            return []
        self._cache.stock.is_gone(revision)
        actions: list[Action] = []
        if needed_bytes is not None and needed_bytes > stored.size_bytes:
            self._cache.stock.needs_more(revision, needed_bytes)  # and try at once with that
        elif self._cache.turn_back(revision):
            self.counts.fetch_failures += 1
            fault = Fault.PASSING if passing else Fault.BROKEN
            actions += self._settling.failed(revision, fault, reason, now_s, on_disk=True, private=True)
        names = {revision.name}
        if disk_full:
            gone = self._cache.make_room_on_disk(revision, now_s)
            names |= self._settling.count_evictions(gone)
            actions += gone
        return actions + self._settle(names, now_s)

    def removed(self, revision: Revision, now_s: float) -> list[Action]:
        """A directory is gone."""
        self._cache.stock.is_gone(revision)
        return self._settle({revision.name}, now_s)

    def repository_lost(self, now_s: float) -> list[Action]:
        """The repository's process died: what it did is forgotten. Nothing is asked of it until `repository_back`."""
        self._cache.reachable = False
        self._cache.stock.out_of_sight()
        return self._settle(set(), now_s)

    def repository_back(self, now_s: float) -> list[Action]:
        """It runs again, and has told what is `kept`: what it did not tell is not there."""
        self._cache.reachable = True
        self._cache.stock.in_sight()
        return self._settle({*(revision.name for revision in self._cache.stock.disk)}, now_s)

    # --- memory

    def loaded(self, place: Place, memory_bytes: int, now_s: float) -> list[Action]:
        """A revision is loaded, checked and measured (host and GPU)."""
        held = self._cache.stock.memory.get(place)
        if held is None or held.stage is not Stage.COMING:
            return []  # it was given up meanwhile: `unloaded` follows
        self.counts.loads += 1
        self._cache.stock.is_up(held, memory_bytes, now_s)
        actions = self._check_size(held, now_s)
        switch = self._switches.get(place.revision.name)
        if not actions and switch is not None and place.worker is None:
            switch.passed(place.revision)
        return actions + self._settle({place.revision.name}, now_s)

    def measured(self, place: Place, memory_bytes: int, now_s: float) -> list[Action]:
        """What a loaded revision takes has changed."""
        held = self._cache.stock.memory.get(place)
        if held is None or held.stage is not Stage.HERE:
            return []
        self._cache.stock.is_of_size(held, memory_bytes)
        return self._check_size(held, now_s) + self._settle({place.revision.name}, now_s)

    def _check_size(self, held: Held, now_s: float) -> list[Action]:
        reason = self._cache.too_large(held)
        if not reason:
            return []
        actions = self._settling.place_failed(held.place, Fault.TOO_LARGE, f"in memory {reason}", now_s)
        return [*actions, self._cache.let_go(held, "too_large", now_s)]

    def load_failed(
        self, place: Place, reason: str, now_s: float, *, too_large: bool = False, interrupted: bool = False
    ) -> list[Action]:
        """A load failed, or a revision that was loaded cannot be kept up. Its memory is free.

        One that was `interrupted` says nothing about the content: it is tried again soon, and requests wait for that,
        unless that happens again and again. Nothing is to be said of one that `Unload` was asked for, but `unloaded`.
        """
        held = self._cache.stock.memory.get(place)
        if held is None or held.stage is Stage.GOING:
            return []
        self.counts.load_failures += 1
        self._cache.stock.is_out(place)
        fault = Fault.TOO_LARGE if too_large else Fault.BROKEN
        switch = self._switches.get(place.revision.name)
        if interrupted and switch is not None and switch.may_pass(place.revision):
            fault = Fault.PASSING
        actions = self._settling.place_failed(place, fault, reason, now_s, private=True)
        return actions + self._settle({place.revision.name}, now_s)

    def unloaded(self, place: Place, now_s: float) -> list[Action]:
        """What `Unload` or `Drop` asked for is done, its memory is free; also said of a load that it ended."""
        held = self._cache.stock.memory.get(place)
        if held is None or held.stage is not Stage.GOING:
            return []
        self._cache.stock.is_out(place)
        return self._settle({place.revision.name}, now_s)

    def not_tried(self, place: Place, now_s: float) -> list[Action]:
        """A worker did not begin a load: nobody there waits for it any more."""
        self._cache.stock.is_out(place)
        return self._settle({place.revision.name}, now_s)

    def used(self, place: Place, now_s: float) -> None:
        """A script got what its worker holds, some time since it asked last."""
        held = self._cache.stock.memory.get(place)
        if held is not None:
            held.used_s = now_s

    def held_by(self, workers: Collection[int]) -> int:
        """The bytes that the scripts of these workers hold."""
        return sum(held.size_bytes for place, held in self._cache.stock.memory.items() if place.worker in workers)

    def worker_gone(self, worker: int, now_s: float) -> list[Action]:
        """A worker whose script held revisions ended, and its memory is free. What it waited for is forgotten."""
        names = set()
        self._settling.shelves.pop(worker, None)
        for place in [place for place in self._cache.wishes if place.worker == worker]:
            del self._cache.wishes[place]  # nobody there comes back to it
            names.add(place.revision.name)
        for place in [place for place in self._cache.stock.memory if place.worker == worker]:
            self._cache.stock.is_out(place)
            names.add(place.revision.name)
        for waiter in self._waiters.in_worker(worker):
            self._waiters.end(waiter)
            names.add(waiter.name)
        return self._settle(names, now_s)

    def free_memory(self, spare_bytes: int | None) -> None:
        """What the machine can spare beyond `TIDEGATE_MIN_FREE_MEMORY_BYTES`, told before other calls; None: plenty."""
        self._cache.spare_bytes = spare_bytes

    # --- time

    @property
    def timer_s(self) -> float:
        """When `tick` is to be called; infinite: not at all."""
        return min(self._waiters.deadline_s, self._settling.retry_s)

    def tick(self, now_s: float) -> list[Action]:
        """Deadlines have passed, back-offs have ended."""
        actions: list[Action] = []
        names = self._settling.to_retry(now_s)
        for waiter in self._waiters.late(now_s):
            names.add(waiter.name)
            actions.append(Refuse(waiter.id, self._too_slow(waiter, now_s)))
        return actions + self._settle(names, now_s)

    def _too_slow(self, waiter: Waiter, now_s: float) -> ModelLoading:
        what = "" if waiter.key == LATEST else f" ({waiter.key})"
        switch = self._switches.get(waiter.name)
        failed = plan(switch, self._cache.stock, waiter.key, None, now_s).failed if switch is not None else None
        if switch is not None and failed is not None:
            error = switch.failures[failed].error(failed, now_s)
            if isinstance(error, ModelLoading):
                return error
        return ModelLoading(
            f"The model '{waiter.name}'{what} is on its way to memory, which takes longer than this request may wait.",
            _COME_BACK_S,
        )

    def _settle(self, names: set[str], now_s: float) -> list[Action]:
        """What follows for these models, and for all that this touches."""
        self._warm.clear()
        return self._settling.settle(names, now_s)

    # --- what people see

    @property
    def loaded_models(self) -> int:
        """In memory, with those that come and go."""
        return self._cache.stock.memory_room.models

    @property
    def loaded_bytes(self) -> int:
        """In memory: as measured, and as reserved for what is coming."""
        return self._cache.stock.memory_room.bytes

    @property
    def disk_models(self) -> int:
        """On the disk, with those that come and go."""
        return self._cache.stock.disk_room.models

    @property
    def disk_bytes(self) -> int:
        """On the disk, with what is reserved for what is coming."""
        return self._cache.stock.disk_room.bytes

    @property
    def waiting(self) -> int:
        """Requests that wait for a fetch or a load."""
        return len(self._waiters)

    def names(self) -> Sequence[str]:
        """All models, in order."""
        return self._names

    def known(self, selector: Selector) -> Model:
        """The model of a selector, whose version there is too. Raises the four errors of `resolving`."""
        model = model_named(self._models, self._names, selector.name)
        key_of(model, selector.version)
        return model

    def report(self, name: str) -> ModelReport:
        """One of them. Raises `ModelNotFound`."""
        model_named(self._models, self._names, name)
        return report_of(self._switches[name], self._cache)
