"""Requests of many clients become one `predict_fn` call, and nobody pays or waits for anybody else's mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract import gathering
from tests.contract.asking import metric
from tests.contract.gathering import calls, sizes
from tests.contract.running import Reply, Server, running

BATCHER = """
import json, os, signal, time
from pathlib import Path
import torch

CAPACITY = 5
MODEL_DIR = None

def model_fn(model_dir):
    global MODEL_DIR
    MODEL_DIR = Path(model_dir)
    return MODEL_DIR

def input_fn(input_data, content_type):
    order = json.loads(input_data)
    rows = [[float(order["value"])] * order.get("width", 1)] * order.get("rows", 1)
    tensor = torch.tensor(rows, dtype=getattr(torch, order.get("dtype", "float32")))
    match order.get("kind", "tensor"):
        case "tensor":
            return tensor
        case "array":
            return tensor.numpy()
        case "list":
            return rows
        case "tuple":
            return tensor, tensor.numpy()
        case "dict":
            return {"a": tensor, "b": tensor.numpy()}

def first_of(data):
    return first_of(data[0]) if isinstance(data, tuple) else first_of(data["a"]) if isinstance(data, dict) else data

def predict_fn(data, model):
    values = [float(row[0]) for row in first_of(data)]
    with (model / "calls").open("a") as calls:
        calls.write(json.dumps({"pid": os.getpid(), "kind": type(data).__name__, "values": values}) + "\\n")
    if -5.0 in values:
        while not (model / "release").exists():
            time.sleep(0.005)
    if -1.0 in values:
        raise RuntimeError("minus one")
    if -2.0 in values:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    while -3.0 in values:
        time.sleep(1)
    if -4.0 in values or sum(value == 9.0 for value in values) > CAPACITY:
        raise MemoryError
    return doubled(data)

def doubled(data):
    if isinstance(data, tuple):
        return tuple(doubled(member) for member in data)
    if isinstance(data, dict):
        return {key: doubled(member) for key, member in data.items()}
    if isinstance(data, list):
        return [[2 * number for number in row] for row in data]
    return data * 2

def output_fn(prediction, accept):
    with (MODEL_DIR / "encoded").open("a") as encoded:
        encoded.write("1\\n")
    return json.dumps(plain(prediction))

def plain(data):
    if isinstance(data, tuple):
        return [plain(member) for member in data]
    if isinstance(data, dict):
        return {key: plain(member) for key, member in data.items()}
    return data if isinstance(data, list) else data.tolist()
"""
"""Doubles and notes each call. Some values are deeds: -1 raises, -2 kills, -3 hangs, -4 or six 9s do not fit."""

RAISES, KILLS, HANGS, NEEDS_TOO_MUCH, WAITS, LARGE = -1.0, -2.0, -3.0, -4.0, -5.0, 9.0

OWN_COLLATION = """
import json
import time
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir)

def input_fn(input_data, content_type):
    return input_data

def collate_fn(inputs):
    return " ".join(inputs)

def predict_fn(data, model):
    with (model / "calls").open("a") as calls:
        calls.write(json.dumps({"values": data.split(" ")}) + "\\n")
    if data == "hold":
        while not (model / "release").exists():
            time.sleep(0.005)
    return data.upper()

def split_fn(prediction, count):
    return [[word] for word in prediction.split(" ")]

def output_fn(prediction, accept):
    (word,) = prediction
    return word
"""


DECLARED = {"manifest.json": json.dumps({"format_version": 1, "files": {}, "batching": True})}
"""The archive says that joining is right, so nothing need be proved first."""


@pytest.fixture(scope="module")
def batching() -> Iterator[Server]:
    with running({"code/inference.py": BATCHER, **DECLARED}, TIDEGATE_MAX_BATCH_SIZE="8") as server:
        yield server


def order(value: float, **more: object) -> str:
    return json.dumps({"value": value, **more})


def together(server: Server, orders: list[str], workers: int = 1, holding: str | None = None) -> list[Reply]:
    return gathering.together(server, orders, workers=workers, holding=holding or order(WAITS))


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("tensor", lambda doubled: doubled),
        ("array", lambda doubled: doubled),
        ("list", lambda doubled: doubled),
        ("tuple", lambda doubled: [doubled, doubled]),
        ("dict", lambda doubled: {"a": doubled, "b": doubled}),
    ],
)
def test_requests_of_many_clients_are_one_call_and_each_client_gets_its_own_part(batching: Server, kind, answer):
    replies = together(batching, [order(value, kind=kind, rows=value) for value in (1, 2, 3)])
    assert [reply.json() for reply in replies] == [answer([[2.0 * value]] * value) for value in (1, 2, 3)]
    call, *checks = calls(batching)
    assert call["kind"] == {"tensor": "Tensor", "array": "ndarray"}.get(kind, kind)
    assert sorted(call["values"]) == [1, 2, 2, 3, 3, 3]
    # A worker's first prediction of several members is held against that of one request alone.
    assert len(checks) <= (kind in {"tuple", "dict"})


def test_only_requests_of_equal_kind_dtype_and_shape_share_a_call(batching: Server):
    same = [order(1), order(2)]
    others = [order(3, dtype="float64"), order(4, width=2), order(6, kind="array"), order(7, kind="list")]
    replies = together(batching, same + others)
    found = [reply.json() for reply in replies]
    assert found == [[[2.0]], [[4.0]], [[6.0]], [[8.0, 8.0]], [[12.0]], [[14.0]]]
    assert sorted(sorted(call["values"]) for call in calls(batching)) == [[1, 2], [3], [4], [6], [7]]


def test_a_batch_is_never_larger_than_asked_for(batching: Server):
    replies = together(batching, [order(value) for value in range(1, 12)])
    assert [reply.json() for reply in replies] == [[[2.0 * value]] for value in range(1, 12)]
    assert sizes(batching) == [8, 3]


def test_what_waits_is_shared_among_the_workers():
    with running(
        {"code/inference.py": BATCHER, **DECLARED}, TIDEGATE_MAX_BATCH_SIZE="8", TIDEGATE_WORKERS="2"
    ) as server:
        server.wait_until(lambda: metric(server, "tidegate_workers") == 2, "both workers are ready")
        replies = together(server, [order(value) for value in range(1, 9)], workers=2)
        assert [reply.json() for reply in replies] == [[[2.0 * value]] for value in range(1, 9)]
        # The first worker to become free takes its half of the nine in flight, though eight would fit into a batch.
        assert max(sizes(server)) <= 5
        assert sum(sizes(server)) == 8


def test_a_batch_waits_for_as_many_as_there_were_lately_and_a_lone_client_never_waits():
    """The wait is a minute here: a request that is held back is seen to be held back."""
    minute = {"TIDEGATE_MAX_BATCH_SIZE": "8", "TIDEGATE_MAX_WAIT_MS": "60000", "TIDEGATE_SERVER_TIMING": "on"}
    with running({"code/inference.py": BATCHER, **DECLARED}, **minute) as server:
        for value in range(1, 6):
            reply = server.post(order(value))
            assert reply.json() == [[2.0 * value]]
            queue_ms = float(reply.headers["server-timing"].removeprefix("queue;dur=").partition(",")[0])
            assert queue_ms < 59_000, "it was not held back"
        together(server, [order(value) for value in range(1, 5)])
        assert sizes(server) == [4]
        with ThreadPoolExecutor(4) as pool:
            replies = [pool.submit(server.post, order(1))]
            server.wait_until(lambda: metric(server, "tidegate_waiting") == 1, "it waits beside an idle worker")
            assert metric(server, "tidegate_in_flight") == 0
            replies += [pool.submit(server.post, order(value)) for value in (2, 3, 4)]
            assert [reply.result(timeout=60).json() for reply in replies] == [[[2.0 * n]] for n in (1, 2, 3, 4)]
        assert sizes(server) == [4, 4]


def test_without_being_asked_for_nothing_is_batched():
    with running({"code/inference.py": BATCHER, **DECLARED}) as server:
        replies = together(server, [order(value) for value in (1, 2, 3)])
        assert [reply.json() for reply in replies] == [[[2.0]], [[4.0]], [[6.0]]]
        assert sizes(server) == [1, 1, 1]


def test_a_script_may_join_and_part_its_batches_itself_under_the_name_that_torchserve_had():
    with running({"code/inference.py": OWN_COLLATION}, SAGEMAKER_TS_BATCH_SIZE="4") as server:
        replies = together(server, ["a", "b", "c", "d", "e", "f"], holding="hold")
        assert [reply.body for reply in replies] == [b"A", b"B", b"C", b"D", b"E", b"F"]
        assert sizes(server) == [4, 2]


def test_one_request_that_fails_fails_alone(batching: Server):
    replies = together(batching, [order(1), order(RAISES), order(3), order(4)])
    assert [reply.status for reply in replies] == [200, 500, 200, 200]
    assert [reply.json() for reply in replies if reply.status == 200] == [[[2.0]], [[6.0]], [[8.0]]]
    assert replies[1].error["code"] == "handler_failed"
    assert sizes(batching)[0] == 4
    assert [-1.0] in [call["values"] for call in calls(batching)]


def test_one_request_that_cannot_be_decoded_leaves_the_batch_whole_for_the_others(batching: Server):
    replies = together(batching, [order(1), "{", order(3)])
    assert [reply.status for reply in replies] == [200, 400, 200]
    assert sizes(batching) == [2]


def test_a_batch_that_does_not_fit_into_the_memory_is_halved_until_it_does(batching: Server):
    replies = together(batching, [order(LARGE)] * 8)
    assert [reply.json() for reply in replies] == [[[18.0]]] * 8
    assert sizes(batching) == [8, 4, 4]


def test_a_request_that_does_not_fit_into_the_memory_alone_is_507_and_its_neighbours_are_answered(batching: Server):
    replies = together(batching, [order(1), order(2), order(NEEDS_TOO_MUCH), order(4)])
    assert [reply.status for reply in replies] == [200, 200, 507, 200]
    assert replies[2].error["code"] == "out_of_memory"
    assert sizes(batching)[0] == 4


def test_a_request_that_kills_its_worker_is_500_and_its_neighbours_are_answered(batching: Server):
    replies = together(batching, [order(1), order(2), order(KILLS), order(4)])
    assert [reply.status for reply in replies] == [200, 200, 500, 200]
    assert replies[2].error["code"] == "worker_died"
    assert [reply.json() for reply in replies if reply.status == 200] == [[[2.0]], [[4.0]], [[8.0]]]
    first, *alone = calls(batching)
    assert sorted(first["values"]) == [-2, 1, 2, 4]
    assert sorted(call["values"] for call in alone) == [[-2], [-2], [1], [2], [4]]


def test_a_request_that_hangs_is_504_and_its_neighbours_are_answered():
    with running(
        {"code/inference.py": BATCHER, **DECLARED}, TIDEGATE_MAX_BATCH_SIZE="8", TIDEGATE_TIMEOUT_S="6"
    ) as server:
        replies = together(server, [order(1), order(2), order(HANGS), order(4)])
        assert [reply.status for reply in replies] == [200, 200, 504, 200]
        assert replies[2].error["code"] == "handler_timed_out"
        first, *alone = calls(server)
        assert sorted(first["values"]) == [-3, 1, 2, 4]
        assert sorted(call["values"] for call in alone) == [[-3], [1], [2], [4]], "what hung alone is not tried again"
