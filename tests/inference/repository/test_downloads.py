"""Who waits for which download, with a store that answers when it is let."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.inference.repository.memory_store import MemoryStore
from tests.polling import until
from tidegate.inference.repository.cache_directory import CacheDirectory
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.repository.downloads import Downloads
from tidegate.inference.repository.listing import Entry
from tidegate.inference.repository.messages import Fetch, Fetched, FetchFailed
from tidegate.inference.repository.store import StoreFailed


def revision(number: int) -> Revision:
    return Revision(name="net", version=number, digest="abc")


class Gate(MemoryStore):
    """Reads wait until they are let."""

    def __init__(self) -> None:
        super().__init__({"model.pth": b"weights"})
        self.open = threading.Event()
        self.reading = 0
        self.most = 0
        self._counting = threading.Lock()

    def read(self, entry: Entry, offset: int = 0) -> Generator[bytes, None, None]:
        with self._counting:
            self.reading += 1
            self.most = max(self.most, self.reading)
        try:
            self.open.wait(60)
            yield from super().read(entry, offset)
        finally:
            with self._counting:
                self.reading -= 1


class Desk:
    """Downloads with what they said."""

    def __init__(self, cache: Path, *, at_once: int) -> None:
        self.store = Gate()
        self.cache = CacheDirectory(cache)
        self.said: dict[int, Fetched | FetchFailed] = {}
        self.spoiled: list[Revision] = []
        self.downloads = Downloads(
            self.store,
            self.cache,
            at_once=at_once,
            say=lambda message: self.said.__setitem__(message.id, message),
            on_spoiled=self.spoiled.append,
        )

    def ask(self, number: int, version: int, *, max_bytes: int | None = None) -> None:
        request = Fetch(id=number, revision=revision(version), max_bytes=max_bytes)
        self.downloads.ask(request, self.store.source())

    def answer(self, number: int) -> Fetched | FetchFailed:
        until(lambda: number in self.said)
        return self.said[number]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "cache", at_once=2)
    yield made
    made.store.open.set()


def test_a_revision_is_fetched_once_for_all_who_ask(desk: Desk) -> None:
    for number in range(10):
        desk.ask(number, 1)
    desk.store.open.set()
    assert all(isinstance(desk.answer(number), Fetched) for number in range(10))
    assert desk.store.offsets == [0]


def test_never_more_at_once_than_allowed(desk: Desk) -> None:
    for number in range(8):
        desk.ask(number, number)
    until(lambda: desk.store.reading == 2)
    desk.store.open.set()
    assert all(isinstance(desk.answer(number), Fetched) for number in range(8))
    assert desk.store.most == 2


def test_one_of_two_who_wait_may_leave_and_the_last_one_stops_it(desk: Desk) -> None:
    desk.ask(1, 1)
    desk.ask(2, 1)
    until(lambda: desk.store.reading == 1)
    desk.downloads.cancel(1)
    assert isinstance(desk.answer(1), FetchFailed)
    assert 2 not in desk.said
    desk.downloads.cancel(2)
    desk.store.open.set()
    stopped = desk.answer(2)
    assert isinstance(stopped, FetchFailed)
    assert stopped.passing
    desk.downloads.cancel(2)  # nobody waits under that number any more


def test_who_asks_while_it_is_being_stopped_gets_it_afterwards(desk: Desk) -> None:
    """Both write to the same files, so not at the same time."""
    desk.ask(1, 1)
    until(lambda: desk.store.reading == 1)
    desk.downloads.cancel(1)
    desk.ask(2, 1)
    desk.ask(3, 1)
    desk.store.open.set()
    assert isinstance(desk.answer(1), FetchFailed)
    assert isinstance(desk.answer(2), Fetched)
    assert isinstance(desk.answer(3), Fetched)
    assert desk.store.most == 1


def test_where_the_disk_is_limited_what_a_failed_fetch_left_makes_room_for_the_next(desk: Desk) -> None:
    """Whoever limits it counts what is whole and what is being fetched, and nothing else."""
    desk.store.open.set()
    desk.store.faults = [(3, StoreFailed("no more"))] + [(0, StoreFailed("no more")) for _ in range(9)]
    desk.ask(1, 1, max_bytes=100)
    assert isinstance(desk.answer(1), FetchFailed)
    left = list((desk.cache.root / ".partial").rglob("model.pth"))
    assert [path.stat().st_size for path in left] == [3]
    desk.store.faults = []
    desk.ask(2, 2, max_bytes=100)
    assert isinstance(desk.answer(2), Fetched)
    assert not left[0].exists()


def test_what_nobody_thought_of_fails_that_fetch_and_no_other(desk: Desk) -> None:
    desk.store.open.set()
    desk.store.files = {}
    desk.downloads.ask(
        Fetch(id=1, revision=revision(1), max_bytes=None), MemoryStore({"model.pth": b"weights"}).source()
    )
    failed = desk.answer(1)
    assert isinstance(failed, FetchFailed)
    assert failed.passing
    assert "KeyError" in failed.reason
    desk.store.files = {"model.pth": b"weights"}
    desk.ask(2, 1)
    assert isinstance(desk.answer(2), Fetched)
