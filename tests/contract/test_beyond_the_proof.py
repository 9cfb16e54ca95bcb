"""What opens for the requests that came first is not joined for others: the kinds of scripts that would be mixed up."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.contract.asking import metric
from tests.contract.gathering import together
from tests.contract.running import running

SCRIPT = """
import json, time
from pathlib import Path
import torch
STATE = {"k": 1.0}

def model_fn(model_dir):
    return Path(model_dir)

def input_fn(body, content_type, context):
    order = json.loads(body)
    if order.get("hold"):
        return order
    %(decode)s

def predict_fn(data, model, context):
    if isinstance(data, dict) and data.get("hold"):
        with (model / "calls").open("a") as calls:
            calls.write("[]\\n")
        while not (model / "release").exists():
            time.sleep(0.005)
        return torch.zeros(1)
    %(predict)s

def output_fn(prediction, accept):
    %(encode)s
"""
HOLD = json.dumps({"hold": True})
CLIENTS = 8
TENSOR, TOLIST = "return torch.tensor(order['x'])", "return json.dumps(prediction.tolist())"

SCRIPTS = {
    "squeeze": (TENSOR, "return (data.sum(1, keepdim=True) * 2).squeeze()", TOLIST),
    "one is not many": (TENSOR, "r = data * 2; return r[0] if len(r) == 1 else r", TOLIST),
    "capacity": (TENSOR, "data = data * 2; data[4:] = 0; return data", TOLIST),
    "context": ("context.k = order.get('k', 1.0); " + TENSOR, "return data * context.k", TOLIST),
    "global": (
        "STATE['k'] = order.get('k', 1.0); " + TENSOR,
        "return data * 2",
        "return json.dumps((prediction * STATE['k']).tolist())",
    ),
    "dict": (
        "return {'x': torch.tensor(order['x']), 't': torch.tensor([[order.get('k', 1.0)]])}",
        "return data['x'] * data['t'][0]",
        TOLIST,
    ),
}


def order(source: random.Random, records: int, **more: Any) -> str:
    return json.dumps({"x": [[source.uniform(-3, 3) for _ in range(2)] for _ in range(records)], **more})


PHASES: dict[str, tuple[int, int, Callable[[random.Random], str]]] = {
    "squeeze": (2, CLIENTS, lambda source: order(source, source.choice([1, 2]))),
    "one is not many": (3, CLIENTS, lambda source: order(source, source.choice([1, 2, 3]))),
    "capacity": (1, 2, lambda source: order(source, 1)),
    "context": (1, CLIENTS, lambda source: order(source, 1, k=source.uniform(1, 9))),
    "global": (1, CLIENTS, lambda source: order(source, 1, k=source.uniform(1, 9))),
    "dict": (1, CLIENTS, lambda source: order(source, 1, k=source.uniform(1, 9))),
}
"""How many records and clients there are at first, and what comes then."""


@pytest.mark.parametrize("kind", SCRIPTS)
def test_what_the_proofs_have_not_seen_is_answered_as_alone(kind: str):
    records, clients, later = PHASES[kind]
    source = random.Random(kind)  # noqa: S311 - it is to be repeatable
    decode, predict, encode = SCRIPTS[kind]
    script = SCRIPT % {"decode": decode, "predict": predict, "encode": encode}
    with running({"code/inference.py": script}, TIDEGATE_MAX_BATCH_SIZE="8") as server:
        first = [[order(source, records) for _ in range(clients)] for _ in range(4)]
        then = [[later(source) for _ in range(CLIENTS)] for _ in range(4)]
        for batch in first + then:
            replies = together(server, batch, holding=HOLD)
            assert [reply.status for reply in replies] == [200] * len(batch)
            assert [reply.body for reply in replies] == [server.post(each).body for each in batch]
        if kind in {"context", "global"}:
            assert metric(server, "tidegate_batch_joins_total", result="joined") == 0
            assert server.log().count("collate_fn") == 1, "the way out is told once"
        else:
            assert metric(server, "tidegate_batch_joins_total", result="proved") >= 3
