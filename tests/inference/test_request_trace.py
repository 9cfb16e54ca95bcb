"""Which trace a request belongs to: what well-formed headers say, and that no other value says anything."""

from __future__ import annotations

import json
import logging

import pytest

from tidegate.inference.log_lines import JsonLines
from tidegate.inference.request_trace import carried, fields_of_all, log_fields, request_id_in

HEX = "58406520a006649127e371903a2de979"
ROOT = "1-58406520-a006649127e371903a2de979"
XRAY = f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1"
OTHER = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{OTHER}-00f067aa0ba902b7-01"
OF_XRAY = {"trace_id": HEX, "xray_trace_id": ROOT}
OF_PARENT = {"trace_id": OTHER}


def lines(**headers: str) -> bytes:
    return "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


@pytest.mark.parametrize(
    ("headers", "fields"),
    [
        ({}, {}),
        ({"x_amzn_trace_id": XRAY}, OF_XRAY),
        ({"x_amzn_trace_id": f"Self=1-67891234-12456789abcdef012345678;Root={ROOT}"}, OF_XRAY),
        ({"x_amzn_trace_id": f"Sampled=1; Parent=53995c3f42cd8ad8; Root={ROOT}"}, OF_XRAY),
        ({"traceparent": PARENT}, OF_PARENT),
        ({"traceparent": f"  {PARENT} "}, OF_PARENT),
        ({"traceparent": f"01{PARENT[2:]}-of-a-later-version"}, OF_PARENT),
        ({"traceparent": PARENT, "x_amzn_trace_id": XRAY}, {"trace_id": OTHER, "xray_trace_id": ROOT}),
    ],
)
def test_the_trace_is_that_of_traceparent_else_that_of_x_ray(headers: dict[str, str], fields: dict[str, str]) -> None:
    assert log_fields(lines(**headers)) == fields


@pytest.mark.parametrize(
    ("attributes", "fields"),
    [
        (f"traceparent={PARENT}", OF_PARENT),
        (f"model=digits;traceparent={PARENT};version=3", OF_PARENT),
        (XRAY, OF_XRAY),
        (f"model=digits;{XRAY}", OF_XRAY),
        (f"X-Amzn-Trace-Id={XRAY}", OF_XRAY),
        (f"X-Amzn-Trace-Id: {XRAY}", OF_XRAY),
        ("model=digits;version=3", {}),
        (f"nottraceparent={PARENT}", {}),
        (f"squareRoot={ROOT}", {}),
    ],
)
def test_the_custom_attributes_carry_a_trace_where_no_header_does(attributes: str, fields: dict[str, str]) -> None:
    assert log_fields(lines(x_amzn_sagemaker_custom_attributes=attributes)) == fields


def test_a_header_goes_before_the_custom_attributes() -> None:
    said = lines(traceparent=PARENT, x_amzn_sagemaker_custom_attributes=f"traceparent=00-{HEX}-00f067aa0ba902b7-01")
    assert log_fields(said) == OF_PARENT


def test_what_a_propagator_reads_is_there_by_name_whole_and_from_the_custom_attributes_too() -> None:
    assert carried(lines(traceparent=PARENT, tracestate="a=1", baggage="k=v", accept="*/*")) == {
        "traceparent": PARENT,
        "tracestate": "a=1",
        "baggage": "k=v",
    }
    attributes = f"model=digits;{XRAY};tenant=7"
    assert carried(lines(x_amzn_sagemaker_custom_attributes=attributes)) == {"x-amzn-trace-id": XRAY}


@pytest.mark.parametrize(
    "value",
    [
        "",
        PARENT.upper(),
        PARENT[:-1],
        f"{PARENT}-more",
        f"ff{PARENT[2:]}",
        f"00-{32 * '0'}-00f067aa0ba902b7-01",
        f"00-{OTHER}-{16 * '0'}-01",
        f"00-{OTHER}-00f067aa0ba902b7-01\x00",
        '"}\x1b[31m{"level": "critical',
        100_000 * "00-",
        f"Root={ROOT}extended",
        f"Root={ROOT[:-1]}",
        "Root=1-58406520-A00664_127e371903a2de979",
        "Root=" * 20_000,
        "Self=" + ROOT,
    ],
)
@pytest.mark.parametrize("header", ["traceparent", "x_amzn_trace_id", "x_amzn_sagemaker_custom_attributes"])
def test_a_value_that_is_not_well_formed_says_nothing(header: str, value: str) -> None:
    assert log_fields(lines(**{header: value})) == {}


def test_a_line_about_several_requests_names_them_all_and_their_traces_once() -> None:
    both = [("a", lines(traceparent=PARENT)), ("b", lines(traceparent=PARENT)), ("c", b""), ("", b"")]
    assert fields_of_all(both) == {"request_ids": ["a", "b", "c"], "trace_ids": [OTHER]}
    assert fields_of_all([("", b"")]) == {}
    many = fields_of_all((str(number), b"") for number in range(1000))
    assert many == {"request_ids": [str(number) for number in range(64)], "requests": 1000}


def test_a_long_id_is_cut_and_a_client_cannot_choose_it_by_our_own_header() -> None:
    assert fields_of_all([(1000 * "x", b"")]) == {"request_id": 127 * "x" + "…"}
    assert request_id_in(lines(x_tidegate_request_id="mine") + b"x-tidegate-request-id: ours\r\n") == "ours"


def test_a_line_of_the_log_stays_one_object_whatever_the_headers_hold() -> None:
    """Quotes, controls and half characters, in an id that the client chose."""
    record = logging.makeLogRecord({"msg": "failed", "levelname": "ERROR"})
    hostile = 'x", "level": "info\x1b[31m\x7f\x85\udc80\u2028'
    record.__dict__.update(fields_of_all([(hostile, lines(traceparent=PARENT))]))
    line = JsonLines().format(record)
    assert "\n" not in line
    assert line.isprintable()
    assert json.loads(line)["level"] == "error"
    assert json.loads(line)["trace_id"] == OTHER
