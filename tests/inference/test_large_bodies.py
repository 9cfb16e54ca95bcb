"""Bodies above the threshold on their way through a connection: into a file, in order, refused in one sentence."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.inference.memory_http import EchoServer, MemoryTransport, answer, post, settle, status
from tests.polling import until_in_loop
from tidegate.inference.frontend.http.connection import Connection
from tidegate.inference.frontend.queue import file_body
from tidegate.inference.settings import Settings

THRESHOLD = 1000
LARGE = bytes(range(256)) * 40


class Talk:
    """A connection to an echoing server whose bodies go to a file from a thousand bytes on."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        values: dict[str, Any] = {"spool_dir": directory, "spool_threshold_bytes": THRESHOLD, **settings}
        self.server = EchoServer(settings=Settings(**values))
        self.connection = Connection(self.server)
        self.transport = MemoryTransport(self.connection)
        self.connection.connection_made(self.transport)

    def send(self, data: bytes, piece: int = 3000) -> None:
        for at in range(0, len(data), piece):
            self.connection.data_received(data[at : at + piece])

    async def answers(self, *statuses: int) -> None:
        await until_in_loop(lambda: len(status(self.transport.written)) >= len(statuses))
        assert status(self.transport.written) == list(statuses)

    async def over(self) -> None:
        """The client leaves, and nothing is left of what it sent."""
        self.transport.close()
        await settle()
        await until_in_loop(lambda: self.server.budget.held_bytes == 0)
        assert self.server.spool.held_bytes == 0
        assert not self.server.open


@pytest.mark.parametrize("chunks", [None, [LARGE], [LARGE[at : at + 100] for at in range(0, len(LARGE), 100)]])
def test_a_large_body_is_kept_in_a_file_whether_its_length_was_announced_or_not(tmp_path: Path, chunks) -> None:
    async def test() -> None:
        talk = Talk(tmp_path)
        talk.send(post(LARGE, chunks=chunks) + post(b"small"))
        assert talk.server.spool.held_bytes == len(LARGE)
        await talk.answers(200, 200)
        assert talk.transport.written == answer(LARGE) + answer(b"small")
        assert talk.server.spool.held_bytes == 0
        await talk.over()

    asyncio.run(test())


def test_a_body_of_the_threshold_stays_in_memory(tmp_path: Path) -> None:
    async def test() -> None:
        talk = Talk(tmp_path)
        talk.send(post(LARGE[:THRESHOLD])[:-1])
        assert talk.server.spool.held_bytes == 0
        assert talk.server.budget.held_bytes == THRESHOLD
        await talk.over()

    asyncio.run(test())


@pytest.mark.parametrize("chunks", [None, [LARGE[at : at + 100] for at in range(0, len(LARGE), 100)]])
def test_more_than_the_spool_could_ever_hold_is_413(tmp_path: Path, chunks) -> None:
    async def test() -> None:
        talk = Talk(tmp_path, max_spool_bytes=len(LARGE) - 1)
        talk.send(post(LARGE, chunks=chunks))
        await talk.answers(413)
        assert b"TIDEGATE_MAX_SPOOL_BYTES" in talk.transport.written
        await talk.over()

    asyncio.run(test())


@pytest.mark.parametrize("whole", [False, True])
def test_a_disk_that_is_full_is_507_before_and_after_the_last_byte(tmp_path: Path, monkeypatch, whole) -> None:
    def full(_fd: int, _data: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def test() -> None:
        talk = Talk(tmp_path)
        monkeypatch.setattr(file_body, "os", SimpleNamespace(**{**vars(os), "write": full}))
        talk.send(post(LARGE) if whole else post(LARGE)[:-1])
        await talk.answers(507)
        assert b'"spool_full"' in talk.transport.written
        assert talk.server.served == []
        await talk.over()

    asyncio.run(test())


def test_a_slow_disk_stops_the_reading_and_keeps_the_order_of_the_answers(tmp_path: Path, monkeypatch) -> None:
    go_on = threading.Event()

    def slow(fd: int, data: memoryview) -> int:
        assert go_on.wait(60)
        return os.write(fd, data)

    async def test() -> None:
        talk = Talk(tmp_path)
        monkeypatch.setattr(file_body, "os", SimpleNamespace(**{**vars(os), "write": slow}))
        monkeypatch.setattr(file_body, "BEHIND_BYTES", len(LARGE) // 2)
        talk.send(post(LARGE) + post(b"small"))
        await settle()
        assert not talk.transport.reading
        assert talk.server.served == []
        assert talk.connection.idle_s(1e12) == 0, "it is at work, and not idle"
        go_on.set()
        await talk.answers(200, 200)
        assert talk.server.served == [LARGE, b"small"]
        assert talk.transport.reading
        await talk.over()

    asyncio.run(test())


def test_a_thousand_clients_that_vanish_leave_no_byte_and_no_descriptor(tmp_path: Path) -> None:
    async def test() -> None:
        gc.collect()  # what earlier tests have left is not counted among what this one leaves
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number is of interest
        for number in range(1000):
            talk = Talk(tmp_path)
            data = post(LARGE, chunks=[LARGE] if number % 2 else None)
            talk.send(data[: 1 + number * len(data) // 1000])
            if number % 3:
                await asyncio.sleep(0)
            await talk.over()
            talk.server.spool.close()
        assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 - as above
        assert os.listdir(tmp_path) == []  # noqa: PTH208 - as above

    asyncio.run(test())
