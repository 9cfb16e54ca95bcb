"""Streams on real sockets: what a handler yields is with the client before the next is computed."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.asking import metric
from tests.contract.running import Server, running, wait_until

STREAMING = """
import asyncio, json, os, time
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir)

def input_fn(data, content_type):
    return json.loads(data)

def wait_for(path):
    while not path.exists():
        time.sleep(0.001)

def predict_fn(order, model):
    if "stream" not in order:
        return order
    return asynchronous(order, model) if order.get("async") else plain(order, model)

def output_fn(prediction, accept):
    return prediction if not isinstance(prediction, dict) else json.dumps({**prediction, "pid": os.getpid()})

def plain(order, model):
    name = order["stream"]
    try:
        for number in range(order.get("chunks", 1_000_000_000)):
            if number == order.get("gate_before"):
                wait_for(model / f"{name}.gate")
            if number == order.get("fail_before"):
                raise RuntimeError("no more")
            (model / f"{name}.yielded").write_text(str(number + 1))
            yield order.get("chunk", f"{number}\\n") * order.get("times", 1)
    finally:
        (model / f"{name}.closed").touch()

async def asynchronous(order, model):
    name = order["stream"]
    try:
        for number in range(order.get("chunks", 1_000_000_000)):
            while number == order.get("gate_before") and not (model / f"{name}.gate").exists():
                await asyncio.sleep(0.001)
            if number == order.get("fail_before"):
                raise RuntimeError("no more")
            (model / f"{name}.yielded").write_text(str(number + 1))
            yield order.get("chunk", f"{number}\\n") * order.get("times", 1)
            await asyncio.sleep(0)
    finally:
        (model / f"{name}.closed").touch()
"""

WAYS = pytest.mark.parametrize("way", [{}, {"async": True}], ids=["plain", "async"])


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with running({"code/inference.py": STREAMING}) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """The same for all: every generator has ended when a test is over, and nothing is left that one has written."""
    yield shared
    begun = list(shared.model_dir.glob("*.yielded"))
    for path in begun:
        path.with_suffix(".gate").touch()
    shared.wait_until(lambda: metric(shared, "tidegate_streams_open") == 0, "no stream is left")
    shared.wait_until(lambda: all(path.with_suffix(".closed").exists() for path in begun), "all generators are closed")
    for kind in ("gate", "yielded", "closed"):
        for path in shared.model_dir.glob(f"*.{kind}"):
            path.unlink()


@pytest.fixture
def fresh() -> Iterator[Server]:
    with running({"code/inference.py": STREAMING}) as server:
        yield server


@contextlib.contextmanager
def asked(server: Server, **order: Any) -> Iterator[http.client.HTTPResponse]:
    """The response to an order, whose body is still to be read."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", "/invocations", json.dumps(order), {"content-type": "application/json"})
        yield connection.getresponse()


def broken(response: http.client.HTTPResponse) -> bytes:
    """What came of a body that must not end as a whole one does."""
    try:
        whole = response.read()
    except http.client.IncompleteRead as error:
        return error.partial
    except ConnectionResetError:
        return b""
    raise AssertionError(f"the client believes that it has all: {whole[-100:]!r}")


def exists(server: Server, name: str) -> bool:
    return (server.model_dir / name).exists()


@WAYS
def test_a_chunk_is_with_the_client_before_the_next_is_computed(server: Server, way: dict[str, bool]) -> None:
    with asked(server, stream="a", chunks=2, gate_before=1, **way) as response:
        assert response.status == 200
        assert response.getheader("transfer-encoding") == "chunked"
        assert response.readline() == b"0\n"
        assert (server.model_dir / "a.yielded").read_text() == "1"
        (server.model_dir / "a.gate").touch()
        assert response.read() == b"1\n"


@WAYS
def test_plain_requests_are_answered_while_streams_are_open(server: Server, way: dict[str, bool]) -> None:
    # One that waits for its next chunk: a plain one would keep the thread meanwhile.
    waiting = {"gate_before": 1} if way else {}
    with asked(server, stream="a", **waiting, **way) as one, asked(server, stream="b", **way) as other:
        assert one.readline() == other.readline() == b"0\n"
        for number in range(5):
            assert server.post(json.dumps({"number": number})).json()["number"] == number
        assert other.readline() == b"1\n"


@WAYS
@pytest.mark.parametrize("before", [1, 3])
def test_an_error_in_the_middle_breaks_the_body_off(server: Server, way: dict[str, bool], before: int) -> None:
    with asked(server, stream="a", fail_before=before, **way) as response:
        assert response.status == 200
        assert b"".join(b"%d\n" % number for number in range(before)).startswith(broken(response))
    assert server.post("{}").status == 200


@WAYS
def test_an_error_before_the_first_chunk_is_an_ordinary_one(server: Server, way: dict[str, bool]) -> None:
    logged = len(server.log())
    with asked(server, stream="a", fail_before=0, **way) as response:
        assert response.status == 500
        error = json.loads(response.read())["error"]
    assert error["code"] == "handler_failed"
    assert "no more" in server.log()[logged:]


@WAYS
def test_a_generator_that_yields_nothing_is_an_empty_answer(server: Server, way: dict[str, bool]) -> None:
    with asked(server, stream="a", chunks=0, **way) as response:
        assert (response.status, response.read()) == (200, b"")
    assert exists(server, "a.closed")


@WAYS
def test_a_reader_that_leaves_ends_the_generator_and_the_worker_is_free(server: Server, way: dict[str, bool]) -> None:
    with asked(server, stream="a", **way) as response:
        assert response.readline() == b"0\n"
    server.wait_until(lambda: exists(server, "a.closed"), "the generator is closed")
    assert server.post("{}").status == 200


@WAYS
def test_a_slow_reader_holds_its_own_generator_and_nothing_else(server: Server, way: dict[str, bool]) -> None:
    def yielded() -> int:
        return int((server.model_dir / "slow.yielded").read_text() or 0)

    with asked(server, stream="slow", chunk="x", times=65536, **way) as response:
        assert response.read(1) == b"x"
        seen: list[int] = []

        def rests() -> bool:
            # Each plain request lets the generator have a turn, if it has one.
            seen.append(yielded())
            assert server.post("{}").status == 200
            return len(seen) > 20 and len(set(seen[-20:])) == 1

        server.wait_until(rests, "the generator is not asked any more")
        before = yielded()
        assert len(response.read(65536 * before)) == 65536 * before
        server.wait_until(lambda: yielded() > before, "it is asked again")


def test_one_stream_more_than_a_worker_may_have_is_503() -> None:
    environment = {"TIDEGATE_MAX_STREAMS_PER_WORKER": "1"}
    with running({"code/inference.py": STREAMING}, **environment) as server:
        with asked(server, stream="a") as first:
            assert first.readline() == b"0\n"
            with asked(server, stream="b") as second:
                assert second.status == 503
                assert "TIDEGATE_MAX_STREAMS_PER_WORKER" in json.loads(second.read())["error"]["message"]
            assert first.readline() == b"1\n"
        server.wait_until(lambda: exists(server, "a.closed"), "the first is closed")
        with asked(server, stream="c", chunks=1) as third:
            assert third.read() == b"0\n"


@WAYS
def test_a_worker_that_is_killed_breaks_its_streams_and_nothing_is_computed_again(
    fresh: Server, way: dict[str, bool]
) -> None:
    with asked(fresh, stream="a", gate_before=1, **way) as response:
        assert response.readline() == b"0\n"
        (worker,) = fresh.workers()
        worker.send_signal(signal.SIGKILL)
        assert broken(response) == b""
    fresh.wait_until(lambda: fresh.post("{}").status == 200, "the successor answers")
    assert (fresh.model_dir / "a.yielded").read_text() == "1"


def test_a_generator_that_hangs_costs_the_worker_and_breaks_its_stream() -> None:
    with running({"code/inference.py": STREAMING}, TIDEGATE_TIMEOUT_S="3") as server:
        (worker,) = server.workers()
        with asked(server, stream="a", gate_before=1) as response:
            assert response.readline() == b"0\n"
            assert broken(response) == b""
        wait_until(lambda: not worker.is_running(), "the worker is gone", log=server.log)
        server.wait_until(lambda: server.post("{}").status == 200, "the successor answers")


def test_an_asynchronous_generator_that_hangs_is_ended_alone() -> None:
    with running({"code/inference.py": STREAMING}, TIDEGATE_TIMEOUT_S="3") as server:
        (worker,) = server.workers()
        with asked(server, stream="b", **{"async": True}) as other:
            with asked(server, stream="a", gate_before=1, **{"async": True}) as response:
                assert response.readline() == b"0\n"
                assert broken(response) == b""
            assert exists(server, "a.closed")
            assert other.readline() == b"0\n"
        assert worker.is_running()


def test_many_streams_and_plain_requests_beside_them(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        responses = [
            stack.enter_context(asked(server, stream=f"s{number}", **({"async": True} if number % 2 else {})))
            for number in range(20)
        ]
        for line in range(3):
            for response in responses:
                assert response.readline() == b"%d\n" % line
            assert server.post("{}").status == 200
    for number in range(20):
        server.wait_until(lambda number=number: exists(server, f"s{number}.closed"), "all are closed")  # type: ignore[misc]
    assert server.post("{}").status == 200


def test_streams_are_counted_while_they_are_open_with_their_chunks_and_by_what_broke_them(fresh: Server) -> None:
    def broken_by(reason: str) -> float:
        return metric(fresh, "tidegate_streams_broken_total", reason=reason)

    with asked(fresh, stream="a", chunks=2, gate_before=1, **{"async": True}) as response:
        assert response.readline() == b"0\n"
        assert metric(fresh, "tidegate_streams_open") == 1
        (fresh.model_dir / "a.gate").touch()
        assert response.read() == b"1\n"
    fresh.wait_until(lambda: metric(fresh, "tidegate_streams_open") == 0, "it is over")
    assert metric(fresh, "tidegate_stream_chunks_total") == 2
    assert metric(fresh, "tidegate_stream_first_chunk_seconds_count") == 1
    assert metric(fresh, "tidegate_streams_broken_total") == 0
    assert metric(fresh, "tidegate_responses_total", status="200") == 1
    with asked(fresh, stream="b", fail_before=1) as response:
        broken(response)
    assert broken_by("handler_failed") == 1
    with asked(fresh, stream="c") as response:
        assert response.readline() == b"0\n"
    fresh.wait_until(lambda: broken_by("reader_left") == 1, "the reader that left is counted")
    assert metric(fresh, "tidegate_streams_open") == 0


@pytest.mark.parametrize("fails", [{}, {"fail_before": 1}], ids=["whole", "broken"])
def test_a_client_of_http_1_0_reads_to_the_end_of_the_connection_and_sees_a_break_as_a_reset(
    server: Server, fails: dict[str, int]
) -> None:
    body = json.dumps({"stream": "a", "chunks": 2, "gate_before": 1, "async": True, **fails}).encode()
    head = b"POST /invocations HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    with server.socket() as client:
        client.sendall(head % len(body) + body)
        received = b""
        while not received.endswith(b"\r\n\r\n0\n"):
            piece = client.recv(65536)
            assert piece
            received += piece
        assert b"transfer-encoding" not in received
        assert b"connection: close\r\n" in received
        (server.model_dir / "a.gate").touch()
        if fails:
            with pytest.raises(ConnectionResetError):
                client.recv(65536)
        else:
            assert client.recv(65536) == b"1\n"
            assert client.recv(65536) == b""


def test_a_stream_that_the_end_of_the_server_meets_is_broken_off() -> None:
    with running({"code/inference.py": STREAMING}, TIDEGATE_DRAIN_TIMEOUT_S="1") as server:
        with asked(server, stream="a", gate_before=1, **{"async": True}) as response:
            assert response.readline() == b"0\n"
            server.process.send_signal(signal.SIGTERM)
            assert broken(response) == b""
        assert server.ended() == 0
