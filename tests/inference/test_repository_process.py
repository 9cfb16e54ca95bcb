"""The process of a repository as the frontend keeps it: a real process, of a script that plays the repository's."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.polling import until_in_loop
from tidegate.inference.frontend.repository import repository_process
from tidegate.inference.frontend.repository.repository_process import RepositoryProcess
from tidegate.inference.repository.catalogue import Model
from tidegate.inference.repository.messages import Changed, Event, Listed, ListingFailed, Look, Open

PLAYS = """
import json, os, sys

def say(kind, **fields):
    print(json.dumps({"kind": kind, **fields}), flush=True)

for line in sys.stdin:
    message = json.loads(line)
    if message["kind"] == "Open":
        say("ListingFailed", reason=str(os.getpid()), retry_in_s=0.0)
        names = ",".join(model["name"] for model in message["known"])
        say("Listed", models=len(message["known"]), interval_s=1.0, note=names)
    elif message["kind"] == "Look":
        say(*MORE)
"""
"""Tells its pid and what it was told is known; `Look` makes it say `MORE`, or die of that."""


class House:
    """The process, and what came of it."""

    def __init__(self, script: str) -> None:
        self.known: tuple[Model, ...] = ()
        self.heard: list[Event] = []
        self.losses = 0
        self.process = RepositoryProcess(self._opening, self.heard.append, self._lost, (sys.executable, "-c", script))

    def _opening(self) -> Open:
        return Open(repository="/models", interval_s=1.0, cache_dir="/cache", max_downloads=1, known=self.known)

    def _lost(self) -> None:
        self.losses += 1

    @property
    def pids(self) -> list[int]:
        return [int(event.reason) for event in self.heard if isinstance(event, ListingFailed)]

    @property
    def listed(self) -> list[Listed]:
        return [event for event in self.heard if isinstance(event, Listed)]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    return True


def run(test: Callable[[House], object], script: str = PLAYS) -> None:
    async def whole() -> None:
        house = House(script)
        house.process.open()
        try:
            await test(house)  # type: ignore[misc]
        finally:
            await house.process.close()
            await until_in_loop(lambda: all(map(is_gone, house.pids)))

    asyncio.run(whole())


def test_it_is_opened_heard_and_ends_with_its_input():
    async def test(house: House) -> None:
        await until_in_loop(lambda: house.listed)
        assert house.losses == 0

    run(test)


@pytest.mark.parametrize("how", ["killed", "exits"])
def test_one_that_dies_is_replaced_and_told_what_is_known_by_then(how: str):
    async def test(house: House) -> None:
        await until_in_loop(lambda: house.listed)
        house.known = (Model(name="a"), Model(name="b"))
        if how == "killed":
            os.kill(house.pids[0], signal.SIGKILL)
        else:
            house.process.tell(Look())
        await until_in_loop(lambda: len(house.listed) == 2)
        assert house.losses == 1
        assert house.listed[1].note == "a,b"
        assert len(set(house.pids)) == 2

    run(test)


def test_one_that_says_what_is_no_message_is_killed_and_replaced():
    async def test(house: House) -> None:
        await until_in_loop(lambda: house.listed)
        house.process.tell(Look())
        await until_in_loop(lambda: len(house.listed) == 2)
        assert house.losses == 1
        assert is_gone(house.pids[0])

    run(test, PLAYS.replace("say(*MORE)", 'print("hello", flush=True)'))


def test_one_that_hangs_up_and_lives_on_is_killed_and_replaced(monkeypatch):
    monkeypatch.setattr(repository_process, "CLOSE_S", 0.05)

    async def test(house: House) -> None:
        await until_in_loop(lambda: house.listed)
        house.process.tell(Look())
        await until_in_loop(lambda: len(house.listed) == 2)
        assert is_gone(house.pids[0])

    hangs = "os.close(1); import time; time.sleep(3600)"
    run(test, PLAYS.replace("say(*MORE)", hangs))


def test_one_that_has_hung_up_and_lives_on_is_gone_with_a_server_that_ends_just_then(monkeypatch):
    monkeypatch.setattr(repository_process, "CLOSE_S", 60.0)

    async def test(house: House) -> None:
        await until_in_loop(lambda: house.listed)
        house.process.tell(Look())
        await until_in_loop(lambda: not house.process._told)
        monkeypatch.setattr(repository_process, "CLOSE_S", 0.05)
        assert not house.losses, "its end is still waited for"

    hangs = "os.close(1); import time; time.sleep(3600)"
    run(test, PLAYS.replace("say(*MORE)", hangs))


def test_one_that_says_nothing_any_more_is_killed_and_replaced():
    async def test(house: House) -> None:
        await until_in_loop(lambda: house.listed)
        house.process.patience_s = 0.05
        house.process.tell(Look())
        await until_in_loop(lambda: house.losses)
        house.process.patience_s = 60.0
        await until_in_loop(lambda: len(house.listed) >= 2)
        assert is_gone(house.pids[0])

    # Its silence is measured from what it says last.
    run(test, PLAYS.replace("say(*MORE)", 'say("Changed", models=[], removed=[])'))


def test_one_that_does_not_end_is_killed_at_the_end_of_the_server(monkeypatch):
    monkeypatch.setattr(repository_process, "CLOSE_S", 0.05)

    async def test(house: House) -> None:
        await until_in_loop(lambda: house.listed)

    run(test, PLAYS + "\nimport time\ntime.sleep(3600)\n")


def test_one_that_cannot_be_started_is_tried_again_with_pauses_that_grow(monkeypatch, caplog):
    monkeypatch.setattr(repository_process, "FIRST_RESTART_S", 0.001)

    async def test() -> None:
        lost: list[None] = []

        def opening() -> Open:
            raise AssertionError("nobody is there")

        process = RepositoryProcess(opening, pytest.fail, lambda: lost.append(None), ("/no/such/program",))
        process.open()
        process.tell(Look())
        await until_in_loop(lambda: len(lost) >= 3)
        await process.close()

    asyncio.run(test())
    waits = [record.restart_in_s for record in caplog.records if hasattr(record, "restart_in_s")]
    assert waits[:3] == [0.001, 0.002, 0.004]
    assert "it cannot be started: No such file or directory" in [getattr(r, "cause", "") for r in caplog.records]


def test_a_listing_of_many_lines_leaves_room_for_others_between_them():
    async def test(house: House) -> None:
        await until_in_loop(lambda: house.listed)
        turns = 0
        house.process.tell(Look())
        while len([e for e in house.heard if isinstance(e, Changed)]) < 100:
            turns += 1
            await asyncio.sleep(0)
        assert turns >= 90

    lines = '[say("Changed", models=[], removed=[]) for _ in range(100)]'
    run(test, PLAYS.replace("say(*MORE)", lines))
