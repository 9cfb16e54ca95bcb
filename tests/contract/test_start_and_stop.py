"""The life of the server process: when it is healthy, what ends it, and what it says then."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import signal
import socket
import threading
import time

import pytest
import torch

from tests.contract.asking import metric
from tests.contract.models import DOUBLE, OBEDIENT
from tests.contract.running import Server, running, start, write_files

SLOW_LOAD = """
import time
from pathlib import Path

def model_fn(model_dir):
    while not (Path(model_dir) / "go").exists():
        time.sleep(0.005)

def predict_fn(data, model):
    return data
"""


def manifest(files: dict[str, bytes], **more: object) -> bytes:
    listed = {n: {"sha256": hashlib.sha256(c).hexdigest(), "size_bytes": len(c)} for n, c in files.items()}
    return json.dumps({"format_version": 1, "name": "toy", "files": listed, **more}).encode()


def with_example(expected: bytes, response_type: str = "application/json") -> dict[str, bytes]:
    files = {
        "code/inference.py": DOUBLE.encode(),
        "example/request.json": b"[[1, 2]]",
        "example/response.json": expected,
    }
    example = {
        "request": {"file": "example/request.json", "content_type": "application/json", "accept": "application/json"},
        "response": {"file": "example/response.json", "content_type": response_type},
        "rtol": 1e-3,
        "atol": 1e-5,
    }
    return {**files, "manifest.json": manifest(files, example=example)}


def final_line(server: Server) -> str:
    """The last line that the server wrote, after it has ended by itself."""
    assert server.ended() == 1, server.log()
    return server.log().strip().splitlines()[-1]


def test_ping_is_503_until_the_model_is_loaded_and_the_port_answers_meanwhile():
    with running({"code/inference.py": SLOW_LOAD}, wait=False) as server:
        server.wait_until(lambda: server.ping() == 503, "the port answers")
        reply = server.post(b"[1]")
        assert (reply.status, reply.error["code"]) == (503, "not_ready")
        assert reply.headers["retry-after"] == "1"
        (server.model_dir / "go").touch()
        server.wait_until(lambda: server.ping() == 200, "the model is loaded")
        assert server.post(b"[1]").status == 200


def test_an_example_that_is_answered_as_expected_lets_traffic_in():
    with running(with_example(b"[[2.0005, 4.0]]")) as server:
        assert server.post(b"[[3]]").json() == [[6.0]]
        assert "example is answered as expected" in server.log()


@pytest.mark.parametrize(
    ("expected", "response_type", "words"),
    [
        (b"[[2.5, 4.0]]", "application/json", "at $[0][0] it has 2.0, expected was 2.5"),
        (b"[[2.0]]", "application/json", "at $[0] it has 2 entries, expected were 1"),
        (b'{"a": 1}', "application/json", "expected was {'a': 1}"),
        (b"[[2.0, 4.0]]", "text/csv", "its type is application/json, expected was text/csv"),
    ],
)
def test_an_example_that_is_answered_otherwise_keeps_the_server_from_starting(expected, response_type, words):
    with running(with_example(expected, response_type), wait=False) as server:
        line = final_line(server)
        assert line.startswith("tidegate: error: The archive's example was not answered as expected: ")
        assert words in line


def broken_manifest(change: str) -> dict[str, bytes]:
    files = with_example(b"[[2.0, 4.0]]")
    if change == "damaged":
        files["example/request.json"] = b"[[1, 3]]"
    elif change == "shorter":
        files["example/request.json"] = b"[]"
    elif change == "missing":
        del files["example/request.json"]
    elif change == "future":
        files["manifest.json"] = b'{"format_version": 99}'
    elif change == "no files":
        files["manifest.json"] = b'{"format_version": 1, "flies": {}}'
    elif change == "not json":
        files["manifest.json"] = b"{"
    elif change == "outside":
        files["manifest.json"] = manifest({"../server.log": b""})
    return files


def state_dict() -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, file)
    return file.getvalue()


LOADS_WEIGHTS = """
import torch

def model_fn(model_dir):
    return torch.load(f"{model_dir}/model.pth", weights_only=True)
"""


@pytest.mark.parametrize(
    ("files", "environment", "words"),
    [
        ({}, {}, "The model directory {model_dir} is empty."),
        ({"notes.txt": b""}, {}, "holds neither code/inference.py with a model_fn nor a model"),
        ({"model.pth": state_dict()}, {}, "model.pth is a state dict, which cannot be served"),
        ({"model.pth": b"not a model"}, {}, "model.pth is not a file that torch.save or torch.jit.save wrote"),
        ({"a.pt": b"", "b.pth": b""}, {}, "holds several models (a.pt, b.pth)"),
        ({"code/inference.py": "def model_fn(:\n"}, {}, "code/inference.py, line 1: SyntaxError"),
        (
            {"code/inference.py": "\nimport no_such_package\n"},
            {},
            "code/inference.py, line 2: ModuleNotFoundError: No module",
        ),
        ({"code/inference.py": "model_fn = 3"}, {}, "model_fn is of the type int, not a function"),
        (
            {"code/inference.py": "def model_fn(model_dir): pass\ndef input_fn(body): pass"},
            {},
            "input_fn(body) cannot be called; it must take (input_data, content_type) or (input_data, content_type,",
        ),
        (
            {"code/inference.py": "def model_fn(d): 0\ndef transform_fn(a, b, c, d): 0\ndef predict_fn(a, b): 0"},
            {},
            "defines transform_fn and also predict_fn",
        ),
        (
            {"code/inference.py": "def model_fn(model_dir):\n    raise OSError('no vocabulary')"},
            {},
            "code/inference.py, line 2: model_fn raised OSError: no vocabulary.",
        ),
        (
            {"code/inference.py": LOADS_WEIGHTS, "model.pth": state_dict()[:-200]},
            {},
            "code/inference.py, line 5: model_fn raised RuntimeError: PytorchStreamReader failed",
        ),
        (
            {"code/inference.py": LOADS_WEIGHTS, "model.pth": b"<html>not found</html>"},
            {},
            "(model.pth is damaged, or no file that torch.save wrote).",
        ),
        (
            {"code/inference.py": DOUBLE},
            {"TIDEGATE_WORKRES": "2"},
            "TIDEGATE_WORKRES is not a setting of this server; did you mean TIDEGATE_WORKERS?",
        ),
        (
            {"code/inference.py": "import os, signal\ndef model_fn(model_dir): os.kill(os.getpid(), signal.SIGSEGV)"},
            {},
            "was killed by signal 11",
        ),
        ({"code/inference.py": "raise SystemExit(0)"}, {}, "code/inference.py, line 1: SystemExit: 0"),
        ({"code/serve.py": DOUBLE}, {"SAGEMAKER_PROGRAM": "predict.py"}, "SAGEMAKER_PROGRAM asks for 'predict.py'"),
        ({"code/inference.py": DOUBLE}, {"TIDEGATE_WORKERS": "many"}, "TIDEGATE_WORKERS='many' is not valid"),
        (broken_manifest("damaged"), {}, "example/request.json is not as it was saved: its SHA-256 is"),
        (broken_manifest("shorter"), {}, "example/request.json has 2 bytes; the manifest says 8"),
        (broken_manifest("missing"), {}, "example/request.json is missing, although the manifest lists it"),
        (broken_manifest("future"), {}, "has format_version 99; this server reads 1"),
        (broken_manifest("no files"), {}, "'files' must be an object of objects"),
        (broken_manifest("not json"), {}, "manifest.json is not readable JSON"),
        (broken_manifest("outside"), {}, "which is outside the model directory"),
    ],
)
def test_a_deployers_mistake_is_one_line_and_exit_1_and_never_a_healthy_ping(files, environment, words):
    with running(files, wait=False, **environment) as server:
        seen: set[int] = set()
        while server.process.poll() is None:
            with contextlib.suppress(OSError):
                seen.add(server.ping())
            time.sleep(0.005)  # or this loop takes the processor from the server's start
        line = final_line(server)
        assert line.startswith("tidegate: error: ")
        assert words.format(model_dir=server.model_dir) in line
        assert seen <= {503}


def test_a_model_directory_that_does_not_exist_is_named(tmp_path):
    server = start(tmp_path, {})
    assert final_line(server) == f"tidegate: error: The model directory {tmp_path}/model does not exist."


def test_a_port_in_use_is_named_with_the_variable_that_chooses_it(tmp_path):
    write_files(tmp_path / "model", {"code/inference.py": DOUBLE})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = start(tmp_path, {}, port)
        assert final_line(server) == (
            f"tidegate: error: Port {port} on 127.0.0.1 is in use already; choose others by --port and --host, or by "
            "SAGEMAKER_BIND_TO_PORT and TIDEGATE_HOST."
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_work_in_flight_finish_answers_stragglers_and_exits_0(number):
    with running({"code/inference.py": OBEDIENT}) as server:
        replies = []
        thread = threading.Thread(target=lambda: replies.append(server.post(json.dumps({"wait_for": "release"}))))
        thread.start()
        server.wait_until((server.model_dir / "calls").exists, "the request is being computed")
        straggler = server.socket()
        server.process.send_signal(number)
        server.wait_until(lambda: server.ping() == 503, "ping says that the server stops")
        straggler.sendall(b"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 7\r\n\r\n")
        straggler.sendall(b'"later"')
        (server.model_dir / "release").touch()
        thread.join(timeout=60)
        assert [reply.status for reply in replies] == [200]
        assert straggler.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
        straggler.close()
        assert server.ended() == 0


def test_what_is_not_done_when_the_drain_time_is_over_gets_503_and_the_exit_is_still_0():
    with running({"code/inference.py": OBEDIENT}, TIDEGATE_DRAIN_TIMEOUT_S="0.5") as server:
        replies = []
        bodies = [json.dumps({"spin": 1}), json.dumps({"spin": 2})]
        threads = [threading.Thread(target=lambda b=body: replies.append(server.post(b))) for body in bodies]
        for thread in threads:
            thread.start()
        server.wait_until((server.model_dir / "calls").exists, "one request is being computed")
        server.wait_until(lambda: metric(server, "tidegate_waiting") == 1, "the other one waits")
        assert server.terminate() == 0
        for thread in threads:
            thread.join(timeout=60)
        assert [reply.status for reply in replies] == [503, 503]
        assert {reply.error["code"] for reply in replies} == {"draining"}


def test_a_signal_during_a_long_load_ends_the_server_at_once():
    with running({"code/inference.py": SLOW_LOAD}, wait=False) as server:
        server.wait_until(server.workers, "a worker is loading")
        assert server.terminate() == 0


def test_the_workers_end_when_the_frontend_is_killed_even_if_user_code_hangs():
    with running({"code/inference.py": OBEDIENT}) as server:
        pending = server.socket()
        pending.sendall(b'POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n{"spin": 1}')
        server.wait_until((server.model_dir / "calls").exists, "the request is being computed")
        (worker,) = server.workers()
        server.process.kill()
        server.process.wait()
        server.wait_until(lambda: not worker.is_running(), "the worker is gone")
        pending.close()


def test_a_users_inference_py_in_the_working_directory_does_not_hide_the_server(tmp_path, monkeypatch):
    (tmp_path / "inference.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    with running({"code/inference.py": DOUBLE}) as server:
        assert server.post(b"[[1]]").json() == [[2.0]]


HELPED = """
from helper import factor
from inference import __file__ as own_name
import inference

def model_fn(model_dir):
    return open("weights.txt").read()

def input_fn(data, content_type):
    return data

def predict_fn(data, model):
    return {"factor": factor(), "file": inference.__file__, "own": own_name, "model": model}

def output_fn(prediction, accept):
    return prediction
"""
HELPER = """
def factor():
    from inference import model_fn
    return model_fn.__name__
"""


def test_helpers_relative_files_and_the_name_inference_belong_to_the_archive():
    files = {"code/inference.py": HELPED, "code/helper.py": HELPER, "weights.txt": "seven"}
    with running(files) as server:
        answer = server.post(b"1", "text/csv").json()
        script = str(server.model_dir / "code" / "inference.py")
        assert answer == {"factor": "model_fn", "file": script, "own": script, "model": "seven"}


OURS_AND_MINE = """
import client, infra, local_cloud, training_hooks
import tidegate
from tidegate.inference.errors import BadRequest

def model_fn(model_dir):
    return "".join(module.MINE for module in (client, infra, local_cloud, training_hooks))

def input_fn(data, content_type):
    if data == "no":
        raise BadRequest("The answer is always yes.")
    return data

def predict_fn(data, model):
    return {"mine": model, "ours": tidegate.inference.errors.__name__}

def output_fn(prediction, accept):
    return prediction
"""


def test_a_script_may_import_what_is_ours_and_has_every_other_name_for_itself():
    files = {"client": "a", "infra": "b", "local_cloud": "c", "training_hooks": "d"}
    code = {f"code/{name}.py": f"MINE = {letter!r}" for name, letter in files.items()}
    with running({"code/inference.py": OURS_AND_MINE, **code}) as server:
        assert server.post(b"1", "text/csv").json() == {"mine": "abcd", "ours": "tidegate.inference.errors"}
        refused = server.post(b"no", "text/csv")
        assert (refused.status, refused.error["message"]) == (400, "The answer is always yes.")


def test_an_archive_packed_with_its_folder_and_a_script_at_its_root_are_found():
    with running({"folder/inference.py": DOUBLE}) as server:
        assert server.post(b"[[1]]").json() == [[2.0]]
