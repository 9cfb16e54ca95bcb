"""A revision on its way to the disk, where the disk or the store fails."""

from __future__ import annotations

import hashlib
import resource
import threading
from pathlib import Path

import pytest

from tests.inference.repository.files import archive_of, manifest_for, read
from tests.inference.repository.memory_store import MemoryStore
from tidegate.inference.repository.cache_directory import CacheDirectory, InUse
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.repository.fetching import DiskFull, NotFetched, fetch
from tidegate.inference.repository.store import ContentDamaged, EntryChanged, StoreFailed

REVISION = Revision(name="net", version=3, digest="abc")


def bring(
    store: MemoryStore, cache: CacheDirectory, *, max_bytes: int | None = None, with_manifest: bool = False
) -> int:
    source = store.source(with_manifest=with_manifest)
    return fetch(store, cache, REVISION, source, max_bytes=max_bytes, cancelled=threading.Event())


@pytest.fixture
def cache(tmp_path: Path) -> CacheDirectory:
    return CacheDirectory(tmp_path / "cache")


def whole(cache: CacheDirectory) -> dict[str, bytes]:
    return read(cache.directory(REVISION))


def bytes_on_disk(cache: CacheDirectory) -> int:
    return sum(path.stat().st_size for path in cache.root.rglob("*") if path.is_file())


def test_a_full_disk_is_a_clear_passing_failure_that_leaves_nothing(cache: CacheDirectory) -> None:
    """/dev/full answers every write as a full disk does."""
    store = MemoryStore({"a.bin": bytes(1000), "model.pth": bytes(1 << 20)})
    content = cache.partial(REVISION) / "content"
    content.mkdir()
    (content / "model.pth").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match=r"The disk of .* is full") as failed:
        bring(store, cache)
    assert failed.value.passing
    assert bytes_on_disk(cache) == 0
    assert bring(store, cache) == 1000 + (1 << 20), "and with room it comes"


def test_a_file_that_may_not_grow_is_a_passing_failure_too(cache: CacheDirectory) -> None:
    """A quota, a limit of the process: in the middle of unpacking as in the middle of a download."""
    for store in (
        MemoryStore({"model.pth": bytes(1 << 20)}),
        MemoryStore({"archive": archive_of({"a": bytes(1 << 20)})}),
    ):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
        try:
            with pytest.raises(NotFetched, match="cannot be written to: File too large") as failed:
                bring(store, cache)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert failed.value.passing
        assert bytes_on_disk(cache) == 0


def test_what_came_before_a_fault_is_not_asked_for_again(cache: CacheDirectory) -> None:
    store = MemoryStore({"model.pth": bytes(range(250))}, faults=[(100, StoreFailed("cut")), (50, StoreFailed("cut"))])
    bring(store, cache)
    assert store.offsets == [0, 100, 150]
    assert whole(cache) == store.files


def test_a_later_try_goes_on_where_an_earlier_one_gave_up(cache: CacheDirectory) -> None:
    """And checks what it finds, which may be worth nothing after a loss of power."""
    files = {"model.pth": bytes(range(250))}
    store = MemoryStore({**files, "manifest.json": manifest_for(files)})
    content = cache.partial(REVISION) / "content"
    content.mkdir()
    (content / "model.pth").write_bytes(bytes(range(200)))
    bring(store, cache, with_manifest=True)
    assert store.offsets[0] == 200
    cache.discard(cache.directory(REVISION))
    store.offsets.clear()
    content = cache.partial(REVISION) / "content"
    content.mkdir()
    (content / "model.pth").write_bytes(bytes(200))
    bring(store, cache, with_manifest=True)
    assert store.offsets[:2] == [200, 0]
    assert whole(cache) == store.files
    cache.discard(cache.directory(REVISION))
    content = cache.partial(REVISION) / "content"
    content.mkdir()
    (content / "model.pth").write_bytes(bytes(300))
    bring(store, cache)
    assert whole(cache) == store.files


def test_a_store_that_keeps_failing_is_given_up_and_what_came_stays(cache: CacheDirectory) -> None:
    faults = [(100, StoreFailed("no more"))] + [(0, StoreFailed("no more")) for _ in range(9)]
    store = MemoryStore({"model.pth": bytes(250)}, faults=faults)
    with pytest.raises(NotFetched, match="no more") as failed:
        bring(store, cache)
    assert failed.value.passing
    assert not cache.directory(REVISION).exists()
    assert bytes_on_disk(cache) == 100
    store.faults.clear()
    store.offsets.clear()
    bring(store, cache)
    assert store.offsets == [100]


def test_what_changed_is_not_tried_again_but_by_the_next_listing(cache: CacheDirectory) -> None:
    """Nor is what came of it kept: nobody asks for that revision any more."""
    store = MemoryStore({"model.pth": bytes(250)}, faults=[(100, EntryChanged("It has changed."))])
    with pytest.raises(NotFetched, match="It has changed") as failed:
        bring(store, cache)
    assert failed.value.passing
    assert store.offsets == [0]
    assert bytes_on_disk(cache) == 0


def test_what_came_damaged_is_thrown_away_and_fetched_again(cache: CacheDirectory) -> None:
    store = MemoryStore({"model.pth": bytes(250)}, faults=[(250, ContentDamaged("checksum"))])
    bring(store, cache)
    assert store.offsets == [0, 0]
    assert whole(cache) == store.files


def test_what_is_not_what_its_manifest_says_is_no_passing_failure(cache: CacheDirectory) -> None:
    files = {"model.pth": b"right"}
    store = MemoryStore({"model.pth": b"wrong", "manifest.json": manifest_for(files)})
    with pytest.raises(NotFetched, match=r"memory:model\.pth does not match its manifest") as failed:
        bring(store, cache, with_manifest=True)
    assert (failed.value.passing, failed.value.spoiled) == (False, True)
    assert bytes_on_disk(cache) == 0


def test_a_manifest_that_is_another_than_was_listed_is_noticed(cache: CacheDirectory) -> None:
    files = {"model.pth": b"right"}
    source = MemoryStore({**files, "manifest.json": manifest_for(files)}).source(with_manifest=True)
    other = MemoryStore({**files, "manifest.json": manifest_for({"model.pth": b"wrong"})})
    with pytest.raises(NotFetched, match=r"manifest\.json does not match"):
        fetch(other, cache, REVISION, source, max_bytes=None, cancelled=threading.Event())


@pytest.mark.parametrize(
    "archive", [b"no archive", archive_of({"model.pth": bytes(1000)})[:-20]], ids=["no archive", "cut short"]
)
def test_an_archive_that_is_none_is_no_passing_failure(cache: CacheDirectory, archive: bytes) -> None:
    with pytest.raises(NotFetched, match="memory:archive is no readable gzipped tar") as failed:
        bring(MemoryStore({"archive": archive}), cache)
    assert (failed.value.passing, failed.value.spoiled) == (False, True)
    assert bytes_on_disk(cache) == 0


def test_a_path_that_no_disk_can_hold_is_no_passing_failure(cache: CacheDirectory) -> None:
    """However often it is fetched, it stays so."""
    with pytest.raises(NotFetched, match=r"A path in it is none for the disk of .*: File name too long") as failed:
        bring(MemoryStore({"archive": archive_of({"folder/" * 800 + "x": b"w"})}), cache)
    assert not failed.value.passing
    assert bytes_on_disk(cache) == 0


def test_the_limit_counts_an_archive_and_its_content_together(cache: CacheDirectory) -> None:
    """Both are on the disk while it is unpacked."""
    archive = archive_of({"a": hashlib.sha256().digest() * 100, "b": bytes(1000)})
    store = MemoryStore({"archive": archive})
    with pytest.raises(NotFetched) as failed:
        bring(store, cache, max_bytes=len(archive) + 4199)
    assert (failed.value.needed_bytes, failed.value.passing) == (len(archive) + 4200, False)
    assert bytes_on_disk(cache) == 0
    assert bring(store, cache, max_bytes=len(archive) + 4200) == 4200


def test_files_are_refused_before_one_is_brought(cache: CacheDirectory) -> None:
    store = MemoryStore({"a": bytes(100), "b": bytes(100)})
    with pytest.raises(NotFetched) as failed:
        bring(store, cache, max_bytes=199)
    assert failed.value.needed_bytes == 200
    assert store.offsets == []


def test_empty_files_are_files(cache: CacheDirectory) -> None:
    store = MemoryStore({"code/__init__.py": b"", "model.pth": b"w"})
    assert bring(store, cache) == 1
    assert whole(cache) == store.files


def test_who_is_not_waited_for_any_more_stops(cache: CacheDirectory) -> None:
    cancelled = threading.Event()
    cancelled.set()
    store = MemoryStore({"a": bytes(100)})
    with pytest.raises(NotFetched, match="Nobody waits") as failed:
        fetch(store, cache, REVISION, store.source(), max_bytes=None, cancelled=cancelled)
    assert failed.value.passing
    assert store.offsets == []


def test_only_directories_of_models_are_discarded(cache: CacheDirectory, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    for directory in (tmp_path / "precious", cache.root, cache.root / "net", cache.root / "../precious/x"):
        with pytest.raises(ValueError, match=r"."):
            cache.discard(directory)
    assert (tmp_path / "precious").is_dir()


def test_a_directory_is_one_process_s(cache: CacheDirectory) -> None:
    with pytest.raises(InUse, match="TIDEGATE_MODEL_CACHE_DIR"):
        CacheDirectory(cache.root)
