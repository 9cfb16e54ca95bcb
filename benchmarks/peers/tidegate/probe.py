"""An archive's script that misbehaves on request, for the trials.

A body is `{"sleep_ms": …, "spin": …, "hold_gil_s": …}`, all of them optional.
"""

# ruff: noqa: ARG001 - the contract of the four functions names their arguments

from __future__ import annotations

import ctypes
import json
import os
import time
from pathlib import Path

STAMPS = Path(os.environ["BENCHMARK_STAMPS"]) if "BENCHMARK_STAMPS" in os.environ else None
IMPORTED = time.monotonic()  # the same clock for every process of the machine

import torch  # noqa: E402 - the imports belong to what a worker cannot avoid


def model_fn(model_dir):
    if STAMPS is not None:
        with STAMPS.open("a") as file:
            file.write(json.dumps({"pid": os.getpid(), "imported": IMPORTED, "loaded": time.monotonic()}) + "\n")


def input_fn(input_data, content_type):
    asked = json.loads(input_data)
    return torch.tensor([[asked.get("sleep_ms", 0), asked.get("spin", 0), asked.get("hold_gil_s", 0)]])


def predict_fn(data, model):
    sleep_ms, spin, hold_gil_s = data.amax(0).tolist()
    while spin:
        pass
    if hold_gil_s:
        ctypes.PyDLL(None).sleep(int(hold_gil_s))  # PyDLL keeps the GIL during the call
    time.sleep(sleep_ms / 1000)  # however large the batch is
    return data


def output_fn(prediction, accept):
    return json.dumps(prediction.tolist())
