"""A streamed answer between a container that the test holds and a caller that the test is."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError, EventStreamError

from tests.local_cloud.conftest import await_true
from tests.local_cloud.toy_container import Exchange, Stage, running_sagemaker

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with running_sagemaker(tmp_path_factory.mktemp("streams")) as stage:
        yield stage


def begun(stage: Stage, **options: Any) -> tuple[Exchange, Any]:
    """A stream whose head has come, and nothing else."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stage.stream, **options)
        exchange = stage.container.next()
        exchange.begin()
        return exchange, answer.result()


def part(events: Iterator[Any]) -> bytes:
    content: bytes = next(events)["PayloadPart"]["Bytes"]
    return content


def raw(stage: Stage, body: bytes) -> socket.socket:
    """A caller who has sent a request and reads only what the test makes him read."""
    url = urlsplit(stage.url)
    caller = socket.socket()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    caller.connect((url.hostname, url.port))
    head = f"POST /endpoints/toy/invocations-response-stream HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    caller.sendall(head.encode() + body)
    return caller


def test_each_part_leaves_before_the_container_yields_the_next(stage: Stage) -> None:
    exchange, answer = begun(stage, ContentType="text/csv", Accept="text/plain")
    assert (exchange.path, exchange.body) == ("/invocations", b"question")
    assert (exchange.headers["content-type"], exchange.headers["accept"]) == ("text/csv", "text/plain")
    assert (answer["ContentType"], answer["InvokedProductionVariant"]) == ("text/plain", "only")
    events = iter(answer["Body"])
    for word in (b"one", b"two", "drei ☃".encode()):
        exchange.chunk(word)
        assert part(events) == word
    exchange.end()
    assert list(events) == []


def test_a_large_chunk_comes_whole_in_several_parts(stage: Stage) -> None:
    exchange, answer = begun(stage)
    content = bytes(range(256)) * 8192
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(lambda: (exchange.chunk(content), exchange.end()))
        parts = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
        sending.result()
    assert b"".join(parts) == content
    assert len(parts) > 1


def test_a_stream_that_the_container_breaks_off_is_a_model_stream_error(stage: Stage) -> None:
    exchange, answer = begun(stage)
    events = iter(answer["Body"])
    exchange.chunk(b"one")
    assert part(events) == b"one"
    exchange.break_off()
    with closing(answer["Body"]), pytest.raises(EventStreamError, match=r"ModelStreamError.*closed or reset"):
        list(events)


def test_a_stream_that_breaks_off_in_a_chunk_gives_what_came_of_it(stage: Stage) -> None:
    exchange, answer = begun(stage)
    events = iter(answer["Body"])
    exchange.connection.sendall(b"a\r\nhalf")
    assert part(events) == b"half"
    exchange.break_off()
    with closing(answer["Body"]), pytest.raises(EventStreamError, match="ModelStreamError"):
        list(events)


def test_a_stream_whose_container_died_is_an_internal_stream_failure(tmp_path: Path) -> None:
    with running_sagemaker(tmp_path) as stage:
        exchange, answer = begun(stage)
        events = iter(answer["Body"])
        exchange.chunk(b"one")
        assert part(events) == b"one"
        stage.container.die()
        with closing(answer["Body"]), pytest.raises(EventStreamError, match=r"InternalStreamFailure.*container ended"):
            list(events)


@pytest.mark.parametrize(("status", "kind"), [(400, "client"), (500, "server"), (503, "server")])
def test_an_error_before_the_first_byte_is_an_ordinary_model_error(stage: Stage, status: int, kind: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(stage.stream)
        stage.container.next().answer(b"no", status=status)
        with pytest.raises(ClientError, match=rf"Received {kind} error \({status}\)") as caught:
            asked.result()
    assert caught.value.response["OriginalStatusCode"] == status
    assert caught.value.response["OriginalMessage"] == "no"


def test_an_error_that_does_not_end_is_shown_by_its_beginning(stage: Stage) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(stage.stream)
        exchange = stage.container.next()
        exchange.begin(status=500)
        exchange.chunk(b"x" * 100_000)
        with pytest.raises(ClientError, match="could not load the entire response body"):
            asked.result()
        await_true(exchange.caller_is_gone, "the rest is not waited for")
        exchange.break_off()


def test_a_container_that_hangs_up_before_the_first_byte_is_a_model_error_with_status_0(stage: Stage) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(stage.stream)
        stage.container.next().break_off()
        with pytest.raises(ClientError, match="could not get a response") as caught:
            asked.result()
    assert caught.value.response["OriginalStatusCode"] == 0


def test_a_stream_that_takes_too_long_ends_with_the_platforms_time_out(tmp_path: Path) -> None:
    with running_sagemaker(tmp_path, stream_timeout_s=4) as stage:
        exchange, answer = begun(stage)
        exchange.chunk(b"one")
        with closing(answer["Body"]):
            events = iter(answer["Body"])
            assert part(events) == b"one"
            with pytest.raises(EventStreamError, match=r"ModelStreamError.*did not finish its response in time"):
                list(events)
        await_true(exchange.caller_is_gone, "the container's connection is closed")
        exchange.break_off()


def test_the_limit_of_a_plain_call_is_its_own(tmp_path: Path) -> None:
    with running_sagemaker(tmp_path, invocation_timeout_s=2) as stage, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(stage.client().invoke_endpoint, EndpointName="toy", Body=b"question")
        exchange = stage.container.next()
        with pytest.raises(ClientError, match="timed out while waiting for a response from container primary"):
            asked.result()
        await_true(exchange.caller_is_gone, "the container's connection is closed")
        exchange.break_off()


def test_a_plain_call_never_gets_half_of_an_answer(stage: Stage) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(stage.client().invoke_endpoint, EndpointName="toy", Body=b"question")
        exchange = stage.container.next()
        exchange.begin()
        exchange.chunk(b"half")
        exchange.break_off()
        with pytest.raises(ClientError, match="could not get a response") as caught:
            asked.result()
    assert caught.value.response["OriginalStatusCode"] == 0


def test_a_caller_that_leaves_closes_the_stream_to_the_container(stage: Stage) -> None:
    exchange, answer = begun(stage)
    exchange.chunk(b"one")
    assert part(iter(answer["Body"])) == b"one"
    assert not exchange.caller_is_gone()
    answer["Body"].close()
    await_true(exchange.caller_is_gone, "the container learns of it")
    exchange.break_off()
    exchange, answer = begun(stage)
    exchange.end()
    assert list(answer["Body"]) == []


def test_a_reader_that_does_not_read_slows_the_container_down_and_loses_nothing(stage: Stage) -> None:
    block = bytes(range(256)) * 256
    with closing(raw(stage, b"question")) as caller:
        exchange = stage.container.next()
        exchange.begin()
        blocks = 0
        while exchange.takes():
            exchange.chunk(block)
            blocks += 1
            assert blocks * len(block) < 64 * MIB, "what nobody reads is kept somewhere"
        received = bytearray()
        with ThreadPoolExecutor(1) as pool:
            ending = pool.submit(lambda: (exchange.chunk(b"last"), exchange.end()))
            while not received.endswith(b"0\r\n\r\n"):
                received += caller.recv(65_536)
            ending.result()
    assert received.count(b":event-type\x07\x00\x0bPayloadPart") >= blocks
    assert len(received) > blocks * len(block)


def test_a_reader_that_never_reads_is_hung_up_on_at_the_streams_limit(tmp_path: Path) -> None:
    with running_sagemaker(tmp_path, stream_timeout_s=4) as stage, closing(raw(stage, b"question")):
        exchange = stage.container.next()
        exchange.begin()
        while exchange.takes():
            exchange.chunk(b"x" * 65_536)
        await_true(exchange.caller_is_gone, "the container is released")
        exchange.break_off()


def test_a_caller_that_left_before_the_head_leaves_nothing_behind(stage: Stage) -> None:
    for _ in range(3):
        with closing(raw(stage, b"question")):
            exchange = stage.container.next()
        await_true(exchange.caller_is_gone, "the container learns of it")
        exchange.break_off()
    exchange, answer = begun(stage)
    exchange.end()
    assert list(answer["Body"]) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_callers_that_vanish_in_the_middle_leave_no_descriptor_and_no_thread(stage: Stage) -> None:
    def held() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    exchange, answer = begun(stage)
    exchange.end()
    assert list(answer["Body"]) == []
    before = held()
    exchanges = []
    for number in range(30):
        with closing(raw(stage, b"question")) as caller:
            exchange = stage.container.next()
            exchange.begin()
            exchange.chunk(b"x" * 1000)
            if number % 2:
                caller.recv(100)
        exchanges.append(exchange)
    for exchange in exchanges:
        await_true(exchange.caller_is_gone, "the container learns of it")
        exchange.break_off()
    # The toy's own side of each connection goes with it.
    await_true(lambda: all(now <= then for now, then in zip(held(), before, strict=True)), "all is given back")


def test_the_request_of_a_stream_is_limited_as_that_of_a_plain_call(tmp_path: Path) -> None:
    with (
        running_sagemaker(tmp_path, body_bytes=2000) as stage,
        pytest.raises(ClientError, match=r"\(413\).*HTTP content length exceeded 2000 bytes"),
    ):
        stage.stream(b"x" * 2001)
