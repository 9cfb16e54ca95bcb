"""What somebody who means harm sends to a server that runs: each was tried, and those that hit are tests now.

Malformed requests by the thousand are in test_fuzz.py; framing that two servers read differently in test_http.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import socket
import struct
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from tests.contract.running import Reply, Server, running
from tidegate.inference.errors import RequestError
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.models import capacity
from tidegate.inference.frontend.models.model_routes import ModelRoutes
from tidegate.inference.frontend.models.registry import Registry
from tidegate.inference.frontend.workers.fork_server import ForkServer
from tidegate.inference.protocol import Kind
from tidegate.inference.settings import Settings

MIB = 1024 * 1024
GROWTH_BYTES = 32 * MIB
CHUNKED_HEAD = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: text/csv\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNKED = CHUNKED_HEAD + b"3\r\n1,2\r\n0\r\n"
DEFAULTS = """
def model_fn(model_dir):
    return None

def predict_fn(data, model, context):
    return context.get_all_request_header(0)
"""
"""Leaves the reading of bodies to the server, and answers the headers that it sees."""

LARGE_ANSWERS = """
ANSWER = b"x" * 1_000_000

def model_fn(model_dir):
    return None

def input_fn(data, content_type):
    return data

def predict_fn(data, model):
    return ANSWER

def output_fn(prediction, accept):
    return prediction
"""


FORGES = """
import os, stat

def model_fn(model_dir):
    return None

def input_fn(data, content_type):
    return bytes(data)

def predict_fn(data, model):
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, data)
        except OSError:
            pass
    return b"wrote"

def output_fn(prediction, accept):
    return prediction
"""
"""Writes its body into every socket that it has: that to the frontend is among them."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running({"code/inference.py": DEFAULTS}) as server:
        yield server


@pytest.fixture(scope="module")
def models() -> Iterator[Server]:
    with running({}, SAGEMAKER_MULTI_MODEL="true") as server:
        yield server


def resident(server: Server) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


def all_that_comes(client: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while piece := client.recv(65536):
            received += piece
    return received


def test_what_follows_a_chunked_body_does_not_become_a_header(server: Server) -> None:
    with server.socket() as client:
        client.sendall(CHUNKED + b"x-amzn-sagemaker-target-model: another\r\nconnection: close\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        head, _, body = all_that_comes(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    seen = json.loads(body)
    assert seen["content-type"] == "text/csv"
    assert "x-amzn-sagemaker-target-model" not in seen


@pytest.mark.parametrize("piece", [b"a: b\r\n" * 10_000, b"a" * 60_000], ids=["many", "one"])
def test_trailers_without_end_are_refused_long_before_they_fill_the_memory(server: Server, piece) -> None:
    before = resident(server)
    with server.socket() as client:
        client.sendall(CHUNKED + b"a: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(1000):  # 60 MB, where not refused
                client.sendall(piece)
        assert resident(server) - before < GROWTH_BYTES
        assert all_that_comes(client).startswith(b"HTTP/1.1 431 ")
    assert server.ping() == 200


def test_a_chunk_that_arrives_long_after_its_size_is_no_trailer(server: Server) -> None:
    body = b"1," * 100_000 + b"1"
    with server.socket() as client:
        client.sendall(CHUNKED_HEAD + f"{len(body):x}\r\n".encode())
        assert server.ping() == 200  # the size alone has been read by now
        client.sendall(body + b"\r\n0\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"


def test_whoever_does_not_read_his_answers_gets_no_further_ones() -> None:
    with running({"code/inference.py": LARGE_ANSWERS}) as server, server.socket() as client:
        before = resident(server)
        request = b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: text/csv\r\ncontent-length: 1\r\n\r\n1"
        client.sendall(request * 200)
        other = [server.post(b"1", "text/csv").status for _ in range(40)]  # as long as 40 answers take
        assert resident(server) - before < GROWTH_BYTES, "200 MB were asked for"
        assert other == [200] * 40
        received = 0
        client.settimeout(60)
        while received < 200_000_000:
            received += len(client.recv(MIB))
        assert server.ping() == 200


def png(side: int) -> bytes:
    """A white square of one bit for each pixel: 21 KB at 13,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * ((side + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as member:
        for _ in range(1100):
            member.write(bytes(MIB))
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "content_type"), [(png(13_000), "image/png"), (zip_bomb(), "application/x-npz")], ids=["png", "npz"]
)
def test_a_small_body_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked(
    server: Server, body, content_type
) -> None:
    (worker,) = server.workers()
    assert len(body) < 2 * MIB
    reply = server.post(body, content_type)
    assert reply.status == 400
    assert "the limit is 1073741824" in reply.error["message"]
    peak = int(Path(f"/proc/{worker.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    assert peak < 1024 * MIB
    assert [found.pid for found in server.workers()] == [worker.pid]


def load(server: Server, name: str, url: str) -> Reply:
    return server.request("POST", "/models", json.dumps({"model_name": name, "url": url}))


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://example.com/model.tar.gz",
        "s3://bucket/model.tar.gz",
        "file:///etc",
        "../../etc",
        "/etc/passwd",
        "/no/such\n\x1b[31mplace",
        "\ud800",
    ],
)
def test_a_models_url_is_a_directory_and_nothing_that_is_fetched(models: Server, url) -> None:
    reply = load(models, "m", url)
    assert reply.status in (400, 404), reply.body
    assert models.request("GET", "/models").json() == {"models": []}


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", "\ud800", "a\nb", "a\x1b[31m", "a" * 5000])
def test_a_models_name_holds_nothing_that_a_path_a_log_or_a_metric_could_trip_over(models: Server, name) -> None:
    reply = load(models, name, "/etc")
    assert (reply.status, reply.error["code"]) == (400, "bad_request")
    assert models.request("GET", "/metrics").status == 200


@pytest.mark.parametrize("name", [".", "..", "%2e%2e", 'a"} 1 #', "é", "<script>"])
def test_a_models_name_is_no_path_whatever_it_looks_like(models: Server, tmp_path, name) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text(DEFAULTS)
    assert load(models, name, str(tmp_path)).status == 200
    try:
        listed = models.request("GET", "/models").json()["models"]
        assert listed == [{"modelName": name, "modelUrl": str(tmp_path)}]
        assert models.request("GET", "/metrics").status == 200
        for path in ("/models/../models/x", "/models/%2e%2e%2fx", "/models//invoke"):
            assert models.request("GET", path).status == 404
    finally:
        assert models.request("DELETE", f"/models/{quote(name, safe='')}").status == 200


def test_others_are_answered_while_the_size_of_a_huge_directory_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    counting, counted = threading.Event(), threading.Event()

    def count(_: Path) -> int:
        counting.set()
        assert counted.wait(60)
        return 10**15

    monkeypatch.setattr(capacity, "file_bytes", count)
    routes = ModelRoutes(Registry(Settings(multi_model=True), ForkServer(logging.INFO), lambda _cause: None))

    async def both() -> tuple[int, Any]:
        order = Request(method="POST", target=b"/models", headers=[])
        order.body.append(json.dumps({"model_name": "m", "url": "/etc"}).encode())
        loading = asyncio.create_task(routes.answer(order))
        await asyncio.to_thread(counting.wait, 60)
        listed = await routes.answer(Request(method="GET", target=b"/models", headers=[]))
        counted.set()
        with pytest.raises(RequestError) as refused:
            await loading
        return refused.value.status, json.loads(listed.body)

    assert asyncio.run(both()) == (507, {"models": []})


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack("<IB", 0, 99),
        struct.pack("<IB", 2, Kind.ANSWER) + b"xx",
        struct.pack("<IB", 15, Kind.ERROR) + struct.pack("<QHH", 1, 500, 2) + b"\xff\xff\xff",
        struct.pack("<IB", 18, Kind.ANSWER) + struct.pack("<QHII", 10**15, 200, 0, 0),
        struct.pack("<IB", 2**32 - 1, Kind.ANSWER) + b"endless",
    ],
    ids=["unknown kind", "short answer", "no text", "answer to nobody", "4 GiB"],
)
def test_a_model_that_writes_into_its_own_pipe_harms_no_other_model(forger: Server, frame) -> None:
    other, own = {"content-type": "text/csv"}, {"content-type": "application/octet-stream"}
    with contextlib.suppress(TimeoutError):
        forger.request("POST", "/models/forger/invoke", frame, own, timeout_s=5)
    reply = forger.request("POST", "/models/neighbour/invoke", b"1,2", other)
    assert (reply.status, reply.json()["content-type"]) == (200, "text/csv")
    assert forger.ping() == 200


@pytest.fixture(scope="module")
def forger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running({}, SAGEMAKER_MULTI_MODEL="true", TIDEGATE_TIMEOUT_S="10") as server:
        for name, script in (("forger", FORGES), ("neighbour", DEFAULTS)):
            model_dir = tmp_path_factory.mktemp(name)
            (model_dir / "code").mkdir()
            (model_dir / "code" / "inference.py").write_text(script)
            assert load(server, name, str(model_dir)).status == 200
        yield server


def test_what_a_client_sends_is_one_line_of_the_log_and_no_terminal_command() -> None:
    raises = DEFAULTS.replace(
        "return context.get_all_request_header(0)", "raise RuntimeError(bytes(data.numpy()).decode())"
    )
    with running({"code/inference.py": raises}) as server:
        text = b'\x1b[2J\n{"level": "info", "message": "all is well"}\r\n'
        body = io.BytesIO()
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(text)},), }}".ljust(117) + "\n"
        body.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + text)
        reply = server.post(body.getvalue(), "application/x-npy", x_amzn_sagemaker_inference_id='forged", "a": "b')
        assert reply.status == 500
        assert b"all is well" not in reply.body
        lines = server.entries()
        assert not [line for line in lines if line["message"] == "all is well"]
        assert [line["request_id"] for line in lines if line["level"] == "error"] == ['forged", "a": "b']
        assert "\x1b" not in server.log()
