"""The files of a model are in the page cache before a worker wants them, and what cannot be read does no harm."""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import json
import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from tests.polling import until
from tidegate.inference import hashed_file
from tidegate.inference.frontend.models import loader as loader_module
from tidegate.inference.frontend.models import read_ahead
from tidegate.inference.frontend.models.loader import Loader
from tidegate.inference.frontend.models.read_ahead import ReadAhead
from tidegate.inference.frontend.workers.fork_server import ForkServer
from tidegate.inference.hashed_file import HashedFile, Identity, by_identity, hash_file
from tidegate.inference.repository.catalogue import Revision
from tidegate.inference.settings import Settings

SIZE = 4 * 1024 * 1024


def pages_in_cache(path: Path) -> int:
    """How many pages of a file the kernel holds."""
    libc = ctypes.CDLL(None, use_errno=True)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        count = -(-len(mapped) // mmap.PAGESIZE)
        held = (ctypes.c_ubyte * count)()
        first = ctypes.c_char.from_buffer(mapped)
        try:
            assert libc.mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(mapped)), held) == 0
        finally:
            del first
        return sum(each & 1 for each in held)


def dropped(path: Path) -> bool:
    """Drop a file from the page cache; whether it is gone, which it never is where memory is its only home (tmpfs)."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return pages_in_cache(path) == 0


LARGE = 64 * 1024 * 1024


def read(model_dir: Path, **bounds: int) -> ReadAhead:
    """Reading ahead, done."""
    ahead = ReadAhead(model_dir, **bounds)
    ahead.thread.join(60)
    assert not ahead.thread.is_alive()
    return ahead


def finished(model_dir: Path, **bounds: int) -> tuple[HashedFile, ...]:
    """What was hashed."""
    return asyncio.run(read(model_dir, **bounds).finish())


def archive(model_dir: Path) -> Path:
    """A model with one large file, which its manifest lists."""
    weights = model_dir / "model.pth"
    weights.write_bytes(os.urandom(SIZE))
    list_in_manifest(model_dir, "model.pth")
    return weights


def list_in_manifest(model_dir: Path, *names: str, version: Any = 1, more: int = 0) -> None:
    """Write a manifest that says that these files have `more` bytes than they have."""
    files = {name: {"size_bytes": (model_dir / name).stat().st_size + more} for name in names}
    (model_dir / "manifest.json").write_text(json.dumps({"format_version": version, "files": files}))


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written a moment ago count as those of a model do, which were written before the start."""
    monkeypatch.setattr(hashed_file, "SETTLED_S", 0.0)


def test_a_file_of_the_model_is_in_the_page_cache_afterwards(tmp_path: Path) -> None:
    weights = tmp_path / "deep" / "model.pth"
    weights.parent.mkdir()
    weights.write_bytes(os.urandom(SIZE))
    if not dropped(weights):
        pytest.skip("this file system keeps its files in memory")
    read(tmp_path)
    until(lambda: pages_in_cache(weights) == SIZE // mmap.PAGESIZE)  # the kernel reads after it is asked


def test_all_of_a_large_file_is_in_the_page_cache_afterwards(tmp_path: Path) -> None:
    """The kernel does not read as much as it is asked for by one call."""
    weights = tmp_path / "model.pth"
    weights.write_bytes(bytes(LARGE))
    if not dropped(weights):
        pytest.skip("this file system keeps its files in memory")
    read(tmp_path, max_bytes=LARGE)
    until(lambda: pages_in_cache(weights) == LARGE // mmap.PAGESIZE)


def test_nothing_is_read_or_hashed_once_it_is_abandoned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive(tmp_path)
    asked: list[int] = []
    made: list[ReadAhead] = []
    is_made = threading.Event()

    def until_abandoned(_file: int, at: int, *_: int) -> None:
        assert is_made.wait(60)
        asked.append(at)
        if len(asked) == 3:
            made[0].abandon()

    monkeypatch.setattr(os, "posix_fadvise", until_abandoned)
    made.append(ReadAhead(tmp_path))
    is_made.set()
    made[0].thread.join(60)
    assert len(asked) == 3
    assert asyncio.run(made[0].finish()) == ()


def test_what_is_read_goes_on_while_the_worker_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of a large file comes sooner so."""
    (tmp_path / "model.pth").write_bytes(bytes(SIZE))
    asked: list[int] = []
    may_go_on = threading.Event()

    def slowly(_file: int, _at: int, length: int, _advice: int) -> None:
        assert may_go_on.wait(60)
        asked.append(length)

    monkeypatch.setattr(os, "posix_fadvise", slowly)
    ahead = ReadAhead(tmp_path)
    assert asyncio.run(ahead.finish()) == ()
    may_go_on.set()
    ahead.thread.join(60)
    assert sum(asked) == SIZE


def test_no_more_is_read_than_there_is_room_for(tmp_path: Path) -> None:
    """Else the model's own memory would drive out what was read."""
    weights = tmp_path / "model.pth"
    weights.write_bytes(os.urandom(SIZE))
    if not dropped(weights):
        pytest.skip("this file system keeps its files in memory")
    read(tmp_path, max_bytes=SIZE // 4)
    assert pages_in_cache(weights) <= SIZE // 2 // mmap.PAGESIZE


def test_what_the_manifest_lists_is_hashed(tmp_path: Path) -> None:
    weights = archive(tmp_path)
    (tmp_path / "other.bin").write_bytes(os.urandom(SIZE))
    (found,) = finished(tmp_path)
    assert found.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert found.identity == Identity.of(weights.stat())


def test_a_model_in_a_folder_of_its_own_is_hashed_too(tmp_path: Path) -> None:
    """As in an archive that was packed with its folder around it."""
    (tmp_path / "my-model").mkdir()
    archive(tmp_path / "my-model")
    assert len(finished(tmp_path)) == 1


def test_a_file_that_there_was_no_room_to_read_is_not_hashed(tmp_path: Path) -> None:
    """To hash it would drive out what was read."""
    archive(tmp_path)
    manifest_bytes = (tmp_path / "manifest.json").stat().st_size
    assert finished(tmp_path, max_bytes=SIZE + manifest_bytes - 1) == ()
    assert len(finished(tmp_path, max_bytes=SIZE + manifest_bytes)) == 1


@pytest.mark.parametrize("how", [{"version": 2}, {"version": None}, {"version": "1"}, {"more": 1}])
def test_a_file_that_the_worker_would_not_hash_is_not_hashed(tmp_path: Path, how: dict[str, Any]) -> None:
    """It does not read another format's manifest, and refuses a file of another size at once."""
    archive(tmp_path)
    list_in_manifest(tmp_path, "model.pth", **how)
    assert finished(tmp_path) == ()


@pytest.mark.parametrize("target", ["/dev/zero", "fifo"])
def test_a_manifest_that_has_no_end_does_no_harm(tmp_path: Path, target: str) -> None:
    archive(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").symlink_to(target)
    assert finished(tmp_path) == ()


def test_a_file_that_has_just_changed_has_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change in the same tick of its file system's clock would leave the same times behind."""
    monkeypatch.setattr(hashed_file, "SETTLED_S", 3600.0)
    archive(tmp_path)
    assert finished(tmp_path) == ()


def test_half_a_hash_is_none(tmp_path: Path) -> None:
    weights = archive(tmp_path)
    asked = iter([True, True, False])
    with weights.open("rb") as file:
        assert hash_file(file, lambda: next(asked)) is None


class SlowDisk:
    """Brings one piece of a file, and then no more until it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.goes_on = threading.Event(), threading.Event()

        def slowly(file: BinaryIO, wanted: Callable[[], bool]) -> HashedFile | None:
            wanted()
            self.began.set()
            assert self.goes_on.wait(60)
            return hash_file(file, wanted)

        monkeypatch.setattr(read_ahead, "hash_file", slowly)


def test_a_hash_that_is_half_done_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker would have to begin it again."""
    monkeypatch.setattr(read_ahead, "PATIENCE_S", 60.0)
    archive(tmp_path)

    async def test() -> None:
        disk = SlowDisk(monkeypatch)
        ahead = ReadAhead(tmp_path)
        await asyncio.to_thread(disk.began.wait, 60)
        finishing = asyncio.create_task(ahead.finish())
        await asyncio.sleep(0)
        assert not finishing.done()
        disk.goes_on.set()
        assert len(await finishing) == 1

    asyncio.run(test())


def test_a_disk_that_brings_nothing_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read_ahead, "PATIENCE_S", 0.02)
    archive(tmp_path)

    async def test() -> None:
        disk = SlowDisk(monkeypatch)
        ahead = ReadAhead(tmp_path)
        await asyncio.to_thread(disk.began.wait, 60)
        assert await ahead.finish() == ()
        disk.goes_on.set()
        await asyncio.to_thread(ahead.thread.join, 60)
        assert await ahead.finish() == ()

    asyncio.run(test())


def test_a_file_that_is_written_to_while_it_is_hashed_has_no_hash(tmp_path: Path) -> None:
    weights = archive(tmp_path)

    def written_to() -> bool:
        with weights.open("ab") as file:
            file.write(b"more")
        return weights.stat().st_size < SIZE + 16

    with weights.open("rb") as file:
        assert hash_file(file, written_to) is None
    with weights.open("rb") as file:
        assert hash_file(file) is not None


def test_a_hash_travels_as_plain_values(tmp_path: Path) -> None:
    weights = archive(tmp_path)
    (found,) = finished(tmp_path)
    travelled = by_identity(json.loads(json.dumps([found.to_plain()])))
    assert travelled == {Identity.of(weights.stat()): found.sha256}


def fifo(model_dir: Path) -> None:
    os.mkfifo(model_dir / "fifo")


def no_rights(model_dir: Path) -> None:
    (model_dir / "closed").mkdir()
    (model_dir / "closed" / "file").write_bytes(b"1")
    (model_dir / "closed").chmod(0)


def unreadable_file(model_dir: Path) -> None:
    (model_dir / "secret").write_bytes(b"1")
    (model_dir / "secret").chmod(0)


def link_to_nowhere(model_dir: Path) -> None:
    (model_dir / "link").symlink_to("nowhere")


def link_to_itself(model_dir: Path) -> None:
    (model_dir / "loop").symlink_to("loop")


STRANGE_FILES = ("3", '["model.pth"]', '{"model.pth": 3}', '{"model.pth": {}}', '{"\\u0000": {"size_bytes": 1}}')


def strange_manifest(text: str) -> Callable[[Path], None]:
    def write(model_dir: Path) -> None:
        (model_dir / "manifest.json").write_text(text)

    return write


@pytest.mark.parametrize(
    "make",
    [
        fifo,
        no_rights,
        unreadable_file,
        link_to_nowhere,
        link_to_itself,
        *map(strange_manifest, ("", "[]", "{", "{}")),
        *(strange_manifest(f'{{"format_version": 1, "files": {files}}}') for files in STRANGE_FILES),
        strange_manifest("[" * 100_000),
    ],
)
def test_what_cannot_be_read_does_no_harm(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """It is the worker's to say what is wrong."""
    (tmp_path / "model.pth").write_bytes(b"1")
    make(tmp_path)
    try:
        assert finished(tmp_path) == ()
    finally:
        for folder in tmp_path.glob("closed"):
            folder.chmod(0o700)


def test_a_directory_that_is_not_there_does_no_harm(tmp_path: Path) -> None:
    assert finished(tmp_path / "nowhere") == ()


def test_a_file_that_vanishes_or_becomes_a_fifo_meanwhile_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A FIFO without a writer would be waited for without end."""
    found = read_ahead._files

    def then_gone(model_dir: Path) -> list[tuple[int, Path]]:
        files = list(found(model_dir))
        (tmp_path / "a").unlink()
        (tmp_path / "b").unlink()
        os.mkfifo(tmp_path / "b")
        return files

    monkeypatch.setattr(read_ahead, "_files", then_gone)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(SIZE))
    list_in_manifest(tmp_path, "a", "b")
    assert finished(tmp_path) == ()


def test_only_the_first_model_is_read_ahead_of_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later ones have nothing to wait for: their workers would read the same at the same time."""
    archive(tmp_path)
    made: list[ReadAhead] = []

    def seen(model_dir: Path) -> ReadAhead:
        made.append(ReadAhead(model_dir))
        return made[-1]

    class ImportsForLong:
        async def gpus(self) -> int:
            while made[0].thread.is_alive():  # noqa: ASYNC110 - a thread ends
                await asyncio.sleep(0.01)
            return 0

    async def test() -> None:
        loader = Loader(Settings(), cast(ForkServer, ImportsForLong()), None)
        revision = Revision(name="model", version=1, digest="")
        first, second = [await loader.prepare(revision, tmp_path, rehearsal=False) for _ in range(2)]
        assert [each.sha256 for each in first.hashed] == [
            hashlib.sha256((tmp_path / "model.pth").read_bytes()).hexdigest()
        ]
        assert second.hashed == ()
        assert len(made) == 1
        loader.close()

    monkeypatch.setattr(loader_module, "ReadAhead", seen)
    asyncio.run(test())
