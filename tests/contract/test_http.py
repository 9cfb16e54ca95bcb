"""HTTP on the wire: odd but legal clients are served, hostile ones are refused within limits."""

from __future__ import annotations

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.contract.models import ECHO, OBEDIENT
from tests.contract.running import Server, running

POST = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
LIMITS = {
    "TIDEGATE_MAX_BODY_BYTES": "1000",
    "TIDEGATE_MAX_HEADER_BYTES": "4096",
    "TIDEGATE_MAX_HEADER_COUNT": "20",
    "TIDEGATE_MAX_CONNECTIONS": "20",
}
# Apart from those: a machine that is busy for so long would turn any other answer into one of these.
TIME_LIMITS = {
    "TIDEGATE_HEADER_TIMEOUT_S": "1",
    "TIDEGATE_IDLE_TIMEOUT_S": "3",
    "TIDEGATE_MIN_BODY_RATE_BYTES_PER_S": "1000",
}


@pytest.fixture(scope="module")
def server():
    with running({"code/inference.py": ECHO}) as server:
        yield server


@pytest.fixture(scope="module")
def strict():
    with running({"code/inference.py": ECHO}, **LIMITS) as server:
        yield server


@pytest.fixture(scope="module")
def hasty():
    with running({"code/inference.py": ECHO}, **TIME_LIMITS) as server:
        yield server


def read_all(client: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    while True:
        try:
            data = client.recv(65536)
        except ConnectionResetError:
            return received
        if not data:
            return received
        received += data


def read_reply(client: socket.socket) -> bytes:
    """One response, by its content-length."""
    received = b""
    while b"\r\n\r\n" not in received:
        data = client.recv(65536)
        assert data, f"the server closed after {received!r}"
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head)[1])
    while len(body) < length:
        body += client.recv(65536)
    return head + b"\r\n\r\n" + body


def talk(server: Server, data: bytes) -> bytes:
    with server.socket() as client:
        client.sendall(data)
        return read_all(client)


def status(reply: bytes) -> int:
    return int(reply.split(b" ", 2)[1])


def test_a_request_that_arrives_one_byte_at_a_time_is_answered(server: Server):
    request = POST + b"content-length: 4\r\n\r\nabcd"
    with server.socket() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(request)):
            client.sendall(request[i : i + 1])
        assert b'"body": "abcd"' in read_reply(client)


def test_a_chunked_body_is_joined(server: Server):
    request = POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\ntrailer: t\r\n\r\n"
    with server.socket() as client:
        client.sendall(request)
        assert b'"body": "abcde"' in read_reply(client)


def test_requests_sent_at_once_on_one_connection_are_answered_in_their_order(server: Server):
    bodies = [str(i).encode() for i in range(50)]
    with server.socket() as client:
        client.sendall(b"".join(POST + b"content-length: %d\r\n\r\n%b" % (len(body), body) for body in bodies))
        received = b""
        while received.count(b'"accept"') < 50:
            received += client.recv(65536)
    assert re.findall(rb'"body": "(\d+)"', received) == bodies


def test_one_connection_serves_many_requests_and_closes_when_asked(server: Server):
    with server.socket() as client:
        for _ in range(3):
            client.sendall(POST + b"content-length: 1\r\n\r\n1")
            assert status(read_reply(client)) == 200
        client.sendall(POST + b"connection: close\r\ncontent-length: 1\r\n\r\n1")
        reply = read_all(client)
        assert status(reply) == 200
        assert b"connection: close\r\n" in reply


def test_http_1_0_gets_an_answer_and_the_end_of_the_connection(server: Server):
    reply = talk(server, b"POST /invocations HTTP/1.0\r\ncontent-length: 1\r\n\r\n1")
    assert status(reply) == 200
    assert b"connection: close\r\n" in reply


def test_a_client_that_half_closes_after_its_request_is_answered(server: Server):
    with server.socket() as client:
        client.sendall(POST + b"content-length: 1\r\n\r\n1")
        client.shutdown(socket.SHUT_WR)
        assert status(read_all(client)) == 200


def test_expect_100_continue_is_told_to_continue_or_refused_at_once(strict: Server):
    with strict.socket() as client:
        client.sendall(POST + b"expect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        assert client.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abcd")
        assert status(read_reply(client)) == 200
    with strict.socket() as client:
        client.sendall(POST + b"expect: 100-continue\r\ncontent-length: 5000\r\n\r\n")
        assert status(read_reply(client)) == 413


def test_an_upgrade_that_is_not_offered_is_ignored(server: Server):
    upgrade = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
    reply = talk(server, POST + upgrade + b"content-length: 4\r\n\r\nabcd")
    assert status(reply) == 200
    assert b'"body": "abcd"' in reply


def test_absolute_targets_queries_and_escapes_reach_their_path(server: Server):
    for target in (b"http://host:1/ping", b"/ping?x=1", b"/%70ing"):
        with server.socket() as client:
            client.sendall(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")
            assert status(read_reply(client)) == 200


def test_a_transfer_coding_beside_chunked_is_501_and_the_end_of_the_connection(server: Server):
    reply = talk(server, POST + b"transfer-encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert status(reply) == 501
    assert b"The Transfer-Encoding 'gzip, chunked' is not read here; only chunked is." in reply
    assert b"connection: close\r\n" in reply


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /ping HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n",
        POST + b"content-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
        POST + b"content-length: 4, 4\r\n\r\nabcd",
        POST + b"content-length: +4\r\n\r\nabcd",
        POST + b"content-length: -1\r\n\r\n",
        POST + b"content-length: 99999999999999999999999\r\n\r\n",
        POST + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        POST + b"host: y\r\ncontent-length: 1\r\n\r\n1",
        POST + b"transfer-encoding: chunked\r\n\r\nxyz\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n"[:-2] + b"\x00\r\n\r\n",
        b"GET /ping HTTP/1.1\r\nna\x00me: x\r\n\r\n",
        b"GET /ping HTTP/9.9\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_a_request_that_two_servers_could_read_differently_is_400_and_the_end_of_the_connection(
    server: Server, request_bytes
):
    reply = talk(server, request_bytes)
    assert status(reply) == 400
    assert b"connection: close\r\n" in reply
    assert len(re.findall(rb"HTTP/1.1 \d", reply)) == 1
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]["code"] == "bad_request"


def test_a_short_request_that_is_not_admitted_is_answered_in_its_turn_and_the_connection_goes_on(server: Server):
    good, lost = (
        POST + b"content-length: 1\r\n\r\n1",
        b"POST /nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc",
    )
    with server.socket() as client:
        client.sendall(good + lost + lost + good)
        received = b""
        while received.count(b"HTTP/1.1 ") < 4 or not received.endswith(b"}"):
            received += client.recv(65536)
        assert re.findall(rb"HTTP/1.1 (\d+) ", received) == [b"200", b"404", b"404", b"200"]
        assert b"connection: close" not in received


def test_what_follows_a_refused_request_on_its_connection_is_not_executed(server: Server):
    smuggled = POST + b"content-length: 1\r\n\r\n1"
    reply = talk(server, POST + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled)
    assert len(re.findall(rb"HTTP/1.1 \d", reply)) == 1


def test_a_refusal_behind_other_requests_waits_for_its_turn(server: Server):
    good = POST + b"content-length: 1\r\n\r\n1"
    reply = talk(server, good + good + b"BAD\r\n\r\n" + good)
    assert re.findall(rb"HTTP/1.1 (\d+) ", reply) == [b"200", b"200", b"400"]


@pytest.mark.parametrize("head", [b"x-long: " + b"a" * 5000 + b"\r\n", b"".join(b"h%d: 1\r\n" % i for i in range(30))])
def test_too_many_header_bytes_or_headers_are_431(strict: Server, head):
    assert status(talk(strict, b"GET /ping HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n")) == 431


@pytest.mark.parametrize(
    "piece", [b"GET /ping HTTP/1.1\r\nx-endless: ", b"GET /", b"GET /ping HTTP/1.1\r\nhost: x\r\nx"]
)
def test_a_header_without_end_is_refused_long_before_it_fills_the_memory(strict: Server, piece):
    with strict.socket() as client:
        client.sendall(piece)
        sent = 0
        reply = b""
        client.settimeout(0.01)
        while not reply and sent < 50_000_000:
            try:
                client.sendall(b"a" * 1000)
                sent += 1000
                reply = client.recv(65536)
            except TimeoutError:
                continue
        assert status(reply) == 431
        assert sent < 1_000_000


@pytest.mark.parametrize("framing", [b"content-length: 1001\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n3e9\r\n"])
def test_a_body_over_the_limit_is_413_while_the_client_still_sends(strict: Server, framing):
    with strict.socket() as client:
        client.sendall(POST + framing + b"a" * 1001)
        for _ in range(20):
            client.sendall(b"a" * 1000)
        reply = read_reply(client)
        assert status(reply) == 413
        assert b"over the limit of 1000 bytes" in reply


def test_a_silent_connection_is_closed(hasty: Server):
    with hasty.socket() as client:
        assert read_all(client) == b""
    with hasty.socket() as client:
        client.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        assert status(read_reply(client)) == 200
        assert read_all(client) == b""


def test_headers_that_do_not_end_in_time_are_408(hasty: Server):
    assert status(talk(hasty, b"GET /ping HTTP/1.1\r\nhost: x\r\nslow: ")) == 408


def test_headers_dribbled_within_the_idle_time_are_408_all_the_same(hasty: Server):
    with hasty.socket() as client:
        client.settimeout(0.1)
        client.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\nslow: ")
        reply = b""
        for _ in range(600):
            try:
                client.sendall(b"a")
                reply = client.recv(65536)
            except TimeoutError:
                continue
            break
        assert status(reply) == 408


def test_a_body_slower_than_the_least_rate_is_408(hasty: Server):
    reply = talk(hasty, POST + b"content-length: 900\r\n\r\nabc")
    assert status(reply) == 408
    assert b"slower than 1000 bytes/s" in reply


def test_a_connection_over_the_limit_is_told_so_while_the_others_are_at_work(strict: Server):
    reply = b""

    def is_refused() -> bool:
        # Anew each time: headers that are not whole in time end their connection.
        nonlocal reply
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(strict.socket()).sendall(b"POST /invocations HTTP/1.1\r\n")
            reply = talk(strict, b"")
        return reply.startswith(b"HTTP/1.1 503 ")

    strict.wait_until(is_refused, "all connections are taken")
    assert b"There are 20 connections, which is the limit." in reply
    assert b"connection: close" in reply
    strict.wait_until(lambda: strict.ping() == 200, "there is room again")
    strict.wait_until(lambda: "there are as many connections as there may be" in strict.log(), "the log says so")


def test_idle_connections_make_room_for_new_ones_over_the_limit(strict: Server):
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(strict.socket())
        strict.wait_until(lambda: strict.ping() == 200, "one that was idle for a second has to go")


def test_an_aborted_connection_leaves_the_server_as_it_was(server: Server):
    for data in (b"", b"POST /invocations HT", POST + b"content-length: 100\r\n\r\nabc"):
        client = server.socket()
        client.sendall(data)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        client.close()
    assert server.post(b"1").status == 200


def test_a_large_body_travels_unchanged_both_ways(server: Server):
    body = bytes(range(1, 128)) * 80_000
    reply = server.post(body, "application/octet-stream")
    assert reply.json()["body"].encode("latin-1") == body


def test_a_full_queue_is_503_at_once_with_retry_after():
    with running({"code/inference.py": OBEDIENT}, TIDEGATE_QUEUE_SIZE="2") as server, ThreadPoolExecutor(5) as pool:
        order = json.dumps({"wait_for": "release"})
        computing = pool.submit(server.post, order)
        server.wait_until((server.model_dir / "calls").exists, "the worker is busy")
        others = [pool.submit(server.post, order) for _ in range(4)]
        server.wait_until(lambda: sum(future.done() for future in others) == 2, "two of four do not fit the queue")
        refused = [future.result() for future in others if future.done()]
        (server.model_dir / "release").touch()
        assert [reply.status for reply in refused] == [503, 503]
        assert refused[0].error["code"] == "overloaded"
        assert "its queue of 2 is full" in refused[0].error["message"]
        assert refused[0].headers["retry-after"] == "1"
        assert sorted(future.result(timeout=60).status for future in (computing, *others)) == [200, 200, 200, 503, 503]


def test_bodies_over_the_memory_that_they_may_take_together_are_503():
    limits = {"TIDEGATE_MAX_BYTES_IN_FLIGHT": "1000", "TIDEGATE_SPOOL_THRESHOLD_BYTES": "1000"}
    with running({"code/inference.py": ECHO}, **limits) as server:
        assert server.post(b"a" * 900, "text/csv").status == 200
        with server.socket() as first:
            head = b"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: text/csv\r\nContent-Length: 900\r\n\r\n"
            first.sendall(head + b"a" * 899)
            refused = server.wait_until(
                lambda: reply if (reply := server.post(b"a" * 900, "text/csv")).status != 200 else None, "it is at hand"
            )
            assert (refused.status, refused.error["code"]) == (503, "overloaded")
            first.sendall(b"a")
            assert first.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert server.post(b"a" * 900, "text/csv").status == 200


def test_a_request_that_waited_longer_than_the_time_limit_is_503_without_being_computed():
    limits = {"TIDEGATE_TIMEOUT_S": "3", "TIDEGATE_MAX_QUEUE_WAIT_S": "3"}
    with running({"code/inference.py": OBEDIENT}, **limits) as server, ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.post, json.dumps({"spin": 1}))
        server.wait_until((server.model_dir / "calls").exists, "the worker is busy")
        started = time.monotonic()
        second = pool.submit(server.post, json.dumps({"late": 1}))
        assert first.result(timeout=60).status == 504
        reply = second.result(timeout=60)
        # Either the successor was there in time for it, or it was told that it waited too long; never both.
        assert (reply.status, time.monotonic() > started) in ((200, True), (503, True))
        ran = "late" in (server.model_dir / "calls").read_text()
        assert ran == (reply.status == 200)


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("/predict", "predictions are at POST /invocations."),
        ("/docs", "predictions are at POST /invocations, and TIDEGATE_PAGES=on serves /playground, /docs and"),
        ("/", "predictions are at POST /invocations, and TIDEGATE_PAGES=on serves /playground, /docs and"),
        ("/health", "predictions are at POST /invocations, and the health check is GET /ping."),
    ],
)
def test_a_path_that_people_try_is_answered_with_the_one_that_is_there(server: Server, path: str, where: str) -> None:
    answer = server.request("GET", path)
    error = answer.json()["error"]
    assert (answer.status, error["code"]) == (404, "not_found")
    assert error["message"].startswith(f"There is nothing at {path}; {where}")
