"""Lines of the log say to which request and to which trace they belong: ours, and those of the script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.running import Server, running
from tests.contract.talking import Talker

SCRIPT = """
import json
import logging
import os
import signal
import time
import warnings
from pathlib import Path

log = logging.getLogger("script")
log.info("imported")


def model_fn(model_dir):
    return Path(model_dir)


def input_fn(body, content_type):
    asked = json.loads(body)
    log.info("input of %s", asked["say"])
    return asked


def predict_fn(asked, model):
    log.info("predicting %s", asked["say"], extra={"own": 7})
    if asked.get("warn"):
        warnings.warn("warned of " + asked["say"])
    if asked.get("fail"):
        raise RuntimeError("failed for " + asked["say"])
    if asked.get("die") and not (model / "died").exists():
        (model / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    if asked.get("stream"):
        return stream(asked)
    return asked["say"]


def stream(asked):
    for number in range(2):
        log.info("chunk %d of %s", number, asked["say"])
        yield asked["say"]
    if asked.get("break"):
        raise RuntimeError("broke off " + asked["say"])


def output_fn(prediction, accept):
    return prediction


def stream_fn(incoming, context):
    for message in incoming:
        log.info("heard %s", message)
        if message == "fail":
            raise RuntimeError("talked too much")
        yield message
"""
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
ROOT = "1-58406520-a006649127e371903a2de979"
HEX = "58406520a006649127e371903a2de979"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running({"code/inference.py": SCRIPT}, TIDEGATE_RETRY="on") as server:
        yield server


def entries(server: Server) -> list[dict[str, Any]]:
    return server.entries()


def of(server: Server, request_id: str) -> list[dict[str, Any]]:
    return [each for each in entries(server) if each.get("request_id") == request_id]


def ask(server: Server, request_id: str, *, headers: dict[str, str] | None = None, **asked: Any) -> int:
    body = json.dumps({"say": request_id, **asked})
    return server.post(body, **{"X-Amzn-SageMaker-Inference-Id": request_id, **(headers or {})}).status


def test_what_a_script_logs_and_warns_of_names_the_request_and_its_trace(server: Server) -> None:
    assert ask(server, "warned", headers={"traceparent": PARENT}, warn=True) == 200
    said = of(server, "warned")
    assert [each["message"] for each in said[:2]] == ["input of warned", "predicting warned"]
    assert "warned of warned" in said[2]["message"]
    assert {each["trace_id"] for each in said} == {TRACE}
    assert said[1]["own"] == 7


def test_the_line_of_a_failure_names_the_trace_of_x_ray(server: Server) -> None:
    header = f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1"
    assert ask(server, "failed", headers={"X-Amzn-Trace-Id": header}, fail=True) == 500
    (line,) = [each for each in of(server, "failed") if each["level"] == "error"]
    assert (line["trace_id"], line["xray_trace_id"]) == (HEX, ROOT)
    assert "failed for failed" in line["traceback"]


def test_a_trace_comes_through_sagemaker_in_the_custom_attributes(server: Server) -> None:
    attributes = {"X-Amzn-SageMaker-Custom-Attributes": f"tenant=7;traceparent={PARENT}"}
    assert ask(server, "attributed", headers=attributes) == 200
    assert {each["trace_id"] for each in of(server, "attributed")} == {TRACE}


def test_what_a_stream_logs_between_its_chunks_names_the_request(server: Server) -> None:
    assert ask(server, "streamed", headers={"traceparent": PARENT}, stream=True) == 200
    said = [each for each in of(server, "streamed") if each["message"].startswith("chunk")]
    assert [each["message"] for each in said] == ["chunk 0 of streamed", "chunk 1 of streamed"]
    assert {each["trace_id"] for each in said} == {TRACE}


def test_lines_about_no_request_name_none(server: Server) -> None:
    imported = [each for each in entries(server) if each["message"] == "imported"]
    assert imported
    assert not any("request_id" in each or "trace_id" in each for each in imported)


def test_a_conversation_has_its_request_and_its_trace_in_every_line(server: Server) -> None:
    headers = (b"X-Amzn-SageMaker-Inference-Id: talked", f"traceparent: {PARENT}".encode())
    with Talker(server, "/invocations-bidirectional-stream", *headers) as talker:
        talker.say("hello")
        assert talker.hear() == "hello"
        talker.say("fail")
        assert "ModelStreamError" in str(talker.hear())
        talker.farewell()
    server.wait_until(lambda: [each for each in of(server, "talked") if each["level"] == "error"], "it has failed")
    said = of(server, "talked")
    assert [each["message"] for each in said] == ["heard hello", "heard fail", "stream_fn failed"]
    assert {each["trace_id"] for each in said} == {TRACE}


@pytest.mark.parametrize("header", ["traceparent", "X-Amzn-Trace-Id", "X-Amzn-SageMaker-Custom-Attributes"])
def test_a_hostile_header_is_in_no_line(server: Server, header: str) -> None:
    request_id = f"hostile-{header}"
    assert ask(server, request_id, headers={header: f'"}}{{"x": "\x85 {PARENT[:-1]}'}, fail=True) == 500
    said = of(server, request_id)
    assert [each["level"] for each in said] == ["info", "info", "error"]
    assert not any("trace_id" in each for each in said)


def test_a_worker_that_dies_is_logged_with_what_it_had_in_hand(server: Server) -> None:
    assert ask(server, "deadly", headers={"traceparent": PARENT}, die=True) == 200
    server.wait_until(
        lambda: [each for each in of(server, "deadly") if each["message"] == "worker ended"], "its end is in the log"
    )
    (line,) = [each for each in of(server, "deadly") if each["message"] == "worker ended"]
    assert (line["level"], line["trace_id"]) == ("warning", TRACE)
