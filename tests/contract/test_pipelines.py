"""Pipelines in handlers: in a real server's worker, which is a fork, with the user's own script named `inference`."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psutil
import pytest

from tests.contract.running import Server, running
from tests.contract.talking import Talker
from tests.raw_websocket import TEXT

SCRIPT = """
import json, os, threading, time
from pathlib import Path
from tidegate.pipeline import Pipeline, Stage

def parse(text):
    if text == "slow":
        time.sleep(4)
    return float(text)

def cube(value):
    return value ** 3

def double_all(values):
    return [2 * value for value in values]

def pid(value):
    return os.getpid()

IN_THREADS = Pipeline(Stage(parse, workers=8, timeout_s=2), Stage(double_all, batch_size=4), str)
IN_PROCESSES = Pipeline(Stage(cube, workers=2, processes=True), Stage(double_all, batch_size=3))

def model_fn(model_dir):
    return Path(model_dir)

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(order, model):
    items = order["items"]
    match order["how"]:
        case "threads":
            return list(IN_THREADS(items))
        case "dict":
            return IN_THREADS(items)
        case "processes":
            return list(IN_PROCESSES(items))
        case "pids":
            return list(Pipeline(Stage(pid, workers=2, processes=True))(items))
        case "first":
            return next(IN_THREADS(items))
        case "stream":
            return stream(items, model)
        case "threads left":
            return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("pipeline-"))

def stream(items, model):
    def wait(item):
        while not (model / f"{item}.gate").exists():
            time.sleep(0.001)
        return item
    for result in Pipeline(Stage(wait, workers=4))(items):
        yield json.dumps(result) + "\\n"

def stream_fn(incoming, context):
    yield from Pipeline(Stage(str.upper, workers=3))(incoming)

def output_fn(prediction, accept):
    return prediction if not isinstance(prediction, (list, dict, str)) else json.dumps(prediction)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running({"code/inference.py": SCRIPT}) as server:
        yield server


def ask(server: Server, how: str, items: object = ()) -> object:
    reply = server.post(json.dumps({"how": how, "items": items}))
    assert reply.status == 200, server.log()
    return reply.json()


def none_is_left(server: Server) -> None:
    server.wait_until(lambda: ask(server, "threads left") == [], "the threads have ended")


def test_a_handler_answers_with_a_pipeline(server: Server) -> None:
    """From a list to a list, from a dict to a dict; a fork's pipeline, made when its script was imported."""
    none_is_left(server)  # of other tests, whose calls took too long
    assert ask(server, "threads", ["1", "2.5", "3", "4", "5"]) == ["2.0", "5.0", "6.0", "8.0", "10.0"]
    assert ask(server, "dict", {"a": "1", "b": "2"}) == {"a": "2.0", "b": "4.0"}
    assert ask(server, "threads left") == []


def test_a_handler_that_takes_only_the_first_result_leaves_no_thread(server: Server) -> None:
    """The rest is dropped with the answer."""
    assert ask(server, "first", ["1"] * 1000) == "2.0"
    none_is_left(server)


def test_functions_of_the_script_run_in_processes_too(server: Server) -> None:
    """Their processes import the user's `inference`, which is no module of ours, and end with the answer."""
    assert ask(server, "processes", [1, 2, 3, 4]) == [2, 16, 54, 128]
    pids = ask(server, "pids", [1, 2, 3, 4])
    assert isinstance(pids, list)
    workers = {worker.pid for worker in server.workers()}
    assert not workers & set(pids)
    assert not any(psutil.pid_exists(pid) for pid in pids)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (["1", "x"], ["could not convert string to float", "In stage 1 (parse) of the pipeline, item 1."]),
        (["1", "slow"], ["Stage 'parse' has a timeout_s of 2, and the call took longer.", "item 1."]),
    ],
)
def test_an_error_of_a_stage_is_an_error_of_the_handler(server: Server, items: list[str], words: list[str]) -> None:
    """One answer, and the traceback with stage and item in the log; the worker goes on."""
    workers = {worker.pid for worker in server.workers()}
    reply = server.post(json.dumps({"how": "threads", "items": items}))
    assert reply.status == 500
    for word in words:
        server.wait_until(lambda word=word: word in server.log(), "the log says what failed")
    assert ask(server, "threads", ["1"]) == ["2.0"]
    assert {worker.pid for worker in server.workers()} == workers


def test_results_of_a_pipeline_may_be_streamed(server: Server) -> None:
    """Each goes to the client when it is there, in order, though later ones are ready earlier."""
    names = ["one", "two", "three"]
    body = json.dumps({"how": "stream", "items": names})
    connection = server.socket()
    with connection, connection.makefile("rb") as answer:
        connection.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        for name in ["three", "two", "one"]:
            (server.model_dir / f"{name}.gate").touch()
        seen = b""
        while b'"three"' not in seen:
            line = answer.readline()
            assert line, seen
            seen += line
    assert seen.index(b'"one"') < seen.index(b'"two"') < seen.index(b'"three"')
    none_is_left(server)


def test_a_client_that_leaves_its_stream_leaves_no_thread(server: Server) -> None:
    """The handler's generator is closed, and with it the pipeline."""
    (server.model_dir / "first.gate").touch()
    body = json.dumps({"how": "stream", "items": ["first"] * 100_000})
    with server.socket() as connection:
        connection.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")
    none_is_left(server)


def test_a_conversation_may_go_through_a_pipeline(server: Server) -> None:
    """Each message is answered before the client has sent its next; one who leaves ends the threads."""
    with Talker(server) as talker:
        for word in ("one", "two", "three"):
            talker.say(word)
            assert talker.frame() == (TEXT, True, word.upper().encode())
        talker.say("four")
        talker.vanish()
    none_is_left(server)
