"""An archive's script that streams what its request asks for; the bodies are those of peers/uvicorn/streaming.py.

One more kind is `{"kind": "plain"}`, an ordinary answer. A conversation is told how many messages to send
and how often.
"""

# ruff: noqa: ARG001 - the contract of the functions names their arguments

from __future__ import annotations

import asyncio
import json
import os
import time

CHUNK = b"x" * 20


def model_fn(model_dir):
    return None


def input_fn(input_data, content_type):
    return json.loads(input_data)


def predict_fn(data, model):
    if data["kind"] == "burst":
        return (CHUNK for _ in range(data["chunks"]))
    if data["kind"] == "paced":
        return _paced(data["chunks"], data["pause_s"])
    return "plain"


def output_fn(prediction, accept):
    return prediction, "text/plain"


async def _paced(chunks, pause_s):
    for _ in range(chunks):
        yield b"%019d\n" % time.monotonic_ns()
        await asyncio.sleep(pause_s)


def _in_a_thread(incoming, context):
    for order in incoming:
        asked = json.loads(order)
        for _ in range(asked["messages"]):
            yield CHUNK
            time.sleep(asked["pause_s"])


async def _on_the_loop(incoming, context):
    async for order in incoming:
        asked = json.loads(order)
        for _ in range(asked["messages"]):
            yield CHUNK
            await asyncio.sleep(asked["pause_s"])


stream_fn = _on_the_loop if os.environ.get("STREAM_FN") == "an asynchronous" else _in_a_thread
