"""Opt-in threads for input_fn: the next batch is decoded while one is predicted."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.running import running

AHEAD = """
import json, os, signal, threading, time
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir)

def input_fn(data, content_type, context):
    order = json.loads(data)
    order["header"] = context.get_request_header(0, "x-number")
    order["decoded_in"] = threading.current_thread().name.rsplit("_", 1)[0]
    Path(f"decoded-{order['number']}").touch()
    return order

def predict_fn(order, model):
    while "wait_for" in order and not (model / order["wait_for"]).exists():
        time.sleep(0.005)
    if order.get("die") and not (model / "died").exists():
        (model / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {**order, "predicted_in": threading.current_thread().name}

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


@pytest.fixture
def server():
    with running({"code/inference.py": AHEAD}, TIDEGATE_INPUT_THREADS="2") as server:
        yield server


def ask(server, number: int, **order: object):
    return server.post(json.dumps({"number": number, **order}), **{"x-number": str(number)})


def test_the_next_request_is_decoded_while_one_is_predicted_and_each_sees_its_own_headers(server):
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, server, 1, wait_for="decoded-2")
        server.wait_until((server.model_dir / "decoded-1").exists, "the first is decoded")
        second = pool.submit(ask, server, 2)
        answers = [first.result(timeout=60).json(), second.result(timeout=60).json()]
    assert [answer["header"] for answer in answers] == ["1", "2"]
    assert {answer["decoded_in"] for answer in answers} == {"input_fn"}
    assert {answer["predicted_in"] for answer in answers} == {"MainThread"}


def test_what_was_decoded_ahead_is_answered_by_the_successor_when_the_worker_dies(server):
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, server, 1, wait_for="decoded-2", die=signal.SIGKILL)
        server.wait_until((server.model_dir / "decoded-1").exists, "the first is decoded")
        second = pool.submit(ask, server, 2)
        assert [first.result(timeout=60).status, second.result(timeout=60).status] == [200, 200]


def test_without_the_setting_all_functions_run_in_the_thread_of_model_fn():
    with running({"code/inference.py": AHEAD}) as server:
        answer = ask(server, 1).json()
        assert (answer["decoded_in"], answer["predicted_in"]) == ("MainThread", "MainThread")
