"""The fork server's client against ones that die, stop or never come up. The stand-in has the protocol and no torch."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator

import psutil
import pytest

from tidegate.inference.frontend.workers import fork_server as fork_server_module
from tidegate.inference.frontend.workers import launching
from tidegate.inference.frontend.workers.fork_server import ForkServer, ForkServerFailed

PARENT = """
import json, os, socket
control = socket.socket(fileno={fd})
control.send(json.dumps({{"ready": True, "gpus": 3}}).encode())
while True:
    message, fds, _, _ = socket.recv_fds(control, 8192, 1)
    if not message:
        break
    os.close(fds[0])
    control.send(json.dumps({{"started": json.loads(message)["start"], "pid": os.getpid()}}).encode())
"""
"""Answers a start with its own pid; {root} and {log_level} are not of interest to it."""
DIES_AT_ONCE = "raise SystemExit(3)"
IMPORTS = "import time; time.sleep(3600)"
CLOSES_AND_STAYS = "import os, time; os.close({fd}); time.sleep(600)"


@contextlib.asynccontextmanager
async def opened(monkeypatch: pytest.MonkeyPatch, program: str = PARENT) -> AsyncIterator[ForkServer]:
    monkeypatch.setattr(launching, "PROGRAM", program)
    others = psutil.Process().children()
    fork_server = ForkServer(20)
    fork_server.open(lambda _pid, _status: None)
    try:
        yield fork_server
    finally:
        fork_server.close()
        assert [child for child in psutil.Process().children() if child not in others] == [], "no parent is left"


async def parent_of(fork_server: ForkServer) -> int:
    """The pid of the parent that is there now, by its own word."""
    pid, channel = await fork_server.start()
    channel.close()
    return pid


async def start_at_last(fork_server: ForkServer) -> int:
    """As the pool does: again and again."""
    while True:
        with contextlib.suppress(ForkServerFailed, OSError):
            return await parent_of(fork_server)
        await asyncio.sleep(0.01)


def test_a_parent_that_was_killed_is_replaced(monkeypatch):
    async def test() -> None:
        async with opened(monkeypatch) as fork_server:
            assert await fork_server.gpus() == 3
            first = await parent_of(fork_server)
            os.kill(first, signal.SIGKILL)
            assert await start_at_last(fork_server) != first

    asyncio.run(test())


PARENT_OF_SLEEPERS = """
import json, os, socket, subprocess, sys
control = socket.socket(fileno={fd})
control.send(json.dumps({{"ready": True, "gpus": 0}}).encode())
while True:
    message, fds, _, _ = socket.recv_fds(control, 8192, 1)
    if not message:
        break
    worker = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=fds[0])
    os.close(fds[0])
    control.send(json.dumps({{"started": json.loads(message)["start"], "pid": worker.pid}}).encode())
"""
"""Its workers live until their socket is closed, whatever becomes of it."""


ENDS_ITS_WORKERS = """
import os, socket, time
control = socket.socket(fileno={fd})
control.send(b"up")
control.recv(1)
time.sleep(0.1)
control, {root!r}, {log_level}
open(os.environ["TIDEGATE_TEST_ENDED"], "w").close()
"""
"""Does something when its socket is closed, as the fork server does, which kills its workers."""


def test_a_process_whose_socket_is_closed_has_time_to_end_its_workers(monkeypatch, tmp_path):
    """Whatever went wrong in between: killed at once it would leave them behind."""
    monkeypatch.setattr(launching, "PROGRAM", ENDS_ITS_WORKERS)
    monkeypatch.setattr(launching, "END_S", 60.0)
    monkeypatch.setenv("TIDEGATE_TEST_ENDED", str(tmp_path / "ended"))
    with contextlib.suppress(ZeroDivisionError), launching.launch(20) as launched:
        assert launched.control.recv(2) == b"up"
        launched.taken = True
        raise ZeroDivisionError
    assert (tmp_path / "ended").exists()
    assert launched.process.returncode == 0


def test_a_process_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(launching, "PROGRAM", CLOSES_AND_STAYS)
    monkeypatch.setattr(launching, "END_S", 0.05)
    with launching.launch(20) as launched:
        assert launched.control.recv(2) == b"", "it runs"
        launched.taken = True
    assert launched.process.returncode == -signal.SIGKILL


def test_one_that_still_imports_is_not_waited_for(monkeypatch):
    """A deployer's mistake is said without the seconds that torch takes: nobody asked for a worker yet."""
    for module, limit in ((launching, "END_S"), (fork_server_module, "CLOSE_TIMEOUT_S")):
        monkeypatch.setattr(module, limit, 3600.0)
    monkeypatch.setattr(launching, "PROGRAM", IMPORTS)
    with launching.launch(20) as launched:
        pass
    assert launched.process.returncode == -signal.SIGKILL

    async def test() -> None:
        async with opened(monkeypatch, IMPORTS):
            pass

    asyncio.run(test())


def test_the_end_of_workers_whose_parent_was_killed_is_told_all_the_same(monkeypatch):
    """Or the memory of an unloaded model would be waited for in vain."""

    async def test() -> None:
        told: list[int] = []
        monkeypatch.setattr(launching, "PROGRAM", PARENT_OF_SLEEPERS)
        fork_server = ForkServer(20)
        fork_server.open(lambda pid, _status: told.append(pid))
        try:
            (before, before_socket), (after, after_socket) = [await fork_server.start() for _ in range(2)]
            parent = psutil.Process(before).parent()
            assert parent is not None
            os.kill(before, signal.SIGKILL)  # its parent does not tell of it any more
            parent.kill()
            while before not in told:  # noqa: ASYNC110 - told by a callback
                await asyncio.sleep(0.01)
            assert told == [before]
            before_socket.close()
            after_socket.close()
            while after not in told:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert sorted(told) == sorted([before, after])
        finally:
            fork_server.close()

    asyncio.run(test())


def test_whoever_asks_for_the_gpus_brings_back_a_parent_that_died_before_it_was_up(monkeypatch):
    """That is the first thing that each load asks: none would ever come to start a worker."""

    async def test() -> None:
        async with opened(monkeypatch) as fork_server:
            first = await parent_of(fork_server)
            monkeypatch.setattr(launching, "PROGRAM", DIES_AT_ONCE)
            os.kill(first, signal.SIGKILL)
            with contextlib.suppress(ForkServerFailed):
                while await fork_server.gpus() == 3:  # noqa: ASYNC110 - nobody says when it has died
                    await asyncio.sleep(0.01)
            monkeypatch.setattr(launching, "PROGRAM", PARENT)
            while True:
                with contextlib.suppress(ForkServerFailed):
                    assert await fork_server.gpus() == 3
                    break

    asyncio.run(test())


def test_a_parent_whose_successors_die_before_they_are_up_is_replaced_all_the_same(monkeypatch):
    """A moment without memory must not cost the server its ability to start workers."""

    async def test() -> None:
        async with opened(monkeypatch) as fork_server:
            first = await parent_of(fork_server)
            monkeypatch.setattr(launching, "PROGRAM", DIES_AT_ONCE)
            os.kill(first, signal.SIGKILL)
            failures = 0
            while failures < 3:
                try:
                    await parent_of(fork_server)
                except ForkServerFailed:
                    failures += 1
            monkeypatch.setattr(launching, "PROGRAM", PARENT)
            assert await start_at_last(fork_server) != first

    asyncio.run(test())


def test_a_parent_that_could_not_be_replaced_at_once_is_replaced_later(monkeypatch):
    async def test() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        tried = asyncio.Event()
        async with opened(monkeypatch) as fork_server:
            first = await parent_of(fork_server)

            def popen(*_args: object, **_kwargs: object) -> None:
                tried.set()
                raise OSError(24, "Too many open files")

            with monkeypatch.context() as patch:
                patch.setattr(subprocess, "Popen", popen)
                os.kill(first, signal.SIGKILL)
                await tried.wait()
                with pytest.raises(ForkServerFailed, match="Too many open files"):
                    await fork_server.start()
            assert await start_at_last(fork_server) != first
        assert faults == []

    asyncio.run(test())


@pytest.mark.parametrize(("program", "how"), [(DIES_AT_ONCE, "exited with status 3"), (CLOSES_AND_STAYS, "hung up")])
def test_a_first_parent_that_never_comes_up_is_an_error_and_not_tried_again(monkeypatch, program, how):
    async def test() -> None:
        async with opened(monkeypatch, program) as fork_server:
            for ask in (fork_server.gpus, fork_server.start, fork_server.start):
                with pytest.raises(ForkServerFailed, match=f"the fork server {how}"):
                    await ask()

    asyncio.run(test())


def test_a_parent_that_is_stuck_is_replaced(monkeypatch):
    async def test() -> None:
        async with opened(monkeypatch) as fork_server:
            first = await parent_of(fork_server)
            os.kill(first, signal.SIGSTOP)
            with monkeypatch.context() as patch:
                patch.setattr(fork_server_module, "FORK_TIMEOUT_S", 0.05)
                with pytest.raises(ForkServerFailed, match=r"did not fork within 0\.05 s"):
                    await fork_server.start()
            assert await start_at_last(fork_server) != first
            assert not psutil.pid_exists(first)

    asyncio.run(test())


def test_closing_ends_a_parent_that_is_stuck(monkeypatch):
    async def test() -> None:
        monkeypatch.setattr(fork_server_module, "CLOSE_TIMEOUT_S", 0.05)
        async with opened(monkeypatch) as fork_server:
            os.kill(await parent_of(fork_server), signal.SIGSTOP)

    asyncio.run(test())


def test_a_closed_fork_server_starts_nothing(monkeypatch):
    async def test() -> None:
        async with opened(monkeypatch) as fork_server:
            await parent_of(fork_server)
            fork_server.close()
            with pytest.raises(ForkServerFailed, match="is gone"):
                await fork_server.start()

    asyncio.run(test())


def test_a_worker_is_given_the_other_end_of_the_socket_that_is_returned(monkeypatch):
    async def test() -> None:
        async with opened(monkeypatch) as fork_server:
            _, channel = await fork_server.start()
            with channel:
                channel.setblocking(True)
                assert isinstance(channel, socket.socket)
                assert channel.recv(1) == b"", "the stand-in closed its end"

    asyncio.run(test())
