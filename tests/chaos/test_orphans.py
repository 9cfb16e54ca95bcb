"""User code starts processes of its own; what they inherit must not keep a dead worker alive in the server's eyes."""

from __future__ import annotations

import os
import signal

from tests.contract.running import running

FORKS = """
import json, os, signal, time
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir)

def input_fn(input_data, content_type):
    return json.loads(input_data)

def predict_fn(data, model):
    first = not (model / "child").exists()
    if first:
        pid = os.fork()
        if pid == 0:
            os.setsid()  # else it would end with the worker's process group
            while True:  # it holds every file descriptor of the worker, and its socket to the server too
                time.sleep(1)
        (model / "child").write_text(str(pid))
        os.kill(os.getpid(), signal.SIGKILL)
    return {"first": first}

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


def test_a_worker_that_died_is_replaced_although_a_process_that_it_forked_holds_its_socket():
    with running({"code/inference.py": FORKS}, TIDEGATE_TIMEOUT_S="3600") as server:
        try:
            # Without the word of the workers' parent the server would wait an hour for an answer.
            reply = server.post(b"{}")
            assert (reply.status, reply.json()) == (200, {"first": False})
        finally:
            child = int((server.model_dir / "child").read_text())
            os.kill(child, signal.SIGKILL)
