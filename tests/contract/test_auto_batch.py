"""A batch size that finds itself: real servers under load, asked until they say what they have found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from tests.contract.asking import metric
from tests.contract.repositories import serving
from tests.contract.running import Server, running

FIXED_COST = """
import json
import time

import torch

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return torch.tensor(json.loads(body))

def predict_fn(data, model):
    time.sleep(0.01)  # whatever the number of rows
    return 2 * data

def output_fn(prediction, accept):
    return json.dumps(prediction.tolist())
"""
WHOLE = FIXED_COST.partition("def input_fn")[0] + (
    "def transform_fn(model, body, content_type, accept):\n    return body, 'application/json'\n"
)
AUTO = {"TIDEGATE_MAX_BATCH_SIZE": "auto", "TIDEGATE_BATCH_LATENCY_MS": "5000"}
"""The bound is wide: this machine may be slow."""
CLIENTS = 8
SEARCH_S = 240.0


def manifest(batching: Any) -> dict[str, str]:
    return {"manifest.json": json.dumps({"format_version": 1, "files": {}, "batching": batching})}


@contextmanager
def load(server: Server) -> Iterator[None]:
    """Clients that ask again whenever they are answered, and have the right answers."""
    over = Event()

    def client(number: int) -> int:
        asked = 0
        while not over.is_set():
            asked += 1
            row = [[number + 0.25, asked + 0.5]]
            reply = server.post(json.dumps(row))
            assert reply.status == 200, reply.body
            assert reply.json() == [[2 * value for value in row[0]]]
        return asked

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(client, number) for number in range(CLIENTS)]
        try:
            yield
        finally:
            over.set()
        assert all(each.result() for each in clients)


def limit(server: Server) -> float:
    return metric(server, "tidegate_batch_limit")


def told(server: Server) -> dict[str, Any]:
    found: dict[str, Any] = server.request("GET", "/models/model").json()
    return found


def test_a_model_with_a_fixed_cost_for_each_call_comes_to_larger_batches():
    """The archive asks for it, and the choice outlives the worker."""
    files = {"code/inference.py": FIXED_COST, **manifest({"max_batch_size": "auto"})}
    with running(files, TIDEGATE_BATCH_LATENCY_MS="5000") as server:
        assert limit(server) == 1
        assert told(server)["batching"] == {
            "max_batch_size": 1, "max_wait_ms": 0.0, "why": "no larger batch has been tried yet"
        }  # fmt: skip

        def found_under_load() -> dict[str, Any] | None:
            """What stays when the load is over; on a busy machine the last trial may have gone against it."""
            with load(server):
                server.wait_until(lambda: limit(server) >= 2, "a larger batch is found", SEARCH_S)
            server.wait_until(lambda: told(server)["batching"]["max_batch_size"] == limit(server), "all say the same")
            found: dict[str, Any] = told(server)["batching"]
            return found if found["max_batch_size"] >= 2 else None

        found = server.wait_until(found_under_load, "a larger batch is kept", SEARCH_S)
        assert found["max_wait_ms"] == pytest.approx(1000 * metric(server, "tidegate_batch_wait_seconds"), abs=0.01)
        answered = metric(server, "tidegate_responses_total", status="200")
        assert 0 < metric(server, "tidegate_batch_search_requests_total") <= 0.04 * answered
        assert "batches have another size from now on" in server.log()
        (worker,) = server.workers()
        worker.kill()
        server.wait_until(lambda: metric(server, "tidegate_worker_restarts_total") == 1, "the loss is seen")
        server.wait_until(lambda: metric(server, "tidegate_workers") == 1, "its successor is there")
        assert server.post("[[1.0, 2.0]]").json() == [[2.0, 4.0]]
        assert told(server)["batching"]["max_batch_size"] == found["max_batch_size"]


def test_without_a_declaration_it_begins_with_a_proof():
    with running({"code/inference.py": FIXED_COST}, **AUTO) as server, load(server):
        server.wait_until(lambda: limit(server) >= 2, "a larger batch is found", SEARCH_S)
        assert metric(server, "tidegate_batch_joins_total", result="proved") >= 3
        assert metric(server, "tidegate_batch_joins_total", result="refused") == 0


@pytest.mark.parametrize(
    ("files", "settings", "reason"),
    [
        ({"code/inference.py": WHOLE}, {}, "transform_fn takes one request as a whole"),
        ({"code/inference.py": FIXED_COST, **manifest(False)}, {}, "the manifest says batching: false"),
        ({"code/inference.py": FIXED_COST}, {"TIDEGATE_RETRY": "off"}, "nothing is called twice to prove"),
    ],
)
def test_where_requests_never_share_a_call_it_is_off_and_all_say_why(
    files: dict[str, str], settings: dict[str, str], reason: str
):
    with running(files, **AUTO, **settings) as server:
        with ThreadPoolExecutor(CLIENTS) as pool:
            assert {reply.status for reply in pool.map(server.post, ["[[1.0, 2.0]]"] * 200)} == {200}
        assert limit(server) == 1
        found = told(server)["batching"]
        assert found["max_batch_size"] == 1
        assert found["why"].startswith("requests are answered one by one: ")
        assert reason in found["why"]
        assert reason in server.log()
        assert metric(server, "tidegate_batch_search_requests_total") == 0
        assert metric(server, "tidegate_batch_joins_total") == 0


def test_a_server_that_is_not_asked_for_it_says_nothing_of_it():
    for batching in (None, "auto", {"max_batch_size": 4}):
        with running({"code/inference.py": FIXED_COST, **manifest(batching)}) as server:
            assert "batching" not in told(server)
            assert "tidegate_batch_limit{" not in server.request("GET", "/metrics").body.decode()


def test_each_model_of_a_repository_has_a_search_of_its_own(tmp_path: Path):
    with serving(tmp_path, {"left": (1,), "right": (1,)}, **AUTO) as repository:
        assert {repository.says("left"), repository.says("right")} == {"left 1", "right 1"}
        for name in ("left", "right"):
            assert repository.versions(name)[1]["batching"]["max_batch_size"] == 1
            assert repository.metric("tidegate_batch_limit", model=name) == 1


@pytest.mark.parametrize(
    ("batching", "row"),
    [
        ({"max_batch_size": "auto"}, "how many do, and how long they wait, is found on live traffic"),
        (False, "requests are answered one by one: the manifest says batching: false"),
    ],
)
def test_check_says_that_the_size_is_found_on_live_traffic(tmp_path: Path, batching: Any, row: str):
    (tmp_path / "code").mkdir()
    (tmp_path / "code/inference.py").write_text(FIXED_COST)
    (tmp_path / "manifest.json").write_text(manifest(batching)["manifest.json"])
    command = [sys.executable, "-m", "inference", "check", str(tmp_path)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SAGEMAKER_", "TIDEGATE_", "TS_", "OTEL_"))}
    asked = {**kept, "PYTHONSAFEPATH": "1", **({} if batching else AUTO)}
    done = subprocess.run(command, env=asked, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("batches ")]
    assert row in line
