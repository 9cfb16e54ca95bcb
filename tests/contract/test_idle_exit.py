"""A server that nobody asks anything ends by itself, and only then: TIDEGATE_IDLE_EXIT_S on real sockets."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.contract.models import DOUBLE
from tests.contract.repositories import serving
from tests.contract.running import Server, running, wait_until, write_files
from tests.contract.talking import Talker

IDLE_S = 4.0
"""Longer than a busy machine takes between two steps of a test."""
BIG = 24 << 20
"""More characters than the sockets' buffers hold beside what is read of them while a server outlives its time."""
IDLE = {"TIDEGATE_IDLE_EXIT_S": str(IDLE_S)}
WORKS = """
import json, time
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir)

def input_fn(data, content_type):
    return json.loads(data)

def wait_for(path):
    while not path.exists():
        time.sleep(0.005)

def predict_fn(order, model):
    if "stream" in order:
        return parts(model / order["stream"])
    if "characters" in order:
        return "x" * order["characters"]
    wait_for(model / order["wait_for"])
    return order

def output_fn(prediction, accept):
    return json.dumps(prediction) if isinstance(prediction, dict) else prediction

def parts(gate):
    yield "first\\n"
    wait_for(gate)
    yield "last\\n"

def stream_fn(incoming, context):
    for message in incoming:
        yield message
"""


def ended(server: Server) -> str:
    """The log of a server that ends by itself, as it does after SIGTERM."""
    assert server.ended() == 0, server.log()
    log = server.log()
    assert '"cause": "there was no request for TIDEGATE_IDLE_EXIT_S"' in log
    assert '"stopped"' in log
    return log


def outlives(server: Server, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Ping a server for longer than it may be idle, and do something each time."""
    until_s = time.monotonic() + 1.5 * IDLE_S

    def is_over() -> bool:
        meanwhile()
        return server.ping() == 200 and time.monotonic() > until_s

    wait_until(is_over, "time has passed", log=server.log)


def test_a_server_that_is_only_watched_ends_with_status_0() -> None:
    with running({"code/inference.py": DOUBLE}, **IDLE) as server:
        assert server.post(b"[[1]]").json() == [[2.0]]
        with ThreadPoolExecutor(1) as pool:

            def watch() -> None:
                while server.process.poll() is None:
                    for path in ("/ping", "/metrics", "/models", "/v2/health/ready", "/execution-parameters"):
                        try:
                            server.request("GET", path)
                        except OSError:
                            return

            watching = pool.submit(watch)
            log = ended(server)
            watching.result(timeout=60)
        assert f'"the server exits when it is idle", "idle_exit_s": {IDLE_S}' in log


def test_what_is_under_way_keeps_it_alive_and_nothing_more_is_needed_for_it_to_end() -> None:
    with running({"code/inference.py": WORKS}, **IDLE) as server, ThreadPoolExecutor(3) as pool:
        # A slow request, and one that waits behind it.
        slow = [pool.submit(server.post, json.dumps({"wait_for": "slow"})) for _ in range(2)]
        outlives(server)
        (server.model_dir / "slow").touch()
        assert [each.result(timeout=60).status for each in slow] == [200, 200]

        # A body on its way.
        with server.socket() as slowly:
            body = json.dumps({"wait_for": "slow"}).encode()
            head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            slowly.sendall(head.encode() + body[:1])
            outlives(server)
            slowly.sendall(body[1:])
            assert slowly.recv(65536).startswith(b"HTTP/1.1 200 ")

        # A stream between two chunks.
        with server.socket() as reader:
            body = json.dumps({"stream": "gate"}).encode()
            head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
            reader.sendall(head.encode() + body)
            received = b""
            while b"first" not in received:
                received += reader.recv(65536)
            outlives(server)
            (server.model_dir / "gate").touch()
            while b"last" not in received:
                received += reader.recv(65536)

        # An answer that its client reads slowly: the model has long done with it.
        with server.socket() as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # or the kernel may take all of it
            body = json.dumps({"characters": BIG}).encode()
            head = f"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n"
            reader.sendall(head.encode() + body)
            pieces: list[bytes] = []
            outlives(server, lambda: pieces.append(reader.recv(4096)))
            while sum(map(len, pieces)) < BIG:
                pieces.append(reader.recv(1 << 20))
                assert pieces[-1], "the server hung up in the middle of its answer"

        # A conversation in which nobody says anything.
        with Talker(server) as talker:
            outlives(server)
            talker.say("hello")
            assert talker.hear() == "hello"
            talker.close()
        ended(server)


def test_a_start_that_takes_longer_is_not_idleness(tmp_path: Path) -> None:
    slow = f"import time\ntime.sleep({1.5 * IDLE_S})\n{DOUBLE}"
    with running({"code/inference.py": slow}, **IDLE) as server:
        assert server.post(b"[[1]]").json() == [[2.0]]
        ended(server)


def test_a_multi_model_server_ends_with_its_models_loaded() -> None:
    with running({}, **IDLE, SAGEMAKER_MULTI_MODEL="true") as server:
        model_dir = server.model_dir.parent / "models" / "a" / "model"
        write_files(model_dir, {"code/inference.py": DOUBLE})
        loaded = server.request("POST", "/models", json.dumps({"model_name": "a", "url": str(model_dir)}))
        assert loaded.status == 200
        assert server.request("POST", "/models/a/invoke", b"[[1]]").json() == [[2.0]]
        ended(server)


def test_a_server_of_a_repository_ends_however_often_it_lists_that(tmp_path: Path) -> None:
    with serving(tmp_path, {"a": (1,)}, **IDLE) as here:
        assert here.says("a") == "a 1"
        here.folder.publish("a", 2)  # which is no request, whenever the server comes to see it
        ended(here.server)


@pytest.mark.parametrize("value", ["0", "soon", "-1", "inf"])
def test_what_is_no_time_is_refused(value: str) -> None:
    with running({"code/inference.py": DOUBLE}, wait=False, TIDEGATE_IDLE_EXIT_S=value) as server:
        assert server.ended() == 1
        said = f"TIDEGATE_IDLE_EXIT_S='{value}' is not valid: it must be a number from 0.1 to 604800."
        assert said in server.log()
