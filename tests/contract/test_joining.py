"""Many clients, batches asked for, nothing declared: each reads what it would have read alone, from real sockets.

One script has inputs of many kinds. Some are one record each, whatever their first dimension, as scripts of the AWS
container have them; others are rows, and really come to share a call.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.asking import metric
from tests.contract.gathering import calls, held, together
from tests.contract.running import Server, running

SCRIPT = """
import json, os, time
from collections import UserDict
from pathlib import Path
import torch

class BatchEncoding(UserDict):
    def to(self, device):
        return self

def model_fn(model_dir):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).eval()
    return {"dir": Path(model_dir), "net": net}

def input_fn(body, content_type):
    order = json.loads(body)
    kind, data = order["kind"], order.get("data")
    if kind in {"hold", "sleep"}:
        return order
    if kind == "words":
        return data
    if kind == "row":
        return torch.tensor(data)
    tensor = torch.tensor(data, dtype=torch.float64)
    if kind == "encoding":
        return BatchEncoding({"ids": tensor, "mask": torch.ones_like(tensor)})
    return tensor

def predict_fn(data, model):
    with (model["dir"] / "calls").open("a") as calls:
        calls.write(json.dumps({"pid": os.getpid(), "values": list(range(len(data)))}) + "\\n")
    if isinstance(data, dict):
        while data["kind"] == "hold" and not (model["dir"] / data.get("until", "release")).exists():
            time.sleep(0.005)
        time.sleep(data.get("seconds", 0))
        return [data["kind"]]
    if isinstance(data, BatchEncoding):
        data = data.to("cpu")
        return [float(row.sum()) for row in data["ids"] * data["mask"]]
    if isinstance(data, list):                      # one text: each word by its place
        return [f"{word}/{place}/{len(data)}" for place, word in enumerate(data)]
    if data.dim() == 3:                             # one image: as dark or as light as it is on the whole
        return (data - data.mean()).mean((1, 2)).tolist()
    if data.dtype == torch.float32:                 # rows
        with torch.no_grad():
            return model["net"](data).tolist()
    return (data / data.abs().sum(0)).tolist()      # one series: each step as a part of all

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""

CLIENTS = 8
HOLD = json.dumps({"kind": "hold"})


def numbers(source: random.Random, *shape: int) -> Any:
    return [numbers(source, *shape[1:]) for _ in range(shape[0])] if shape else source.uniform(-3, 3)


KINDS: dict[str, Callable[[random.Random], Any]] = {
    "series": lambda source: numbers(source, source.randint(2, 9), 2),
    "image": lambda source: numbers(source, 6, 5, 3),
    "words": lambda source: [source.choice(["tide", "gate", "sea"]) for _ in range(4)],
    "mapping of series": lambda source: numbers(source, source.randint(2, 9), 2),
}


def orders(kind: str, make: Callable[[random.Random], Any], rounds: int) -> list[list[str]]:
    source = random.Random(kind)  # noqa: S311 - it is to be repeatable
    return [[json.dumps({"kind": kind, "data": make(source)}) for _ in range(CLIENTS)] for _ in range(rounds)]


def held_against_single_answers(server: Server, batches: list[list[str]]) -> None:
    """Every answer of a batch is the one that the same request gets alone."""
    for batch in batches:
        replies = together(server, batch, holding=HOLD)
        assert [reply.status for reply in replies] == [200] * len(batch)
        assert [reply.body for reply in replies] == [server.post(order).body for order in batch]


@pytest.mark.parametrize("variable", ["TIDEGATE_MAX_BATCH_SIZE", "SAGEMAKER_TS_BATCH_SIZE"])
def test_inputs_without_a_batch_dimension_are_answered_as_if_there_were_no_batches(variable: str):
    with running({"code/inference.py": SCRIPT}, **{variable: "8"}) as server:
        for kind, make in KINDS.items():
            held_against_single_answers(server, orders(kind, make, 5))
        assert metric(server, "tidegate_batch_joins_total", result="joined") == 0
        assert metric(server, "tidegate_batch_joins_total", result="refused") >= 3
        assert server.log().count("collate_fn") == 1, "the way out is told once"


@pytest.mark.parametrize("kind", ["row", "encoding"])
def test_rows_and_mappings_of_rows_share_a_call_after_three_proofs(kind: str):
    with running({"code/inference.py": SCRIPT}, TIDEGATE_MAX_BATCH_SIZE="8") as server:
        batches = orders(kind, lambda source: numbers(source, 1, 2), 5)
        held_against_single_answers(server, batches[:3])
        assert metric(server, "tidegate_batch_joins_total", result="proved") == 3
        for batch in batches[3:]:
            replies = together(server, batch, holding=HOLD)
            assert len(calls(server)) == 1, "all eight in one call"
            for reply, order in zip(replies, batch, strict=True):
                assert flat(reply.json()) == pytest.approx(flat(server.post(order).json()), rel=1e-5)
        assert metric(server, "tidegate_batch_joins_total", result="joined") == 2
        assert metric(server, "tidegate_batch_joins_total", result="refused") == 0


def flat(answer: Any) -> list[float]:
    return [number for each in answer for number in flat(each)] if isinstance(answer, list) else [answer]


def test_with_retries_off_nothing_is_called_twice_and_nothing_is_joined():
    with running({"code/inference.py": SCRIPT}, TIDEGATE_MAX_BATCH_SIZE="8", TIDEGATE_RETRY="off") as server:
        for batch in orders("row", lambda source: numbers(source, 1, 2), 4):
            together(server, batch, holding=HOLD)
            assert [len(call["values"]) for call in calls(server)] == [1] * CLIENTS
        assert metric(server, "tidegate_batch_joins_total") == 0


@pytest.mark.parametrize("said", [True, {"max_batch_size": 8}])
def test_with_retries_off_what_is_declared_is_joined(said: Any):
    files = {"code/inference.py": SCRIPT, "manifest.json": manifest(said)}
    with running(files, TIDEGATE_MAX_BATCH_SIZE="8", TIDEGATE_RETRY="off") as server:
        (batch,) = orders("row", lambda source: numbers(source, 1, 2), 1)
        together(server, batch, holding=HOLD)
        assert [len(call["values"]) for call in calls(server)] == [CLIENTS]


def manifest(batching: Any) -> str:
    return json.dumps({"format_version": 1, "files": {}, "batching": batching})


def test_the_archive_may_bring_the_size_of_its_batches_and_the_environment_has_the_last_word():
    files = {"code/inference.py": SCRIPT, "manifest.json": manifest({"max_batch_size": 4, "max_wait_ms": 0})}
    (batch,) = orders("row", lambda source: numbers(source, 1, 2), 1)
    for environment, expected in (({}, [4, 4]), ({"TIDEGATE_MAX_BATCH_SIZE": "2"}, [2, 2, 2, 2])):
        with running(files, **environment) as server:
            together(server, batch, holding=HOLD)
            assert [len(call["values"]) for call in calls(server)] == expected


def test_an_archive_that_forbids_it_is_never_joined():
    files = {"code/inference.py": SCRIPT, "manifest.json": manifest(False)}
    with running(files, TIDEGATE_MAX_BATCH_SIZE="8") as server:
        for batch in orders("row", lambda source: numbers(source, 1, 2), 4):
            together(server, batch, holding=HOLD)
            assert len(calls(server)) == CLIENTS
        assert metric(server, "tidegate_batch_joins_total") == 0


def test_a_declaration_that_is_none_is_one_line_and_exit_1():
    files = {"code/inference.py": SCRIPT, "manifest.json": manifest("sometimes")}
    with running(files, wait=False) as server:
        assert server.ended() == 1
        told = [line for line in server.log().splitlines() if line.startswith("tidegate: error: ")]
        assert len(told) == 1
        assert re.search(r"'batching' is 'sometimes'; it must be true, false, \"auto\" or an object", told[0])


def test_requests_that_cannot_be_joined_have_a_deadline_each_and_count_as_a_prediction_each():
    """Together they take longer than the limit."""
    with running({"code/inference.py": SCRIPT}, TIDEGATE_MAX_BATCH_SIZE="8", TIDEGATE_TIMEOUT_S="3.5") as server:
        (worker,) = server.workers()
        sleep = json.dumps({"kind": "sleep", "seconds": 1})
        with ThreadPoolExecutor(4) as pool:
            with held(server, HOLD):
                replies = [pool.submit(server.post, sleep) for _ in range(4)]
                server.wait_until(lambda: metric(server, "tidegate_waiting") == 4, "they wait together")
            assert [reply.result(timeout=60).json() for reply in replies] == [["sleep"]] * 4
        assert [each.pid for each in server.workers()] == [worker.pid]
        server.wait_until(lambda: metric(server, "tidegate_batch_size_count") == 5, "all of it is counted")
        assert metric(server, "tidegate_batch_size_bucket", le="1") == 5
        assert metric(server, "tidegate_retries_total") == 0


def test_an_answer_does_not_wait_for_those_behind_it():
    """The last of the batch waits for a file that is only made when all others have their answers."""
    last = json.dumps({"kind": "hold", "until": "others-are-answered"})
    with running({"code/inference.py": SCRIPT}, TIDEGATE_MAX_BATCH_SIZE="8") as server, ThreadPoolExecutor(4) as pool:
        with held(server, HOLD):
            first = [pool.submit(server.post, json.dumps({"kind": "sleep"})) for _ in range(3)]
            server.wait_until(lambda: metric(server, "tidegate_waiting") == 3, "three wait")
            behind = pool.submit(server.post, last)
            server.wait_until(lambda: metric(server, "tidegate_waiting") == 4, "and the last one behind them")
        assert [reply.result(timeout=60).json() for reply in first] == [["sleep"]] * 3
        (server.model_dir / "others-are-answered").touch()
        assert behind.result(timeout=60).json() == ["hold"]


PROVABLE = """
import json, os, time
from pathlib import Path
import torch

def model_fn(model_dir):
    return Path(model_dir)

def input_fn(body, content_type):
    order = json.loads(body)
    return order if isinstance(order, dict) else torch.tensor(order)

def predict_fn(data, model):
    if isinstance(data, dict):
        with (model / "calls").open("a") as calls:
            calls.write(json.dumps({"values": [0]}) + "\\n")
        while not (model / "release").exists():
            time.sleep(0.005)
        return torch.zeros(1)
    if len(data) > 1 and (model / "fragile").exists():
        os._exit(3)
    with (model / "calls").open("a") as calls:
        calls.write(json.dumps({"values": data[:, 0].tolist()}) + "\\n")
    return data * 2

def output_fn(prediction, accept):
    return json.dumps(prediction.tolist())
"""
"""Doubles rows; where there is a file `fragile`, more than one row ends the process."""


def with_example(**more: str) -> dict[str, str]:
    body, answer = "[[1.5, 2.5]]", "[[3.0, 5.0]]"
    described = {
        "request": {"file": "request.json", "content_type": "application/json", "accept": "application/json"},
        "response": {"file": "response.json", "content_type": "application/json"},
    }
    manifest = json.dumps({"format_version": 1, "files": {}, "example": described})
    files = {"manifest.json": manifest, "request.json": body, "response.json": answer}
    return {"code/inference.py": PROVABLE, **files, **more}


ROWS = [json.dumps([[float(number), 1.0]]) for number in range(CLIENTS)]


def doubled(order: str) -> list[list[float]]:
    return [[2 * number for number in row] for row in json.loads(order)]


def test_an_example_that_proves_it_lets_the_first_batch_share_a_call():
    with running(with_example(), TIDEGATE_MAX_BATCH_SIZE="8") as server:
        replies = together(server, ROWS, holding=HOLD)
        assert [reply.json() for reply in replies] == [doubled(order) for order in ROWS]
        assert [len(call["values"]) for call in calls(server)] == [CLIENTS]


def test_without_batches_and_without_retries_nothing_but_the_example_is_asked_at_load():
    for environment in ({}, {"TIDEGATE_MAX_BATCH_SIZE": "8", "TIDEGATE_RETRY": "off"}):
        with running(with_example(), **environment) as server:
            assert [call["values"] for call in calls(server)] == [[1.5]]


def test_a_shared_call_that_ends_the_process_at_load_costs_the_deployment_nothing():
    with running(with_example(fragile=""), TIDEGATE_MAX_BATCH_SIZE="8") as server:
        replies = together(server, ROWS, holding=HOLD)
        assert [reply.json() for reply in replies] == [doubled(order) for order in ROWS]
        assert [len(call["values"]) for call in calls(server)] == [1] * CLIENTS
        assert server.log().count("a worker was lost while it tried whether requests may share a call") == 1
