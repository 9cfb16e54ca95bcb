"""A WebSocket of the caller's, passed through to a container that the test holds: bytes as they are, both ways."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.local_cloud.conftest import await_true
from tests.local_cloud.toy_container import PATIENCE_S, Exchange, Stage, running_sagemaker

PATH = "/endpoints/toy/invocations-bidirectional-stream"
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
ACCEPTED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with running_sagemaker(tmp_path_factory.mktemp("bidirectional")) as stage:
        yield stage


def opening(stage: Stage, path: str = PATH, early: bytes = b"", **headers: str) -> socket.socket:
    url = urlsplit(stage.url)
    caller = socket.create_connection((url.hostname or "", url.port or 0), timeout=PATIENCE_S)
    lines = [f"GET {path} HTTP/1.1", "Host: x", *(f"{n}: {v}" for n, v in {**HANDSHAKE, **headers}.items()), "", ""]
    caller.sendall("\r\n".join(lines).encode() + early)
    return caller


def received(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size and (piece := connection.recv(size - len(content))):
        content += piece
    return content


def head(caller: socket.socket) -> bytes:
    content = b""
    while not content.endswith(b"\r\n\r\n"):
        piece = caller.recv(1)
        assert piece, f"the connection ended after {content!r}"
        content += piece
    return content


def accepted(stage: Stage, **headers: str) -> tuple[socket.socket, Exchange]:
    caller = opening(stage, **headers)
    exchange = stage.container.next()
    exchange.connection.sendall(ACCEPTED)
    assert head(caller).startswith(b"HTTP/1.1 101 ")
    return caller, exchange


def test_the_container_sees_the_handshake_at_its_own_path(stage: Stage) -> None:
    caller, exchange = accepted(stage, **{"Sec-WebSocket-Protocol": "chat", "X-Stranger": "1", "Cookie": "a=b"})
    with closing(caller):
        assert (exchange.method, exchange.path) == ("GET", "/invocations-bidirectional-stream")
        assert exchange.headers["sec-websocket-key"] == HANDSHAKE["Sec-WebSocket-Key"]
        assert exchange.headers["sec-websocket-protocol"] == "chat"
        assert exchange.headers["upgrade"] == "websocket"
        assert exchange.headers["x-amzn-sagemaker-request-id"]
        assert exchange.headers.keys().isdisjoint({"x-stranger", "cookie", "accept-encoding"})
    exchange.break_off()


def test_bytes_go_both_ways_as_they_are(stage: Stage) -> None:
    caller, exchange = accepted(stage)
    with closing(caller):
        for content in (b"\x81\x85abcd" + bytes(range(5)), bytes(range(256)) * 1000):
            caller.sendall(content)
            assert received(exchange.connection, len(content)) == content
            exchange.connection.sendall(content[::-1])
            assert received(caller, len(content)) == content[::-1]
    exchange.break_off()


def test_what_comes_with_the_handshake_of_either_side_is_not_lost(stage: Stage) -> None:
    with closing(opening(stage, early=b"early")) as caller:
        exchange = stage.container.next()
        exchange.connection.sendall(ACCEPTED + b"first")
        assert head(caller).startswith(b"HTTP/1.1 101 ")
        assert received(caller, 5) == b"first"
        assert received(exchange.connection, 5) == b"early"
        exchange.break_off()


@pytest.mark.parametrize(
    ("path", "headers", "seen"),
    [
        (PATH, {"X-Amzn-SageMaker-Model-Invocation-Path": "v1/realtime"}, "/v1/realtime"),
        (
            PATH,
            {"X-Amzn-SageMaker-Model-Query-String": "voice=alloy&rate=16%20k"},
            "/invocations-bidirectional-stream?voice=alloy&rate=16%20k",
        ),
        (f"{PATH}?voice=alloy", {}, "/invocations-bidirectional-stream?voice=alloy"),
    ],
)
def test_path_and_query_go_on_as_sent(stage: Stage, path: str, headers: dict[str, str], seen: str) -> None:
    with closing(opening(stage, path, **headers)):
        exchange = stage.container.next()
        assert exchange.path == seen
        exchange.break_off()


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        (PATH, {"X-Amzn-SageMaker-Model-Invocation-Path": "/v1"}, 400, "must not begin with a slash"),
        (PATH, {"X-Amzn-SageMaker-Model-Invocation-Path": "v" * 101}, 400, "has 101 characters; 100 are allowed"),
        (PATH, {"X-Amzn-SageMaker-Model-Query-String": "v" * 2049}, 400, "has 2049 characters; 2048 are allowed"),
        (PATH, {"X-Amzn-SageMaker-Model-Invocation-Path": "a b"}, 400, "characters that an address cannot have"),
        (PATH.replace("toy", "nobody"), {}, 400, "Endpoint nobody of account 123456789012 not found"),
        (PATH, {"X-Amzn-SageMaker-Target-Variant": "other"}, 400, "Variant other of endpoint toy not found"),
        (PATH, {"Upgrade": "h2c"}, 404, "does not have the runtime operation"),
    ],
)
def test_what_the_service_refuses_is_told_before_the_upgrade(
    stage: Stage, path: str, headers: dict[str, str], status: int, words: str
) -> None:
    with closing(opening(stage, path, **headers)) as caller:
        told = head(caller).decode()
        assert told.startswith(f"HTTP/1.1 {status} ")
        length = int(told.lower().partition("content-length: ")[2].partition("\r\n")[0])
        assert words in json.loads(received(caller, length))["message"]


def test_a_containers_refusal_is_a_model_error(stage: Stage) -> None:
    with closing(opening(stage)) as caller:
        stage.container.next().answer(b"no stream_fn", status=404)
        told = head(caller).decode()
        assert told.startswith("HTTP/1.1 424 ")
        length = int(told.lower().partition("content-length: ")[2].partition("\r\n")[0])
        assert b"no stream_fn" in received(caller, length)


def test_an_end_of_either_side_is_passed_on(stage: Stage) -> None:
    caller, exchange = accepted(stage)
    with closing(caller):
        exchange.connection.sendall(b"last words")
        exchange.break_off()
        assert received(caller, 10) == b"last words"
        assert caller.recv(1) == b""
    caller, exchange = accepted(stage)
    caller.close()
    await_true(exchange.caller_is_gone, "the container learns of it")
    exchange.break_off()


def test_a_slow_reader_slows_the_other_side_down(stage: Stage) -> None:
    caller, exchange = accepted(stage)
    with closing(caller):
        sent = 0
        while exchange.takes():
            sent += exchange.connection.send(b"x" * 65_536)
            assert sent < 64 * 1024 * 1024, "what nobody reads is kept somewhere"
        assert len(received(caller, sent)) == sent
    exchange.break_off()


def test_a_connection_lives_no_longer_than_its_limit(tmp_path: Path) -> None:
    with running_sagemaker(tmp_path, bidirectional_timeout_s=3) as stage:
        caller, exchange = accepted(stage)
        with closing(caller):
            assert caller.recv(1) == b""
            await_true(exchange.caller_is_gone, "the container learns of it")
        exchange.break_off()
