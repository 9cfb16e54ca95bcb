"""Processes that user code starts are ordinary ones: signals end them, wherever and however they were started."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.contract.running import running, write_files

STARTS_CHILDREN = """
import json, multiprocessing, os, signal, subprocess, threading, time
from pathlib import Path

def process(method):
    child = multiprocessing.get_context(method).Process(target=time.sleep, args=(3600,))
    child.start()
    child.terminate()
    child.join()
    return child.exitcode

def forks(number, times, at_once=True):
    # At once: the signal may be there before the child has run a line of Python.
    ends = set()
    for _ in range(times):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(writer, b"!")
                while True:
                    time.sleep(0.01)  # a handler of Python's runs when this is over
            finally:
                os._exit(7)
        at_once or os.read(reader, 1)
        os.close(reader)
        os.close(writer)
        os.kill(pid, number)
        ends.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return sorted(ends)

def in_a_thread(method):
    ends = []
    thread = threading.Thread(target=lambda: ends.append(process(method)))
    thread.start()
    thread.join()
    return ends

def pools(times):
    for _ in range(times):
        with multiprocessing.get_context("fork").Pool(3):
            pass
    return times

def grandchild():
    receiver, sender = multiprocessing.get_context("fork").Pipe()
    child = multiprocessing.get_context("fork").Process(target=lambda: sender.send(process("fork")))
    child.start()
    child.join()
    return receiver.recv()

def with_preexec():
    child = subprocess.Popen(["sleep", "3600"], preexec_fn=lambda: None)
    child.terminate()
    return child.wait()

def own_handler():
    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
    try:
        return forks(signal.SIGTERM, 5, at_once=False)
    finally:
        signal.signal(signal.SIGTERM, before)

def loader():
    import torch
    batches = torch.utils.data.DataLoader(range(8), num_workers=2, multiprocessing_context="fork", timeout=60)
    next(iter(batches))  # the other batches are never taken
    return True

def signals_of_a_child():
    reader, writer = os.pipe()
    if os.fork() == 0:
        lines = Path("/proc/self/status").read_text().splitlines()
        masks = sorted(line for line in lines if line.startswith(("SigBlk", "SigIgn", "SigCgt")))
        handlers = [str(signal.getsignal(n)).split(" at ")[0] for n in signal.valid_signals()]
        wakeup = signal.set_wakeup_fd(-1)
        os.write(writer, json.dumps([masks, handlers, wakeup]).encode())
        os._exit(0)
    os.wait()
    return json.loads(os.read(reader, 65536))

ALL = {
    "fork": lambda: process("fork"),
    "spawn": lambda: process("spawn"),
    "forkserver": lambda: process("forkserver"),
    "SIGTERM": lambda: forks(signal.SIGTERM, 50),
    "SIGINT": lambda: forks(signal.SIGINT, 5, at_once=False),
    "SIGINT at once": lambda: set(forks(signal.SIGINT, 20)) <= {-2, 7},
    "thread": lambda: in_a_thread("fork"),
    "pool": lambda: pools(10),
    "grandchild": grandchild,
    "preexec": with_preexec,
    "own handler": own_handler,
    "loader": loader,
}
"""

HANDLER = """
from children import ALL

def model_fn(model_dir):
    return {name: start() for name, start in ALL.items()}

def input_fn(input_data, content_type):
    return input_data

def predict_fn(data, model):
    return model if data == "load" else {data: ALL[data]()}
"""

SEES_A_CHILD = """
from children import signals_of_a_child

def model_fn(model_dir):
    return [signals_of_a_child()]

def input_fn(input_data, content_type):
    return input_data

def predict_fn(data, model):
    return [*model, signals_of_a_child()]
"""

ENDS = {
    "fork": -15,
    "spawn": -15,
    "forkserver": -15,
    "SIGTERM": [-15],
    "SIGINT": [7],  # by way of a KeyboardInterrupt
    "SIGINT at once": True,
    "thread": [-15],
    "pool": 10,
    "grandchild": -15,
    "preexec": -15,
    "own handler": [3],
    "loader": True,
}
FILES = {"code/inference.py": HANDLER, "code/children.py": STARTS_CHILDREN}


@pytest.fixture(scope="module")
def server():
    with running(FILES, TIDEGATE_TIMEOUT_S="100", TIDEGATE_LOAD_TIMEOUT_S="100") as server:
        yield server


def test_children_that_a_model_starts_at_load_are_ended_by_signals(server):
    assert server.post(b"load", "text/csv").json() == ENDS


@pytest.mark.parametrize("how", ENDS)
def test_children_that_a_request_starts_are_ended_by_signals(server, how):
    (worker,) = server.workers()
    reply = server.post(how, "text/csv")
    assert (reply.status, reply.json()) == (200, {how: ENDS[how]})
    assert server.workers() == [worker]


def test_a_child_has_the_handlers_and_masks_that_it_would_have_of_any_interpreter(tmp_path):
    write_files(tmp_path, {"children.py": STARTS_CHILDREN})
    program = "import torch, children; print(children.json.dumps(children.signals_of_a_child()))"
    plain = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=True)
    with running({"code/inference.py": SEES_A_CHILD, "code/children.py": STARTS_CHILDREN}) as server:
        assert server.post(b"now", "text/csv").json() == [json.loads(plain.stdout)] * 2


def test_the_worker_itself_goes_on_after_the_signals_that_its_children_end_by(server):
    (worker,) = server.workers()
    for _ in range(3):
        worker.terminate()
        assert server.post(b"preexec", "text/csv").json() == {"preexec": -15}
    assert server.workers() == [worker]


def test_check_loads_a_model_that_ends_its_children_by_signals(tmp_path):
    write_files(tmp_path, FILES)
    command = [sys.executable, "-P", "-m", "inference", "check", str(tmp_path)]
    report = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert report.returncode == 0, report.stderr
    assert "this model may take traffic" in report.stdout
