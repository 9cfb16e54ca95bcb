"""`[batch]`: transform jobs that start by themselves."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from tidegate.infra.configuration.schedule import Expression, TimeZone
from tidegate.infra.configuration.table import Table
from tidegate.infra.configuration.value import Email, InstanceType, Rule, Value, like, whole

_MediaType = Annotated[
    str, like(r"[A-Za-z0-9_.+-]+/[A-Za-z0-9_.+-]+(;.*)?", "not a media type; write one like 'text/csv'")
]
_Ending = Annotated[str, like(r"[A-Za-z0-9]+", "not the ending of a file's name; write one like 'jsonl'")]
# What the service takes as a filter: a part of JSONPath. Over CSV, whose rows have no names, only numbers count; which
# files are CSV shows at run time. Sources: "Associate Prediction Results with Input Records", the table of operators;
# API reference, DataProcessing (at most 63 characters).
_NAME, _NUMBER = r"'[A-Za-z0-9 -]+'", r"-?[0-9]+"
_INSIDE = rf"{_NAME}( *, *{_NAME})*|{_NUMBER}( *, *{_NUMBER})*|{_NUMBER} *: *({_NUMBER})?|: *{_NUMBER}"
_RANGE = re.compile(rf"\[ *({_NUMBER})? *: *({_NUMBER}) *\]")


def _has_no_empty_range(path: str) -> bool:
    """Whether each range may have something in it: not `[5:3]`, `[-1:-2]` or `[:0]`."""
    for start, end in _RANGE.findall(path):
        same_side = start and (int(start) < 0) == (int(end) < 0)
        if int(end) == 0 or (same_side and int(start) >= int(end)):
            return False
    return True


_Filter = Annotated[
    str,
    like(
        rf"(?=.{{1,63}}$)\$(\.?\[\*\]|\.(\*|[A-Za-z0-9-]+)|\.(?=\[ *')|\[ *({_INSIDE}) *\])*",
        "not a filter of SageMaker; write one like '$[1:]' for CSV, or '$.features' for JSON Lines",
    ),
    AfterValidator(
        Rule(_has_no_empty_range, "empty whatever the record is; a range ends before its second number, as in '$[3:5]'")
    ),
]


class Batch(Value):
    """How a transform job is made, whatever starts it. Ranges: API reference, CreateTransformJob."""

    on_upload: bool = False
    """Transform each object uploaded below `batch/input/` at once."""
    schedule: Expression | None = None
    """An expression of EventBridge Scheduler: `rate(1 day)`, `cron(0 3 * * ? *)` or `at(…)`."""
    schedule_timezone: TimeZone = "UTC"
    """The time zone of the schedule."""
    schedule_input: (
        Annotated[
            str,
            like(
                r"batch/input/([A-Za-z0-9!_.*'(){}-]+/)+",
                "not below batch/input/; write one like 'batch/input/{date}/'",
            ),
        ]
        | None
    ) = None
    """The input of a scheduled job, such as `batch/input/{date}/`."""
    instance_type: InstanceType = "ml.m5.2xlarge"
    """An instance type from SageMaker's list for transform jobs. Their hosts have an older NVIDIA driver than
    endpoints.
    """
    instance_count: Annotated[int, whole(1, 100)] = 1
    """The number of instances of each job."""
    retries: Annotated[int, whole(0, 9)] = 2
    """How often a failed job is retried."""
    max_payload_mib: Annotated[int, whole(0, 100)] | None = None
    """The maximum payload; 0: no limit, sent in chunks. Without it, the container's own value applies."""
    max_concurrent: Annotated[int, whole(1, 10_000)] | None = None
    """The maximum number of parallel requests per instance. Without it, the container's own value applies."""
    join_source: Annotated[str, like(r"Input|None", "neither 'Input' nor 'None'")] = "None"
    """`Input`: write each result beside its record: [batch.md](batch.md#answers-beside-their-records)."""
    input_filter: _Filter = "$"
    """The part of each record that the model receives, such as `$[1:]`."""
    output_filter: _Filter = "$"
    """The part of each record and its result that is written, such as `$[0,-1]`."""
    default_content_type: _MediaType = "application/jsonlines"
    """The type of objects whose file extension is unknown, and of everything below `schedule_input`."""
    content_types: dict[_Ending, _MediaType] = Field(default_factory=dict)
    """Content types by file extension, in addition to the known ones."""
    email: Email | None = None
    """The address that is notified when a job ends."""
    table: Table | None = None
    """Results of jobs as a table, which `tidegate batch table` fills; table below."""
