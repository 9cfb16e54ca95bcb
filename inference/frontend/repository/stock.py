"""What is on the disk and in memory, or on its way there or away, and the room that all of it takes. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from tidegate.inference.frontend.repository.actions import Place
from tidegate.inference.frontend.repository.room import Limits, Room
from tidegate.inference.repository.catalogue import Revision


class Stage(Enum):
    """On its way, there, or going."""

    COMING = auto()
    HERE = auto()
    GOING = auto()


@dataclass(slots=True, kw_only=True, eq=False)
class Stored:
    """A revision on the disk."""

    revision: Revision
    size_bytes: int
    """As reserved until it is fetched, then as it is."""
    stage: Stage = Stage.COMING
    directory: str = ""
    used_s: float
    told: bool = True
    """Whether the repository's process knows of it: it tells what it keeps when it starts again."""


@dataclass(slots=True, kw_only=True, eq=False)
class Held:
    """A revision in memory."""

    place: Place
    size_bytes: int
    """As reserved until it is loaded, then as measured."""
    stage: Stage = Stage.COMING
    since_s: float
    used_s: float
    load_s: float | None = None


class Stock:
    """Both stores. Room is taken when something is asked for, and given back when it is gone."""

    def __init__(self, limits: Limits) -> None:
        self.memory: dict[Place, Held] = {}
        self.disk: dict[Revision, Stored] = {}
        self.memory_room = Room(limits.max_loaded_models, limits.max_loaded_bytes)
        self.disk_room = Room(limits.max_disk_models, limits.max_disk_bytes)
        self._needs = _Needs(limits)
        self._places: defaultdict[str, dict[Place, Held]] = defaultdict(dict)
        self._directories: defaultdict[str, dict[Revision, Stored]] = defaultdict(dict)

    # --- what is there

    def is_loaded(self, place: Place) -> bool:
        """Whether it can answer."""
        held = self.memory.get(place)
        return held is not None and held.stage is Stage.HERE

    def is_stored(self, revision: Revision) -> bool:
        """Whether it can be loaded without a fetch."""
        stored = self.disk.get(revision)
        return stored is not None and stored.stage is Stage.HERE

    def held_of(self, name: str) -> list[Held]:
        """What of a model is in memory."""
        return list(self._places[name].values()) if name in self._places else []

    def stored_of(self, name: str) -> list[Stored]:
        """What of a model is on the disk."""
        return list(self._directories[name].values()) if name in self._directories else []

    def places_of(self, revision: Revision) -> list[Held]:
        """Where in memory a revision is."""
        return [held for held in self.held_of(revision.name) if held.place.revision == revision]

    # --- the disk

    def store(self, revision: Revision, size_bytes: int, now_s: float) -> Stored:
        """A revision comes to the disk, in so much room."""
        stored = Stored(revision=revision, size_bytes=size_bytes, used_s=now_s)
        self.disk[revision] = self._directories[revision.name][revision] = stored
        self.disk_room.take(size_bytes)
        return stored

    def is_here(self, revision: Revision, directory: str, size_bytes: int, now_s: float) -> None:
        """It was fetched, or is there from an earlier life."""
        stored = self.disk.get(revision) or self.store(revision, size_bytes, now_s)
        self.disk_room.bytes += size_bytes - stored.size_bytes
        stored.size_bytes, stored.directory, stored.told, stored.stage = size_bytes, directory, True, Stage.HERE
        self._needs.on_disk[revision] = size_bytes

    def needs_more(self, revision: Revision, size_bytes: int) -> None:
        """Its fetch did not get by with what it had."""
        self._needs.on_disk[revision] = size_bytes

    def is_gone(self, revision: Revision) -> None:
        """It did not come, or was removed."""
        stored = self.disk.pop(revision, None)
        if stored is None:
            return
        self.disk_room.give(stored.size_bytes)
        del self._directories[revision.name][revision]
        if not self._directories[revision.name]:
            del self._directories[revision.name]

    def out_of_sight(self) -> None:
        """The repository's process died: what it did is over, and what it kept is told again."""
        for stored in self.disk.values():
            stored.told = False

    def in_sight(self) -> None:
        """It is back. What it did not tell is not there; of what is in memory the directory stays."""
        for stored in list(self.disk.values()):
            if not (stored.told or self.places_of(stored.revision)):
                self.is_gone(stored.revision)

    # --- memory

    def hold(self, place: Place, size_bytes: int, now_s: float) -> Held:
        """A revision comes to memory, in so much room."""
        held = Held(place=place, size_bytes=size_bytes, since_s=now_s, used_s=now_s)
        self.memory[place] = self._places[place.revision.name][place] = held
        self.memory_room.take(size_bytes)
        return held

    def is_up(self, held: Held, size_bytes: int, now_s: float) -> None:
        """It is loaded, and was measured."""
        held.stage, held.used_s, held.load_s = Stage.HERE, now_s, now_s - held.since_s
        self._needs.learn(held.place, size_bytes, self._on_disk_bytes(held.place.revision))
        self.is_of_size(held, size_bytes)

    def is_of_size(self, held: Held, size_bytes: int) -> None:
        """It takes more or less than was thought."""
        self.memory_room.bytes += size_bytes - held.size_bytes
        held.size_bytes = size_bytes
        self._needs.in_memory[held.place.revision] = size_bytes

    def is_out(self, place: Place) -> None:
        """Its memory is free."""
        held = self.memory.pop(place, None)
        if held is None:
            return
        self.memory_room.give(held.size_bytes)
        name = place.revision.name
        del self._places[name][place]
        if not self._places[name]:
            del self._places[name]

    # --- how much is needed

    def disk_need(self, revision: Revision, listed_bytes: int) -> tuple[int, bool]:
        """What it takes on the disk, and whether that is known from having been there."""
        known = self._needs.on_disk.get(revision)
        return (listed_bytes, False) if known is None else (known, True)

    def memory_need(self, place: Place, most_bytes: int | None) -> int:
        """What it takes in memory; a guess leaves room for what others took beyond theirs, up to `most_bytes`."""
        return self._needs.guess(place, self._on_disk_bytes(place.revision), most_bytes)

    def is_measured(self, place: Place) -> bool:
        """Whether it is known what it takes in memory; else that is a guess."""
        return place.revision in self._needs.in_memory

    @property
    def can_guess(self) -> bool:
        """Whether anything was measured yet that a guess could go by."""
        return self._needs.learned

    def _on_disk_bytes(self, revision: Revision) -> int:
        stored = self.disk.get(revision)
        return stored.size_bytes if stored is not None else 0

    def forget(self, gone: Callable[[Revision], bool]) -> None:
        """These will not come again."""
        for known in (self._needs.on_disk, self._needs.in_memory):
            for revision in [each for each in known if gone(each)]:
                del known[revision]


class _Needs:
    """What revisions took when they were there, and what that says about those that were not yet."""

    def __init__(self, limits: Limits) -> None:
        self.on_disk: dict[Revision, int] = {}
        self.in_memory: dict[Revision, int] = {}
        self._workers = limits.workers
        self._overhead_bytes = 0
        """How much more than its files anything took: a process has its libraries, a GPU its context."""
        self.learned = False

    def learn(self, place: Place, size_bytes: int, files_bytes: int) -> None:
        self.learned = True
        self._overhead_bytes = max(self._overhead_bytes, size_bytes - files_bytes * self._copies(place))

    def guess(self, place: Place, files_bytes: int, most_bytes: int | None) -> int:
        known = self.in_memory.get(place.revision)
        if known is not None:
            return known
        files_bytes *= self._copies(place)
        guessed = files_bytes + self._overhead_bytes
        return guessed if most_bytes is None else max(files_bytes, min(guessed, most_bytes))

    def _copies(self, place: Place) -> int:
        return self._workers if place.worker is None else 1
