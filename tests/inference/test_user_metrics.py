"""What user code reads, sets and counts by way of its context."""

from __future__ import annotations

import logging
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from tests.inference.toy_models import request
from tidegate.inference.worker.context import Context, RequestProcessor


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    # The server's loggers do not propagate once a test has configured them.
    monkeypatch.setattr(logging.getLogger("tidegate"), "propagate", True)
    caplog.set_level(logging.INFO, "tidegate.metrics")
    return caplog


def context(*ids: str) -> Context:
    made = Context(model_name="model", manifest={}, system_properties={})
    made.request_processor = [
        RequestProcessor(request([], headers=f"x-tidegate-request-id: {each}\r\n".encode())) for each in ids
    ]
    return made


def told(record: logging.LogRecord) -> tuple[Any, ...]:
    return tuple(record.__dict__[key] for key in ("metric", "value", "unit", "type", "dimensions", "request_id"))


class MetricTypes(Enum):
    HISTOGRAM = "histogram"


@pytest.mark.parametrize(
    ("method", "arguments", "expected"),
    [
        ("add_counter", ("Tokens", 7), ("Tokens", 7, "count", "counter", {}, "r1")),
        ("add_time", ("Decode", 1.5), ("Decode", 1.5, "ms", "gauge", {}, "r1")),
        ("add_time", ("Decode", 2, 0, "s"), ("Decode", 2, "s", "gauge", {}, "r1")),
        ("add_size", ("Body", 3), ("Body", 3, "MB", "gauge", {}, "r1")),
        ("add_percent", ("Share", 50), ("Share", 50, "percent", "gauge", {}, "r1")),
        ("add_error", ("Bad", "why"), ("Bad", "why", "", "counter", {}, "r1")),
        (
            "add_metric",
            ("Own", 1, "pages", 0, [SimpleNamespace(name="Lang", value="en")], MetricTypes.HISTOGRAM),
            ("Own", 1, "pages", "histogram", {"Lang": "en"}, "r1"),
        ),
    ],
)
def test_a_value_is_one_line_of_the_log_with_the_request_that_it_belongs_to(
    lines: pytest.LogCaptureFixture, method: str, arguments: Any, expected: Any
) -> None:
    getattr(context("r1").metrics, method)(*arguments)
    assert [told(line) for line in lines.records] == [expected]
    assert lines.records[0].levelno == logging.INFO


def test_in_a_batch_the_index_says_whose_value_it_is_and_without_one_it_is_nobodys(
    lines: pytest.LogCaptureFixture,
) -> None:
    metrics = context("r1", "r2").metrics
    metrics.add_counter("Tokens", 1, 1)
    metrics.add_counter("Batches", 1)
    assert [told(line)[-1] for line in lines.records] == ["r2", ""]


def test_a_metric_may_be_kept_and_written_again(lines: pytest.LogCaptureFixture) -> None:
    metrics = context("r1").metrics
    kept = metrics.add_metric_to_cache("Length", "tokens", ["Lang"], "gauge")
    kept.add_or_update(5, ["en"], "r9")
    assert told(lines.records[0]) == ("Length", 5, "tokens", "gauge", {"Lang": "en"}, "r9")
    assert metrics.get_metric("Length", "gauge") is kept
    with pytest.raises(KeyError):
        metrics.get_metric("Length", "counter")
    with pytest.raises(ValueError, match=r"has the dimensions \['Lang'\], but was given the values \[\]"):
        kept.add_or_update(5)


def test_user_code_reads_back_what_it_set() -> None:
    made = context("r1", "r2")
    assert made.request_ids == {0: "r1", 1: "r2"}
    assert made.get_response_status(0) == (200, None)
    assert made.get_response_content_type(0) is None
    made.set_response_header(0, "X-Mine", "1")
    made.set_response_content_type(0, "text/plain")
    made.set_all_response_status(207)
    assert made.get_response_headers(0) == {"X-Mine": "1", "content-type": "text/plain"}
    assert made.request_processor[0].get_response_header("x-mine") == "1"
    assert made.get_response_content_type(0) == "text/plain"
    assert [made.get_response_status(idx)[0] for idx in (0, 1)] == [207, 207]


def test_while_the_model_loads_there_is_no_request() -> None:
    made = context()
    assert made.request_ids == {}
    made.metrics.add_counter("Loads", 1)
    assert made.model_yaml_config == {}
