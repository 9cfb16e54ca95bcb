"""The frontend's end of a worker's socket, with the worker's end in the hands of the test."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

from tests.inference.stand_in_workers import SPEC
from tidegate.inference import protocol
from tidegate.inference.frontend.workers import worker_link
from tidegate.inference.frontend.workers.worker_link import WorkerLink
from tidegate.inference.protocol import Answer


class Heard:
    """What the link tells, in its order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []
        self.lost = asyncio.Event()

    def worker_answered(self, worker: int, outcome: Answer) -> None:
        self.events.append(("answered", (worker, outcome.id)))

    def worker_lost(self, worker: int) -> None:
        self.events.append(("lost", worker))
        self.lost.set()


def test_answers_that_a_worker_has_written_are_heard_though_a_write_to_it_fails_first() -> None:
    async def test() -> None:
        heard = Heard()
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        link = WorkerLink(heard, 7)  # type: ignore[arg-type]
        await link.attach(ours, SPEC)
        await asyncio.sleep(0)
        for number in (1, 2, 3):
            theirs.send(protocol.answer_frame(Answer(number, 200, "text/plain", b"", b"x" * 1000)))
        theirs.close()
        link.cancel(4)  # in the same round of the loop: it has had no time to read
        async with asyncio.timeout(60):
            await heard.lost.wait()
        assert heard.events == [("answered", (7, 1)), ("answered", (7, 2)), ("answered", (7, 3)), ("lost", 7)]

    asyncio.run(test())


def test_a_worker_is_told_at_once_that_it_is_hung_up_on() -> None:
    async def test() -> None:
        heard = Heard()
        ours, theirs = socket.socketpair()
        link = WorkerLink(heard, 7)  # type: ignore[arg-type]
        await link.attach(ours, SPEC)
        theirs.settimeout(60)
        link.hang_up()
        async with asyncio.timeout(60):
            await heard.lost.wait()
        while theirs.recv(1 << 16):
            pass
        theirs.close()

    asyncio.run(test())


def test_where_no_page_can_be_had_all_counts_as_begun(monkeypatch: Any) -> None:
    def refuse() -> int:
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr(worker_link, "new_page_file", refuse)
    assert not WorkerLink(Heard(), 7).begun.exact  # type: ignore[arg-type]
