"""A connection against a transport in memory: however its bytes are cut, whatever they are, none stays accounted for.

The same on real sockets, with the times and limits of a whole server, is in tests/contract.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.inference.errors import NotFound
from tidegate.inference.frontend.http.connection import Connection
from tidegate.inference.frontend.http.exchange import Exchange, Response
from tidegate.inference.settings import Settings


class MemoryTransport(asyncio.Transport):
    """Keeps what is written; a close is told to the protocol in the next round, as by a real loop."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self.connection = connection
        self.written = b""
        self.closed = False
        self.reading = True

    def write(self, data: Any) -> None:
        assert not self.closed, "written after the close"
        self.written += bytes(data)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


@dataclass
class EchoServer:
    """Answers every request with its own body, after as many rounds of the loop as the body begins with digits."""

    settings: Settings = field(default_factory=Settings)
    draining: bool = False
    held: int = 0
    open: set[Connection] = field(default_factory=set)
    served: list[Exchange] = field(default_factory=list)
    finished_ones: list[tuple[Exchange | None, int]] = field(default_factory=list)
    abandoned_ones: list[tuple[str, str]] = field(default_factory=list)

    def opened(self, connection: Connection) -> bool:
        self.open.add(connection)
        return True

    def closed(self, connection: Connection) -> None:
        self.open.discard(connection)

    def next_id(self) -> str:
        return "id"

    def hold_bytes(self, count: int) -> bool:
        self.held += count
        assert self.held >= 0
        return True

    def admit(self, exchange: Exchange) -> None:
        if exchange.path == "/nowhere":
            raise NotFound("There is nothing here.")

    async def respond(self, exchange: Exchange) -> Response:
        self.served.append(exchange)
        for _ in range(len(exchange.whole_body) % 3):
            await asyncio.sleep(0)
        return Response(200, "text/plain", exchange.whole_body)

    def finished(self, exchange: Exchange | None, status: int) -> None:
        self.finished_ones.append((exchange, status))

    def abandoned(self, exchange: Exchange, state: str) -> None:
        self.abandoned_ones.append((exchange.path, state))


@dataclass
class Talk:
    """What came of it."""

    server: EchoServer
    written: bytes
    closed: bool


async def settle() -> None:
    """Let everything that is ready happen."""
    for _ in range(60):
        await asyncio.sleep(0)


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
    assert found.held == 0, "bytes are still accounted for"
    assert not found.open
    return talked


def post(body: bytes, path: str = "/invocations", *headers: str, chunks: list[bytes] | None = None) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: x", *headers]
    if chunks is None:
        return "\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body
    head = "\r\n".join([*lines, "transfer-encoding: chunked", "", ""]).encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks if c) + b"0\r\n\r\n"


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def status(written: bytes) -> list[int]:
    return [int(part[:3]) for part in written.split(b"HTTP/1.1 ")[1:]]


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
    assert talked.server.finished_ones == [(exchange, 200) for exchange in talked.server.served]
    assert not talked.closed


@given(st.lists(BODIES, max_size=5), st.lists(BODIES, max_size=3), CUTS)
def test_a_short_refusal_comes_in_its_turn_and_the_connection_goes_on(
    before: list[bytes], behind: list[bytes], cuts: list[float]
) -> None:
    stream = b"".join(map(post, before)) + post(b"x", "/nowhere") + b"".join(map(post, behind))
    talked = talk(cut(stream, cuts))
    assert status(talked.written) == [200] * len(before) + [404] + [200] * len(behind)
    assert [exchange.whole_body for exchange in talked.server.served] == before + behind
    assert not talked.closed


@given(st.lists(BODIES, max_size=5), st.lists(BODIES, max_size=3), CUTS)
def test_a_refusal_with_a_body_of_unknown_length_ends_the_connection(
    before: list[bytes], behind: list[bytes], cuts: list[float]
) -> None:
    refused = post(b"", "/nowhere", chunks=[b"de", b"f"])
    talked = talk(cut(b"".join(map(post, before)) + refused + b"".join(map(post, behind)), cuts))
    assert status(talked.written) == [200] * len(before) + [404]
    assert [exchange.whole_body for exchange in talked.server.served] == before
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
    assert set(status(talked.written)) <= {100, 200, 400, 404, 408, 413, 431, 501}


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


def test_a_body_in_small_pieces_takes_no_more_memory_than_it_has_bytes() -> None:
    """A client that sends chunks of two bytes would otherwise hold a Python object for each."""
    large, small = [b"x" * 5000], [b"ab"] * 3000
    chunks = [*small, *large, *small]
    talked = talk([post(b"", chunks=chunks)])
    (exchange,) = talked.server.served
    assert exchange.whole_body == b"".join(chunks)
    assert len(exchange.body) <= 4


def test_a_client_that_leaves_during_its_body_or_its_answer_is_forgotten() -> None:
    whole = post(b"0123456789")
    talk([whole[:-4]])
    talk([whole + whole + whole[:-4]], meanwhile=lambda connection: connection.abort())


@pytest.mark.parametrize(
    ("body", "first"),
    [(b"", [("/first", "computing")]), (b"4", [])],  # what is cancelled before its end, its own model counts
)
def test_requests_whose_client_left_while_they_waited_for_their_turn_are_counted(
    body: bytes, first: list[tuple[str, str]]
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
    assert server.abandoned_ones == [*first, ("/second", "waiting"), ("/third", "waiting")]


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
    assert talked.server.held == 0
