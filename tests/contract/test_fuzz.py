"""Thousands of malformed requests to every route: never a 500, never a death, never more memory, and then an answer.

600 in the suite; 10,000 with CHAOS=long (see tests/chaos/form.py).
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.chaos.form import LIMIT_S, MALFORMED_REQUESTS, SEED
from tests.chaos.malformed import malformed
from tests.contract.asking import metric
from tests.contract.running import Server, running

MIB = 1024 * 1024
GROWTH_BYTES = 32 * MIB
REFUSALS = {400, 404, 405, 406, 408, 413, 415, 417, 426, 431, 501, 505}
"""501 is for a body in another transfer coding than chunked."""

READS_ALL = """
def model_fn(model_dir):
    return None

def predict_fn(data, model):
    return [[1.0]]

def chat_fn(request, model):
    yield str(len(request["messages"]))

def stream_fn(incoming, context):
    yield from incoming
"""
"""Leaves the reading of bodies to the server, and predicts the same from all of them."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    # One piece of each kind of limit is small enough to be met.
    limits = {"TIDEGATE_MAX_BODY_BYTES": "200000", "TIDEGATE_MAX_DECODED_BYTES": "1000000", "TIDEGATE_WORKERS": "2"}
    with running({"code/inference.py": READS_ALL}, **limits) as server:
        server.wait_until(lambda: len(server.workers()) == 2, "both workers are there")
        yield server


def talk(server: Server, data: bytes) -> bytes:
    """Send, say that there is no more, and read until the server hangs up."""
    received = b""
    with server.socket() as client:
        with contextlib.suppress(ConnectionError, OSError):  # it may be refused before its end
            client.sendall(data)
            client.shutdown(1)
        with contextlib.suppress(ConnectionError):
            while piece := client.recv(65536):
                received += piece
    return received


def resident(pids: list[int]) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


@pytest.mark.timeout(LIMIT_S)
def test_malformed_requests_are_refused_and_leave_no_trace(server: Server):
    frontend, workers = server.process.pid, sorted(worker.pid for worker in server.workers())
    found: Counter[int] = Counter()

    def attempt(number: int) -> None:
        reply = talk(server, malformed(SEED, number))
        statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", reply)]
        where = f"malformed({SEED}, {number}) was answered {reply[:1000]!r}"
        assert {100, 101, 200, *REFUSALS}.issuperset(statuses), where
        if statuses and statuses[-1] in REFUSALS:
            body = reply.rpartition(b"\r\n\r\n")[2]
            if body:  # the answer to a HEAD has none
                error = json.loads(body)["error"]  # below /v2 it is the sentence alone
                assert isinstance(error, str) or error.keys() == {"code", "message", "request_id"}, where
        found.update(statuses)

    def attempt_all(numbers: range) -> None:
        with ThreadPoolExecutor(4) as pool:
            for _ in pool.map(attempt, numbers):
                pass

    settled = MALFORMED_REQUESTS // 3
    attempt_all(range(settled))
    frontend_bytes, workers_bytes = resident([frontend]), resident(workers)
    attempt_all(range(settled, MALFORMED_REQUESTS))
    assert resident([frontend]) - frontend_bytes < GROWTH_BYTES
    assert resident(workers) - workers_bytes < GROWTH_BYTES * len(workers)

    print(f"seed {SEED}: {MALFORMED_REQUESTS} requests, answers {dict(sorted(found.items()))}")
    assert found[400] > MALFORMED_REQUESTS // 5
    assert {101, 200, 404, 405, 413, 415, 431} <= found.keys(), "the fuzzer meets every kind of refusal"
    assert server.process.poll() is None
    assert sorted(worker.pid for worker in server.workers()) == workers, "no worker died"
    assert server.post(b"[[1, 2]]").json() == [[1.0]]
    server.wait_until(lambda: metric(server, "tidegate_conversations_open") == 0, "nobody talks")
    log = server.log()
    assert '"level": "error"' not in log
    assert "Traceback" not in log
