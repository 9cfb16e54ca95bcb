"""Which adapters a model has, which of them are in memory, and which one goes for another (pure).

    register ─▶ LOADING ─ every worker has it ─▶ LOADED ◀─ a request asks for it ─▶ ON_DEMAND
                   │                                └─ its place is wanted, nobody uses it ─▲
                   └─ one cannot load it ─▶ gone ◀─ the last request is answered ─ LEAVING ◀─ unregister

All workers hold the same adapters. What follows from a call is a list of orders, which each worker with the model is
sent in this order, before any request that comes later.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import count

from tidegate.inference.adapter_frames import Drop, Load, Order
from tidegate.inference.errors import (
    AdapterLoadFailed,
    AdapterNotFound,
    AlreadyLoaded,
    NotReady,
    OutOfMemory,
    Overloaded,
    some_of,
)

MAX_REGISTERED = 1000
"""Adapters that a model may have, most of them not in memory."""
MAX_DEATHS = 2
"""Workers that may die while they load an adapter before no other is asked to."""


class State(Enum):
    """Where an adapter is on its way through this server; the values are what `GET /adapters` says."""

    LOADING = "loading"
    LOADED = "loaded"
    ON_DEMAND = "on demand"
    LEAVING = "leaving"
    BROKEN = "broken"


@dataclass(slots=True, kw_only=True, eq=False)
class Adapter:
    """One adapter of one model."""

    name: str
    directory: str
    pinned: bool
    state: State
    requests: int = 0
    """Those that were let in with it and are not answered yet."""
    used: int = 0
    """When it was last asked for, as a number that grows."""
    number: int = 0
    """Of the last order to load it."""
    deaths: int = 0


class AdapterTable:
    """The adapters of one model, of which `max_loaded` are in memory at one time."""

    def __init__(self, max_loaded: int) -> None:
        self._max_loaded = max_loaded
        self._adapters: dict[str, Adapter] = {}
        self._numbers = count(1)
        self._uses = count(1)

    def __len__(self) -> int:
        return len(self._adapters)

    def __contains__(self, name: str) -> bool:
        return name in self._adapters

    # --- what there is

    def find(self, name: str) -> Adapter:
        """An adapter that was registered and is not on its way out. Raises `AdapterNotFound`."""
        adapter = self._adapters.get(name)
        if adapter is None or adapter.state is State.LEAVING:
            known = sorted(each.name for each in self._adapters.values() if each.state is not State.LEAVING)
            there = f"there are {some_of(known)}" if known else "none is registered"
            way_out = "on a server of one model, POST /adapters registers one"
            raise AdapterNotFound(f"There is no adapter '{name[:200]}' here: {there}; {way_out}.")
        return adapter

    def listing(self) -> list[Adapter]:
        """All of them, by name."""
        return sorted(self._adapters.values(), key=lambda each: each.name)

    def in_memory(self) -> list[Load]:
        """What a worker that has just loaded the model is told."""
        held = [each for each in self._adapters.values() if self._takes_a_place(each) and each.number]
        return [_load(each) for each in sorted(held, key=lambda each: each.number)]

    # --- they come

    def register(self, name: str, directory: str, *, preload: bool, pinned: bool) -> list[Order]:
        """Take in an adapter; one that is pinned is loaded at once, too. Raises `AlreadyLoaded` and `OutOfMemory`."""
        if (known := self._adapters.get(name)) is not None:
            doing = "is just being unregistered" if known.state is State.LEAVING else "is registered already"
            raise AlreadyLoaded(
                f"The adapter '{name}' {doing}: DELETE /adapters/{name} comes before another of its name."
            )
        if len(self._adapters) >= MAX_REGISTERED:
            raise OutOfMemory(
                f"{MAX_REGISTERED} adapters are registered, which is the limit: DELETE one that is unused."
            )
        if not (preload or pinned):
            self._adapters[name] = Adapter(name=name, directory=directory, pinned=False, state=State.ON_DEMAND)
            return []
        freed = self._make_room()
        if freed is None:
            raise OutOfMemory(self._full())
        adapter = Adapter(name=name, directory=directory, pinned=pinned, state=State.LOADING)
        self._adapters[name] = adapter
        return [*freed, self._tell(adapter)]

    def loaded(self, name: str) -> None:
        """Every worker has it: it takes requests."""
        adapter = self._adapters[name]
        if adapter.state is State.LOADING:
            adapter.state = State.LOADED

    def failed(self, name: str) -> list[Order]:
        """It could not be registered after all."""
        return [Drop(name=name)] if self._adapters.pop(name, None) is not None else []

    # --- they are used

    def use(self, name: str) -> tuple[Adapter, list[Order]]:
        """Let in a request with an adapter, which `left` ends.

        Raises `AdapterNotFound`, `NotReady`, `Overloaded` and `AdapterLoadFailed`.
        """
        adapter = self.find(name)
        if adapter.state is State.LOADING:
            raise NotReady(f"The adapter '{name}' is still being loaded.")
        if adapter.state is State.BROKEN:
            raise AdapterLoadFailed(
                f"The adapter '{name}' is not used any more: {MAX_DEATHS} workers died while they loaded it. "
                f"DELETE /adapters/{name}, and register a sound one."
            )
        orders: list[Order] = []
        if adapter.state is State.ON_DEMAND:
            freed = self._make_room()
            if freed is None:
                raise Overloaded(self._full())
            adapter.state = State.LOADED
            orders = [*freed, self._tell(adapter)]
        adapter.requests += 1
        adapter.used = next(self._uses)
        return adapter, orders

    def left(self, adapter: Adapter) -> list[Order]:
        """A request with it is answered, or its client has left."""
        adapter.requests -= 1
        return self._gone(adapter) if adapter.state is State.LEAVING and not adapter.requests else []

    def blame(self, number: int) -> None:
        """A worker died while it did the order `number`. One that kills workers is not loaded by any more of them."""
        for adapter in self._adapters.values():
            if adapter.number == number:
                adapter.deaths += 1
                if adapter.deaths >= MAX_DEATHS and adapter.state in (State.LOADED, State.LOADING):
                    adapter.state = State.BROKEN

    # --- they go

    def leave(self, name: str) -> list[Order]:
        """Let in no more requests with an adapter; it is gone when those that it has are answered.

        Raises `AdapterNotFound`, and `NotReady` where it is still being loaded.
        """
        adapter = self.find(name)
        if adapter.state is State.LOADING:
            raise NotReady(f"The adapter '{name}' is still being loaded.")
        adapter.state = State.LEAVING
        return [] if adapter.requests else self._gone(adapter)

    def _gone(self, adapter: Adapter) -> list[Order]:
        del self._adapters[adapter.name]
        return [Drop(name=adapter.name)]

    # --- places

    def _takes_a_place(self, adapter: Adapter) -> bool:
        return adapter.state in (State.LOADING, State.LOADED) or (adapter.state is State.LEAVING and adapter.number > 0)

    def _make_room(self) -> list[Order] | None:
        """What goes for one more; None where nothing can."""
        held = [each for each in self._adapters.values() if self._takes_a_place(each)]
        if len(held) < self._max_loaded:
            return []
        idle = [each for each in held if each.state is State.LOADED and not (each.pinned or each.requests)]
        if not idle:
            return None
        oldest = min(idle, key=lambda each: each.used)
        oldest.state, oldest.number = State.ON_DEMAND, 0
        return [Drop(name=oldest.name)]

    def _tell(self, adapter: Adapter) -> Load:
        adapter.number = next(self._numbers)
        return _load(adapter)

    def _full(self) -> str:
        return (
            f"All {self._max_loaded} adapters in memory are pinned or at work (TIDEGATE_MAX_ADAPTERS): try again, or "
            "DELETE one."
        )


def _load(adapter: Adapter) -> Load:
    return Load(number=adapter.number, name=adapter.name, directory=adapter.directory)
