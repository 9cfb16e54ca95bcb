"""The trace that a request belongs to, as its headers say. Pure, and in need of no package: log lines take no more.

    X-Amzn-Trace-Id: Root=1-58406520-a006649127e371903a2de979;Parent=53995c3f42cd8ad8;Sampled=1
    traceparent: 00-58406520a006649127e371903a2de979-53995c3f42cd8ad8-01

SageMaker strips every request header that InvokeEndpoint does not name, and forwards the custom attributes as they
are. So both are looked for there too, among other fields that `;` separates: `model=digits;traceparent=00-…`, or the
value of X-Amzn-Trace-Id as it is.

Sources: https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader,
https://www.w3.org/TR/trace-context/#traceparent-header,
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tidegate.inference.protocol import REQUEST_ID_HEADER

TRACEPARENT, TRACESTATE, BAGGAGE = "traceparent", "tracestate", "baggage"
XRAY = "x-amzn-trace-id"
_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"
_READ = frozenset({TRACEPARENT, TRACESTATE, BAGGAGE, XRAY, _ATTRIBUTES})

_LONGEST_ID = 128
"""Characters of a request's id in a line of the log; one that comes through SageMaker has at most 64."""
_MOST_NAMED = 64
"""How many requests a line of the log names, where it is about several."""

_END = r"(?=[;,\s]|$)"
# Version ff is none, and neither is an id of zeros.
_PARENT = r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT = re.compile(rf"({_PARENT})(-.*)?")
_TRACEPARENT_FIELD = re.compile(rf"(?:^|[;,\s]){TRACEPARENT}=({_PARENT}){_END}")
_ROOT = re.compile(rf"(?:^|[;=:\s])Root=(1-[0-9a-f]{{8}}-[0-9a-f]{{24}}){_END}", re.IGNORECASE)
_XRAY_FIELD = re.compile(rf"(?:^|[;=:\s])((?:Root|Parent|Sampled)=[0-9a-f-]{{1,64}}){_END}", re.IGNORECASE)


def carried(header_lines: bytes) -> dict[str, str]:
    """The headers of a trace by their lower-case names, of lines whose names are so; what is in them is not checked.

    Of one that came more than once the last counts.
    """
    lines = (line.partition(b": ") for line in header_lines.split(b"\r\n"))
    found = {name.decode("latin-1"): value.decode("latin-1").strip() for name, _, value in lines}
    found = {name: value for name, value in found.items() if name in _READ}
    attributes = found.pop(_ATTRIBUTES, "")
    if TRACEPARENT not in found and (parent := _TRACEPARENT_FIELD.search(attributes)):
        found[TRACEPARENT] = parent[1]
    if XRAY not in found and _ROOT.search(attributes):
        found[XRAY] = ";".join(_XRAY_FIELD.findall(attributes))
    return found


def log_fields(header_lines: bytes) -> dict[str, str]:
    """What a line of the log says of the trace of a request; nothing where its headers name none that is well formed.

    `trace_id` has 32 hexadecimal digits, as OpenTelemetry writes it; `xray_trace_id` is the root of X-Amzn-Trace-Id, as
    X-Ray writes it. Where both headers came, `trace_id` is that of traceparent.
    """
    headers = carried(header_lines)
    fields: dict[str, str] = {}
    if root := _ROOT.search(headers.get(XRAY, "")):
        fields = {"trace_id": root[1][2:].replace("-", "").lower(), "xray_trace_id": root[1]}
    parent = _TRACEPARENT.fullmatch(headers.get(TRACEPARENT, ""))
    if parent and not (parent[2] and parent[1].startswith("00-")):  # only a later version may say more
        fields["trace_id"] = parent[1][3:35]
    return fields


def request_id_in(header_lines: bytes) -> str:
    """The id that the client is told, of lines as a worker gets them; empty where there is none."""
    return header(header_lines, REQUEST_ID_HEADER)


def header(header_lines: bytes, name: str) -> str:
    """The value of one header, of lines whose names are lower-case; empty where it is not there. The last counts."""
    found = re.findall(rb"^%b: (.*)$" % name.encode(), header_lines, re.MULTILINE)
    return found[-1].decode("latin-1").strip() if found else ""


def short(request_id: str) -> str:
    """A request's id as a line of the log has it: its client chooses it, and may choose a long one."""
    return request_id if len(request_id) <= _LONGEST_ID else request_id[: _LONGEST_ID - 1] + "…"


def fields_of_all(requests: Iterable[tuple[str, bytes]]) -> dict[str, object]:
    """What a line of the log says that is about these requests, each by its id and its header lines.

    Of one, its id and its trace; of several the ids and, where there are any, the traces, as lists. Of more than 64 the
    first ones are named, and `requests` says how many there are. What has no id is not named.
    """
    listed = [(short(request_id), lines) for request_id, lines in requests if request_id]
    if not listed:
        return {}
    if len(listed) == 1:
        return {"request_id": listed[0][0], **log_fields(listed[0][1])}
    named = listed[:_MOST_NAMED]
    fields: dict[str, object] = {"request_ids": [request_id for request_id, _ in named]}
    if traces := list(dict.fromkeys(trace["trace_id"] for _, lines in named if (trace := log_fields(lines)))):
        fields["trace_ids"] = traces
    return fields if len(named) == len(listed) else {**fields, "requests": len(listed)}
