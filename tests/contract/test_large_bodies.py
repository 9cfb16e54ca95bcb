"""Bodies above the threshold: in a file from the socket to user code, whatever becomes of client, worker and disk."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import io
import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.contract.models import ANSWERS_AT_LENGTH, TAKES_A_FILE, TELLS_OF_ITS_BODY
from tests.contract.models import DEFAULTS_FOR_LARGE_BODIES as DEFAULTS
from tests.contract.running import Server, free_port, running, start, write_files

OCTETS = "application/octet-stream"
MIB = 1024 * 1024
THRESHOLD = 100_000
LARGE = bytes(range(251)) * 8000
SPOOLED = {"TIDEGATE_SPOOL_THRESHOLD_BYTES": str(THRESHOLD)}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pieces(data: bytes, size: int = 70_000) -> Iterator[bytes]:
    """A body that http.client sends chunked."""
    yield from (data[at : at + size] for at in range(0, len(data), size))


def descriptors(server: Server) -> dict[int, int]:
    """How many each process of the server has."""
    return {each.pid: each.num_fds() for each in (psutil.Process(server.process.pid), *server.workers())}


def no_more_than(before: dict[int, int], server: Server) -> bool:
    """Whether its processes are the same, with as many descriptors at most: the last client's may just be closed."""
    now = descriptors(server)
    return now.keys() == before.keys() and all(now[pid] <= before[pid] for pid in now)


ALSO_CONVERSES = "\ndef stream_fn(incoming, context):\n    yield from incoming\n"


@pytest.fixture(scope="module", params=["alone", "with threads of input_fn", "with conversations"])
def files(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A script that takes its body as a file, in each of the ways in which a worker reads its requests."""
    threads = {"TIDEGATE_INPUT_THREADS": "2"} if request.param == "with threads of input_fn" else {}
    script = TAKES_A_FILE + (ALSO_CONVERSES if request.param == "with conversations" else "")
    with running({"code/inference.py": script}, **SPOOLED, **threads) as server:
        yield server


@pytest.fixture(scope="module")
def scripted() -> Iterator[Server]:
    with running({"code/inference.py": TELLS_OF_ITS_BODY}, **SPOOLED) as server:
        yield server


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("body", [LARGE, LARGE[: THRESHOLD + 1], LARGE[:THRESHOLD], b"small"])
def test_a_script_is_given_the_same_bytes_however_large_they_are(scripted: Server, body: bytes, chunked: bool) -> None:
    reply = scripted.post(pieces(body) if chunked else body, OCTETS)
    assert reply.json() == {"type": "bytearray", "digest": digest(body)}


def test_large_text_is_given_as_text(scripted: Server) -> None:
    text = "ä" * THRESHOLD
    reply = scripted.post(text.encode("latin-1") * 2, "text/csv; charset=latin-1")
    assert reply.json() == {"type": "str", "digest": digest((text * 2).encode())}


@pytest.mark.parametrize("chunked", [False, True])
def test_a_script_that_wants_a_file_is_given_one_without_a_name(files: Server, chunked: bool) -> None:
    told = files.post(pieces(LARGE) if chunked else LARGE, OCTETS).json()
    assert (told["digest"], told["size"], told["at"]) == (digest(LARGE), len(LARGE), 0)
    assert told["link"].endswith(" (deleted)")
    assert files.post(b"small", OCTETS).json()["digest"] == digest(b"small")


def test_a_large_npy_body_needs_no_function_at_all() -> None:
    array = np.arange(60_000, dtype=np.float32).reshape(100, 600)
    file = io.BytesIO()
    np.save(file, array)
    with running({"code/inference.py": DEFAULTS}, **SPOOLED) as server:
        reply = server.post(file.getvalue(), "application/x-npy", accept="application/x-npy")
        assert np.array_equal(np.load(io.BytesIO(reply.body)), array * 2)


def test_a_slow_upload_holds_no_worker(scripted: Server) -> None:
    with scripted.socket() as slow:
        head = (
            f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: {OCTETS}\r\ncontent-length: {len(LARGE)}\r\n\r\n"
        )
        slow.sendall(head.encode() + LARGE[: len(LARGE) // 2])
        for _ in range(3):
            assert scripted.post(b"quick", OCTETS).status == 200
        slow.sendall(LARGE[len(LARGE) // 2 :])
        assert slow.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_request_whose_worker_dies_is_tried_again_with_the_whole_file(files: Server) -> None:
    (worker,) = files.workers()
    reply = files.post(LARGE, OCTETS, die_unless_there="died")
    assert (reply.status, reply.json()["digest"]) == (200, digest(LARGE))
    files.wait_until(lambda: not psutil.pid_exists(worker.pid), "the one that died is gone")


def test_clients_that_vanish_leave_no_descriptor_and_no_file(files: Server) -> None:
    files.post(LARGE, OCTETS)
    before = descriptors(files)
    head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-type: {OCTETS}\r\ncontent-length: {len(LARGE)}\r\n\r\n"
    for number in range(200):
        with files.socket() as client:
            client.sendall(head.encode() + LARGE[: number * len(LARGE) // 190])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    files.wait_until(lambda: no_more_than(before, files), "nothing is left of them")
    assert files.post(LARGE, OCTETS).json()["digest"] == digest(LARGE)


def test_what_is_over_the_limit_is_413_which_names_it() -> None:
    with running({"code/inference.py": TELLS_OF_ITS_BODY}, **SPOOLED, TIDEGATE_MAX_BODY_BYTES="200000") as server:
        for body in (LARGE, pieces(LARGE)):
            reply = server.post(body, OCTETS)
            assert (reply.status, reply.error["code"]) == (413, "payload_too_large")
            assert "200000 bytes" in reply.error["message"]
            assert "TIDEGATE_MAX_BODY_BYTES" in reply.error["message"]
        assert server.post(LARGE[:200_000], OCTETS).status == 200


def test_more_than_all_files_may_hold_is_503_and_leaves_room_for_the_next() -> None:
    with running({"code/inference.py": TELLS_OF_ITS_BODY}, **SPOOLED, TIDEGATE_MAX_SPOOL_BYTES="1000000") as server:
        for body in (LARGE, pieces(LARGE)):
            reply = server.post(body, OCTETS)
            assert (reply.status, reply.error["code"]) == (413, "payload_too_large"), "it would never have room"
            assert "1000000 bytes (TIDEGATE_MAX_SPOOL_BYTES)" in reply.error["message"]
        with server.socket() as slow:
            slow.sendall(
                b"POST /invocations HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 900000\r\n\r\n"
            )
            assert slow.recv(100).startswith(b"HTTP/1.1 100 ")
            for body in (LARGE[:900_000], pieces(LARGE[:900_000])):
                reply = server.post(body, OCTETS)
                assert (reply.status, reply.error["code"]) == (503, "overloaded")
                assert "TIDEGATE_MAX_SPOOL_BYTES" in reply.error["message"]
        server.wait_until(lambda: server.post(LARGE[:900_000], OCTETS).status == 200, "its room is free again")
        assert server.post(LARGE[:900_000], OCTETS).status == 200
        assert server.post(LARGE[:900_000], OCTETS).status == 200


def test_a_spool_that_cannot_be_written_ends_the_start_with_one_sentence(tmp_path: Path) -> None:
    write_files(tmp_path / "model", {"code/inference.py": TELLS_OF_ITS_BODY})
    server = start(tmp_path, {"TIDEGATE_SPOOL_DIR": str(tmp_path / "gone")}, free_port())
    assert server.ended() == 1
    assert server.log().splitlines()[-1] == (
        f"tidegate: error: Large bodies cannot be kept in {tmp_path / 'gone'} (TIDEGATE_SPOOL_DIR): No such file or "
        "directory."
    )


def test_a_server_that_is_killed_leaves_no_file(tmp_path: Path) -> None:
    with running({"code/inference.py": TELLS_OF_ITS_BODY}, **SPOOLED, TIDEGATE_SPOOL_DIR=str(tmp_path)) as server:
        with server.socket() as slow:
            slow.sendall(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n" + LARGE[:150_000])
            assert server.post(LARGE, OCTETS).status == 200
            assert list(tmp_path.iterdir()) == []
            server.process.send_signal(signal.SIGKILL)
            server.ended()
        assert list(tmp_path.iterdir()) == []


# --- large answers


@pytest.fixture(scope="module")
def answering() -> Iterator[Server]:
    with running({"code/inference.py": ANSWERS_AT_LENGTH}) as server:
        yield server


def asked(size: int, byte: int = 65) -> bytes:
    return json.dumps({"size": size, "byte": byte}).encode()


@pytest.mark.parametrize("size", [4 * MIB, 4 * MIB + 1, 20 * MIB])
def test_a_large_answer_comes_whole_and_says_its_length(answering: Server, size: int) -> None:
    reply = answering.post(asked(size))
    assert reply.headers["content-length"] == str(size)
    assert reply.body == b"A" * size


def test_who_reads_a_large_answer_slowly_holds_no_worker(answering: Server) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", answering.port, timeout=60)) as slow:
        slow.request("POST", "/invocations", asked(50 * MIB), {"content-type": "application/json"})
        response = slow.getresponse()
        read = response.read(1000)
        for byte in (66, 67):
            assert answering.post(asked(10, byte)).body == bytes([byte]) * 10
        assert read + response.read() == b"A" * (50 * MIB)


def test_a_large_answer_whose_worker_dies_in_the_middle_is_broken_off_and_not_tried_again(answering: Server) -> None:
    (worker,) = answering.workers()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", answering.port, timeout=60)) as slow:
        slow.request("POST", "/invocations", asked(50 * MIB), {"content-type": "application/json"})
        response = slow.getresponse()
        response.read(1000)
        worker.kill()
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            response.read()
    assert answering.post(asked(10)).status == 200


def test_readers_of_large_answers_that_vanish_leave_no_descriptor_and_no_worker_busy(answering: Server) -> None:
    answering.post(asked(10 * MIB))
    before = descriptors(answering)
    for _ in range(50):
        client = http.client.HTTPConnection("127.0.0.1", answering.port, timeout=60)
        with contextlib.closing(client):
            client.request("POST", "/invocations", asked(10 * MIB), {"content-type": "application/json"})
            client.getresponse().read(100)
    answering.wait_until(lambda: no_more_than(before, answering), "nothing is left of them")
    assert answering.post(asked(10 * MIB)).body == b"A" * (10 * MIB)
