"""Weights from elsewhere, kept by what they hold: each fetched once, never half there, never more than the limit."""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.polling import until
from tidegate.inference.errors import DeploymentError
from tidegate.inference.model_loader.eviction import Held, to_evict
from tidegate.inference.model_loader.file_locks import is_locked, lock_of_name, opened_and_locked
from tidegate.inference.model_loader.weight_cache import WeightCache


@dataclass
class Bytes:
    """An origin of some bytes, which counts how often they were brought."""

    content: bytes
    name: str = "s3://models/net.pth"
    version: str = "1"
    brought: list[int] = field(default_factory=list)
    """How much was there at the beginning of each time."""
    fault: Exception | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    gated: bool = False

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def bring(self, path: Path, sha256: str | None) -> str:  # noqa: ARG002 - it never brings anything else
        self.brought.append(path.stat().st_size if path.exists() else 0)
        if self.gated:
            self.gate.wait(60)
        if self.fault is not None:
            path.write_bytes(self.content[: len(self.content) // 2])
            raise self.fault
        path.write_bytes(self.content)
        return self.sha256


def files(root: Path) -> dict[str, int]:
    """Every file with content below the cache, by its place."""
    found = (path for path in root.rglob("*") if path.is_file() and path.stat().st_size)
    return {str(path.relative_to(root)): path.stat().st_size for path in found}


def content_of(cache: WeightCache, origin: Bytes, *, declared: bool = False) -> bytes:
    with cache.weights(origin, origin.sha256 if declared else None) as path:
        return path.read_bytes()


@pytest.fixture
def cache(tmp_path: Path) -> WeightCache:
    return WeightCache(tmp_path, max_bytes=1000)


@pytest.mark.parametrize("declared", [False, True])
def test_weights_are_fetched_once(cache: WeightCache, tmp_path: Path, declared: bool) -> None:
    """Also by a later process: what is kept is found by its hash, or by where it came from."""
    origin = Bytes(b"weights")
    assert content_of(cache, origin, declared=declared) == b"weights"
    assert content_of(WeightCache(tmp_path, max_bytes=1000), origin, declared=declared) == b"weights"
    assert origin.brought == [0]


def test_an_object_that_was_written_again_is_fetched_again(cache: WeightCache) -> None:
    assert content_of(cache, Bytes(b"old", version="1")) == b"old"
    assert content_of(cache, Bytes(b"new", version="2")) == b"new"


def test_the_same_bytes_of_two_places_are_kept_once(cache: WeightCache, tmp_path: Path) -> None:
    content_of(cache, Bytes(b"weights", name="s3://models/1/net.pth"))
    content_of(cache, Bytes(b"weights", name="s3://models/2/net.pth"))
    assert [path for path in files(tmp_path) if path.startswith("whole/")] == [f"whole/{Bytes(b'weights').sha256}"]


def test_declared_weights_that_are_here_are_not_asked_for(cache: WeightCache) -> None:
    origin = Bytes(b"weights")
    with cache.held(origin.sha256) as path:
        assert path is None
    content_of(cache, origin)
    with cache.held(origin.sha256) as path:
        assert path is not None
        assert path.read_bytes() == b"weights"


def test_a_file_that_was_spoiled_on_the_disk_is_fetched_again(cache: WeightCache, tmp_path: Path) -> None:
    origin = Bytes(b"weights")
    content_of(cache, origin)
    (tmp_path / "whole" / origin.sha256).write_bytes(b"weightz")
    assert content_of(cache, origin) == b"weights"
    assert origin.brought == [0, 0]


def test_the_least_recently_used_go_first(cache: WeightCache, tmp_path: Path) -> None:
    origins = [Bytes(bytes([number]) * 400, name=str(number)) for number in range(3)]
    for age, origin in enumerate(origins[:2]):
        content_of(cache, origin)
        os.utime(tmp_path / "whole" / origin.sha256, (age, age))
    content_of(cache, origins[0])
    content_of(cache, origins[2])
    kept = {path.removeprefix("whole/") for path in files(tmp_path) if path.startswith("whole/")}
    assert kept == {origins[0].sha256, origins[2].sha256}
    assert len(list((tmp_path / "known").iterdir())) == 2, "and nothing is remembered of what went"


def test_what_somebody_reads_is_not_evicted(cache: WeightCache, tmp_path: Path) -> None:
    """Where nothing else can go, the new weights do not come: the limit is a limit."""
    first, second = Bytes(b"1" * 600, name="first"), Bytes(b"2" * 600, name="second")
    other = WeightCache(tmp_path, max_bytes=1000)
    with cache.weights(first, None) as path:
        with (
            pytest.raises(
                DeploymentError,
                match=rf"^second has 600 bytes, and {tmp_path} may hold 1000, of which 600 are in use: ",
            ),
            other.weights(second, None),
        ):
            pass
        assert path.read_bytes() == first.content
    assert content_of(other, second) == second.content
    assert len([path for path in files(tmp_path) if path.startswith("whole/")]) == 1


def test_weights_larger_than_the_cache_are_refused_before_they_come(cache: WeightCache, tmp_path: Path) -> None:
    kept, large = Bytes(b"kept"), Bytes(bytes(1001), name="s3://models/large.pth")
    content_of(cache, kept)
    with pytest.raises(
        DeploymentError,
        match=r"^s3://models/large\.pth has 1001 bytes, and .* may hold 1000: set TIDEGATE_WEIGHT_CACHE_BYTES to",
    ):
        content_of(cache, large)
    assert not large.brought
    assert content_of(cache, kept) == b"kept", "and nothing went for it"
    assert kept.brought == [0]


def test_of_several_who_want_it_one_fetches_and_the_others_wait(tmp_path: Path) -> None:
    origin = Bytes(b"weights", gated=True)
    got: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: got.append(content_of(WeightCache(tmp_path, max_bytes=1000), origin)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    until(lambda: bool(origin.brought))
    origin.gate.set()
    for thread in threads:
        thread.join(60)
    assert got == 8 * [b"weights"]
    assert origin.brought == [0]


def test_room_that_somebody_is_filling_counts_as_taken(tmp_path: Path) -> None:
    """Two downloads that fit one at a time would exceed the limit together."""
    slow, second = Bytes(bytes(600), name="slow", gated=True), Bytes(b"2" * 600, name="second")
    cache = WeightCache(tmp_path, max_bytes=1000)
    thread = threading.Thread(target=content_of, args=(cache, slow))
    thread.start()
    until(lambda: bool(slow.brought))
    with pytest.raises(DeploymentError, match=r"of which 600 are in use"):
        content_of(WeightCache(tmp_path, max_bytes=1000), second)
    slow.gate.set()
    thread.join(60)
    assert content_of(cache, second) == second.content


def test_what_a_fault_left_is_gone_on_from_and_makes_room_for_others(cache: WeightCache, tmp_path: Path) -> None:
    broken = Bytes(bytes(800), fault=DeploymentError("cut"))
    with pytest.raises(DeploymentError, match="cut"):
        content_of(cache, broken)
    assert sum(files(tmp_path).values()) == 400
    broken.fault = None
    assert content_of(cache, broken) == broken.content
    assert broken.brought == [0, 400]
    other = Bytes(bytes(900), name="other", fault=DeploymentError("cut"))
    with pytest.raises(DeploymentError, match="cut"):
        content_of(cache, other)
    assert list(files(tmp_path)) == [path for path in files(tmp_path) if path.startswith("partial/")]
    content_of(cache, Bytes(b"1" * 700, name="third"))
    assert not [path for path in files(tmp_path) if path.startswith("partial/")], "what was left has gone for it"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(cache: WeightCache, tmp_path: Path) -> None:
    full = Bytes(bytes(800), fault=OSError(28, "No space left on device"))
    with pytest.raises(
        DeploymentError, match=rf"^The disk of {tmp_path} is full: set TIDEGATE_WEIGHT_CACHE_DIR to a lar"
    ):
        content_of(cache, full)
    assert not files(tmp_path)
    assert not list((tmp_path / "partial").iterdir())


def test_a_place_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        DeploymentError, match=r"/file/cache cannot be used for weights: Not a directory; set TIDEGATE_WEI"
    ):
        WeightCache(tmp_path / "file" / "cache", max_bytes=1)


def test_a_lock_outlives_no_file_that_was_removed(tmp_path: Path) -> None:
    """Whoever waited for the lock of a file that is gone takes that of the new one: two would be inside at once."""
    path = tmp_path / "lock"
    inside: list[int] = []
    most: list[int] = []

    def enter() -> None:
        for _ in range(50):
            with lock_of_name(path):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert max(most) == 1
    assert len(most) == 200
    assert not path.exists()


def test_a_file_is_locked_for_as_long_as_somebody_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert opened_and_locked(path) is None
    assert not is_locked(path)
    path.write_bytes(b"x")
    with ExitStack() as open_files:
        for _ in range(2):
            file = opened_and_locked(path)
            assert file is not None
            open_files.enter_context(file)
        assert is_locked(path)
    assert not is_locked(path)


held_files = st.lists(
    st.builds(
        Held,
        path=st.integers(0, 10**9).map(lambda number: Path(str(number))),
        size_bytes=st.integers(0, 100),
        used_s=st.floats(0, 100),
        in_use=st.booleans(),
    ),
    max_size=20,
)


@given(held=held_files, needed=st.integers(0, 200), limit=st.integers(1, 500))
def test_what_goes_is_enough_and_no_more_and_in_use_by_nobody(held: list[Held], needed: int, limit: int) -> None:
    evicted = to_evict(held, needed_bytes=needed, max_bytes=limit)
    in_use = sum(each.size_bytes for each in held if each.in_use)
    assert (evicted is None) == (in_use + needed > limit)
    if evicted is None:
        return
    left = sum(each.size_bytes for each in held) - sum(each.size_bytes for each in evicted)
    assert left + needed <= limit
    assert not any(each.in_use for each in evicted)
    if evicted:
        assert left + evicted[-1].size_bytes + needed > limit, "the last one had to go"
        spared = [each for each in held if not each.in_use and each not in evicted]
        assert all(each.used_s >= evicted[-1].used_s for each in spared)
