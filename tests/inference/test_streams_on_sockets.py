"""A stream from its reply to a client's socket: each part when it comes, no faster than it is read, broken visibly.

The parts are the test's own; from a generator in a worker to a client, streams are in tests/contract.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import pytest
import uvloop

from tests.inference.memory_http import Stage, post
from tests.polling import until_in_loop
from tidegate.inference.errors import WorkerDied
from tidegate.inference.frontend.http.connection import Connection
from tidegate.inference.settings import Settings


@asynccontextmanager
async def serving(stage: Stage, request: bytes) -> AsyncIterator[socket.socket]:
    """A client of a real socket whose request was begun and whose response was started; in the end nothing is held."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(stage), "127.0.0.1", 0)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    client.setblocking(False)
    try:
        with closing(client):
            await loop.sock_connect(client, server.sockets[0].getsockname())
            await loop.sock_sendall(client, request)
            await until_in_loop(lambda: stage.replies)
            stage.reply.start(200, "text/plain", b"", None)
            yield client
        await until_in_loop(lambda: not stage.open)
    finally:
        # Also of a test that failed: uvloop waits at its end for sockets that have something to send.
        for connection in list(stage.open):
            connection.abort()
        server.close()
        await until_in_loop(lambda: not stage.open)
    assert stage.budget.held_bytes == 0
    assert stage.answering == 0
    assert stage.metrics.streams.open == 0


async def read(client: socket.socket, size: int) -> bytes:
    """As many bytes, or what comes until the end."""
    received = b""
    while len(received) < size and (piece := await asyncio.get_running_loop().sock_recv(client, 65536)):
        received += piece
    return received


def test_each_part_is_with_the_client_before_the_next_one_is_there() -> None:
    stage = Stage()

    async def run() -> None:
        async with serving(stage, post(b"a")) as client:
            for part in (b"one", b"two", b"three"):
                stage.reply.write(part)
                received = b""
                while not received.endswith(part + b"\r\n"):
                    received += await read(client, 1)
            stage.reply.end()
            assert await read(client, 5) == b"0\r\n\r\n"

    uvloop.run(run())


def test_a_stream_goes_no_faster_than_its_reader_and_loses_nothing() -> None:
    stage = Stage()
    part = b"x" * 100_000

    async def run() -> None:
        async with serving(stage, post(b"a")) as client:
            written = 0
            while stage.told == []:
                stage.reply.write(part)
                written += 1
                await asyncio.sleep(0)
            assert stage.told == ["pause"]
            assert 0 < stage.budget.held_bytes < 2 * len(part), (
                "what the socket did not take is held, and nothing more is"
            )
            received = await read(client, written * len(part))
            await until_in_loop(lambda: stage.told == ["pause", "resume"])
            stage.reply.end()
            while not received.endswith(b"0\r\n\r\n"):
                received += await read(client, 1)
            body = received.partition(b"\r\n\r\n")[2]
            assert body.count(b"x") == written * len(part)

    uvloop.run(run())


def test_a_steady_reader_is_seen_to_read_though_the_kernel_takes_nothing_more_for_long() -> None:
    stage = Stage(settings=Settings(idle_timeout_s=4))

    async def run() -> None:
        async with serving(stage, post(b"a")) as client:
            (connection,) = stage.open
            stage.reply.write(b"x" * 30_000_000)
            left_bytes = stage.budget.held_bytes
            for second in range(10):
                connection.sweep(second)
                await read(client, 20_000)
                await asyncio.sleep(0.01)
            assert left_bytes - stage.budget.held_bytes < 4 * 1024 * 4, "else this shows nothing"
            assert stage.open
            for second in range(10, 20):
                connection.sweep(second)
            await until_in_loop(lambda: not stage.open)
        assert stage.metrics.streams.broken == {"reader_too_slow": 1}

    uvloop.run(run())


def test_a_reader_that_vanishes_cancels_its_stream_whether_it_is_paused_or_not() -> None:
    for paused in (False, True):
        stage = Stage()

        async def run(stage: Stage = stage, paused: bool = paused) -> None:
            async with serving(stage, post(b"a")) as client:
                stage.reply.write(b"x" * (10_000_000 if paused else 10))
                assert stage.told == ["pause"] * paused
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            assert stage.told == [*["pause"] * paused, "cancel"]
            assert stage.metrics.streams.broken == {"reader_left": 1}

        uvloop.run(run())


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_of_either_version_sees_that_a_stream_was_broken_off(version: str) -> None:
    stage = Stage()

    async def run() -> None:
        async with serving(stage, post(b"a").replace(b"HTTP/1.1", b"HTTP/" + version.encode())) as client:
            stage.reply.write(b"some")
            await read(client, 1)
            stage.reply.fail(WorkerDied("It died."))
            if version == "1.0":
                with pytest.raises(ConnectionResetError):
                    await read(client, 10**9)
            else:
                assert await read(client, 10**9) == b"", "no last chunk"
        assert stage.metrics.streams.broken == {"worker_died": 1}

    uvloop.run(run())


def test_the_standard_librarys_client_raises_where_a_stream_was_broken_off() -> None:
    stage = Stage()

    def ask(port: int) -> type[Exception] | None:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            connection.request("POST", "/invocations", b"a")
            try:
                connection.getresponse().read()
            except http.client.HTTPException as error:
                return type(error)
        return None

    async def run() -> type[Exception] | None:
        server = await asyncio.get_running_loop().create_server(lambda: Connection(stage), "127.0.0.1", 0)
        asking = asyncio.get_running_loop().run_in_executor(None, ask, server.sockets[0].getsockname()[1])
        await until_in_loop(lambda: stage.replies)
        stage.reply.start(200, "text/plain", b"", None)
        stage.reply.write(b"some")
        stage.reply.fail(WorkerDied("It died."))
        error = await asking
        server.close()
        return error

    assert uvloop.run(run()) is http.client.IncompleteRead
