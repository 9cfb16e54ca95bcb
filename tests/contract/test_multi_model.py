"""Multi-model endpoints: five routes, opaque names, and models that do not touch each other."""

from __future__ import annotations

import json
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.contract.models import DOUBLE, OBEDIENT
from tests.contract.running import Reply, Server, running, write_files

NAMED = """
import helper

def model_fn(model_dir):
    with open("loads", "a") as file:
        file.write("x")
    return helper.NAME

def input_fn(data, content_type):
    return data

def predict_fn(data, model, context):
    return {"name": model, "target": context.get_request_header(0, "X-Amzn-SageMaker-Target-Model"),
            "model_name": context.model_name, "body": data}

def output_fn(prediction, accept):
    return prediction
"""


@pytest.fixture(scope="module")
def shared():
    with running({}, SAGEMAKER_MULTI_MODEL="true") as server:
        yield server


@pytest.fixture
def server(shared: Server):
    """The same for all, but for its models: none is left for the next test."""
    yield shared
    for entry in shared.request("GET", "/models").json()["models"]:
        assert shared.request("DELETE", f"/models/{entry['modelName']}").status == 200
    shared.wait_until(lambda: shared.workers() == [], "no worker is left")
    shutil.rmtree(shared.model_dir.parent / "models", ignore_errors=True)


def place(server: Server, name: str, files: dict[str, str | bytes]) -> str:
    model_dir = server.model_dir.parent / "models" / name / "model"
    write_files(model_dir, files)
    return str(model_dir)


def named(server: Server, name: str) -> str:
    """A model that knows its name from a helper module that every such model calls the same."""
    return place(server, name, {"code/inference.py": NAMED, "code/helper.py": f"NAME = {name!r}"})


def load(server: Server, name: str, url: str) -> Reply:
    body = json.dumps({"model_name": name, "url": url})
    return server.request("POST", "/models", body, {"content-type": "application/json"})


def invoke(server: Server, name: str, body: str = "hello", **headers: str) -> Reply:
    sent = {"content-type": "text/csv", **headers}
    return server.request("POST", f"/models/{name}/invoke", body, sent)


def test_ping_is_200_without_any_model_and_the_list_is_empty(server: Server):
    assert server.ping() == 200
    assert server.request("GET", "/models").json() == {"models": []}
    assert server.request("POST", "/invocations", b"1").status == 404


def test_models_are_loaded_listed_described_asked_and_unloaded(server: Server):
    urls = {name: named(server, name) for name in ("abc", "def")}
    for name, url in urls.items():
        reply = load(server, name, url)
        assert reply.status == 200
        assert reply.json() == {"status": f'Model "{name}" Version: 1.0 registered with 1 initial workers'}
    entries = [{"modelName": name, "modelUrl": url} for name, url in urls.items()]
    assert server.request("GET", "/models").json() == {"models": entries}
    assert server.request("GET", "/models/def").json() == entries[1]
    for name in urls:
        answer = invoke(server, name, **{"X-Amzn-SageMaker-Target-Model": f"{name}.tar.gz"}).json()
        assert answer == {"name": name, "target": f"{name}.tar.gz", "model_name": name, "body": "hello"}
    reply = server.request("DELETE", "/models/abc")
    assert (reply.status, reply.json()) == (200, {"status": 'Model "abc" unregistered'})
    assert invoke(server, "abc").status == 404
    assert invoke(server, "def").status == 200
    assert server.request("GET", "/models").json() == {"models": entries[1:]}


def test_what_is_not_loaded_is_404_and_what_is_loaded_already_is_409(server: Server):
    assert server.request("GET", "/models/ghost").status == 404
    assert server.request("DELETE", "/models/ghost").status == 404
    assert invoke(server, "ghost").status == 404
    assert load(server, "ghost", "/no/such/place").status == 404
    url = named(server, "abc")
    assert load(server, "abc", url).status == 200
    reply = load(server, "abc", "/another/url")
    assert (reply.status, reply.error["code"]) == (409, "already_loaded")


CHATTING = """
import json
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir).parent.name

def predict_fn(data, model):
    return model

def chat_fn(request, model):
    yield f"{model} hears "
    yield request["messages"][-1]["content"]
"""
CHAT = "/v1/chat/completions"


def chat(server: Server, body: dict[str, object] | bytes, path: str = CHAT) -> Reply:
    if isinstance(body, dict):
        body = json.dumps({"messages": [{"role": "user", "content": "you"}], **body}).encode()
    return server.request("POST", path, body, {"content-type": "application/json"})


def said(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    return reply.json()["choices"][0]["message"]["content"]


def test_a_chat_goes_to_the_model_that_its_body_or_its_path_names(server: Server):
    """As a whole and as events; a path says more than a body."""
    for name in ("abc", "def"):
        assert load(server, name, place(server, name, {"code/inference.py": CHATTING})).status == 200
    for name in ("abc", "def"):
        assert said(chat(server, {"model": name})) == f"{name} hears you"
        assert said(chat(server, {"model": "abc"}, f"/models/{name}{CHAT}")) == f"{name} hears you"
        events = chat(server, {"model": name, "stream": True})
        assert events.headers["content-type"] == "text/event-stream"
        assert f"{name} hears " in events.body.decode()
        assert events.body.endswith(b"data: [DONE]\n\n")
    assert server.request("GET", CHAT).status == 405
    assert server.request("DELETE", "/models/abc").status == 200
    assert chat(server, {"model": "abc"}).status == 404
    assert chat(server, {}, f"/models/abc{CHAT}").status == 404
    assert said(chat(server, {"model": "def"})) == "def hears you"


@pytest.mark.parametrize("named", [{}, {"model": ""}, {"model": None}, {"model": 7}, {"model": "ghost"}])
def test_a_chat_to_no_model_of_the_server_is_404_in_openais_form_and_says_the_ways_out(server: Server, named):
    assert load(server, "abc", place(server, "abc", {"code/inference.py": CHATTING})).status == 200
    reply = chat(server, named)
    assert reply.status == 404
    assert {key: reply.error[key] for key in ("code", "type", "param")} == {
        "code": "model_not_found",
        "type": "invalid_request_error",
        "param": "model",
    }
    assert ("'ghost'" in reply.error["message"]) == (named.get("model") == "ghost")
    for way in ("GET /models", "POST /models", "/models/NAME/v1/chat/completions"):
        assert way in reply.error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 100_000])
def test_a_chat_whose_body_is_no_object_is_400(server: Server, body):
    assert chat(server, body).status == 400


def test_a_long_chat_is_sent_to_its_path(server: Server):
    """The frontend reads no long body; the model's own path needs no look into it."""
    assert load(server, "abc", place(server, "abc", {"code/inference.py": CHATTING})).status == 200
    content = "x" * 1024 * 1024
    refused = chat(server, {"model": "abc", "messages": [{"content": content}]})
    assert refused.status == 413
    assert f"/models/NAME{CHAT}" in refused.error["message"]
    assert said(chat(server, {"messages": [{"content": content}]}, f"/models/abc{CHAT}")) == f"abc hears {content}"


def test_a_chat_in_another_charset_finds_its_model(server: Server):
    assert load(server, "abc", place(server, "abc", {"code/inference.py": CHATTING})).status == 200
    body = '{"messages": [{"content": "Grüße"}], "model": "abc"}'.encode("latin-1")
    reply = server.request("POST", CHAT, body, {"content-type": "application/json; charset=latin-1"})
    assert said(reply) == "abc hears Grüße"


def test_a_server_of_one_model_answers_a_chat_at_the_models_path_too():
    with running({"code/inference.py": CHATTING}) as server:
        assert "hears you" in said(chat(server, {"model": "whatever"}, f"/models/model{CHAT}"))
        assert chat(server, {}, f"/models/other{CHAT}").status == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"model_name": "a"}',
        b'{"model_name": "a/b", "url": "/x"}',
        b'{"model_name": 1, "url": "/x"}',
    ],
)
def test_a_load_request_that_is_not_one_is_400(server: Server, body):
    assert server.request("POST", "/models", body).status == 400


def test_the_list_has_pages(server: Server):
    for name in "abcde":
        assert load(server, name, named(server, name)).status == 200
    first = server.request("GET", "/models?limit=2").json()
    assert [entry["modelName"] for entry in first["models"]] == ["a", "b"]
    second = server.request("GET", f"/models?limit=2&next_page_token={first['nextPageToken']}").json()
    last = server.request("GET", f"/models?limit=2&next_page_token={second['nextPageToken']}").json()
    assert [entry["modelName"] for entry in second["models"] + last["models"]] == ["c", "d", "e"]
    assert "nextPageToken" not in last
    assert server.request("GET", "/models?next_page_token=x").status == 400


def test_concurrent_loads_of_one_model_are_one_load(server: Server):
    url = named(server, "abc")
    with ThreadPoolExecutor(8) as pool:
        statuses = [reply.status for reply in pool.map(lambda _: load(server, "abc", url), range(8))]
    assert set(statuses) <= {200, 409}
    assert 200 in statuses
    assert (Path(url) / "loads").read_text() == "x"


def test_a_name_that_is_being_loaded_from_elsewhere_is_409(server: Server):
    script = "import time\ndef model_fn(model_dir):\n    open('begun', 'w')\n    time.sleep(3600)"
    url, other = place(server, "slow", {"code/inference.py": script}), named(server, "other")
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, server, "slow", url)
        server.wait_until((Path(url) / "begun").exists, "the model is being loaded")
        reply = load(server, "slow", other)
        assert (reply.status, reply.error["code"]) == (409, "already_loaded")
        assert reply.error["message"] == f"The model 'slow' is being loaded from {url}."
        assert server.request("DELETE", "/models/slow").status == 200
        assert loading.result(timeout=60).status == 500


def test_unloading_ends_what_user_code_started_too(server: Server):
    url = place(server, "abc", {"code/inference.py": OBEDIENT})
    assert load(server, "abc", url).status == 200
    assert invoke(server, "abc", '{"start": 1}').status == 200
    child = int((Path(url) / "child").read_text())
    assert server.request("DELETE", "/models/abc").status == 200
    server.wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie", "it is gone")


def test_unloading_ends_the_process_and_finishes_what_it_computes_before_it_answers(server: Server):
    url = place(server, "abc", {"code/inference.py": OBEDIENT})
    assert load(server, "abc", url).status == 200
    (worker,) = server.workers()
    with ThreadPoolExecutor(2) as pool:
        pending = pool.submit(invoke, server, "abc", '{"wait_for": "release"}')
        server.wait_until((Path(url) / "calls").exists, "the request is being computed")
        unloading = pool.submit(server.request, "DELETE", "/models/abc")
        server.wait_until(lambda: invoke(server, "abc").status == 404, "the model takes no more requests")
        assert not unloading.done()
        (Path(url) / "release").touch()
        assert pending.result(timeout=60).status == 200
        assert unloading.result(timeout=60).status == 200
    assert not psutil.pid_exists(worker.pid)


def test_unloading_a_model_that_is_still_loading_ends_the_load_and_answers_who_asked_for_it(server: Server):
    script = "import time\ndef model_fn(model_dir):\n    open('begun', 'w')\n    time.sleep(3600)"
    url = place(server, "slow", {"code/inference.py": script})
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(load, server, "slow", url)
        server.wait_until((Path(url) / "begun").exists, "the model is being loaded")
        assert server.request("DELETE", "/models/slow").status == 200
        reply = loading.result(timeout=60)
    assert (reply.status, reply.error["code"]) == (500, "model_load_failed")
    assert "was stopped while it was loaded" in reply.error["message"]
    assert server.workers() == []
    assert load(server, "good", named(server, "good")).status == 200


def test_a_model_that_does_not_load_is_500_with_its_reason_and_the_others_stay(server: Server):
    assert load(server, "good", named(server, "good")).status == 200
    url = place(server, "bad", {"code/inference.py": "def model_fn(model_dir):\n    raise OSError('no vocabulary')"})
    reply = load(server, "bad", url)
    assert (reply.status, reply.error["code"]) == (500, "model_load_failed")
    assert "code/inference.py, line 2: model_fn raised OSError: no vocabulary." in reply.error["message"]
    assert server.request("GET", "/models/bad").status == 404
    assert invoke(server, "good").status == 200
    assert server.ping() == 200


def test_a_model_whose_loading_takes_all_memory_is_507(server: Server):
    url = place(server, "big", {"code/inference.py": "def model_fn(model_dir):\n    raise MemoryError"})
    assert load(server, "big", url).status == 507
    assert server.request("GET", "/models").json() == {"models": []}


def test_a_model_whose_files_are_larger_than_the_memory_left_is_507_without_being_tried():
    limits = {"SAGEMAKER_MULTI_MODEL": "true", "TIDEGATE_MIN_FREE_MEMORY_BYTES": str(2**40)}
    with running({}, **limits) as server:
        url = named(server, "abc")
        reply = load(server, "abc", url)
        assert (reply.status, reply.error["code"]) == (507, "out_of_memory")
        assert not (Path(url) / "loads").exists()


def test_one_model_more_than_the_limit_is_507_until_another_is_unloaded():
    with running({}, SAGEMAKER_MULTI_MODEL="true", TIDEGATE_MAX_MODELS="1") as server:
        urls = {name: named(server, name) for name in ("abc", "def")}
        assert load(server, "abc", urls["abc"]).status == 200
        assert load(server, "def", urls["def"]).status == 507
        assert invoke(server, "abc").status == 200
        assert server.request("DELETE", "/models/abc").status == 200
        assert load(server, "def", urls["def"]).status == 200


def test_models_that_take_more_bytes_together_than_they_may_are_507_until_another_is_unloaded():
    """Measured when it is loaded: the files say nothing of what a script takes."""
    hungry = "KEPT = bytes(range(256)) * (256 * 1024)" + NAMED
    with running({}, SAGEMAKER_MULTI_MODEL="true", TIDEGATE_MAX_LOADED_BYTES=str(200 * 2**20)) as server:
        urls = {
            name: place(server, name, {"code/inference.py": hungry, "code/helper.py": f"NAME = {name!r}"})
            for name in "abcd"
        }
        statuses = {name: load(server, name, url).status for name, url in urls.items()}
        assert statuses == {"a": 200, "b": 200, "c": 507, "d": 507}
        assert len(server.workers()) == 2
        assert invoke(server, "a").status == 200
        assert server.request("DELETE", "/models/a").status == 200
        assert load(server, "c", urls["c"]).status == 200


def test_a_model_that_kills_its_worker_does_not_touch_the_others(server: Server):
    assert load(server, "bad", place(server, "bad", {"code/inference.py": OBEDIENT})).status == 200
    assert load(server, "good", named(server, "good")).status == 200
    assert invoke(server, "bad", json.dumps({"die": signal.SIGKILL})).status == 500
    assert invoke(server, "good").status == 200
    assert invoke(server, "bad", "{}").status == 200


def test_a_further_model_is_a_fork_and_no_new_interpreter(server: Server):
    """So a model costs no start of Python and no import of torch: it is up as soon as its own model_fn is done."""
    for name in "abc":
        assert load(server, name, named(server, name)).status == 200
    (parent,) = psutil.Process(server.process.pid).children()
    assert len(server.workers()) == 3
    for worker in server.workers():
        assert worker.ppid() == parent.pid
        assert worker.cmdline() == parent.cmdline(), "an interpreter of its own has arguments of its own"
    assert "fresh interpreter" not in server.log()


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/adapters"), ("DELETE", "/adapters/french"), ("GET", "/adapters")]
)
def test_adapters_are_404_with_a_way_out(server: Server, method, path):
    reply = server.request(method, path, b'{"name": "french", "src": "/opt/ml/adapters/french"}')
    assert (reply.status, reply.error["code"]) == (404, "not_found")
    assert reply.error["message"].startswith("There are no adapters here: ")


def test_in_single_model_mode_the_one_model_is_listed_and_cannot_be_unloaded():
    with running({"code/inference.py": DOUBLE}) as server:
        entry = {"modelName": "model", "modelUrl": str(server.model_dir)}
        assert server.request("GET", "/models").json() == {"models": [entry]}
        assert server.request("GET", "/models/model").json() == entry
        assert server.request("DELETE", "/models/model").status == 405
        assert server.request("POST", "/models", b"{}").status == 405


def test_archives_of_weights_alone_are_told_that_the_script_of_the_sdk_is_not_fetched():
    """What MultiDataModel sends with an entry_point: the script stays in S3, and the archives are not repacked."""
    sent = {"SAGEMAKER_SUBMIT_DIRECTORY": "s3://bucket/sourcedir.tar.gz", "SAGEMAKER_MULTI_MODEL": "true"}
    way_out = (
        "SAGEMAKER_SUBMIT_DIRECTORY names s3://bucket/sourcedir.tar.gz, which is not fetched: each archive needs its "
        "own code/."
    )
    for program in ({}, {"SAGEMAKER_PROGRAM": "inference.py"}):
        with running({}, **sent, **program) as server:
            refused = load(server, "bare", place(server, "bare", {"model.pth": "weights"}))
            assert (refused.status, refused.error["code"]) == (500, "model_load_failed")
            assert refused.error["message"].endswith(way_out)
            assert load(server, "whole", named(server, "whole")).status == 200
