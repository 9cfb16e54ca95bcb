"""Spans are made where that is asked for and possible; a server without them says why, and serves."""

from __future__ import annotations

import logging
import sys

import pytest

from tidegate.inference import tracing
from tidegate.inference.frontend.http.traced import route_of
from tidegate.inference.settings import read

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environment", "traced"),
    [
        ({}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "yes"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SERVICE_NAME": "mine"}, False),
    ],
)
def test_an_endpoint_asks_for_spans_unless_opentelemetry_is_switched_off(
    environment: dict[str, str], traced: bool
) -> None:
    assert read(environment).traced is traced


def test_without_the_packages_there_are_no_spans_and_one_line_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delitem(sys.modules, "tidegate.inference.span_export", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)  # as an import finds it that is not there
    monkeypatch.setattr(logging.getLogger("tidegate"), "propagate", True)
    assert tracing.begin("frontend") is None
    (record,) = caplog.records
    assert "pip install 'tidegate[otel]'" in record.getMessage()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"exporter": "zipkin"}, "OTEL_TRACES_EXPORTER=zipkin is not known here"),
        ({"protocol": "grpc"}, "use http/protobuf, which collectors take on port 4318"),
    ],
)
def test_what_is_not_spoken_is_refused_in_one_line(
    how: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("tidegate"), "propagate", True)
    assert tracing.begin("frontend", **how) is None
    (record,) = caplog.records
    assert said in record.getMessage()


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/invocations", "/invocations"),
        ("/models/a b/invoke", "/models/{name}/invoke"),
        ("/models/models/invoke", "/models/{name}/invoke"),
        ("/models/digits/versions/3/invoke", "/models/{name}/versions/{version}/invoke"),
        ("/v2/models/digits/infer", "/v2/models/{name}/infer"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/models", "/models"),
        ("/adapters/mine", "/adapters/{name}"),
        ("/invocations-bidirectional-stream", "/invocations-bidirectional-stream"),
        ("/", None),
        ("/.env", None),
        ("/models/", None),
        ("/invocations/", None),
        ("/models/digits/secret", None),
    ],
)
def test_a_route_has_no_name_in_it_and_a_path_that_is_none_has_no_route(path: str, route: str | None) -> None:
    assert route_of(path) == route
