"""`context.get_model`: one script serves several models of the repository, in its own worker and within the limits."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.contract.repositories import Serving, serving
from tests.contract.running import running

ROUTER = """
import json, os
from pathlib import Path

def model_fn(model_dir, context):
    return context

def input_fn(data, content_type):
    return json.loads(data)

def predict_fn(order, context):
    model = context.get_model(order["name"], order.get("version", "latest"))
    return {"says": model, "pid": os.getpid()}

"""
ENCODES = """
def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
ROUTER += ENCODES
"""Answers with what the model says that the body names: what its own `model_fn` returned."""

LOADS_FILES = """
class Model:
    def __init__(self, text):
        self.text = text

def load_model(model_path):
    from pathlib import Path
    text = Path(model_path, "says.txt").read_text()
    if text == "broken":
        raise ValueError("no vocabulary")
    return Model(text)
"""
"""Loads every model itself, as Cortex has it."""

CORTEX = ROUTER.replace('"says": model', '"says": model.text') + LOADS_FILES


def router(here: Serving, code: str = ROUTER) -> None:
    """Publish the script that asks for the others."""
    here.folder.publish("router", 1, code=code)
    here.until_known("router")


def said(here: Serving, name: str, version: object = None) -> Any:
    """What the model says that the script is asked for, or the code of the error."""
    order = {"name": name} | ({"version": version} if version is not None else {})
    reply = here.ask("router", body=order)
    return reply.json()["says"] if reply.status == 200 else reply.error["code"]


def test_a_script_gets_models_of_the_repository_in_its_own_worker(tmp_path: Path):
    with serving(tmp_path, {"a": (1, 2, 10), "b": (None,)}) as here:
        here.folder.label("a", stable=2)
        router(here)
        here.until(lambda: here.versions("a")[2]["labels"] == ["stable"], "the label is known")
        assert said(here, "a") == "a 10"
        assert said(here, "b") == "b None"
        assert [said(here, "a", version) for version in ("1", 2, "stable", "latest")] == ["a 1", "a 2", "a 2", "a 10"]
        assert len(here.server.workers()) == 1
        assert here.versions("a")[10]["state"] == "loaded"


def test_the_script_may_be_what_answers_requests_that_choose_no_model(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}, TIDEGATE_DEFAULT_MODEL="router") as here:
        router(here)
        assert here.ask(body={"name": "a"}).json()["says"] == "a 1"
        assert here.ask(body={"name": None}).json()["says"] == "a 1"  # the only one beside the script
        assert here.says("a") == "a 1"


def test_a_script_loads_them_itself_where_it_has_load_model(tmp_path: Path):
    with serving(tmp_path, {"a": (1,), "b": (1,)}) as here:
        router(here, CORTEX)
        assert [said(here, name) for name in ("a", "b", "a")] == ["a 1", "b 1", "a 1"]


def test_each_model_has_its_own_helpers_and_the_script_keeps_its_own(tmp_path: Path):
    with serving(tmp_path) as here:
        code = "import net\ndef model_fn(model_dir, context):\n    return [net.NAME, context.model_name]\n"
        for name in ("a", "b"):
            here.folder.publish(name, 1, code=code, net=f"NAME = 'net of {name}'")
        helped = ROUTER.replace('"says": model', '"says": [*model, __import__("net").NAME]')
        here.folder.publish("router", 1, code=helped, net="NAME = 'net of the router'")
        here.until_known("router")
        for name in ("a", "b", "a"):
            assert said(here, name) == [f"net of {name}", name, "net of the router"]


def test_the_errors_are_those_of_requests_and_can_be_caught(tmp_path: Path):
    catching = ROUTER.replace(
        "    model = context",
        """    try:
        context.get_model("nowhere")
    except Exception as error:
        assert (error.status, error.code) == (404, "model_not_found")
        caught = str(error)
    model = caught if order["name"] == "caught" else context""",
    )
    with serving(tmp_path, {"a": (1,)}) as here:
        here.folder.publish("broken", 1, says="broken")
        router(here, catching)
        here.until_known("broken")
        for order, status, code, text in (
            ({"name": "c"}, 404, "model_not_found", "a, broken, router"),
            ({"name": "a", "version": 7}, 404, "version_not_found", "There is: 1"),
            ({"name": None}, 400, "model_required", "There is: a, broken."),
            ({"name": "a", "version": "007"}, 400, "invalid_version", "007"),
            ({"name": "broken"}, 500, "model_load_failed", "Version 1 of the model 'broken' could not be loaded"),
        ):
            reply = here.ask("router", body=order)
            assert (reply.status, reply.error["code"]) == (status, code)
            assert text in reply.error["message"]
        told = here.ask("router", body={"name": "broken"}).error["message"]
        assert "no vocabulary" not in told
        assert str(here.folder.path) not in told
        assert "There is: a, broken, router." in said(here, "caught")
        assert said(here, "a") == "a 1"


def test_a_reload_is_followed_and_what_it_replaces_is_let_go(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}) as here:
        router(here, CORTEX)
        assert said(here, "a") == "a 1"
        here.folder.publish("a", 2)
        here.until(lambda: said(here, "a") == "a 2", "the new version answers")
        here.until(lambda: here.versions("a")[1]["state"] == "available", "the old one is gone")
        here.folder.publish("a", 3, says="broken")
        here.until_known("a", 3)
        here.until(lambda: said(here, "a") == "a 2" and "no vocabulary" in here.server.log(), "it was tried")
        assert [said(here, "a") for _ in range(3)] == ["a 2"] * 3
        here.folder.publish("a", 2, says="changed")
        here.until(lambda: said(here, "a") == "changed", "the new content answers")


def test_two_models_alternate_within_the_limits(tmp_path: Path):
    with serving(tmp_path, {"a": (1,), "b": (1,)}, TIDEGATE_MAX_LOADED_MODELS="2") as here:
        router(here, CORTEX)
        seen = set()
        for turn in range(10):
            name = "ab"[turn % 2]
            assert said(here, name) == f"{name} 1"
            seen.add(sum(here.versions(each)[1]["state"] == "loaded" for each in ("a", "b", "router")))
        assert seen == {2}
        assert here.metric("tidegate_repository_evictions_total", where="memory") >= 9


def test_a_call_that_needs_more_than_there_is_room_for_is_told_so(tmp_path: Path):
    both = CORTEX.replace('"says": model.text', '"says": model.text + context.get_model("b").text')
    with serving(tmp_path, {"a": (1,), "b": (1,)}, TIDEGATE_MAX_LOADED_MODELS="2") as here:
        router(here, both)
        reply = here.ask("router", body={"name": "a"})
        assert (reply.status, reply.error["code"]) == (507, "model_too_large")
        assert "beside 'a' (version 1), which the same call" in reply.error["message"]
        assert said(here, "b") == "b 1b 1"


def test_the_model_of_the_script_itself_is_not_evicted_for_what_it_asks(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}, TIDEGATE_MAX_LOADED_MODELS="1") as here:
        router(here, CORTEX)
        reply = here.ask("router", body={"name": "a"})
        assert (reply.status, reply.error["code"]) == (507, "model_too_large")
        assert here.says("a") == "a 1"


def test_eviction_gives_the_memory_back(tmp_path: Path):
    large = CORTEX.replace("self.text = text", "self.text, self.bulk = text, bytearray(os.urandom(1) * 64_000_000)")
    with serving(tmp_path, {"a": (1,), "b": (1,)}, TIDEGATE_MAX_LOADED_MODELS="2") as here:
        router(here, large)
        assert said(here, "a") == "a 1"
        (worker,) = here.server.workers()
        assert here.versions("a")[1]["bytes"] > 50_000_000
        sizes = []
        for turn in range(6):
            assert said(here, "ba"[turn % 2]).endswith(" 1")
            sizes.append(worker.memory_full_info().uss)
        assert max(sizes) - min(sizes) < 60_000_000
        assert here.server.workers() == [worker]


def test_a_worker_whose_script_keeps_what_is_evicted_is_replaced(tmp_path: Path):
    keeping = (
        CORTEX.replace("    return Model(text)", "    KEPT.append(Model(text))\n    return KEPT[-1]") + "\nKEPT = []\n"
    )
    with serving(tmp_path, {"a": (1,), "b": (1,)}, TIDEGATE_MAX_LOADED_MODELS="2") as here:
        router(here, keeping)
        assert said(here, "a") == "a 1"
        (worker,) = here.server.workers()
        here.until(lambda: said(here, "b") == "b 1", "the other one is there")
        here.until(lambda: not worker.is_running(), "the worker is replaced")
        assert "the worker is replaced" in here.server.log()
        here.until(lambda: said(here, "b") == "b 1", "its successor answers")


def test_what_a_worker_held_is_free_when_it_dies(tmp_path: Path):
    with serving(tmp_path, {"a": (1,), "b": (1,)}, TIDEGATE_MAX_LOADED_MODELS="2") as here:
        router(here, CORTEX)
        assert said(here, "a") == "a 1"
        (worker,) = here.server.workers()
        os.kill(worker.pid, signal.SIGKILL)
        here.until(lambda: here.versions("a")[1]["state"] == "available", "its models are gone with it")
        assert said(here, "b") == "b 1"


def test_several_workers_each_hold_their_own(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}, TIDEGATE_WORKERS="2", TIDEGATE_MAX_LOADED_MODELS="4") as here:
        router(here, CORTEX)
        pids: set[int] = set()

        def both_have_answered() -> bool:
            with ThreadPoolExecutor(8) as clients:
                replies = clients.map(lambda _: here.ask("router", body={"name": "a"}), range(60))
                pids.update(reply.json()["pid"] for reply in replies)
            return len(pids) > 1

        here.until(both_have_answered, "both workers have answered")
        assert len(pids) == 2


def test_models_are_got_in_threads_in_streams_and_at_the_start(tmp_path: Path):
    everywhere = """
import json
from concurrent.futures import ThreadPoolExecutor

def model_fn(model_dir, context):
    return context, context.get_model("a")

def input_fn(data, content_type, context):
    return context.get_model("b")

def predict_fn(found, model):
    context, a = model
    with ThreadPoolExecutor(4) as pool:
        threads = list(pool.map(lambda n: context.get_model("c", n % 3 + 1), range(12)))
    def lines():
        yield [a, found, context.get_model("d"), threads]
        yield context.get_model("e")
    return lines()
"""
    for threads in ("0", "2"):
        path = tmp_path / threads
        path.mkdir()
        published = {"a": (1,), "b": (1,), "c": (1, 2, 3), "d": (1,), "e": (1,)}
        with serving(path, published, TIDEGATE_INPUT_THREADS=threads) as here:
            router(here, everywhere)
            reply = here.ask("router", accept="application/jsonlines")
            assert reply.status == 200, reply.body
            assert b'"a 1", "b 1", "d 1", ["c 1", "c 2", "c 3"' in reply.body
            assert b'"e 1"' in reply.body


def test_concurrent_requests_load_a_model_once(tmp_path: Path):
    counting = CORTEX.replace("    text = Path", "    print('loads', model_path, flush=True)\n    text = Path")
    with serving(tmp_path, {"a": (1,)}) as here:
        router(here, counting)
        with ThreadPoolExecutor(8) as clients:
            assert set(clients.map(lambda _: said(here, "a"), range(24))) == {"a 1"}
        assert here.server.log().count("loads /") == 1


def test_without_a_repository_it_says_what_is_missing():
    with running({"code/inference.py": ROUTER}) as server:
        assert server.post('{"name": "a"}').status == 500
        assert "context.get_model needs a model repository: set TIDEGATE_MODEL_REPOSITORY" in server.log()


def test_a_call_that_waits_too_long_is_a_503_that_says_when_to_come_back(tmp_path: Path):
    streaming = CORTEX.replace(
        '    return {"says"',
        """    def beats():
        Path(order["until"] + ".begun").touch()
        while not Path(order["until"]).exists():
            time.sleep(0.02)
            yield model.text
    if "until" in order:
        return beats()
    return {"says\"""",
    )
    streaming = streaming.replace("import json, os", "import json, os, time").replace(ENCODES, "")
    over = tmp_path / "over"
    limits = {"TIDEGATE_MAX_LOADED_MODELS": "2", "SAGEMAKER_MODEL_SERVER_TIMEOUT": "3", "TIDEGATE_WORKERS": "2"}
    with serving(tmp_path, {"a": (1,), "b": (1,)}, **limits) as here, ThreadPoolExecutor(1) as clients:
        router(here, streaming)
        streamed = clients.submit(here.ask, "router", body={"name": "a", "until": str(over)})
        here.until((tmp_path / "over.begun").exists, "the stream has its model")
        reply = here.ask("router", body={"name": "b"})
        over.touch()
        assert (reply.status, reply.error["code"]) == (503, "model_loading")
        assert reply.headers["retry-after"]
        assert streamed.result().status == 200
        here.until(lambda: said(here, "b") == "b 1", "there is room now")


def test_a_load_has_the_time_limit_of_a_call_for_itself(tmp_path: Path):
    slow = CORTEX.replace("    text = Path", "    import time\n    time.sleep(2.5)\n    text = Path")
    limits = {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "4.5", "TIDEGATE_MAX_LOADED_MODELS": "3"}
    both = slow.replace('"says": model.text', '"says": model.text + context.get_model("b").text')
    with serving(tmp_path, {"a": (1,), "b": (1,)}, **limits) as here:
        router(here, both)
        assert said(here, "a") == "a 1b 1"
