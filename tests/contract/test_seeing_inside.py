"""What the server tells about itself: metrics, timing, log lines."""

from __future__ import annotations

import json
import signal

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.contract.models import OBEDIENT
from tests.contract.running import Server, running


@pytest.fixture(scope="module")
def server():
    with running({"code/inference.py": OBEDIENT}, TIDEGATE_SERVER_TIMING="on") as server:
        yield server


def samples(server: Server) -> dict[tuple[str, ...], float]:
    reply = server.request("GET", "/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for family in text_string_to_metric_families(reply.body.decode()):
        for sample in family.samples:
            labels = [v for k, v in sorted(sample.labels.items()) if k not in {"model", "pid"}]
            found[(sample.name, *labels)] = sample.value
    return found


def test_metrics_count_answers_batches_retries_and_restarts(server: Server):
    before = samples(server)
    assert server.post(b'{"fine": 1}').status == 200
    assert server.post(b'{"raise": "x"}').status == 500
    assert server.post(json.dumps({"die": signal.SIGKILL, "unless": "died-before"})).status == 200
    predicted = ("tidegate_predict_seconds_count",)

    def all_is_counted() -> dict[tuple[str, ...], float] | None:
        # A batch is counted when the worker is done with it, which is after its answers.
        found = samples(server)
        return found if found[predicted] - before.get(predicted, 0) >= 3 else None

    after = server.wait_until(all_is_counted, "all three calls are counted")

    def grown(*name: str) -> float:
        return after.get(name, 0) - before.get(name, 0)

    assert grown("tidegate_responses_total", "200") == 2
    assert grown("tidegate_responses_total", "500") == 1
    assert grown("tidegate_retries_total") == 1
    assert grown("tidegate_worker_restarts_total") == 1
    assert grown("tidegate_queue_seconds_count") == 4
    assert grown("tidegate_batch_size_count") == 4
    assert grown("tidegate_batch_size_bucket", "1") == 4
    assert grown("tidegate_predict_seconds_count") == 3
    assert after[("tidegate_workers",)] == 1
    assert after[("tidegate_waiting",)] == 0
    assert after[("tidegate_resident_bytes",)] > 10_000_000
    assert after[("tidegate_worker_gpu_bytes",)] == 0


def test_server_timing_is_told_when_asked_for(server: Server):
    timing = server.post(b"1").headers["server-timing"]
    assert timing.startswith("queue;dur=")
    assert ", worker;dur=" in timing


def test_nothing_is_logged_for_a_request_or_a_ping_and_never_a_payload(server: Server):
    before = server.log()
    for _ in range(5):
        assert server.ping() == 200
        assert server.post(b'{"secret": 1234567}').status == 200
    assert server.log() == before


def test_every_line_of_the_log_is_json_with_time_level_and_message(server: Server):
    for line in server.log().splitlines():
        assert {"time", "level", "logger", "message"} <= json.loads(line).keys()


def test_the_log_level_is_obeyed():
    with running({"code/inference.py": OBEDIENT}, SAGEMAKER_CONTAINER_LOG_LEVEL="40") as server:
        assert server.post(b"1").status == 200
        assert server.log() == ""
