"""A world around a `Librarian`: a repository, a disk and a memory that carry its actions out, and a simple reference.

The reference keeps what the catalogue says, what passed its check, what failed and what answered last, and tells from
that alone whether an answer may be given. It knows nothing of how the librarian decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from tidegate.inference.errors import ModelLoadFailed, ModelLoading, ModelTooLarge, RequestError, VersionNotFound
from tidegate.inference.frontend.repository.actions import (
    Action,
    CancelFetch,
    Drop,
    Fetch,
    Grant,
    Load,
    Log,
    Place,
    Refuse,
    RemoveFromDisk,
    Unload,
)
from tidegate.inference.frontend.repository.choice import Selector
from tidegate.inference.frontend.repository.librarian import Librarian
from tidegate.inference.frontend.repository.room import Limits
from tidegate.inference.repository.catalogue import Model, Revision, Version, VersionState

Key = int | str


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a digest stands for."""

    disk_bytes: int
    memory_bytes: int
    loads: bool = True
    unpacks: bool = True


@dataclass(kw_only=True)
class Entry:
    """Something on the disk or in memory, on its way there or away."""

    bytes: int
    stage: str
    directory: str = ""


@dataclass(kw_only=True)
class Asked:
    """A request, or a script in a worker."""

    name: str
    key: Key
    deadline_s: float
    worker: int | None = None
    home: Revision | None = None
    end: Action | None = None


@dataclass
class World:
    """Carries out what the librarian wants, when it is told to, and holds it to the laws meanwhile."""

    limits: Limits
    unload_first: bool = False
    pinned: frozenset[str] = frozenset()
    now_s: float = 0.0
    up: bool = True
    models: dict[str, Model] = field(default_factory=dict)
    contents: dict[str, Content] = field(default_factory=dict)
    disk: dict[Revision, Entry] = field(default_factory=dict)
    memory: dict[Place, Entry] = field(default_factory=dict)
    requests: dict[int, Asked] = field(default_factory=dict)
    log: list[Action] = field(default_factory=list)
    # --- the reference
    passed: set[Revision] = field(default_factory=set)
    good: dict[tuple[str, int], str] = field(default_factory=dict)
    """By name and number, the digest that passed last while the catalogue said it."""
    failed: set[tuple[str, int]] = field(default_factory=set)
    """Numbers whose present content has failed since it was loaded last, or ever."""
    largest: dict[str, int] = field(default_factory=dict)
    """By name, the most that any content of it ever took."""
    ever_failed: set[str] = field(default_factory=set)
    last: dict[tuple[str, Key], Revision] = field(default_factory=dict)
    surprised: bool = False
    most_bytes: int = 0
    """What models took at one time, those that load in full: they do not wait with it until they are measured."""
    """Whether something took more memory than was reserved, and its excess is not gone yet."""
    unpinned: set[str] = field(default_factory=set)
    """Models that an administrator had unloaded, and that nobody asked for since."""

    def __post_init__(self) -> None:
        self.librarian = Librarian(self.limits, unload_first=self.unload_first, pinned=self.pinned)

    # --- what the catalogue says

    def target(self, name: str, number: int) -> Revision | None:
        """The revision that the catalogue says."""
        for version in self.models[name].versions if name in self.models else ():
            if version.number == number and version.state is VersionState.AVAILABLE:
                return Revision(name=name, version=number, digest=version.digest)
        return None

    def numbers(self, name: str) -> list[int]:
        """The highest first."""
        return [version.number for version in reversed(self.models[name].versions)]

    def tell(self, *models: Model, removed: Iterable[str] = ()) -> None:
        """Let the catalogue change."""
        removed = tuple(removed)
        for name in removed:
            del self.models[name]
            self.unpinned.discard(name)
        for model in models:
            sizes = [self.contents[version.digest] for version in model.versions]
            most = max((max(each.memory_bytes, 3 * each.disk_bytes) for each in sizes), default=0)
            self.largest[model.name] = max(most, self.largest.get(model.name, 0))
            before = {v.number: v.digest for v in self.models[model.name].versions} if model.name in self.models else {}
            after = {version.number: version.digest for version in model.versions}
            self.failed -= {(model.name, number) for number in before if before[number] != after.get(number)}
            self.models[model.name] = model
        self.good = {
            at: digest for at, digest in self.good.items() if at[0] in self.models and at[1] in self.numbers(at[0])
        }
        self.failed = {at for at in self.failed if at[0] in self.models and at[1] in self.numbers(at[0])}
        self.last = {at: revision for at, revision in self.last.items() if at[0] in self.models}
        self.carry_out(self.librarian.changed(models, removed, self.now_s))

    # --- whether an answer is right

    def is_loaded(self, revision: Revision) -> bool:
        """In workers of its own."""
        entry = self.memory.get(Place(revision))
        return entry is not None and entry.stage == "loaded"

    def is_held(self, revision: Revision) -> bool:
        """In workers of its own, or in that of a script."""
        return any(place.revision == revision and entry.stage == "loaded" for place, entry in self.memory.items())

    def _right_for_number(self, answer: Revision) -> bool:
        name, number = answer.name, answer.version
        if name not in self.models or number not in self.numbers(name):
            return False
        target = self.target(name, number)
        if target == answer:
            return True
        return self.good.get((name, number)) == answer.digest and (target is None or not self.is_loaded(target))

    def _is_passed_over(self, name: str, number: int) -> bool:
        """Whether nothing of a number can be waited for: it failed, or cannot be loaded."""
        return (name, number) in self.failed or self.target(name, number) is None

    def _answers(self, name: str, number: int) -> bool:
        target = self.target(name, number)
        return target is not None and self.is_loaded(target)

    def assert_right(self, name: str, key: Key, answer: Revision) -> None:
        """An answer that was given, or would be."""
        about = f"{name} {key} at {self.now_s}: {answer}"
        assert answer.name == name, f"another model: {about}"
        assert answer in self.passed, f"it never passed its check: {about}"
        assert self.is_loaded(answer), f"it is not loaded: {about}"
        assert name in self.models, f"a model that is gone: {about}"
        assert self._is_right(name, key, answer), (
            f"not this one: {about}, {self.models[name]}, {self.last}, {self.failed}"
        )

    def _is_right(self, name: str, key: Key, answer: Revision) -> bool:
        last = self.last.get((name, key))
        first = self._first(name, key)
        if answer.version not in self.numbers(name):  # it bridges until its successor is loaded
            return not isinstance(key, int) and last == answer and first is not None and not self._answers(name, first)
        if not self._right_for_number(answer):
            return False
        stood_for_it = last is not None and last.version == answer.version
        if last is None and name in self.pinned and key == "latest":
            stood_for_it = True  # it is kept answered, and nobody saw by what
        if key != "latest":
            if answer.version == first:
                return True
            if isinstance(key, int) or not stood_for_it:
                return False
        better = [each for each in self.numbers(name) if each > answer.version] if key == "latest" else [first]
        return all(
            not self._answers(name, number) and (stood_for_it or self._is_passed_over(name, number))
            for number in better
            if number is not None
        )

    def _first(self, name: str, key: Key) -> int | None:
        """The number that a key stands for, whether or not that can be had."""
        if isinstance(key, int):
            return key
        return max(self.numbers(name), default=None) if key == "latest" else self.models[name].labels.get(key)

    # --- the actions

    def carry_out(self, actions: list[Action]) -> None:
        """Do them in their order, and hold each to the laws."""
        self.log += actions
        for action in actions:
            match action:
                case Fetch(revision, max_bytes):
                    self._fetch(revision, max_bytes)
                case CancelFetch(revision):
                    assert self.disk[revision].stage == "fetching"
                case RemoveFromDisk(revision, directory):
                    self._remove(revision, directory)
                case Load(place, directory, reserved_bytes):
                    self._load(place, directory, reserved_bytes)
                case Unload(revision, reason, idle_s):
                    self._unload(Place(revision), reason, idle_s)
                case Drop(worker, revision, reason, idle_s):
                    self._unload(Place(revision, worker), reason, idle_s)
                case Grant(waiter, place, directory):
                    self._grant(waiter, place, directory, action)
                case Refuse(waiter, error):
                    self._refuse(waiter, error, action)
                case Log(_, _, fields):
                    self._log(fields)
        self.check()

    def _fetch(self, revision: Revision, max_bytes: int | None) -> None:
        assert self.up, "nobody is there to fetch"
        assert revision not in self.disk
        reserved = self._listed_bytes(revision) if max_bytes is None else max_bytes
        assert (self.limits.max_disk_bytes is None) == (max_bytes is None)
        self.disk[revision] = Entry(bytes=reserved, stage="fetching")
        self.check_disk()

    def _remove(self, revision: Revision, directory: str) -> None:
        assert self.up, "nobody is there to remove"
        entry = self.disk[revision]
        assert entry.stage == "here"
        assert entry.directory == directory
        assert all(place.revision != revision for place in self.memory), f"{revision} is in memory"
        entry.stage = "removing"

    def _load(self, place: Place, directory: str, reserved_bytes: int) -> None:
        entry = self.disk[place.revision]
        assert entry.stage == "here"
        assert entry.directory == directory
        assert place not in self.memory
        self.memory[place] = Entry(bytes=reserved_bytes, stage="loading")
        self.check_memory(strictly=True)

    def _unload(self, place: Place, reason: str, idle_s: float | None) -> None:
        entry = self.memory[place]
        assert entry.stage in ("loading", "loaded")
        assert (reason == "evicted") == (idle_s is not None)
        name, revision = place.revision.name, place.revision
        if reason == "evicted":
            assert entry.stage == "loaded"
            assert place.worker is not None or not self._is_pinned(revision), f"{revision} is pinned"
        entry.stage = "unloading"
        if reason == "replaced" and place.worker is None and name in self.models:
            self._assert_replaced(revision)

    def _is_pinned(self, revision: Revision) -> bool:
        """The newest content of the highest number."""
        name = revision.name
        if name not in self.pinned - self.unpinned or name not in self.models:
            return False
        highest = max(self.numbers(name), default=0)
        return self.target(name, highest) == revision and (name, highest) not in self.failed

    def _assert_replaced(self, gone: Revision) -> None:
        """What answered goes only when what takes over is loaded, or (unload first) is on the disk."""
        for (name, key), last in list(self.last.items()):
            if name != gone.name or last != gone or (isinstance(key, int) and key not in self.numbers(name)):
                continue
            number = (
                key if isinstance(key, int) else self.models[name].labels.get(key, max(self.numbers(name), default=0))
            )
            if key != "latest" and not isinstance(key, int) and key not in self.models[name].labels:
                continue
            numbers = [each for each in (number, *self.numbers(name)) if each is not None]
            successors = [self.target(name, each) for each in numbers]
            successors += [
                Revision(name=name, version=each, digest=self.good[name, each])
                for each in numbers
                if (name, each) in self.good
            ]
            if self.unload_first:
                on_disk = [each for each in successors if each in self.disk and self.disk[each].stage == "here"]
                assert on_disk, (
                    f"{gone} goes before its successor is there: {name} {key} {self.models[name]} {self.log[-9:]}"
                )
            # A key that nobody asked for since it was evicted does not keep anything.

    def _grant(self, waiter: object, place: Place, directory: str, action: Grant) -> None:
        asked = self.requests[waiter]  # type: ignore[index]
        assert asked.end is None, f"{waiter} was answered twice"
        asked.end = action
        assert asked.worker == place.worker
        assert self.memory[place].stage == "loaded"
        assert self.disk[place.revision].directory == directory
        if place.worker is None:
            self.assert_right(asked.name, asked.key, place.revision)
            self.last[asked.name, asked.key] = place.revision
        else:
            assert isinstance(asked.key, str) or place.revision.version == asked.key

    def _refuse(self, waiter: object, error: RequestError, action: Refuse) -> None:
        assert "/cache" not in error.message, "a client is told a path of the container"
        asked = self.requests[waiter]  # type: ignore[index]
        assert asked.end is None, f"{waiter} was answered twice"
        asked.end = action
        if isinstance(error, ModelLoading):
            assert self.now_s >= asked.deadline_s or error.retry_after_s >= 1
        if isinstance(error, VersionNotFound) and asked.name in self.models and asked.key == "latest":
            assert not any(self.target(asked.name, number) for number in self.numbers(asked.name)), str(error)
        if isinstance(error, ModelLoadFailed) and asked.worker is None and asked.name in self.models:
            assert asked.name in self.ever_failed, str(error)
        if isinstance(error, ModelTooLarge):
            assert asked.home is not None or self._may_be_too_large(asked.name), str(error)

    def _may_be_too_large(self, name: str) -> bool:
        most = min(self.limits.max_loaded_bytes or 10**9, self.limits.max_disk_bytes or 10**9)
        return bool(self.pinned) or self.largest.get(name, 0) > most

    def grows(self, place: Place, memory_bytes: int) -> None:
        """What is loaded takes another amount of memory than it did."""
        entry, digest = self.memory[place], place.revision.digest
        self.surprised = self.surprised or memory_bytes > entry.bytes
        entry.bytes = memory_bytes
        self.largest[place.revision.name] = max(self.largest[place.revision.name], memory_bytes)
        self.contents[digest] = replace(self.contents[digest], memory_bytes=memory_bytes)
        self.carry_out(self.librarian.measured(place, memory_bytes, self.now_s))

    def _log(self, fields: dict[str, object]) -> None:
        if "version" not in fields:
            return
        name, version = str(fields["model"]), int(str(fields["version"]))
        if "cause" in fields:
            self.failed.add((name, version))
            self.ever_failed.add(name)
        else:
            key: Key = int(str(fields["asked_for"])) if str(fields["asked_for"]).isdigit() else str(fields["asked_for"])
            answer = Revision(name=name, version=version, digest=str(fields["digest"]))
            self.assert_right(name, key, answer)
            self.last[name, key] = answer

    def _listed_bytes(self, revision: Revision) -> int:
        return self.contents[revision.digest].disk_bytes

    # --- what the world does

    def fetch_ends(self, revision: Revision, *, fails: bool = False) -> None:
        """A fetch comes to its end, one or the other."""
        entry, content = self.disk[revision], self.contents[revision.digest]
        if fails or not content.unpacks:
            del self.disk[revision]
            self.carry_out(
                self.librarian.fetch_failed(revision, "/cache: no such luck", self.now_s, passing=content.unpacks)
            )
        elif self.limits.max_disk_bytes is not None and content.disk_bytes > entry.bytes:
            del self.disk[revision]
            failed = self.librarian.fetch_failed(
                revision, "too small", self.now_s, passing=False, needed_bytes=content.disk_bytes
            )
            self.carry_out(failed)
        else:
            entry.stage, entry.bytes = "here", content.disk_bytes
            entry.directory = f"/cache/{revision.name}/{revision.version}-{revision.digest}"
            self.carry_out(self.librarian.fetched(revision, entry.directory, entry.bytes, self.now_s))

    def load_ends(self, place: Place, *, fails: bool = False) -> None:
        """A load comes to its end."""
        entry, content = self.memory[place], self.contents[place.revision.digest]
        if fails or not content.loads:
            del self.memory[place]
            self.carry_out(self.librarian.load_failed(place, "/cache/code/inference.py: it does not load", self.now_s))
            return
        entry.stage = "loaded"
        self.surprised = self.surprised or content.memory_bytes > entry.bytes
        entry.bytes = content.memory_bytes
        fits = content.memory_bytes <= (self.limits.max_loaded_bytes or content.memory_bytes)
        if place.worker is None:
            self.passed.add(place.revision)
            if fits and self.target(place.revision.name, place.revision.version) == place.revision:
                self.good[place.revision.name, place.revision.version] = place.revision.digest
                self.failed.discard((place.revision.name, place.revision.version))
        self.carry_out(self.librarian.loaded(place, content.memory_bytes, self.now_s))

    def unload_ends(self, place: Place) -> None:
        """Memory is free."""
        del self.memory[place]
        self.carry_out(self.librarian.unloaded(place, self.now_s))

    def remove_ends(self, revision: Revision) -> None:
        """A directory is gone."""
        del self.disk[revision]
        self.carry_out(self.librarian.removed(revision, self.now_s))

    def pool_dies(self, place: Place) -> None:
        """A model cannot be kept up."""
        del self.memory[place]
        self.carry_out(self.librarian.load_failed(place, "/cache/code/inference.py: it crashes", self.now_s))

    def pass_time(self, until_s: float) -> None:
        """Let time go by, with the timer."""
        while (due_s := self.librarian.timer_s) <= until_s:
            self.now_s = max(self.now_s, due_s)
            self.carry_out(self.librarian.tick(self.now_s))
            assert self.librarian.timer_s > self.now_s, "the timer does not go on"
        self.now_s = until_s

    def ask(
        self,
        waiter: int,
        selector: Selector,
        key: Key,
        deadline_s: float,
        worker: int | None = None,
        home: Revision | None = None,
    ) -> None:
        """A request that the catalogue has something for."""
        assert selector.name is not None
        self.requests[waiter] = Asked(name=selector.name, key=key, deadline_s=deadline_s, worker=worker, home=home)
        self.unpinned.discard(selector.name)
        self.carry_out(self.librarian.want(waiter, selector, self.now_s, deadline_s, worker=worker, home=home))

    def unload(self, name: str) -> None:
        """An administrator has a model out of memory."""
        if not any(asked.name == name and asked.end is None for asked in self.requests.values()):
            self.unpinned.add(name)
        self.carry_out(self.librarian.unload(name, self.now_s))

    def restart(self) -> None:
        """The server is killed, and comes back: what is whole on the disk is there, and nobody waits any more."""
        self.memory.clear()
        self.requests.clear()
        self.last.clear()
        self.good.clear()
        self.failed.clear()
        self.unpinned.clear()
        self.up, self.surprised = True, False
        self.librarian = Librarian(self.limits, unload_first=self.unload_first, pinned=self.pinned)
        self._tell_kept()
        self.carry_out(self.librarian.changed(list(self.models.values()), [], self.now_s))
        self.carry_out(self.librarian.listed(self.now_s))

    def repository_dies(self) -> None:
        """Only the repository's process."""
        self.up = False
        self.carry_out(self.librarian.repository_lost(self.now_s))

    def repository_returns(self) -> None:
        """It clears up what was half done, and tells the rest."""
        self._tell_kept()
        self.up = True
        self.carry_out(self.librarian.repository_back(self.now_s))

    def _tell_kept(self) -> None:
        for revision, entry in list(self.disk.items()):
            if entry.stage == "fetching":
                del self.disk[revision]
            else:
                entry.stage = "here"
                assert self.librarian.kept(revision, entry.directory, entry.bytes, self.now_s) == []

    # --- the limits

    def check(self) -> None:
        """At every instant."""
        self.check_memory(strictly=False)
        self.check_disk()
        assert self.librarian.loaded_models == len(self.memory)
        assert self.librarian.loaded_bytes == sum(entry.bytes for entry in self.memory.values())
        assert self.librarian.disk_models == len(self.disk)
        assert self.librarian.disk_bytes == sum(entry.bytes for entry in self.disk.values())
        assert self.librarian.waiting == sum(asked.end is None for asked in self.requests.values())

    def check_memory(self, *, strictly: bool) -> None:
        """Models and bytes. What turned out larger than reserved is made up for at once."""
        assert len(self.memory) <= self.limits.max_loaded_models
        if self.limits.max_loaded_bytes is None:
            return
        total = sum(entry.bytes for entry in self.memory.values())
        truly = sum(self.contents[place.revision.digest].memory_bytes for place in self.memory)
        self.most_bytes = max(self.most_bytes, truly)
        if total <= self.limits.max_loaded_bytes:
            self.surprised = False
            return
        assert self.surprised, f"{total} bytes are loaded"
        assert not strictly, "something is loaded while too much is"
        staying = [
            (place, entry)
            for place, entry in self.memory.items()
            if entry.stage != "unloading" and not (place.worker is None and place.revision.name in self.pinned)
        ]
        loading = [entry for _, entry in staying if entry.stage == "loading"]
        assert sum(entry.bytes for _, entry in staying) <= self.limits.max_loaded_bytes or loading, "it stays too much"

    def check_disk(self) -> None:
        """Models and bytes."""
        if self.limits.max_disk_models is not None:
            assert len(self.disk) <= self.limits.max_disk_models
        if self.limits.max_disk_bytes is not None:
            assert sum(entry.bytes for entry in self.disk.values()) <= self.limits.max_disk_bytes

    # --- the end

    def settle(self) -> None:
        """Let everything that is under way come to its end, well where its content is good."""
        if not self.up:
            self.repository_returns()
        for _ in range(500):
            if (place := next((p for p in self.memory if self._may_go(p)), None)) is not None:
                self.unload_ends(place)
            elif (place := next((p for p, e in self.memory.items() if e.stage == "loading"), None)) is not None:
                self.load_ends(place)
            elif (revision := next((r for r, e in self.disk.items() if e.stage == "removing"), None)) is not None:
                self.remove_ends(revision)
            elif (revision := next((r for r, e in self.disk.items() if e.stage == "fetching"), None)) is not None:
                self.fetch_ends(revision)
            else:
                return
        raise AssertionError(f"it never comes to rest: {self.log[-12:]}")

    def _may_go(self, place: Place) -> bool:
        """Whether an unload ends: a script that waits for a model has a request in hand, which ends before."""
        at_work = {asked.home for asked in self.requests.values() if asked.end is None}
        return self.memory[place].stage == "unloading" and not (place.worker is None and place.revision in at_work)


def with_version(model: Model, version: Version) -> Model:
    """The model with a version more, or another content of one."""
    others = [each for each in model.versions if each.number != version.number]
    return replace(model, versions=tuple(sorted((*others, version), key=lambda each: each.number)))
