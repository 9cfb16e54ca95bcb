"""The server of a transform job logs a line for each request; any other server logs none for one that is answered."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.collecting import collecting
from tests.contract.running import Server, running

SCRIPT = """
import os
import signal
import time
from pathlib import Path


def model_fn(model_dir):
    return Path(model_dir)


def input_fn(body, content_type):
    return body.encode() if isinstance(body, str) else bytes(body)


def predict_fn(body, model):
    if body.startswith(b"fail"):
        raise RuntimeError("failed for it")
    if body.startswith(b"die") and not (model / "died").exists():
        (model / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    return body + b"!"


def output_fn(prediction, accept):
    return prediction
"""
MOST_BYTES = 1000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """With spans as well: each of the two wraps what answers a request."""
    with (
        collecting() as collector,
        running(
            {"code/inference.py": SCRIPT},
            SAGEMAKER_BATCH="true",
            TIDEGATE_RETRY="on",
            TIDEGATE_MAX_BODY_BYTES=str(MOST_BYTES),
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint,
        ) as server,
    ):
        yield server


def line_of(server: Server, body: bytes, *, named: str) -> dict[str, Any]:
    """The line of a request that is sent now, once it is there."""
    server.post(body, "text/csv", X_Amzn_SageMaker_Inference_Id=named)

    def found() -> dict[str, Any] | None:
        lines = [each for each in server.entries() if each["logger"] == "tidegate.requests"]
        return next((each for each in lines if each["request_id"] == named), None)

    line: dict[str, Any] = server.wait_until(found, "the request is logged")
    return line


def test_a_line_says_how_a_request_ended_how_long_it_took_and_by_what_its_body_is_known(server: Server) -> None:
    body = b"1,2\r\n3,4\n5,6"
    line = line_of(server, body, named="answered")
    assert (line["level"], line["message"], line["status"]) == ("info", "request", 200)
    assert (line["request_bytes"], line["response_bytes"], line["lines"]) == (len(body), len(body) + 1, 3)
    assert line["line_crc32"] == f"{zlib.crc32(b'1,2'):08x}"
    assert line["head_crc32"] == f"{zlib.crc32(body):08x}"
    assert 0 <= line["queue_ms"] + line["worker_ms"] <= line["duration_ms"]
    assert not {"code", "error", "tried_again"} & set(line)


def test_a_line_of_a_failure_has_the_words_that_the_client_was_told(server: Server) -> None:
    line = line_of(server, b"fail\n", named="failed")
    assert (line["status"], line["code"], line["lines"]) == (500, "handler_failed", 1)
    assert "predict_fn" in line["error"]


def test_a_request_that_a_second_worker_answered_says_so(server: Server) -> None:
    line = line_of(server, b"die\n", named="tried again")
    assert (line["status"], line["tried_again"]) == (200, True)


def test_a_request_that_is_refused_unread_has_a_line_with_the_size_that_it_announced(server: Server) -> None:
    line = line_of(server, b"x" * (MOST_BYTES + 1), named="too large")
    assert (line["status"], line["request_bytes"]) == (413, MOST_BYTES + 1)
    assert not {"lines", "head_crc32"} & set(line)


def test_a_probe_has_none(server: Server) -> None:
    assert server.ping() == 200
    line_of(server, b"1\n", named="after the probe")
    paths = [each for each in server.entries() if each["logger"] == "tidegate.requests" and not each["request_bytes"]]
    assert paths == []
