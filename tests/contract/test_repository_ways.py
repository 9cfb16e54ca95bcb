"""Every way to a model leads to the revision that is asked for: streams, chats, conversations, sessions."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.contract.repositories import ATTRIBUTES, Serving, serving
from tests.contract.running import write_files
from tests.contract.talking import PATH, Refused, Talker

EVERYTHING = """
import time
from pathlib import Path

def model_fn(model_dir):
    return Path(model_dir, "says.txt").read_text()

def input_fn(data, content_type):
    return data

def predict_fn(data, model, context):
    session = context.get_session()
    if session is not None:
        said = session.get("said", []) + [model]
        session.put("said", said)
        return said
    return model

def output_fn(prediction, accept):
    if isinstance(prediction, list):
        return ",".join(prediction)
    return words(prediction)

def words(text):
    for word in text.split():
        yield word + " "

def chat_fn(request, model):
    return model

def stream_fn(incoming, context):
    yield context.model
    for message in incoming:
        yield f"{context.model} heard {message}"
"""
"""Says what its file says: by a stream, in a chat, in a conversation, and in a session all that it has said."""


def publish(here: Serving, name: str, *versions: int) -> None:
    for version in versions:
        here.folder.publish(name, version, code=EVERYTHING)
    here.until(lambda: all(here.state(name, version) == "available" for version in versions), f"{name} is known")


def test_a_stream_is_of_the_version_that_is_asked_for_and_says_so(tmp_path: Path):
    with serving(tmp_path) as here:
        publish(here, "a", 1, 2)
        for version in (1, 2):
            reply = here.ask("a", version)
            assert reply.body.decode() == f"a {version} "
            assert reply.headers["transfer-encoding"] == "chunked"
            assert reply.headers[ATTRIBUTES.lower()] == f"model=a;version={version}"


def test_a_chat_goes_to_the_model_in_its_body_unless_path_or_header_name_one(tmp_path: Path):
    with serving(tmp_path) as here:
        publish(here, "a", 1, 2)
        publish(here, "b", 1)

        def chat(path: str, model: str, **headers: str) -> tuple[int, str]:
            body = json.dumps({"model": model, "messages": [{"role": "user", "content": "?"}]})
            sent = {"content-type": "application/json", **{key.replace("_", "-"): v for key, v in headers.items()}}
            reply = here.server.request("POST", path, body, sent)
            content = reply.json()
            return reply.status, content["choices"][0]["message"]["content"] if reply.status == 200 else reply.error[
                "code"
            ]

        plain = "/v1/chat/completions"
        assert chat(plain, "a") == (200, "a 2")
        assert chat(plain, "b") == (200, "b 1")
        assert chat(plain, "c") == (404, "model_not_found")
        assert chat(plain, "b", X_Amzn_SageMaker_Custom_Attributes="model=a;version=1") == (200, "a 1")
        assert chat(f"/models/a{plain}", "b") == (200, "a 2")
        assert chat(f"/models/a/versions/1{plain}", "b") == (200, "a 1")


def test_a_conversation_is_with_the_version_that_is_asked_for_loaded_or_not(tmp_path: Path):
    with serving(tmp_path, TIDEGATE_MAX_LOADED_MODELS="1") as here:
        publish(here, "a", 1, 2)
        for path, says in ((f"/models/a/versions/1{PATH}", "a 1"), (f"/models/a{PATH}", "a 2"), (PATH, "a 1")):
            header = f"{ATTRIBUTES}: model=a;version=1".encode()
            for _ in ("not loaded", "loaded"):
                with Talker(here.server, path, *([header] if path == PATH else [])) as talker:
                    assert talker.hear() == says
                    talker.say("hello")
                    assert talker.hear() == f"{says} heard hello"
        with pytest.raises(Refused, match=r"404.*model_not_found"):
            Talker(here.server, f"/models/c{PATH}")
        with pytest.raises(Refused, match=r"404.*version_not_found"):
            Talker(here.server, f"/models/a/versions/9{PATH}")


def test_a_conversation_goes_on_with_the_old_version_when_the_new_one_takes_over(tmp_path: Path):
    with serving(tmp_path) as here:
        publish(here, "a", 1)
        with Talker(here.server, f"/models/a{PATH}") as old:
            assert old.hear() == "a 1"
            here.folder.publish("a", 2, code=EVERYTHING)
            here.until(lambda: here.ask("a").body == b"a 2 ", "the new version answers")
            old.say("hello")
            assert old.hear() == "a 1 heard hello"
            with Talker(here.server, f"/models/a{PATH}") as new:
                assert new.hear() == "a 2"


def test_a_conversation_with_a_model_that_is_evicted_is_told_to_leave(tmp_path: Path):
    with serving(tmp_path, TIDEGATE_MAX_LOADED_MODELS="1") as here:
        publish(here, "a", 1)
        publish(here, "b", 1)
        with Talker(here.server, f"/models/a{PATH}") as talker:
            assert talker.hear() == "a 1"
            assert here.ask("b").body == b"b 1 "
            assert talker.farewell()[0] == 1001


def test_a_session_goes_on_with_the_next_version(tmp_path: Path):
    with serving(tmp_path, SAGEMAKER_ENABLE_STATEFUL_SESSIONS="true") as here:
        publish(here, "a", 1)
        reply = here.ask("a", body={"requestType": "NEW_SESSION"})
        session = re.match(r"[^;]+", reply.headers["x-amzn-sagemaker-new-session-id"])
        assert session is not None
        in_it = {"X-Amzn-SageMaker-Session-Id": session[0]}
        assert here.ask("a", **in_it).body == b"a 1"
        here.folder.publish("a", 2, code=EVERYTHING)
        here.until(lambda: here.ask("a").body == b"a 2 ", "the new version answers")
        assert here.ask("a", **in_it).body == b"a 1,a 2"


def test_a_server_whose_repository_cannot_be_listed_is_not_healthy_and_says_why(tmp_path: Path):
    with serving(tmp_path, wait=False, missing=True) as here:
        reply = here.until(
            lambda: (
                (r := here.server.request("GET", "/ping")).status == 503
                and "could not be listed" in r.error["message"]
                and r
            ),
            "the reason is told",
        )
        assert str(here.folder.path) in reply.error["message"]
        asked = here.ask("a")
        assert (asked.status, asked.error["code"]) == (503, "not_ready")
        here.folder.path.mkdir()
        here.until(lambda: here.server.ping() == 200, "it is healthy")


def test_pinned_models_are_loaded_at_the_start_and_stay(tmp_path: Path):
    limits = {"TIDEGATE_PINNED_MODELS": "a", "TIDEGATE_MAX_LOADED_MODELS": "2"}
    with serving(tmp_path, {"a": (1,), "b": (1,), "c": (1,)}, **limits) as here:
        here.until(lambda: here.state("a", 1) == "loaded", "the pinned model is loaded")
        pid = here.ask("a").json()["pid"]
        for name in "bcbc":
            assert here.says(name) == f"{name} 1"
        assert here.ask("a").json()["pid"] == pid


def test_a_model_too_big_to_hold_twice_is_unloaded_first(tmp_path: Path):
    limits = {"TIDEGATE_RELOAD_ORDER": "unload-first", "TIDEGATE_MAX_LOADED_MODELS": "1"}
    with serving(tmp_path, {"a": (1,)}, **limits) as here:
        assert here.says("a") == "a 1"
        here.folder.publish("a", 2)
        here.until(lambda: here.says("a") == "a 2", "the new version answers")
        here.folder.publish("a", 3, says="broken")
        here.until(lambda: here.state("a", 3) == "failed", "the failure is told")
        here.until(lambda: here.says("a") == "a 2", "the old one answers again")


def test_code_that_the_repository_shares_is_that_of_models_that_bring_none(tmp_path: Path):
    with serving(tmp_path) as here:
        shared = here.folder.path / "code"
        shared.mkdir()
        (shared / "inference.py").write_text(EVERYTHING)
        model = tmp_path / "a"
        write_files(model, {"says.txt": "from a"})
        model.rename(here.folder.path / "a")
        here.until(lambda: here.ask("a").status == 200, "it has been the same for one interval")
        assert here.ask("a").body == b"from a "
        here.folder.put(shared / "inference.py", EVERYTHING.replace('word + " "', 'word + "!"').encode())
        here.until(lambda: here.ask("a").body == b"from!a!", "the new code answers")


def test_a_worker_that_dies_is_replaced_and_its_request_is_tried_again(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}) as here:
        pid = here.ask("a").json()["pid"]
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(here.ask, "a", None, {"wait_for": str(tmp_path / "go")})
            here.until(lambda: here.metric("tidegate_in_flight", model="a") == 1, "the request is computed")
            psutil.Process(pid).kill()
            (tmp_path / "go").touch()
            reply = asked.result(timeout=60)
        assert reply.json()["pid"] != pid


def test_the_platform_is_told_how_a_transform_job_should_ask(tmp_path: Path):
    with serving(tmp_path, {"a": (1,)}, TIDEGATE_WORKERS="2") as here:
        told = here.server.request("GET", "/execution-parameters").json()
        assert told == {"MaxConcurrentTransforms": 2, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 6}
