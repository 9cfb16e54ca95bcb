"""A connection against a transport in memory: however its bytes are cut, whatever they are, none stays accounted for.

The same on real sockets, with the times and limits of a whole server, is in tests/contract.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inference.memory_http import EchoServer, MemoryTransport, Stage, answer, post, settle, status
from tidegate.inference.frontend.http.connection import Connection
from tidegate.inference.frontend.queue.body import MemoryBody
from tidegate.inference.frontend.queue.budget import ByteBudget
from tidegate.inference.settings import Settings


@dataclass
class Talk:
    """What came of it."""

    server: EchoServer
    written: bytes
    closed: bool


def talk(
    pieces: list[bytes],
    server: EchoServer | None = None,
    *,
    meanwhile: Callable[[Connection], None] | None = None,
    pause: bool = False,
) -> Talk:
    """Send `pieces` to a new connection, let `meanwhile` act on it, and hang up."""
    found = server or EchoServer()

    async def run() -> Talk:
        connection = Connection(found)
        transport = MemoryTransport(connection)
        connection.connection_made(transport)
        for piece in pieces:
            if not transport.reading:
                await settle()
                assert transport.reading or transport.closed, "paused for ever"
            if transport.closed:
                break
            connection.data_received(piece)
            if pause:
                await settle()
        await settle()
        if meanwhile:
            meanwhile(connection)
            await settle()
        talked = Talk(found, transport.written, transport.closed)
        transport.close()
        await settle()
        return talked

    talked = asyncio.run(run())
    assert found.budget.held_bytes == 0, "bytes are still accounted for"
    assert found.answering == 0
    assert not found.open
    return talked


def cut(stream: bytes, places: list[float]) -> list[bytes]:
    edges = [0, *sorted(int(place * len(stream)) for place in places), len(stream)]
    return [stream[a:b] for a, b in zip(edges, edges[1:], strict=False) if a < b]  # noqa: RUF007 - the pairs are edges


BODIES = st.binary(max_size=40).filter(lambda body: b"HTTP" not in body)
CUTS = st.lists(st.floats(0, 1), max_size=12)


@given(st.lists(st.tuples(BODIES, st.booleans()), min_size=1, max_size=24), CUTS, st.booleans())
def test_requests_are_answered_in_their_order_however_their_bytes_are_cut(
    requests: list[tuple[bytes, bool]], cuts: list[float], pause: bool
) -> None:
    """Plain and chunked, pipelined beyond what may wait, in one piece or in many."""
    stream = b"".join(post(body, chunks=[body[:3], body[3:]]) if chunked else post(body) for body, chunked in requests)
    talked = talk(cut(stream, cuts), pause=pause)
    assert talked.written == b"".join(answer(body) for body, _ in requests)
    assert talked.server.served == [body for body, _ in requests]
    assert talked.server.metrics.responses == {200: len(requests)}
    assert not talked.closed


@given(st.lists(BODIES, max_size=5), st.lists(BODIES, max_size=3), CUTS)
def test_a_short_refusal_comes_in_its_turn_and_the_connection_goes_on(
    before: list[bytes], behind: list[bytes], cuts: list[float]
) -> None:
    stream = b"".join(map(post, before)) + post(b"x", "/nowhere") + b"".join(map(post, behind))
    talked = talk(cut(stream, cuts))
    assert status(talked.written) == [200] * len(before) + [404] + [200] * len(behind)
    assert talked.server.served == before + behind
    assert not talked.closed


@given(st.lists(BODIES, max_size=5), st.lists(BODIES, max_size=3), CUTS)
def test_a_refusal_with_a_body_of_unknown_length_ends_the_connection(
    before: list[bytes], behind: list[bytes], cuts: list[float]
) -> None:
    refused = post(b"", "/nowhere", chunks=[b"de", b"f"])
    talked = talk(cut(b"".join(map(post, before)) + refused + b"".join(map(post, behind)), cuts))
    assert status(talked.written) == [200] * len(before) + [404]
    assert talked.server.served == before
    assert b"connection: close\r\n" in talked.written


@settings(max_examples=300)
@given(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6)), min_size=1, max_size=4), CUTS)
def test_damaged_requests_are_answered_or_refused_and_never_break_the_connection(
    damage: list[tuple[float, bytes]], cuts: list[float]
) -> None:
    stream = bytearray(post(b"abc") + post(b"", chunks=[b"de", b"f"]) + post(b"x", "/a", "expect: 100-continue"))
    for place, data in damage:
        at = int(place * len(stream))
        stream[at : at + len(data)] = data
    talked = talk(cut(bytes(stream), cuts))
    assert set(status(talked.written)) <= {100, 200, 400, 404, 408, 413, 431, 501, 505}


@given(st.binary(max_size=200), CUTS)
def test_bytes_that_are_no_http_are_refused(noise: bytes, cuts: list[float]) -> None:
    talked = talk(cut(b"\xff" + noise, cuts))
    assert status(talked.written) == [400]


@pytest.mark.parametrize(
    "head",
    [
        b"CONNECT host:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"CONNECT host:443 HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nbytes of another protocol",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_other_protocols_get_one_answer(head: bytes) -> None:
    """Tunnels, HTTP/2 with prior knowledge, TLS on the plain port."""
    assert len(status(talk([head]).written)) == 1


def test_an_upgrade_is_not_taken_and_its_request_answered() -> None:
    """As Java's client offers with its first request, its body behind it."""
    offer = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAEAAEAAAAIAAAAA")
    for pieces in ([post(b"hello", "/invocations", *offer)], cut(post(b"hello", "/invocations", *offer), [0.9])):
        talked = talk(pieces)
        assert status(talked.written) == [200]
        assert talked.written.endswith(b"hello")


@pytest.mark.parametrize("chunks", [None, [b"12345", b"67890", b"x"]])
def test_a_body_over_the_limit_is_413_and_forgotten(chunks: list[bytes] | None) -> None:
    talked = talk([post(b"1234567890x", chunks=chunks)], EchoServer(settings=Settings(max_body_bytes=10)))
    assert status(talked.written) == [413]
    assert not talked.server.served


@pytest.mark.parametrize("length", ["99999999999999999999999", "-1", "+5", "5, 5", "0x5", "5 5"])
def test_a_length_that_is_no_length_is_refused(length: str) -> None:
    head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\nhello".encode()
    assert status(talk([head]).written) in ([400], [413])


@pytest.mark.parametrize(("version", "expected"), [(b"1.1", [100, 200]), (b"1.0", [200])])
def test_only_a_client_of_http_1_1_is_told_to_continue(version: bytes, expected: list[int]) -> None:
    whole = post(b"hello", "/invocations", "expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/" + version)
    assert status(talk([whole[:-5], whole[-5:]]).written) == expected


def test_a_body_in_small_pieces_takes_no_more_memory_than_it_has_bytes() -> None:
    """A client that sends chunks of two bytes would otherwise hold a Python object for each."""
    large, small = [b"x" * 5000], [b"ab"] * 3000
    chunks = [*small, *large, *small]
    talked = talk([post(b"", chunks=chunks)])
    assert talked.server.served == [b"".join(chunks)]
    body = MemoryBody()
    for chunk in chunks:
        body.append(chunk)
    assert sys.getsizeof(body._pieces) + sum(map(sys.getsizeof, body._pieces)) < 1.5 * body.size


def test_a_client_that_leaves_during_its_body_or_its_answer_is_forgotten() -> None:
    whole = post(b"0123456789")
    talk([whole[:-4]])
    talk([whole + whole + whole[:-4]], meanwhile=lambda connection: connection.abort())


@pytest.mark.parametrize(
    ("body", "computing", "cancelled"),
    [(b"4", 1, 0), (b"44", 0, 1)],  # answered after the client left; cancelled before, which its model counts
)
def test_requests_whose_client_left_while_they_waited_for_their_turn_are_counted(
    body: bytes, computing: int, cancelled: int
) -> None:
    server = EchoServer()

    async def run() -> None:
        connection = Connection(server)
        transport = MemoryTransport(connection)
        connection.connection_made(transport)
        connection.data_received(b"".join(post(body, path) for path in ("/first", "/second", "/nowhere", "/third")))
        transport.close()
        await settle()

    asyncio.run(run())
    assert server.metrics.abandoned == Counter(waiting=2, computing=computing)
    assert server.cancelled == cancelled
    assert not server.metrics.responses


def test_while_the_server_drains_every_answer_is_the_last_of_its_connection() -> None:
    talked = talk([post(b"a"), post(b"b")], EchoServer(draining=True))
    assert status(talked.written) == [200]
    assert b"connection: close\r\n" in talked.written
    assert talked.closed


@pytest.mark.parametrize(
    ("sent", "elapsed_s", "expected"),
    [
        (b"", 119, []),
        (b"", 121, "closed"),
        (b"POST / HT", 9, []),
        (b"POST / HT", 11, [408]),
        (post(b"x" * 20_000)[:-1], 11, []),
        (post(b"x" * 20_000)[:-15_000], 11, [408]),
        (post(b"x" * 20_000)[:-15_000], 9, []),
    ],
)
def test_a_client_that_is_too_slow_is_given_up(sent: bytes, elapsed_s: float, expected: list[int] | str) -> None:
    """The time is passed in: the sweep decides from what has come since the phase began."""

    def sweep(connection: Connection) -> None:
        connection.sweep(asyncio.get_running_loop().time() + elapsed_s)

    talked = talk([sent] if sent else [], meanwhile=sweep)
    if expected == "closed":
        assert talked.closed
    else:
        assert status(talked.written) == expected


def test_a_client_that_sent_much_at_once_and_then_nothing_is_given_up() -> None:
    def sweep(connection: Connection) -> None:
        begun_s = asyncio.get_running_loop().time()
        for elapsed_s in range(1, 400):
            connection.sweep(begun_s + elapsed_s)

    much = post(b"x" * 2_000_000)[:-1]  # at the least rate, that is half an hour
    talked = talk([much], meanwhile=sweep)
    assert status(talked.written) == [408]


def test_a_thousand_pipelined_requests_behind_a_slow_one_are_answered_without_a_deep_stack() -> None:
    bodies = [b"slow!", *[b""] * 3000]
    talked = talk([b"".join(map(post, bodies))])
    assert talked.server.served == bodies


def test_an_announced_body_is_reserved_before_it_is_read_and_one_that_does_not_fit_is_503() -> None:
    server = EchoServer(budget=ByteBudget(100))

    async def run() -> list[int]:
        transports = []
        for size in (60, 50, 40):
            connection = Connection(server)
            transports.append(MemoryTransport(connection))
            connection.connection_made(transports[-1])
            connection.data_received(post(b"x" * size, "/invocations", "expect: 100-continue")[:-size])
        assert server.budget.held_bytes == 100, "the first and the third fit"
        for transport in transports:
            transport.close()
        await settle()
        return [status(transport.written)[0] for transport in transports]

    assert asyncio.run(run()) == [100, 503, 100]
    assert server.metrics.shed == {"too_many_bytes": 1}
    assert server.budget.held_bytes == 0


def test_a_chunked_body_is_reserved_as_it_comes() -> None:
    server = EchoServer(budget=ByteBudget(100))
    assert status(talk([post(b"", chunks=[b"x" * 60, b"x" * 40])], server).written) == [200]
    refused = talk([post(b"", chunks=[b"x" * 60, b"x" * 41])], server)
    assert status(refused.written) == [503]
    assert b"hold all the memory that they may" in refused.written
    assert server.metrics.shed == {"too_many_bytes": 1}


def test_what_a_client_does_not_read_is_held_of_the_budget_and_nothing_more_is_answered() -> None:
    server = EchoServer()

    async def run() -> MemoryTransport:
        connection = Connection(server)
        transport = MemoryTransport(connection, room_bytes=500)
        connection.connection_made(transport)
        connection.data_received(post(b"x" * 999) * 3)
        await settle()
        assert len(server.served) == 1
        assert server.budget.held_bytes == transport.unsent_bytes + 2 * 999
        transport.read(100)
        connection.sweep(0)
        assert server.budget.held_bytes == transport.unsent_bytes + 2 * 999
        transport.read()
        await settle()
        assert len(server.served) == 3
        transport.close()
        await settle()
        return transport

    assert status(asyncio.run(run()).written) == [200] * 3
    assert server.budget.held_bytes == 0


def test_a_client_that_does_not_read_its_answer_is_given_up_after_the_idle_time() -> None:
    async def run() -> bool:
        connection = Connection(EchoServer())
        transport = MemoryTransport(connection, room_bytes=10)
        connection.connection_made(transport)
        connection.data_received(post(b"x" * 10_002))
        await settle()
        for second in range(121):
            connection.sweep(second)
            assert not transport.closed, second
        connection.sweep(121)
        return transport.closed

    assert asyncio.run(run())


@pytest.mark.parametrize(
    ("reads", "broken"),
    [
        (lambda _: 10_000, None),
        (lambda second: 100_000 if second < 30 or second > 140 else 0, None),  # a pause of 110 s
        (lambda second: 0 if 30 < second < 160 else 100_000, 151),  # one of 130 s, however much was read before it
        (lambda _: 2000, None),
        (lambda _: 300, 121),  # a trickle
        (lambda second: 100_000 if second % 100 == 0 else 1, 121),  # 1000 bytes/s, a hundred seconds' worth at once
    ],
)
def test_a_reader_of_a_stream_is_judged_by_what_it_reads_in_the_idle_time_however_many_chunks_there_are(
    reads: Callable[[int], int], broken: int | None
) -> None:
    stage = Stage()

    async def run() -> int | None:
        connection = Connection(stage)
        transport = MemoryTransport(connection, room_bytes=10_000)
        connection.connection_made(transport)
        connection.data_received(post(b"a"))
        stage.reply.start(200, "text/plain", b"", None)
        for second in range(500):
            if transport.closed:
                return second - 1
            left = reads(second)
            while left > 0:
                while not transport.unsent_bytes:
                    stage.reply.write(b"x" * 50_000)
                    await asyncio.sleep(0)
                read = min(left, transport.unsent_bytes)
                transport.read(read)
                left -= read
            while not transport.unsent_bytes:
                stage.reply.write(b"x" * 50_000)
                await asyncio.sleep(0)
            connection.sweep(second)
            transport.written = b""
        connection.abort()
        await settle()
        return None

    gone_s = asyncio.run(run())
    assert gone_s == broken if broken is None else gone_s is not None and abs(gone_s - broken) <= 3
    assert stage.metrics.streams.broken == {"reader_left" if broken is None else "reader_too_slow": 1}


def test_a_reader_that_waits_for_the_model_is_not_slow() -> None:
    stage = Stage()

    async def run() -> None:
        connection = Connection(stage)
        transport = MemoryTransport(connection, room_bytes=10)
        connection.connection_made(transport)
        connection.data_received(post(b"a"))
        stage.reply.start(200, "text/plain", b"", None)
        for second in range(0, 2000, 100):  # ten bytes in a hundred seconds, each read within one
            stage.reply.write(b"x" * 10)
            connection.sweep(second)
            transport.read()
            for quiet_s in range(second + 1, second + 100):
                connection.sweep(quiet_s)
        assert not transport.closed
        connection.abort()
        await settle()

    asyncio.run(run())


def test_a_connection_over_the_limit_is_told_so_and_counted_nowhere() -> None:
    talked = talk([post(b"a")], EchoServer(max_connections=0))
    assert status(talked.written) == [503]
    assert not talked.server.served
