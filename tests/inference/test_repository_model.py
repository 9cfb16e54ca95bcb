"""The librarian of a model repository against a simple reference, whatever happens in whatever order, with time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.inference.repository_world import Content, World, with_version
from tidegate.inference.errors import InvalidVersion, ModelNotFound, ModelRequired, RequestError, VersionNotFound
from tidegate.inference.frontend.repository.actions import Grant, Refuse
from tidegate.inference.frontend.repository.choice import Selector
from tidegate.inference.frontend.repository.room import Limits
from tidegate.inference.repository.catalogue import Model, Version, VersionState

NAMES = ("a", "b", "c")
LABELS = ("stable", "canary")
NUMBERS = st.integers(1, 4)
LONG_S = 10_000.0

contents = st.builds(
    Content,
    disk_bytes=st.integers(1, 12),
    memory_bytes=st.integers(1, 30),
    loads=st.sampled_from((True, True, True, False)),
    unpacks=st.sampled_from((True, True, True, True, False)),
)


class Librarianship(RuleBasedStateMachine):
    """Publishers, clients, workers and faults around one librarian."""

    world: World

    @initialize(
        loaded=st.integers(1, 3),
        more_on_disk=st.none() | st.integers(0, 2),
        loaded_bytes=st.none() | st.integers(20, 60),
        disk_bytes=st.none() | st.integers(12, 40),
        unload_first=st.booleans(),
        pinned=st.sampled_from((frozenset(), frozenset(), frozenset({"a"}))),
    )
    def begin(
        self,
        loaded: int,
        more_on_disk: int | None,
        loaded_bytes: int | None,
        disk_bytes: int | None,
        unload_first: bool,
        pinned: frozenset[str],
    ) -> None:
        limits = Limits(
            max_loaded_models=loaded,
            max_loaded_bytes=loaded_bytes,
            max_disk_models=None if more_on_disk is None else loaded + more_on_disk,
            max_disk_bytes=disk_bytes,
            max_waiters=50,
        )
        self.world = World(limits, unload_first, pinned)
        self.ids = iter(range(100_000))
        for name in NAMES:
            good = [Content(disk_bytes=4, memory_bytes=9), Content(disk_bytes=3, memory_bytes=7)]
            versions = [
                Version(number=n, digest=self._digest(c), size_bytes=c.disk_bytes) for n, c in enumerate(good, 1)
            ]
            self.world.tell(Model(name=name, versions=tuple(versions), labels={"stable": 1}))
        self.world.carry_out(self.world.librarian.listed(0.0))

    # --- publishers

    def _digest(self, content: Content) -> str:
        digest = f"d{next(self.ids)}"
        self.world.contents[digest] = content
        return digest

    @rule(name=st.sampled_from(NAMES), number=NUMBERS, content=contents)
    def publish(self, name: str, number: int, content: Content) -> None:
        """A version is there, new or with another content."""
        model = self.world.models.get(name) or Model(name=name)
        version = Version(number=number, digest=self._digest(content), size_bytes=content.disk_bytes)
        self.world.tell(with_version(model, version))

    @rule(name=st.sampled_from(NAMES), content=contents)
    def publish_next(self, name: str, content: Content) -> None:
        """A version of the next number."""
        model = self.world.models.get(name) or Model(name=name)
        number = max([each.number for each in model.versions], default=0) + 1
        version = Version(number=min(number, 9), digest=self._digest(content), size_bytes=content.disk_bytes)
        self.world.tell(with_version(model, version))

    @rule(data=st.data(), name=st.sampled_from(NAMES), version=st.sampled_from((None, None, "1", "2", *LABELS)))
    def ask_twice(self, data: st.DataObject, name: str, version: str | None) -> None:
        """A request comes, what it needs happens, and another comes."""
        self._ask(name, version, 60.0, None)
        for _ in range(8):
            if self._under_way():
                self._end_something(data, False)
        self._ask(name, version, 60.0, None)

    @rule(name=st.sampled_from(NAMES), number=NUMBERS, state=st.sampled_from(("incomplete", "invalid")))
    def spoil(self, name: str, number: int, state: str) -> None:
        """Somebody writes over a version, or publishes a half one."""
        model = self.world.models.get(name) or Model(name=name)
        digest = self._digest(Content(disk_bytes=1, memory_bytes=1, loads=False))
        version = Version(
            number=number, digest=digest, size_bytes=1, state=VersionState(state), reason="A file is missing."
        )
        self.world.tell(with_version(model, version))

    @precondition(lambda self: self.world.models)
    @rule(data=st.data(), whole=st.sampled_from((False, False, True)))
    def retire(self, data: st.DataObject, whole: bool) -> None:
        """A version goes, and a label may stay that names it."""
        name = data.draw(st.sampled_from(sorted(self.world.models)))
        model = self.world.models[name]
        if whole or len(model.versions) <= 1:
            self.world.tell(removed=[name])
            return
        number = data.draw(st.sampled_from(self.world.numbers(name)))
        versions = tuple(each for each in model.versions if each.number != number)
        self.world.tell(replace(model, versions=versions))

    @precondition(lambda self: self.world.models)
    @rule(data=st.data(), label=st.sampled_from(LABELS), gone=st.booleans())
    def relabel(self, data: st.DataObject, label: str, gone: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.models)))
        model = self.world.models[name]
        labels = {each: number for each, number in model.labels.items() if each != label}
        if not gone:
            labels[label] = data.draw(st.sampled_from(self.world.numbers(name)))
        self.world.last = {at: answer for at, answer in self.world.last.items() if at != (name, label) or not gone}
        self.world.tell(replace(model, labels=labels))

    # --- clients

    @rule(
        name=st.sampled_from((*NAMES * 4, "nobody")),
        version=st.sampled_from((None, "latest", None, "1", "2", "3", "4", *LABELS * 2, "007")),
        patience_s=st.sampled_from((0.5, 5.0, 60.0)),
        worker=st.sampled_from((None, None, None, 1, 2)),
    )
    def ask(self, name: str, version: str | None, patience_s: float, worker: int | None) -> None:
        """A request comes: what is loaded answers at once, else it waits."""
        self._ask(name, version, patience_s, worker)

    def _ask(self, name: str, version: str | None, patience_s: float, worker: int | None) -> None:
        world, selector = self.world, Selector(name, version)
        wanted, key = self._expected_error(name, version)
        if worker is None and (answer := world.librarian.find(selector, world.now_s)) is not None:
            assert wanted is None
            world.assert_right(name, key, answer)
            world.last[name, key] = answer
            return
        waiter = next(self.ids)
        if wanted is None:
            world.ask(waiter, selector, key, world.now_s + patience_s, worker)
        else:
            with pytest.raises(wanted):
                world.librarian.want(waiter, selector, world.now_s, world.now_s + patience_s, worker=worker)

    def _expected_error(self, name: str, version: str | None) -> tuple[type[RequestError] | None, int | str]:
        model = self.world.models.get(name)
        if model is None:
            return ModelNotFound, ""
        if version in (None, "latest"):
            return None, "latest"
        if version == "007":
            return InvalidVersion, ""
        if version.isdigit():
            return (None if int(version) in self.world.numbers(name) else VersionNotFound), int(version)
        return (None if version in model.labels else VersionNotFound), version

    @rule()
    def ask_without_a_name(self) -> None:
        """The only model that can be loaded needs none."""
        world = self.world
        usable = [name for name in world.models if any(world.target(name, number) for number in world.numbers(name))]
        answer = world.librarian.find(Selector(), world.now_s)
        if answer is not None:
            [name] = usable or world.models
            world.assert_right(name, "latest", answer)
            world.last[name, "latest"] = answer
        elif len(usable) > 1:
            with pytest.raises(ModelRequired):
                world.librarian.want(next(self.ids), Selector(), world.now_s, world.now_s + 1)

    def _waiting(self) -> list[int]:
        return [waiter for waiter, asked in self.world.requests.items() if asked.end is None]

    @precondition(lambda self: self._waiting())
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self._waiting()))
        del self.world.requests[waiter]
        self.world.carry_out(self.world.librarian.leave(waiter, self.world.now_s))

    @precondition(lambda self: self.world.models)
    @rule(data=st.data())
    def unload(self, data: st.DataObject) -> None:
        """An administrator has a model out of memory."""
        name = data.draw(st.sampled_from(sorted(self.world.models)))
        self.world.unload(name)

    # --- what was begun comes to its end

    def _under_way(self) -> list[Any]:
        disk = [(r, entry.stage) for r, entry in self.world.disk.items() if entry.stage != "here" and self.world.up]
        return [*disk, *((p, entry.stage) for p, entry in self.world.memory.items() if entry.stage != "loaded")]

    @precondition(lambda self: self._under_way())
    @rule(data=st.data(), fails=st.sampled_from((False, False, False, False, True)))
    def something_ends(self, data: st.DataObject, fails: bool) -> None:
        self._end_something(data, fails)

    def _end_something(self, data: st.DataObject, fails: bool) -> None:
        what, stage = data.draw(st.sampled_from(self._under_way()))
        if stage == "fetching":
            self.world.fetch_ends(what, fails=fails)
        elif stage == "loading":
            self.world.load_ends(what, fails=fails)
        elif stage == "unloading":
            self.world.unload_ends(what)
        else:
            self.world.remove_ends(what)

    @precondition(lambda self: self._under_way())
    @rule(data=st.data(), steps=st.integers(1, 6))
    def things_go_well(self, data: st.DataObject, steps: int) -> None:
        """Several ends at once, in any order."""
        for _ in range(steps):
            if self._under_way():
                self._end_something(data, False)

    def _in_memory(self, stage: str) -> list[Any]:
        return [place for place, entry in self.world.memory.items() if entry.stage == stage]

    # --- faults and time

    @precondition(lambda self: self._in_memory("loaded"))
    @rule(data=st.data())
    def pool_dies(self, data: st.DataObject) -> None:
        self.world.pool_dies(data.draw(st.sampled_from(self._in_memory("loaded"))))

    @precondition(lambda self: self._in_memory("loaded"))
    @rule(data=st.data(), memory_bytes=st.integers(1, 30))
    def grow(self, data: st.DataObject, memory_bytes: int) -> None:
        """What is loaded takes another amount of memory than it did."""
        self.world.grows(data.draw(st.sampled_from(self._in_memory("loaded"))), memory_bytes)

    @rule(what=st.sampled_from(("worker 1", "worker 2", "repository", "repository", "server")))
    def something_dies(self, what: str) -> None:
        if what == "server":
            self.world.restart()
        elif what == "repository":
            self.world.repository_dies() if self.world.up else self.world.repository_returns()
        else:
            self._worker_dies(int(what[-1]))

    def _worker_dies(self, worker: int) -> None:
        world = self.world
        for place in [place for place in world.memory if place.worker == worker]:
            del world.memory[place]
        for waiter in [waiter for waiter, asked in world.requests.items() if asked.worker == worker]:
            del world.requests[waiter]
        world.carry_out(world.librarian.worker_gone(worker, world.now_s))

    @precondition(lambda self: not self.world.up)
    @rule()
    def repository_returns(self) -> None:
        self.world.repository_returns()

    @rule(seconds=st.sampled_from((0.1, 1.0, 10.0, 100.0)))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(self.world.now_s + seconds)

    # --- always

    @invariant()
    def nobody_waits_beyond_a_deadline(self) -> None:
        if hasattr(self, "world"):
            for asked in self.world.requests.values():
                assert asked.end is not None or asked.deadline_s > self.world.now_s
                assert asked.end is not None or asked.name in self.world.models, "it waits for what is gone"

    @invariant()
    def what_people_see_is_what_there_is(self) -> None:
        if not hasattr(self, "world"):
            return
        assert list(self.world.librarian.names()) == sorted(self.world.models)
        for name in self.world.models:
            for version in self.world.librarian.report(name).versions:
                target = self.world.target(name, version.version)
                assert version.state in ("loaded", "available", "loading", "failed", "invalid")
                if version.serving is not None:
                    assert self.world.is_loaded(version.serving)
                if target is not None and self.world.is_loaded(target):
                    assert version.state == "loaded"
                if target is not None and version.state == "loaded":
                    assert self.world.is_held(target)

    def teardown(self) -> None:
        """Everything under way ends; then every model can be had again, in its newest content, and nobody was lost."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.settle()
        for waiter in self._waiting():
            world.pass_time(max(world.now_s, world.requests[waiter].deadline_s))
            world.settle()
        assert not self._waiting()
        for name in sorted(world.models):
            content = Content(disk_bytes=1, memory_bytes=1)
            version = Version(number=10, digest=self._digest(content), size_bytes=1)
            world.tell(with_version(world.models[name], version))
        world.pass_time(world.now_s + 2000.0)
        world.settle()
        for name in sorted(world.models):
            self._is_answered(name, Selector(name, "10"), 10)
            self._is_switched(name, Selector(name, "10"))

    def _is_answered(self, name: str, selector: Selector, key: int) -> None:
        world, waiter = self.world, next(self.ids)
        world.ask(waiter, selector, key, world.now_s + LONG_S)
        world.settle()
        end = world.requests[waiter].end
        if isinstance(end, Refuse) and world.pinned:
            return  # what is pinned may leave no room
        assert isinstance(end, Grant), f"{name} is not to be had: {end}"
        assert end.place.revision == world.target(name, 10)

    def _is_switched(self, name: str, selector: Selector) -> None:
        """Where there is room beside it, what answers is replaced by its new content without anybody asking."""
        world, limits = self.world, self.world.limits
        if world.pinned or limits.max_loaded_models < 2 or (limits.max_disk_models or 9) < 3:
            return
        version = Version(number=10, digest=self._digest(Content(disk_bytes=1, memory_bytes=1)), size_bytes=1)
        world.tell(with_version(world.models[name], version))
        world.settle()
        assert world.librarian.find(selector, world.now_s) in (None, world.target(name, 10))


TestLibrarian = Librarianship.TestCase
TestLibrarian.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
