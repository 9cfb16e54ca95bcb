"""The open inference protocol on a server of a model repository: names, versions, labels, loads and unloads."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from tests.contract.repositories import ATTRIBUTES, Serving, serving
from tests.contract.running import Reply

SAYS = """
import torch
from pathlib import Path

def model_fn(model_dir):
    says = Path(model_dir, "says.txt").read_text()
    if says == "broken":
        raise ValueError("no vocabulary")
    return says

def predict_fn(data, model, context):
    if data.numel() == 13:
        raise RuntimeError("bad luck")
    return {"says": model, "twice": 2 * data}
"""


def infer(here: Serving, path: str, count: int = 2, **headers: str) -> Reply:
    inputs = [{"name": "x", "datatype": "INT32", "shape": [count], "data": list(range(count))}]
    sent = {"content-type": "application/json", **headers}
    return here.server.request("POST", f"/v2/models/{path}/infer", json.dumps({"inputs": inputs}), sent)


def says(reply: Reply) -> str:
    return reply.json()["outputs"][0]["data"][0] if reply.status == 200 else reply.json()["error"]


def index(here: Serving, **content: Any) -> dict[str, tuple[str, str]]:
    entries = here.server.request("POST", "/v2/repository/index", json.dumps(content)).json()
    return {f"{entry['name']} {entry['version']}": (entry["state"], entry["reason"]) for entry in entries}


def publish(here: Serving, *versions: tuple[str, int]) -> None:
    for name, version in versions:
        here.folder.publish(name, version, code=SAYS)
    for name, version in versions:
        here.until_known(name, version)


def last_used(here: Serving) -> datetime:
    return datetime.fromisoformat(here.versions("a")[2]["last_used"])


def test_a_version_is_chosen_by_the_path_and_named_in_the_answer(tmp_path: Path):
    with serving(tmp_path) as here:
        publish(here, ("a", 1), ("a", 2), ("a", 10), ("b", 1))
        here.folder.label("a", stable=2)
        here.until(lambda: here.versions("a")[2]["labels"] == ["stable"], "the label is known")
        for path, version in (
            ("a", 10),
            ("a/versions/latest", 10),
            ("a/versions/2", 2),
            ("a/versions/stable", 2),
            ("b", 1),
        ):
            reply = infer(here, path)
            name = path.partition("/")[0]
            assert says(reply) == f"{name} {version}"
            assert reply.json()["model_version"] == str(version)
            assert reply.json()["outputs"][1]["data"] == [0, 2]
            assert reply.headers[ATTRIBUTES.lower()] == f"model={name};version={version}"


def test_what_is_wrong_is_said_in_the_protocols_form(tmp_path: Path):
    with serving(tmp_path) as here:
        publish(here, ("a", 1))
        for path, status in (
            ("ghost", 404),
            ("a/versions/3", 404),
            ("a/versions/007", 400),
            ("a/versions/canary", 404),
        ):
            for reply in (
                infer(here, path),
                here.server.request("GET", f"/v2/models/{path}"),
                here.server.request("GET", f"/v2/models/{path}/ready"),
            ):
                assert (reply.status, type(reply.json()["error"])) == (status, str), path
        failed = infer(here, "a", 13)
        assert (failed.status, "RuntimeError" in says(failed)) == (500, True)
        assert failed.headers[ATTRIBUTES.lower()] == "model=a;version=1"
        clash = infer(here, "a", **{ATTRIBUTES: "model=b"})
        assert (clash.status, "The path names the model 'a'" in says(clash)) == (400, True)


def test_metadata_and_readiness_go_by_what_is_loaded_and_are_no_use_of_it(tmp_path: Path):
    with serving(tmp_path) as here:
        publish(here, ("a", 1), ("a", 2))
        assert here.server.request("GET", "/v2/health/ready").status == 200
        assert here.server.request("GET", "/v2/models/a").json() == {
            "name": "a",
            "platform": "pytorch",
            "versions": ["1", "2"],
            "inputs": [],
            "outputs": [],
        }
        not_loaded = here.server.request("GET", "/v2/models/a/ready")
        assert (not_loaded.status, "not loaded" in not_loaded.json()["error"]) == (503, True)
        assert infer(here, "a").status == 200
        assert here.server.request("GET", "/v2/models/a/ready").json() == {"name": "a", "ready": True}
        assert here.server.request("GET", "/v2/models/a/versions/2/ready").status == 200
        assert here.server.request("GET", "/v2/models/a/versions/1/ready").status == 503
        hits = here.metric("tidegate_repository_requests_total", result="hit")
        assert infer(here, "a").status == 200
        assert here.metric("tidegate_repository_requests_total", result="hit") == hits + 1
        before = last_used(here)
        until_s = monotonic() + 2.0
        while monotonic() < until_s:
            here.server.request("GET", "/v2/models/a/ready")
            here.server.request("GET", "/v2/models/a")
        assert here.metric("tidegate_repository_requests_total", result="hit") == hits + 1
        assert abs(last_used(here) - before) < timedelta(seconds=1), "it is told by the clock of the moment"


def test_models_are_loaded_and_unloaded_by_name_and_the_index_tells(tmp_path: Path):
    with serving(tmp_path) as here:
        publish(here, ("a", 1), ("b", 1))
        here.folder.publish("broken", 1, "broken", code=SAYS)
        here.until_known("broken")
        (here.folder.path / "stray" / "007").mkdir(parents=True)
        here.until(lambda: len({key.split()[0] for key in index(here)}) == 4, "all are listed")
        assert index(here)["a 1"] == ("UNAVAILABLE", "")
        post = here.server.request
        assert post("POST", "/v2/repository/models/a/load").status == 200
        assert post("POST", "/v2/repository/models/a/load").status == 200
        assert index(here)["a 1"] == ("READY", "")
        assert index(here, ready=True) == {"a 1": ("READY", "")}
        assert post("GET", "/v2/models/a/ready").status == 200
        workers = len(here.server.workers())
        assert (
            post("POST", "/v2/repository/models/a/unload", b'{"parameters": {"unload_dependents": false}}').status
            == 200
        )
        assert index(here)["a 1"] == ("UNAVAILABLE", "")
        assert len(here.server.workers()) < workers
        assert post("POST", "/v2/repository/models/a/unload").status == 200, "it is unloaded already"
        assert says(infer(here, "a")) == "a 1", "a request loads it again"
        failed = post("POST", "/v2/repository/models/broken/load")
        assert failed.status == 500
        assert "no vocabulary" not in failed.json()["error"], "what user code raised is for the log and the index"
        state, reason = index(here)["broken 1"]
        assert (state, "no vocabulary" in reason) == ("UNAVAILABLE", True)
        assert post("POST", "/v2/repository/models/ghost/load").status == 404
        assert post("POST", "/v2/repository/models/ghost/unload").status == 404
        assert post("POST", "/v2/repository/models/a/load", b'{"parameters": {"url": "/x"}}').status == 400
        assert here.server.process.poll() is None
