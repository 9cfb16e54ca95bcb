"""A model repository, live: models appear, change, disappear and are chosen, on a real server and a real folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import psutil
import pytest

from tests.contract.repositories import ATTRIBUTES, serving


def test_an_empty_repository_is_healthy_and_models_appear(tmp_path: Path):
    with serving(tmp_path) as here:
        listed = here.server.request("GET", "/models").json()
        assert listed["models"] == []
        assert listed["repository"] == {"url": str(here.folder.path), "interval_s": 0.1, "note": ""}
        reply = here.ask("a")
        assert (reply.status, reply.error["code"]) == (404, "model_not_found")
        here.folder.publish("a", 1)
        here.until(lambda: here.ask("a").status == 200, "the model has appeared")


def test_a_request_chooses_by_header_or_path_and_is_told_what_answered(tmp_path: Path):
    with serving(tmp_path, {"a": (1, 2, 10), "b": (None,)}) as here:
        here.folder.label("a", stable=2)
        here.until(lambda: here.versions("a")[2]["labels"] == ["stable"], "the label is known")
        for version, number in (("latest", 10), (None, 10), ("stable", 2), (1, 1), ("2", 2)):
            reply = here.ask("a", version)
            answer = reply.json()
            assert (answer["name"], answer["version"], answer["says"]) == ("a", number, f"a {number}")
            assert reply.headers[ATTRIBUTES.lower()] == f"model=a;version={number}"
        assert here.ask("b").json()["version"] == 1
        for path, says in (
            ("/models/a/invoke", "a 10"),
            ("/models/a/versions/2/invoke", "a 2"),
            ("/models/a/versions/stable/invoke", "a 2"),
            ("/models/a/versions/latest/invoke", "a 10"),
            ("/models/b/versions/1/invoke", "b None"),
        ):
            assert here.at(path).json()["says"] == says, path


def test_other_keys_of_the_header_reach_the_script_and_those_of_its_answer_the_client(tmp_path: Path):
    script = """
import json
def model_fn(model_dir):
    return None
def input_fn(data, content_type):
    return data
def predict_fn(data, model, context):
    name = "X-Amzn-SageMaker-Custom-Attributes"
    context.set_response_header(0, name, "trace=7")
    return {"sent": context.get_request_header(0, name)}
"""
    with serving(tmp_path) as here:
        here.folder.publish("a", 3, code=script)
        here.until(lambda: here.ask("a").status == 200, "the model has appeared")
        headers = {ATTRIBUTES: "tenant=x; Model=a; version=3 ;c000b4f9"}
        reply = here.server.request("POST", "/invocations", "1", headers)
        assert reply.json() == {"sent": headers[ATTRIBUTES]}
        assert reply.headers[ATTRIBUTES.lower()] == "model=a;version=3;trace=7"


def test_one_model_needs_no_name_and_of_several_one_must_be_named(tmp_path: Path):
    with serving(tmp_path, {"only": (1,)}) as here:
        assert here.says() == "only 1"
        assert here.says(version=1) == "only 1"
        here.folder.publish("other", 1)
        here.until(lambda: here.says() == "model_required", "the other one is known")


def test_a_default_model_answers_requests_that_name_none(tmp_path: Path):
    """As those of a transform job, which can send no header."""
    with serving(tmp_path, {"a": (1, 2), "b": (1,)}, TIDEGATE_DEFAULT_MODEL="a/1") as here:
        assert here.says() == "a 1"
        assert here.says(version=2) == "a 2"
        assert here.says("b") == "b 1"
        chat = here.server.request("POST", "/v1/chat/completions", json.dumps({"model": "c", "messages": []}))
        assert chat.error["code"] == "model_not_found"


def test_four_errors_list_what_there_is(tmp_path: Path):
    with serving(tmp_path, {"a": (1, 2), "b": (7,)}) as here:
        here.folder.label("a", stable=1)
        here.until(lambda: here.versions("a")[1]["labels"], "the label is known")
        for reply, status, code, listed in (
            (here.ask("c"), 404, "model_not_found", ("a", "b")),
            (here.ask("a", 3), 404, "version_not_found", ("1", "2")),
            (here.ask("a", "canary"), 404, "version_not_found", ("stable",)),
            (here.ask(), 400, "model_required", ("a", "b")),
            (here.ask("a", "007"), 400, "invalid_version", ("1", "2")),
            (here.at("/models/c/invoke"), 404, "model_not_found", ("a", "b")),
            (here.at("/models/a/versions/3/invoke"), 404, "version_not_found", ("1", "2")),
        ):
            assert (reply.status, reply.error["code"]) == (status, code)
            assert all(name in reply.error["message"] for name in listed), reply.error["message"]
        assert here.server.request("GET", "/models/c").status == 404


def test_path_and_header_that_do_not_agree_are_refused(tmp_path: Path):
    with serving(tmp_path, {"a": (1,), "b": (1,)}) as here:
        reply = here.server.request("POST", "/models/a/invoke", "1", {ATTRIBUTES: "model=b"})
        assert (reply.status, reply.error["code"]) == (400, "bad_request")


def test_models_are_listed_with_their_versions_in_pages(tmp_path: Path):
    with serving(tmp_path, {"a": (1, 2), "b": (None,), "c": (1,)}) as here:
        assert here.says("a", 1) == "a 1"
        first = here.server.request("GET", "/models?limit=2").json()
        assert [entry["modelName"] for entry in first["models"]] == ["a", "b"]
        rest = here.server.request("GET", f"/models?limit=2&next_page_token={first['nextPageToken']}").json()
        assert [entry["modelName"] for entry in rest["models"]] == ["c"]
        assert "nextPageToken" not in rest
        entry = here.server.request("GET", "/models/a").json()
        assert entry == first["models"][0] | {"versions": entry["versions"]}
        assert entry["modelUrl"] == f"{here.folder.path}/a"
        one, two = entry["versions"]
        assert (one["version"], one["state"], one["reason"]) == (1, "loaded", "")
        assert one["bytes"] > 0
        assert one["load_s"] > 0
        assert one["last_used"].endswith("Z")
        assert (two["version"], two["state"], two["last_used"]) == (2, "available", None)
        for method in ("POST", "DELETE"):
            assert here.server.request(method, "/models/a", "{}").status == 405


def test_an_invalid_model_is_listed_with_its_reason_and_harms_no_other(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}) as here:
        here.folder.publish("bad", 1)
        (here.folder.path / "bad" / "1").rename(here.folder.path / "bad" / "007")
        here.until(lambda: "007" in here.server.request("GET", "/models/bad").body.decode(), "it is listed as it is")
        assert here.says("a") == "a 1"


def test_a_changed_version_takes_over_without_anybody_asking_and_the_old_one_goes(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}) as here:
        first = here.ask("a").json()
        here.folder.publish("a", 1, says="changed")
        here.until(lambda: here.says("a") == "changed", "the new content answers")
        here.until(lambda: not psutil.pid_exists(first["pid"]), "the old worker is gone")
        here.folder.publish("a", 2)
        here.until(lambda: here.says("a") == "a 2", "the new version answers")
        assert here.metric("tidegate_repository_switches_total") >= 2


def test_a_new_version_that_is_broken_leaves_the_old_one_and_says_so(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}) as here:
        pid = here.ask("a").json()["pid"]
        here.folder.publish("a", 2, says="broken")
        here.until(lambda: here.state("a", 2) == "failed", "the failure is told")
        assert "no vocabulary" in here.versions("a")[2]["reason"]
        answer = here.ask("a").json()
        assert (answer["says"], answer["pid"]) == ("a 1", pid)
        assert here.metric("tidegate_repository_loads_total", result="failed") == 1
        assert here.says("a", 2) == "model_load_failed"
        here.folder.publish("a", 2, says="mended")
        here.until(lambda: here.says("a") == "mended", "the mended one answers")


def test_the_next_version_answers_when_the_newest_is_removed_and_nothing_when_all_are(tmp_path: Path):
    with serving(tmp_path, {"a": (1, 2), "b": (1,)}) as here:
        assert here.says("a") == "a 2"
        here.folder.retire("a", 2)
        here.until(lambda: here.says("a") == "a 1", "the older one answers")
        assert here.says("a", 2) == "version_not_found"
        pid = here.ask("a").json()["pid"]
        shutil.rmtree(here.folder.path / "a")
        here.until(lambda: here.says("a") == "model_not_found", "the model is gone")
        here.until(lambda: not psutil.pid_exists(pid), "its worker is gone")
        assert here.says("b") == "b 1"


def test_a_listing_that_fails_or_is_empty_removes_nothing(tmp_path: Path):
    with serving(tmp_path, {"a": (1,), "b": (1,)}) as here:
        assert here.says("a") == "a 1"
        away = here.folder.path.with_name("away")
        here.folder.path.rename(away)
        here.until(lambda: here.metric("tidegate_repository_listing_failures_total") >= 2, "listings fail")
        here.folder.path.mkdir()
        failures = here.metric("tidegate_repository_listing_failures_total")
        here.until(lambda: here.metric("tidegate_repository_listing_failures_total") > failures, "it is seen empty")
        assert here.server.request("GET", "/models").json()["repository"]["note"]
        assert here.says("a") == "a 1"
        assert here.says("b") in ("b 1", "model_loading")
        assert here.server.ping() == 200
        here.folder.path.rmdir()
        away.rename(here.folder.path)
        here.until(lambda: here.says("b") == "b 1", "all is as it was")


def test_a_switch_under_load_fails_no_request_and_every_answer_is_of_one_version(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}) as here:
        over = Event()

        def client(_: int) -> Counter[str]:
            seen = Counter[str]()
            while not over.is_set():
                reply = here.ask("a")
                told = reply.headers.get(ATTRIBUTES.lower())
                answer = reply.json()
                assert reply.status == 200, answer
                assert told == f"model=a;version={answer['version']}"
                assert answer["says"] == f"a {answer['version']}"
                seen[answer["says"]] += 1
            return seen

        assert here.says("a") == "a 1"
        with ThreadPoolExecutor(8) as pool:
            clients = [pool.submit(client, number) for number in range(8)]
            try:
                for version in (2, 3, 4):
                    here.folder.publish("a", version)
                    here.until(lambda v=version: here.says("a") == f"a {v}", f"version {version} answers")
            finally:
                over.set()
            seen = sum((each.result(timeout=60) for each in clients), Counter())
        assert set(seen) == {"a 1", "a 2", "a 3", "a 4"}


@pytest.mark.parametrize("limit", [1, 2])
def test_as_many_models_are_loaded_as_may_be_while_parallel_clients_ask_for_all(tmp_path: Path, limit: int):
    names = [f"m{number}" for number in range(5)]
    limits = {"TIDEGATE_MAX_LOADED_MODELS": str(limit), "TIDEGATE_MAX_DISK_MODELS": str(limit + 1)}
    with serving(tmp_path, dict.fromkeys(names, (1,)), **limits) as here:
        over, most = Event(), 0

        def client(number: int) -> None:
            for turn in range(8):
                name = names[(number + turn) % len(names)]
                assert here.says(name) == f"{name} 1"

        with ThreadPoolExecutor(5) as pool:
            clients = [pool.submit(client, number) for number in range(4)]

            def watch() -> None:
                nonlocal most
                while not over.is_set():
                    most = max(most, len(here.server.workers()))

            watching = pool.submit(watch)
            for each in clients:
                each.result(timeout=120)
            over.set()
            watching.result(timeout=60)
        assert 1 <= most <= limit
        assert here.metric("tidegate_repository_evictions_total", where="memory") > 0
        assert here.metric("tidegate_repository_idle_at_eviction_seconds_count") > 0
        assert here.metric("tidegate_repository_models", where="known") == 5


def test_a_model_that_can_never_fit_is_507(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}, TIDEGATE_MAX_LOADED_BYTES="1") as here:
        reply = here.ask("a")
        assert (reply.status, reply.error["code"]) == (507, "model_too_large")


def test_those_who_ask_for_a_model_that_is_not_loaded_wait_for_one_load(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}) as here:
        with ThreadPoolExecutor(8) as pool:
            answers = [reply.json() for reply in pool.map(lambda _: here.ask("a"), range(8))]
        assert len({answer["pid"] for answer in answers}) == 1
        assert here.metric("tidegate_repository_loads_total", result="loaded") == 1


def test_who_waits_for_a_slow_load_is_told_when_to_come_back(tmp_path: Path):
    slow = """
import time
from pathlib import Path
def model_fn(model_dir):
    while not Path("{gate}").exists():
        time.sleep(0.01)
    return "here"
def input_fn(data, content_type):
    return data
def predict_fn(data, model):
    return model
"""
    gate = tmp_path / "gate"
    with serving(tmp_path, TIDEGATE_MAX_QUEUE_WAIT_S="0.3") as here:
        here.folder.publish("a", 1, code=slow.replace("{gate}", str(gate)))
        here.until(lambda: here.says("a") == "model_loading", "the model is known, and loads")
        reply = here.ask("a")
        assert (reply.status, reply.error["code"]) == (503, "model_loading")
        assert int(reply.headers["retry-after"]) >= 1
        assert here.state("a", 1) == "loading"
        with here.server.socket() as client:  # leaves while it waits
            client.sendall(b"POST /models/a/invoke HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n1")
        gate.touch()
        here.until(lambda: here.ask("a").status == 200, "it is loaded")


def test_the_repositorys_process_is_replaced_when_it_dies_and_nothing_is_lost(tmp_path: Path):
    with serving(tmp_path, {"a": (1,), "b": (1,)}) as here:
        assert here.says("a") == "a 1"

        def process() -> psutil.Process | None:
            for child in psutil.Process(here.server.process.pid).children():
                if "tidegate.inference.repository" in child.cmdline():
                    return child
            return None

        first = here.until(process, "the process is there")
        os.kill(first.pid, signal.SIGKILL)
        assert here.says("a") == "a 1"
        here.until(lambda: (found := process()) is not None and found.pid != first.pid, "another one is there")
        here.until(lambda: here.says("b") == "b 1", "a model is fetched again")
        here.folder.publish("a", 2)
        here.until(lambda: here.says("a") == "a 2", "a change is seen again")


def test_what_was_fetched_is_not_fetched_again_after_a_restart(tmp_path: Path):
    cache = {"TIDEGATE_MODEL_CACHE_DIR": str(tmp_path / "cache")}
    with serving(tmp_path, {"a": (1,)}, **cache) as here:
        assert here.says("a") == "a 1"
        assert here.metric("tidegate_repository_fetches_total", result="fetched") == 1
    with serving(tmp_path, **cache) as here:
        assert here.says("a") == "a 1"
        assert here.metric("tidegate_repository_fetches_total", result="fetched") == 0
        assert here.metric("tidegate_repository_models", where="disk") == 1


def test_the_server_stops_with_all_that_it_started_and_leaves_no_folder(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}, TMPDIR=str(tmp_path)) as here:
        assert here.says("a") == "a 1"
        assert list(tmp_path.glob("tidegate-models-*"))
        here.folder.publish("b", 1, code="import time\ndef model_fn(model_dir):\n    time.sleep(3600)")
        with ThreadPoolExecutor(1) as pool:
            here.until(lambda: here.state("b", 1) == "available", "it is known")
            waiting = pool.submit(here.ask, "b")
            here.until(lambda: here.state("b", 1) == "loading", "it loads")
            assert here.server.terminate() == 0
            reply = waiting.result(timeout=60)
        assert (reply.status, reply.error["code"]) == (503, "draining")
        assert not list(tmp_path.glob("tidegate-models-*"))
