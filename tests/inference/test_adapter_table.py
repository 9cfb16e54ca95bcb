"""Which adapters are in memory, which one goes for another, and who is told of what (pure)."""

from __future__ import annotations

import pytest

from tidegate.inference.adapter_frames import Drop, Load, Outcome, frame_of, order_of, outcome_of
from tidegate.inference.errors import (
    AdapterLoadFailed,
    AdapterNotFound,
    AlreadyLoaded,
    NotReady,
    OutOfMemory,
    Overloaded,
)
from tidegate.inference.frontend.models import adapter_table
from tidegate.inference.frontend.models.adapter_table import AdapterTable, State
from tidegate.inference.protocol import FRAME


def table(*names: str, places: int = 2, pinned: bool = False) -> AdapterTable:
    """A table with these adapters loaded."""
    found = AdapterTable(places)
    for name in names:
        found.register(name, f"/{name}", preload=True, pinned=pinned)
        found.loaded(name)
    return found


def test_an_adapter_takes_requests_only_when_it_is_loaded() -> None:
    found = AdapterTable(2)
    assert found.register("a", "/a", preload=True, pinned=False) == [Load(number=1, name="a", directory="/a")]
    with pytest.raises(NotReady, match="still being loaded"):
        found.use("a")
    with pytest.raises(NotReady, match="still being loaded"):
        found.leave("a")
    found.loaded("a")
    adapter, orders = found.use("a")
    assert (adapter.requests, orders) == (1, [])


def test_one_that_could_not_be_loaded_leaves_nothing() -> None:
    found = AdapterTable(1)
    found.register("a", "/a", preload=True, pinned=False)
    assert found.failed("a") == [Drop(name="a")]
    assert (found.failed("a"), len(found), found.in_memory()) == ([], 0, [])
    assert found.register("b", "/b", preload=True, pinned=False) == [Load(number=2, name="b", directory="/b")]


def test_the_one_that_was_unused_for_longest_goes_first_and_comes_back_when_it_is_asked_for() -> None:
    found = table("a", "b")
    for name in ("a", "b", "a"):
        found.left(found.use(name)[0])
    assert found.register("c", "/c", preload=False, pinned=False) == []
    _, orders = found.use("c")
    assert orders == [Drop(name="b"), Load(number=3, name="c", directory="/c")]
    assert [each.name for each in found.in_memory()] == ["a", "c"]
    assert found.use("b")[1] == [Drop(name="a"), Load(number=4, name="b", directory="/b")]


def test_neither_a_pinned_one_nor_one_at_work_goes_for_another() -> None:
    found = table("pinned", places=1, pinned=True)
    with pytest.raises(OutOfMemory, match="TIDEGATE_MAX_ADAPTERS"):
        found.register("b", "/b", preload=True, pinned=False)
    assert "b" not in found
    found = table("busy", places=1)
    adapter, _ = found.use("busy")
    found.register("b", "/b", preload=False, pinned=False)
    with pytest.raises(Overloaded, match="at work"):
        found.use("b")
    found.left(adapter)
    assert found.use("b")[1][0] == Drop(name="busy")


def test_one_that_leaves_keeps_its_place_and_its_name_until_its_last_request_is_over() -> None:
    found = table("a", places=1)
    adapter, _ = found.use("a")
    assert found.leave("a") == []
    with pytest.raises(AdapterNotFound, match="none is registered"):
        found.use("a")
    with pytest.raises(AlreadyLoaded, match="just being unregistered"):
        found.register("a", "/a", preload=True, pinned=False)
    with pytest.raises(OutOfMemory):
        found.register("b", "/b", preload=True, pinned=False)
    assert [each.name for each in found.in_memory()] == ["a"], "for a worker that takes over its request"
    assert found.left(adapter) == [Drop(name="a")]
    assert "a" not in found


def test_the_number_of_registered_ones_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter_table, "MAX_REGISTERED", 2)
    found = table("a", "b")
    with pytest.raises(OutOfMemory, match="limit"):
        found.register("c", "/c", preload=False, pinned=False)


def test_one_whose_load_ends_two_workers_is_given_up() -> None:
    found = table("a", "b")
    load = found.in_memory()[0]
    found.blame(load.number)
    assert found.use("a")[0].state is State.LOADED
    found.blame(load.number)
    with pytest.raises(AdapterLoadFailed, match="2 workers died"):
        found.use("a")
    assert [each.name for each in found.in_memory()] == ["b"]
    assert found.use("b")[1] == []


def test_messages_come_out_as_they_went_in() -> None:
    load, drop = Load(number=7, name="é", directory="/a b"), Drop(name="x")
    assert [order_of(frame_of(each)[FRAME.size :]) for each in (load, drop)] == [load, drop]
    outcome = Outcome(number=7, reason="no", too_large=True)
    assert outcome_of(frame_of(outcome)[FRAME.size :]) == outcome
