"""Bodies in files: in order, within bounds, never in the way of the loop, and gone without a trace."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.polling import until_in_loop
from tidegate.inference.body_file import BodyFile
from tidegate.inference.errors import DeploymentError, Overloaded, SpoolFull
from tidegate.inference.frontend.queue import file_body
from tidegate.inference.frontend.queue.body import MemoryBody
from tidegate.inference.frontend.queue.budget import ByteBudget
from tidegate.inference.frontend.queue.file_body import BEHIND_BYTES, FileBody
from tidegate.inference.frontend.queue.spool import Spool
from tidegate.inference.settings import Settings

MIB = 1024 * 1024


def descriptors() -> int:
    gc.collect()  # what earlier tests have left may go at any time
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.asynccontextmanager
async def spool_in(directory: Path, **settings: Any) -> AsyncIterator[Spool]:
    """A spool that must have let go of everything at the end."""
    memory = ByteBudget(1 << 30)
    spool = Spool(Settings(spool_dir=directory, **settings), memory)
    before = descriptors()
    yield spool
    await until_in_loop(lambda: memory.held_bytes == 0 and descriptors() <= before)
    assert spool.held_bytes == 0
    spool.close()


def names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


def content(body: FileBody) -> bytes:
    sent = body.sent()
    assert isinstance(sent, BodyFile)
    try:
        return bytes(sent.read())
    finally:
        sent.close()


def test_a_body_comes_out_as_it_went_in_and_its_file_has_no_name(tmp_path: Path) -> None:
    async def test() -> None:
        async with spool_in(tmp_path) as spool:
            pieces = [bytes([number % 251]) * (1 + number * 37 % 5000) for number in range(500)]
            body = spool.begin(sum(map(len, pieces)))
            for piece in pieces:
                body.append(piece)
            assert names(tmp_path) == []
            await until_in_loop(lambda: body.complete)
            assert content(body) == body.whole() == b"".join(pieces)
            assert body.size == spool.held_bytes
            body.close()
            body.close()

    asyncio.run(test())


def test_two_readers_of_a_file_do_not_move_each_other(tmp_path: Path) -> None:
    """A request that is tried again is read by a second worker, from its beginning."""

    async def test() -> None:
        async with spool_in(tmp_path) as spool:
            body = spool.begin(6)
            body.append(b"abcdef")
            await until_in_loop(lambda: body.complete)
            first, second = body.sent(), body.sent()
            assert isinstance(first, BodyFile)
            assert isinstance(second, BodyFile)
            assert os.read(first.descriptor, 4) == b"abcd"
            assert os.read(second.descriptor, 9) == b"abcdef"
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(first.descriptor, b"x")
            for each in (first, second, body):
                each.close()

    asyncio.run(test())


def test_a_disk_that_is_behind_stops_the_reading_and_not_the_loop(tmp_path: Path, monkeypatch) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def slow(fd: int, data: memoryview) -> int:
        writing.set()
        assert go_on.wait(60)
        return os.write(fd, data)

    async def test() -> None:
        async with spool_in(tmp_path) as spool:
            monkeypatch.setattr(file_body, "os", SimpleNamespace(**{**vars(os), "write": slow}))
            body = spool.begin(BEHIND_BYTES + 2)
            moved: list[bool] = []
            body.moved = lambda: moved.append(body.behind)
            body.append(b"a")
            await asyncio.to_thread(writing.wait, 60)
            body.append(b"b" * BEHIND_BYTES)
            assert body.behind
            assert not body.complete
            assert not moved
            go_on.set()
            await until_in_loop(lambda: body.complete)
            assert moved[-1] is False
            body.append(b"c")
            await until_in_loop(lambda: body.complete)
            assert content(body) == b"a" + b"b" * BEHIND_BYTES + b"c"
            body.close()

    asyncio.run(test())


def test_a_client_that_leaves_while_its_body_is_written_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def slow(fd: int, data: memoryview) -> int:
        writing.set()
        assert go_on.wait(60)
        return os.write(fd, data)

    async def test() -> None:
        async with spool_in(tmp_path) as spool:
            monkeypatch.setattr(file_body, "os", SimpleNamespace(**{**vars(os), "write": slow}))
            body = spool.begin(MIB)
            body.moved = lambda: pytest.fail("nobody is there to be told")
            body.append(b"a" * 1000)
            await asyncio.to_thread(writing.wait, 60)
            body.append(b"b" * 1000)
            body.close()
            assert spool.held_bytes == 0
            go_on.set()

    asyncio.run(test())


def test_a_disk_that_is_full_is_507_for_that_body_and_nothing_is_kept(tmp_path: Path, monkeypatch) -> None:
    def full(_fd: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def test() -> None:
        async with spool_in(tmp_path) as spool:
            monkeypatch.setattr(file_body, "os", SimpleNamespace(**{**vars(os), "write": full}))
            body = spool.begin(MIB)
            body.append(b"a" * 1000)
            await until_in_loop(lambda: body.error is not None)
            assert isinstance(body.error, SpoolFull)
            assert (body.error.status, body.error.code) == (507, "spool_full")
            body.append(b"more is on its way")
            assert body.complete
            body.close()

    asyncio.run(test())


def test_a_body_that_the_disk_cannot_hold_is_refused_before_it_is_sent(tmp_path: Path, monkeypatch) -> None:
    async def test() -> None:
        async with spool_in(tmp_path) as spool:
            monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=10, f_frsize=4096))
            with pytest.raises(SpoolFull):
                spool.begin(40961)
            spool.begin(40960).close()

    asyncio.run(test())


def test_all_files_together_are_within_the_limit_whether_announced_or_not(tmp_path: Path) -> None:
    async def test() -> None:
        async with spool_in(tmp_path, max_spool_bytes=1000) as spool:
            first, second = spool.begin(600), spool.begin(300)
            with pytest.raises(Overloaded, match=r"hold the 1000 bytes of disk .*\(TIDEGATE_MAX_SPOOL_BYTES\)"):
                spool.begin(101)
            second.append(b"x" * 400)
            with pytest.raises(Overloaded):
                second.append(b"x")
            first.close()
            second.append(b"x")
            second.close()

    asyncio.run(test())


def test_a_body_in_memory_goes_on_in_a_file(tmp_path: Path) -> None:
    async def test() -> None:
        async with spool_in(tmp_path) as spool:
            memory = MemoryBody()
            memory.append(b"ab")
            memory.append(b"cd" * 1000)
            body = spool.take_over(memory)
            body.append(b"ef")
            await until_in_loop(lambda: body.complete)
            assert content(body) == b"ab" + b"cd" * 1000 + b"ef"
            assert memory.size == 0
            body.close()

    asyncio.run(test())


def test_a_directory_that_was_asked_for_must_be_writable(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match=r"kept in .*gone \(TIDEGATE_SPOOL_DIR\): No such file or directory\.$"):
        Spool(Settings(spool_dir=tmp_path / "gone"), ByteBudget(1))


def test_without_any_directory_bodies_stay_in_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    spool = Spool(Settings(), ByteBudget(1))
    assert spool.threshold_bytes > Settings().max_body_bytes
    spool.close()
