"""A reply on its connection: each event is written as it comes, and what is broken off is seen to be."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.inference.memory_http import MemoryTransport, Stage, post, settle, status
from tidegate.inference.errors import HandlerFailed, NotFound
from tidegate.inference.frontend.http.connection import Connection
from tidegate.inference.frontend.http.peer import Upgrade
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import AtOnce, InTask
from tidegate.inference.frontend.http.response import LAST_CHUNK, Response, encode_chunk

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


@contextmanager
def connected(stage: Stage, sent: bytes = b"", room_bytes: int = 10**9) -> Iterator[MemoryTransport]:
    """A connection that was sent something, between two rounds of its loop; at the end nothing is held for it."""
    loop = asyncio.new_event_loop()

    async def open_it() -> MemoryTransport:
        connection = Connection(stage)
        transport = MemoryTransport(connection, room_bytes)
        connection.connection_made(transport)
        connection.data_received(sent or post(b"a"))
        await settle()
        return transport

    async def close_it() -> None:
        transport.close()
        await settle()

    transport = loop.run_until_complete(open_it())
    try:
        yield transport
    finally:
        loop.run_until_complete(close_it())
        loop.close()
    assert stage.budget.held_bytes == 0
    assert stage.answering == 0
    assert not stage.open


def test_a_plain_answer_is_one_write() -> None:
    stage = Stage()
    with connected(stage) as transport:
        Response(200, "text/plain", b"hello", b"x-a: 1\r\n").send(stage.reply)
        assert transport.written == HEAD + b"content-length: 5\r\nx-a: 1\r\n\r\nhello"
        assert transport.writes == 1
        assert stage.metrics.responses == {200: 1}


def test_a_large_answer_is_not_copied_behind_its_head() -> None:
    stage = Stage()
    with connected(stage) as transport:
        Response(200, "text/plain", b"x" * 1_000_000).send(stage.reply)
        assert transport.written.endswith(b"\r\n\r\n" + b"x" * 1_000_000)


def test_parts_of_unknown_length_are_chunks_each_written_when_it_comes() -> None:
    stage = Stage()
    with connected(stage) as transport:
        stage.reply.start(200, "text/plain", b"", None)
        assert transport.written == b"", "the head goes with the first part"
        stage.reply.write(b"ab")
        assert transport.written == CHUNKED + b"2\r\nab\r\n"
        transport.turn()
        stage.reply.write(b"")
        stage.reply.write(b"c")
        assert transport.written == CHUNKED + b"2\r\nab\r\n1\r\nc\r\n"
        stage.reply.end()
        assert transport.written == CHUNKED + b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
        assert not transport.closed
        transport.connection.data_received(post(b"b"))  # type: ignore[attr-defined]  # the connection goes on
        assert len(stage.replies) == 2


def test_parts_that_come_in_the_same_round_of_the_loop_are_one_more_write_in_their_order() -> None:
    """The first goes out at once; ten thousand small ones that come together are not ten thousand system calls."""
    stage = Stage()
    parts = [b"%d" % number for number in range(50)]

    async def run() -> MemoryTransport:
        connection = Connection(stage)
        transport = MemoryTransport(connection)
        connection.connection_made(transport)
        connection.data_received(post(b"a"))
        stage.reply.start(200, "text/plain", b"", None)
        for part in parts[:-1]:
            stage.reply.write(part)
        assert (transport.written, transport.writes) == (CHUNKED + b"1\r\n0\r\n", 1)
        await settle()
        assert transport.writes == 2
        stage.reply.write(parts[-1])
        stage.reply.end()
        assert transport.writes == 4
        transport.close()
        await settle()
        return transport

    assert asyncio.run(run()).written == CHUNKED + b"".join(map(encode_chunk, parts)) + LAST_CHUNK


def test_streams_are_counted_while_they_are_open_and_by_what_broke_them() -> None:
    stage = Stage()
    streams = stage.metrics.streams
    for end, broken in (
        (lambda _: stage.reply.end(), Counter[str]()),
        (lambda _: stage.reply.fail(HandlerFailed("No.")), Counter(handler_failed=1)),
        (lambda transport: transport.close(), Counter(handler_failed=1, reader_left=1)),
    ):
        with connected(stage) as transport:
            stage.reply.start(200, "text/plain", b"", None)
            assert streams.open == 0
            stage.reply.write(b"ab")
            stage.reply.write(b"c")
            assert streams.open == 1
            end(transport)
        assert streams.open == 0
        assert streams.broken == broken
    assert streams.chunks == 6
    assert sum(streams.first_chunk_s.counts) == 3


def test_a_reader_that_is_given_up_is_named_as_what_broke_its_stream() -> None:
    stage = Stage()
    with connected(stage, room_bytes=10) as transport:
        stage.reply.start(200, "text/plain", b"", None)
        stage.reply.write(b"x" * 1000)
        for second in range(122):
            transport.connection.sweep(second)  # type: ignore[attr-defined]  # it is the connection
        assert transport.closed
    assert stage.metrics.streams.broken == {"reader_too_slow": 1}
    assert stage.told == ["pause", "cancel"]


def test_a_body_without_parts_is_a_head_and_the_last_chunk() -> None:
    stage = Stage()
    with connected(stage) as transport:
        stage.reply.start(200, "text/plain", b"", None)
        stage.reply.end()
        assert transport.written == CHUNKED + b"0\r\n\r\n"


def test_a_client_of_http_1_0_reads_parts_until_the_connection_ends() -> None:
    stage = Stage()
    sent = b"POST / HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na"
    with connected(stage, sent) as transport:
        stage.reply.start(200, "text/plain", b"", None)
        stage.reply.write(b"ab")
        stage.reply.write(b"c")
        stage.reply.end()
        assert transport.written == HEAD + b"connection: close\r\n\r\nabc"
        assert transport.closed


@pytest.mark.parametrize(
    ("length", "head"), [(3, b"content-length: 3\r\n\r\n"), (None, b"transfer-encoding: chunked\r\n\r\n")]
)
def test_head_is_answered_with_the_head_alone(length: int | None, head: bytes) -> None:
    stage = Stage()
    with connected(stage, b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n") as transport:
        stage.reply.start(200, "text/plain", b"", length)
        stage.reply.write(b"abc")
        stage.reply.end()
        assert transport.written == HEAD + head
        assert not transport.closed


def test_a_failure_before_the_first_part_is_an_ordinary_response() -> None:
    for started in (False, True):
        stage = Stage()
        with connected(stage) as transport:
            if started:
                stage.reply.start(200, "text/plain", b"", None)
            stage.reply.fail(HandlerFailed("No."))
            assert status(transport.written) == [500]
            assert not transport.closed
            assert stage.metrics.responses == {500: 1}


def test_a_failure_after_the_first_part_ends_the_connection_without_a_last_chunk() -> None:
    stage = Stage()
    with connected(stage) as transport:
        stage.reply.start(200, "text/plain", b"", None)
        stage.reply.write(b"ab")
        stage.reply.fail(HandlerFailed("No."))
        assert transport.written == CHUNKED + b"2\r\nab\r\n"
        assert transport.closed


def test_fewer_bytes_than_announced_end_the_connection() -> None:
    stage = Stage()
    with connected(stage) as transport:
        stage.reply.start(200, "text/plain", b"", 5)
        stage.reply.write(b"ab")
        stage.reply.end()
        assert transport.closed


def test_where_only_the_end_of_the_connection_ends_the_body_a_failure_resets_it() -> None:
    stage = Stage()
    with connected(stage, b"POST / HTTP/1.0\r\ncontent-length: 1\r\n\r\na") as transport:
        stage.reply.start(200, "text/plain", b"", None)
        stage.reply.write(b"ab")
        stage.reply.fail(HandlerFailed("No."))
        assert transport.options == [(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))]
        assert transport.closed


def test_a_stream_is_paused_while_its_reader_does_not_read_and_its_bytes_are_held() -> None:
    stage = Stage()
    with connected(stage, room_bytes=200) as transport:
        stage.reply.start(200, "text/plain", b"", None)
        stage.reply.write(b"x" * 50)
        transport.turn()
        assert stage.told == []
        stage.reply.write(b"x" * 500)
        assert stage.told == ["pause"]
        before = stage.budget.held_bytes
        transport.turn()
        stage.reply.write(b"x" * 100)  # was on its way already
        assert stage.budget.held_bytes > before + 100
        transport.read()
        assert stage.told == ["pause", "resume"]
        assert stage.budget.held_bytes == 1, "the request's own body"
        stage.reply.end()
        assert stage.budget.held_bytes == 0


def test_a_plain_answer_that_the_socket_does_not_take_whole_pauses_nothing_but_the_next_one() -> None:
    stage = Stage()
    with connected(stage, post(b"a") + post(b"b"), room_bytes=50) as transport:
        Response(200, "text/plain", b"x" * 500).send(stage.reply)
        assert (stage.told, len(stage.replies)) == ([], 1)
        transport.read()
        assert len(stage.replies) == 2


def test_a_reader_that_leaves_cancels_its_request_once() -> None:
    stage = Stage()
    with connected(stage) as transport:
        stage.reply.start(200, "text/plain", b"", None)
        stage.reply.write(b"ab")
        transport.close()
    assert stage.told == ["cancel"]


async def waits(request: Request) -> Response:
    await asyncio.sleep(0)
    if request.path == "/missing":
        raise NotFound("Not here.")
    if request.path == "/broken":
        raise ZeroDivisionError
    return Response(200, "text/plain", b"hello")


@pytest.mark.parametrize(("path", "expected"), [("/", 200), ("/missing", 404), ("/broken", 500)])
def test_a_route_that_waits_answers_whatever_happens(path: str, expected: int) -> None:
    with connected(Stage(responder=InTask(waits)), post(b"", path)) as transport:
        assert status(transport.written) == [expected]


def test_a_route_that_answers_at_once_answers_even_if_it_fails() -> None:
    def fails(request: Request) -> Response:
        raise ZeroDivisionError(request.path)

    with connected(Stage(responder=AtOnce(fails)), post(b"") + post(b"")) as transport:
        assert status(transport.written) == [500, 500]
        assert b"The server failed; its log says why." in transport.written


OFFER = b"GET /talk HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


class Taker(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = b""

    def take(self, transport: asyncio.Transport, rest: bytes) -> None:
        transport.set_protocol(self)
        self.data_received(rest)

    def data_received(self, data: bytes) -> None:
        self.received += data


def test_another_protocol_takes_the_socket_with_the_bytes_behind_the_head() -> None:
    taker = Taker()
    stage = Stage(taker=lambda request: taker if request.header(b"upgrade") == "websocket" else None)
    with connected(stage, OFFER + b"fra") as transport:
        transport.connection.data_received(b"mes")  # type: ignore[attr-defined]  # a protocol of its own by now
        assert taker.received == b"frames"
        assert (transport.written, stage.open) == (b"", set())


def test_an_upgrade_that_is_refused_is_answered_in_http() -> None:
    def refuses(request: Request) -> Upgrade | None:
        raise NotFound(f"Nothing is spoken at {request.path}.")

    with connected(Stage(taker=refuses), OFFER) as transport:
        assert status(transport.written) == [404]


def test_an_upgrade_behind_other_requests_is_not_taken() -> None:
    taker = Taker()
    stage = Stage(taker=lambda _: taker)
    with connected(stage, post(b"a") + OFFER):
        assert taker.received == b""
        assert [request.path for request in stage.requests] == ["/invocations"]
        Response(200, "text/plain", b"").send(stage.reply)
        assert stage.requests[-1].path == "/talk"
