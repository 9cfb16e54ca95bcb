"""Spans of a real server, as a real receiver of OTLP over HTTP reads them; and a receiver that is ill harms nobody."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.collecting import Collector, collecting
from tests.contract.repositories import serving
from tests.contract.running import Reply, Server, free_port, running
from tests.contract.talking import Talker

SCRIPT = """
import json
import time
from pathlib import Path

from opentelemetry import trace

tracer = trace.get_tracer("script")


def model_fn(model_dir):
    return Path(model_dir)


def input_fn(body, content_type):
    return json.loads(body)


def predict_fn(asked, model):
    with tracer.start_as_current_span("own") as span:
        span.set_attribute("say", str(asked))
    if str(asked).startswith("fail"):
        raise RuntimeError(asked)
    if asked == "wait":
        (model / "begun").touch()
        while not (model / "go").exists():
            time.sleep(0.005)
    if str(asked).startswith("own"):
        with tracer.start_as_current_span(asked):
            pass
    if asked == "stream":
        return stream()
    return asked


def stream():
    for number in range(3):
        with tracer.start_as_current_span(f"chunk {number}"):
            pass
        yield str(number)


async def stream_fn(incoming, context):
    async for message in incoming:
        with tracer.start_as_current_span("answer"):
            pass
        yield message


def output_fn(prediction, accept):
    return prediction if not isinstance(prediction, str) else json.dumps(prediction)
"""
BATCHING = """
import json
from pathlib import Path
import time

from opentelemetry import trace


def model_fn(model_dir):
    return Path(model_dir)


def input_fn(body, content_type):
    return json.loads(body)


def collate_fn(inputs):
    return inputs


def predict_fn(inputs, model):
    if inputs == ["first"]:
        (model / "begun").touch()
        while not (model / "go").exists():
            time.sleep(0.005)
    with trace.get_tracer("script").start_as_current_span("own"):
        return inputs


def split_fn(outputs, count):
    return outputs


def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
SERVER = 2
"""The kind of a span, as the protocol counts kinds."""
PARENT_ID = "00f067aa0ba902b7"


def new_trace() -> str:
    return uuid.uuid4().hex


def parent(trace_id: str, *, sampled: bool = True) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{PARENT_ID}-0{int(sampled)}"}


def settings(collector: Collector, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "OTEL_BSP_SCHEDULE_DELAY": "50", **more}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def server(collector: Collector) -> Iterator[Server]:
    with running({"code/inference.py": SCRIPT}, **settings(collector)) as server:
        yield server


def test_a_request_is_a_server_span_with_its_wait_and_each_function_below_it(
    server: Server, collector: Collector
) -> None:
    trace_id = new_trace()
    assert server.post(b'"hello"', **parent(trace_id), **{"X-Amzn-SageMaker-Inference-Id": "told"}).status == 200
    spans = collector.wait_for(trace_id, "POST /invocations", "queue", "input_fn", "predict_fn", "output_fn", "own")
    request = spans["POST /invocations"]
    assert (request.kind, request.parent_id, request.failed) == (SERVER, PARENT_ID, False)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/invocations",
        "http.response.status_code": 200,
        "url.path": "/invocations",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "tidegate.request_id": "told",
    }
    below = [spans[name] for name in ("queue", "input_fn", "predict_fn", "output_fn")]
    assert {span.parent_id for span in below} == {request.span_id}
    assert spans["own"].parent_id == spans["predict_fn"].span_id
    assert spans["own"].attributes == {"say": "hello"}
    assert request.resource["service.name"] == "tidegate"
    assert request.resource["tidegate.process"] == "frontend"
    assert spans["own"].resource["tidegate.process"] == "worker of model"
    assert collector.paths == {"/v1/traces"}


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Amzn-Trace-Id": "Root=1-{0}-{1};Parent=00f067aa0ba902b7;Sampled=1"},
        {"X-Amzn-SageMaker-Custom-Attributes": "tenant=7;Root=1-{0}-{1};Parent=00f067aa0ba902b7;Sampled=1"},
        {"X-Amzn-SageMaker-Custom-Attributes": "tenant=7;traceparent=00-{0}{1}-00f067aa0ba902b7-01"},
    ],
    ids=["x-ray", "attributes of x-ray", "attributes of w3c"],
)
def test_the_trace_goes_on_from_x_ray_and_from_the_custom_attributes(
    server: Server, collector: Collector, headers: dict[str, str]
) -> None:
    trace_id = new_trace()
    sent = {name: value.format(trace_id[:8], trace_id[8:]) for name, value in headers.items()}
    assert server.post(b'"hello"', **sent).status == 200
    spans = collector.wait_for(trace_id, "POST /invocations", "own")
    assert spans["POST /invocations"].parent_id == PARENT_ID


def test_a_failure_is_an_error_of_its_spans_and_its_log_line_has_their_trace(
    server: Server, collector: Collector
) -> None:
    trace_id = new_trace()
    assert server.post(b'"fail"', **parent(trace_id)).status == 500
    spans = collector.wait_for(trace_id, "POST /invocations", "predict_fn", "own")
    assert spans["POST /invocations"].failed
    assert spans["POST /invocations"].attributes["http.response.status_code"] == 500
    assert (spans["predict_fn"].failed, spans["predict_fn"].events) == (True, ["exception"])
    (line,) = [line for line in server.log().splitlines() if trace_id in line]
    assert json.loads(line)["message"] == "predict_fn failed"


def test_what_no_utf_8_can_write_costs_no_other_span(server: Server, collector: Collector) -> None:
    """Half a character, in an error that quotes its client and in the name of a script's own span."""
    trace_id = new_trace()
    assert server.post(b'"fails at \\ud800"', **parent(trace_id)).status == 500
    assert server.post(b'"own \\ud800"', **parent(trace_id)).status == 200
    assert server.post(b'"hello"', **parent(trace_id)).status == 200
    collector.wait_for(trace_id, "POST /invocations", "predict_fn", "output_fn")
    server.wait_until(
        lambda: sum(span.name == "POST /invocations" for span in collector.of(trace_id)) == 3, "all three have come"
    )
    server.wait_until(
        lambda: sum(span.name == "predict_fn" for span in collector.of(trace_id)) == 3, "their functions have come"
    )
    assert sum(span.name == "predict_fn" and span.failed for span in collector.of(trace_id)) == 1


def test_what_the_client_does_wrong_has_a_span_and_is_no_error(server: Server, collector: Collector) -> None:
    trace_id = new_trace()
    assert server.request("POST", "/nowhere", b"1", parent(trace_id)).status == 404
    span = collector.wait_for(trace_id, "POST")["POST"]
    assert (span.failed, span.attributes["http.response.status_code"], span.attributes["error.type"]) == (
        False,
        404,
        "not_found",
    )
    assert "http.route" not in span.attributes


def test_a_stream_has_a_span_until_its_end_and_its_generator_makes_children_of_it(
    server: Server, collector: Collector
) -> None:
    trace_id = new_trace()
    assert server.post(b'"stream"', **parent(trace_id)).body == b"012"
    spans = collector.wait_for(trace_id, "POST /invocations", "stream", "chunk 0", "chunk 2")
    assert {spans[f"chunk {number}"].parent_id for number in range(3)} == {spans["stream"].span_id}
    assert spans["stream"].parent_id == spans["POST /invocations"].span_id


def test_a_conversation_is_one_span_and_stream_fn_makes_children_of_its_own(
    server: Server, collector: Collector
) -> None:
    trace_id = new_trace()
    path, header = "/invocations-bidirectional-stream", f"traceparent: {parent(trace_id)['traceparent']}"
    with Talker(server, path, header.encode()) as talker:
        talker.say("hello")
        assert talker.hear() == "hello"
        talker.close()
        talker.farewell()
    spans = collector.wait_for(trace_id, f"GET {path}", "stream_fn", "answer")
    request = spans[f"GET {path}"]
    assert (request.failed, request.attributes["http.response.status_code"]) == (False, 101)
    assert spans["stream_fn"].parent_id == request.span_id
    assert spans["answer"].parent_id == spans["stream_fn"].span_id


def test_a_trace_that_is_not_sampled_leaves_no_span_and_a_probe_has_none(server: Server, collector: Collector) -> None:
    unsampled, sampled = new_trace(), new_trace()
    assert server.post(b'"quiet"', **parent(unsampled, sampled=False)).status == 200
    assert server.request("GET", "/ping", headers=parent(unsampled)).status == 200
    assert server.post(b'"loud"', **parent(sampled)).status == 200
    collector.wait_for(sampled, "POST /invocations", "output_fn")
    assert collector.of(unsampled) == []


def test_a_request_without_a_trace_begins_one_that_its_log_lines_name(server: Server, collector: Collector) -> None:
    reply = server.post(b'"fail"')
    (line,) = [
        entry for entry in server.entries()
        if entry.get("request_id") == reply.error["request_id"]
    ]  # fmt: skip
    spans = collector.wait_for(line["trace_id"], "POST /invocations", "predict_fn")
    assert spans["POST /invocations"].parent_id == ""


def in_threads(server: Server, asked: dict[str, dict[str, str]]) -> list[threading.Thread]:
    threads = [
        threading.Thread(target=server.post, args=(json.dumps(body),), kwargs=headers)
        for body, headers in asked.items()
    ]
    for thread in threads:
        thread.start()
    return threads


def test_a_shared_call_links_its_requests_and_is_in_the_trace_of_each(collector: Collector) -> None:
    traces = {name: new_trace() for name in ("first", "a", "b", "c")}
    with running(
        {"code/inference.py": BATCHING}, **settings(collector, TIDEGATE_MAX_BATCH_SIZE="8", TIDEGATE_MAX_WAIT_MS="0")
    ) as server:
        threads = in_threads(server, {"first": parent(traces["first"])})
        server.wait_until((server.model_dir / "begun").exists, "the worker is busy")
        threads += in_threads(server, {name: parent(traces[name]) for name in "abc"})
        server.wait_until(lambda: waiting(server) == 3, "the others wait")
        (server.model_dir / "go").touch()
        for thread in threads:
            thread.join(60)
        found = {name: collector.wait_for(traces[name], "POST /invocations", "predict_fn", "queue") for name in "abc"}
    calls = [spans["predict_fn"] for spans in found.values()]
    assert {call.attributes["tidegate.batch_size"] for call in calls} == {3}
    (shared,) = [call for call in calls if len(call.links) == 3]
    requests = {spans["POST /invocations"].span_id for spans in found.values()}
    assert set(shared.links) == requests
    others = [call for call in calls if call is not shared]
    assert [call.links for call in others] == [[shared.span_id]] * 2
    assert {call.parent_id for call in calls} == requests
    (own,) = [span for name in "abc" for span in collector.of(traces[name]) if span.name == "own"]
    assert own.parent_id == shared.span_id


def test_a_model_of_a_repository_has_the_same_spans_under_a_route_without_its_name(
    tmp_path: Path, collector: Collector
) -> None:
    first, second = new_trace(), new_trace()
    with serving(tmp_path, {"digits": (1,)}, **settings(collector)) as here:
        path = "/models/digits/versions/1/invoke"
        for trace_id in (first, second):  # the first has to wait until the model is loaded
            assert here.server.request("POST", path, b"{}", parent(trace_id)).status == 200
        name = "POST /models/{name}/versions/{version}/invoke"
        for trace_id in (first, second):
            spans = collector.wait_for(trace_id, name, "queue", "input_fn", "predict_fn", "output_fn")
            assert spans["queue"].parent_id == spans[name].span_id
            assert spans["predict_fn"].resource["tidegate.process"] == "worker of digits"


def test_a_client_that_leaves_is_no_error_of_the_server(server: Server, collector: Collector) -> None:
    trace_id = new_trace()
    (server.model_dir / "go").unlink(missing_ok=True)
    head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ntraceparent: {parent(trace_id)['traceparent']}\r\n"
    with server.socket() as client:
        client.sendall(f'{head}content-type: application/json\r\ncontent-length: 6\r\n\r\n"wait"'.encode())
        server.wait_until((server.model_dir / "begun").exists, "the function has begun")
    request = collector.wait_for(trace_id, "POST /invocations")["POST /invocations"]
    (server.model_dir / "go").touch()
    assert (request.failed, request.attributes["error.type"]) == (False, "client_left")
    assert "http.response.status_code" not in request.attributes
    collector.wait_for(trace_id, "output_fn")


def waiting(server: Server) -> float:
    text = server.request("GET", "/metrics").body.decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("tidegate_waiting{"))


def test_the_last_spans_are_sent_when_the_server_stops(collector: Collector) -> None:
    """Nothing is sent before: the next export is an hour away."""
    trace_id = new_trace()
    late = settings(collector, OTEL_BSP_SCHEDULE_DELAY="3600000")
    with running({"code/inference.py": SCRIPT}, **late) as server:
        assert server.post(b'"hello"', **parent(trace_id)).status == 200
        assert collector.of(trace_id) == []
        assert server.terminate() == 0
    collector.wait_for(trace_id, "POST /invocations", "queue", "input_fn", "predict_fn", "output_fn", "own")


@pytest.mark.parametrize("ill", ["down", "refusing, then hanging"])
def test_a_receiver_that_is_ill_neither_delays_answers_nor_the_end(ill: str) -> None:
    """There are more spans than the queue holds; the log says so in few lines."""
    with collecting() as collector:
        endpoint = f"http://127.0.0.1:{free_port()}" if ill == "down" else collector.endpoint
        collector.status = 503
        small = settings(
            collector,
            OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
            OTEL_BSP_MAX_QUEUE_SIZE="8",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4",
        )
        with running({"code/inference.py": SCRIPT}, **small) as server:
            replies: list[Reply] = [server.post(b'"hello"') for _ in range(30)]
            if ill != "down":
                server.wait_until(lambda: collector.asked, "it was tried")
                collector.held.clear()
            replies += [server.post(b'"hello"') for _ in range(30)]
            assert {reply.status for reply in replies} == {200}
            assert server.terminate() == 0
            entries: list[dict[str, Any]] = server.entries()
        assert collector.spans == []
    said = [entry for entry in entries if entry["logger"].startswith("opentelemetry")]
    assert said
    assert len(said) < 30
    assert not any("traceback" in entry for entry in said)


def test_without_spans_the_server_serves_as_ever_and_says_why() -> None:
    with collecting() as collector:
        with running({"code/inference.py": SCRIPT}, **settings(collector, OTEL_PROPAGATORS="pigeon")) as server:
            assert server.post(b'"hello"', **parent(new_trace())).status == 200
            assert server.terminate() == 0
            (line,) = [entry for entry in server.entries() if "no spans" in entry["message"]]
        assert collector.asked == 0
    assert "Propagator pigeon not found" in line["message"]
