"""What is fetched, loaded and evicted, in which order, so that no limit is ever exceeded. No I/O.

    wish ─▶ Fetch ─▶ on the disk ─▶ Load ─▶ in memory ─▶ Unload | Drop ─▶ on the disk ─▶ RemoveFromDisk ─▶ gone

Who came first is served first: what becomes free for one goes to nobody that came later. The least recently used goes,
but nothing that is pinned, on its way, or what a new version is to take over from. The directory of what is in memory
is never removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from tidegate.inference.frontend.repository.actions import (
    Action,
    CancelFetch,
    Drop,
    Fetch,
    Load,
    Place,
    RemoveFromDisk,
    Unload,
)
from tidegate.inference.frontend.repository.room import Limits, Shortage, fewest
from tidegate.inference.frontend.repository.stock import Held, Stage, Stock, Stored
from tidegate.inference.repository.catalogue import Revision

_UNPACKED = 3
"""What a first fetch may take where there is room, as a multiple of what is listed: archives are unpacked."""


@dataclass(slots=True, kw_only=True)
class Wish:
    """A place that is to be filled, and at what price."""

    place: Place
    listed_bytes: int
    asked: bool
    """Whether a request waits for it."""
    beside: frozenset[Revision] = frozenset()
    """What it is to take over from when it is loaded. It makes room last of all, and only for what is `asked`."""
    instead_of: frozenset[Revision] = frozenset()
    """What it is to take over from, and that is unloaded before."""
    held_back: bool = False
    """Whether it comes no further than to the disk yet."""
    begun: bool = False
    """Whether anything was done for it yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """A wish that cannot come true: it was taken out of the line."""

    place: Place
    reason: str
    beside: bool
    """Only because of what it is to take over from."""


@dataclass(slots=True)
class Cache:
    """The line of what is to be in memory, and what goes for it."""

    limits: Limits
    stock: Stock = field(init=False)
    wishes: dict[Place, Wish] = field(default_factory=dict)
    pinned: frozenset[Revision] = frozenset()
    """Never evicted from workers of their own, nor removed from the disk."""
    fallbacks: frozenset[Revision] = frozenset()
    """Not removed from the disk: they answer again if what is loaded in their place fails."""
    reachable: bool = True
    """Whether the repository's process can be asked for anything."""
    at_work: frozenset[Revision] = frozenset()
    """Never evicted from workers of their own at present: their scripts wait for models beside them."""
    spare_bytes: int | None = None
    """What the machine has free for models at this moment; None: enough."""

    _marks: dict[str, tuple[frozenset[Revision], frozenset[Revision]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.stock = Stock(self.limits)

    def mark(self, name: str, pinned: frozenset[Revision], fallbacks: frozenset[Revision]) -> None:
        """Say which revisions of a model are pinned, and which fallbacks."""
        if self._marks.get(name, (frozenset(), frozenset())) == (pinned, fallbacks):
            return
        self._marks[name] = pinned, fallbacks
        if not (pinned or fallbacks):
            del self._marks[name]
        self.pinned = frozenset().union(*(pinned for pinned, _ in self._marks.values()))
        self.fallbacks = frozenset().union(*(fallbacks for _, fallbacks in self._marks.values()))

    def want(self, name: str, wishes: Iterable[Wish], known: Callable[[Revision], bool]) -> list[Action]:
        """Have these places of a model filled. One that is in the line already keeps its turn.

        Others of the model leave the line, but not what was begun: whoever gave up on it may come back.
        """
        wanted = {wish.place: wish for wish in wishes}
        actions: list[Action] = []
        for place, wish in [each for each in self.wishes.items() if each[0].revision.name == name]:
            if place in wanted:
                wanted[place].begun = wish.begun
            elif wish.begun and known(place.revision):
                wanted[place] = replace(wish, asked=False)
            else:
                del self.wishes[place]
                stored = self.stock.disk.get(place.revision)
                if stored is not None and stored.stage is Stage.COMING and place.revision not in self._wanted():
                    actions.append(CancelFetch(place.revision))
        self.wishes.update(wanted)
        return actions

    def turn_back(self, revision: Revision) -> bool:
        """Nothing of what was begun for a revision is left. Returns whether it is wanted still."""
        wishes = [wish for wish in self.wishes.values() if wish.place.revision == revision]
        for wish in wishes:
            wish.begun = False
        return bool(wishes)

    def let_go(self, held: Held, reason: str, now_s: float) -> Action:
        """Have something out of memory."""
        held.stage = Stage.GOING
        revision, worker = held.place
        if (stored := self.stock.disk.get(revision)) is not None:
            stored.used_s = max(stored.used_s, held.used_s)
        idle_s = max(0.0, now_s - held.used_s) if reason == "evicted" else None
        return Unload(revision, reason, idle_s) if worker is None else Drop(worker, revision, reason, idle_s)

    def remove(self, stored: Stored) -> Action:
        """Have a directory removed."""
        stored.stage = Stage.GOING
        return RemoveFromDisk(stored.revision, stored.directory)

    def too_large(self, held: Held) -> str:
        """Why something cannot stay as large as it was measured, whatever else goes; empty: it can."""
        staying = [other for other in self._pinned() if other is not held]
        return self.stock.memory_room.ever(held.size_bytes, staying)

    def removable(self, name: str | None = None) -> list[Stored]:
        """What is on the disk and neither in memory nor wanted there, the least recently used first."""
        kept = {place.revision for place in self.stock.memory} | self._wanted() | self.pinned | self.fallbacks
        entries = self.stock.disk.values() if name is None else self.stock.stored_of(name)
        found = [each for each in entries if each.stage is Stage.HERE and each.revision not in kept]
        return sorted(found, key=lambda stored: stored.used_s)

    # --- what there is room for

    def advance(self, now_s: float) -> tuple[list[Action], list[Misfit]]:
        """Do what there is room for, in the order of the line, and make room for the first that has none."""
        actions, misfits = self._trim(now_s), []
        disk_is_taken, memory_is_taken = not self.reachable, False
        # A script that waits has a request in hand: it goes before those that wait themselves.
        for wish in sorted(self.wishes.values(), key=lambda wish: wish.place.worker is None):
            if wish.place in self.stock.memory:
                continue  # it is still going; its turn comes
            stored = self.stock.disk.get(wish.place.revision)
            if stored is None and not disk_is_taken:
                found = self._fetch(wish, now_s)
                disk_is_taken = not isinstance(found, Misfit) and not (found and isinstance(found[-1], Fetch))
            elif stored is not None and stored.stage is Stage.HERE and not (memory_is_taken or wish.held_back):
                found = self._load(wish, stored, now_s)
                memory_is_taken = not isinstance(found, Misfit) and not (found and isinstance(found[-1], Load))
            else:
                continue
            if isinstance(found, Misfit):
                del self.wishes[wish.place]
                misfits.append(found)
            else:
                wish.begun = wish.begun or bool(found)
                actions += found
        return actions, misfits

    def _trim(self, now_s: float) -> list[Action]:
        # Something turned out larger than it was thought to be, or a limit is lower than in an earlier life.
        actions: list[Action] = []
        if shortage := self._without_going(self.stock.memory.values(), self.stock.memory_room.short(0, models=0)):
            actions += [self.let_go(held, "evicted", now_s) for held in fewest(self._evictable(), shortage)]
        shortage = self.stock.disk_room.short(0, models=0)
        if shortage and self.reachable and self._without_going(self.stock.disk.values(), shortage):
            actions += [self.remove(stored) for stored in fewest(self.removable(), shortage)]
        return actions

    # --- to the disk

    def _fetch(self, wish: Wish, now_s: float) -> list[Action] | Misfit:
        """The fetch, or what is to go before it."""
        revision, room = wish.place.revision, self.stock.disk_room
        need, known = self.stock.disk_need(revision, wish.listed_bytes)
        must_stay = self.pinned if wish.asked else self.pinned | wish.beside | wish.instead_of
        staying = [each for each in self.stock.disk.values() if each.revision in must_stay]
        if reason := room.ever(need, staying):
            alone = room.ever(need, [each for each in staying if each.revision in self.pinned])
            return Misfit(place=wish.place, reason=f"on the disk {alone or reason}", beside=not alone)
        shortage = room.short(need)
        if shortage:
            return self._free_disk(wish, shortage, must_stay, now_s)
        if room.max_bytes is None:
            max_bytes = None
        else:
            need = need if known else max(need, min(need * _UNPACKED, room.max_bytes - room.bytes))
            max_bytes = need
        self.stock.store(revision, need, now_s)
        return [Fetch(revision, max_bytes)]

    def make_room_on_disk(self, revision: Revision, now_s: float) -> list[Action]:
        """Have go from a disk that is full what a revision takes, if somebody waits for it."""
        wish = next((each for each in self.wishes.values() if each.place.revision == revision and each.asked), None)
        if wish is None or not self.reachable:
            return []
        need, _ = self.stock.disk_need(revision, wish.listed_bytes)
        return self._free_disk(wish, Shortage(0, need), self.pinned, now_s)

    def _free_disk(self, wish: Wish, shortage: Shortage, must_stay: frozenset[Revision], now_s: float) -> list[Action]:
        self._without_going(self.stock.disk.values(), shortage)
        # What is loaded keeps its directory, so it has to leave memory before.
        wanted, evictable = self._wanted(), set(self._evictable(wish))
        in_use: list[tuple[float, Stored, list[Held]]] = []
        for stored in self.stock.disk.values():
            places = self.stock.places_of(stored.revision)
            if stored.stage is not Stage.HERE or not places or stored.revision in wanted:
                continue
            if all(held.stage is Stage.GOING for held in places):
                if not any(self._keeps_its_room(held, wish) for held in places):
                    shortage.less(stored.size_bytes)
            elif stored.revision not in must_stay and all(
                held in evictable for held in places if held.stage is not Stage.GOING
            ):
                in_use.append((max(held.used_s for held in places), stored, places))
        actions = [self.remove(stored) for stored in fewest(self.removable(), shortage)]
        chosen = set(fewest([stored for _, stored, _ in sorted(in_use, key=lambda each: each[0])], shortage))
        for _, stored, places in in_use:
            if stored in chosen:
                actions += [self.let_go(held, "evicted", now_s) for held in places if held.stage is Stage.HERE]
        return actions

    # --- to memory

    def _load(self, wish: Wish, stored: Stored, now_s: float) -> list[Action] | Misfit:
        """The load, or what is to go before it."""
        before = [held for revision in wish.instead_of if (held := self.stock.memory.get(Place(revision))) is not None]
        if before:
            return [self.let_go(held, "replaced", now_s) for held in before if held.stage is Stage.HERE]
        pinned, room = self._pinned(), self.stock.memory_room
        if wish.place.worker is not None:
            pinned += [held for held in self.stock.memory.values() if self._is_at_work(held) and held not in pinned]
        staying = set(pinned)
        if not wish.asked:
            beside = [held for revision in wish.beside if (held := self.stock.memory.get(Place(revision))) is not None]
            staying.update(held for held in beside if held.stage is Stage.HERE)
        most = None if room.max_bytes is None else room.max_bytes - sum(held.size_bytes for held in staying)
        need = self.stock.memory_need(wish.place, most)
        if reason := room.ever(need, staying):
            alone = room.ever(need, pinned)
            return Misfit(place=wish.place, reason=f"in memory {alone or reason}", beside=not alone)
        if self._waits_for_a_measurement(wish.place, need):
            return []
        shortage = self._memory_shortage(need)
        if not shortage:
            self.stock.hold(wish.place, need, now_s)
            stored.used_s = now_s
            del self.wishes[wish.place]
            return [Load(wish.place, stored.directory, need)]
        quiet = not self.at_work and all(held.stage is Stage.HERE for held in self.stock.memory.values())
        self._without_going(self._memory_that_changes(wish), shortage)
        victims = fewest(self._evictable(wish), shortage)
        if quiet and not victims:
            return Misfit(place=wish.place, reason=f"the machine has less memory than its {need:,} bytes", beside=False)
        return [self.let_go(held, "evicted", now_s) for held in victims]

    def _waits_for_a_measurement(self, place: Place, need: int) -> bool:
        """Whether two that were never measured would be loaded into little room: what both take beyond it adds up."""
        room = self.stock.memory_room
        if room.max_bytes is None or place.worker is not None or self.stock.is_measured(place):
            return False  # a script's is in nobody's way: the load of its home may wait for it
        if self.stock.can_guess and room.bytes + 2 * need <= room.max_bytes:
            return False
        return any(
            held.stage is Stage.COMING and not self.stock.is_measured(held.place) for held in self.stock.memory.values()
        )

    def _memory_shortage(self, need: int) -> Shortage:
        shortage = self.stock.memory_room.short(need)
        if self.spare_bytes is not None:
            coming = sum(held.size_bytes for held in self.stock.memory.values() if held.stage is Stage.COMING)
            shortage.bytes = max(shortage.bytes, coming + need - self.spare_bytes)
        return shortage

    # --- who may go

    def _pinned(self) -> list[Held]:
        memory = self.stock.memory.values()
        return [held for held in memory if self._is_pinned(held) and held.stage is not Stage.GOING]

    def _is_pinned(self, held: Held) -> bool:
        return held.place.worker is None and held.place.revision in self.pinned

    def _is_at_work(self, held: Held) -> bool:
        return held.place.worker is None and held.place.revision in self.at_work

    def _keeps_its_room(self, held: Held, wish: Wish) -> bool:
        """Whether something goes only after `wish` has come true: its script waits for that, or for one before it."""
        return wish.place.worker is not None and self._is_at_work(held)

    def _memory_that_changes(self, wish: Wish) -> list[Held]:
        return [held for held in self.stock.memory.values() if not self._keeps_its_room(held, wish)]

    def _evictable(self, wish: Wish | None = None) -> list[Held]:
        """What is loaded and may go, the least recently used first, and at the end what `wish` is to take over from."""

        def stands_beside(held: Held) -> bool:
            return wish is not None and held.place.worker is None and held.place.revision in wish.beside

        found = [
            held
            for held in self.stock.memory.values()
            if held.stage is Stage.HERE and not (self._is_pinned(held) or self._is_at_work(held))
        ]
        if wish is not None and not wish.asked:
            found = [held for held in found if not stands_beside(held)]
        return sorted(found, key=lambda held: (stands_beside(held), held.used_s))

    def _wanted(self) -> set[Revision]:
        return {place.revision for place in self.wishes}

    @staticmethod
    def _without_going(entries: Iterable[Held | Stored], shortage: Shortage) -> Shortage:
        for each in entries:
            if each.stage is Stage.GOING:
                shortage.less(each.size_bytes)
        return shortage
