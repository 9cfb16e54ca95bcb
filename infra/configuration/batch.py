"""`[batch]`: transform jobs that start by themselves."""

from __future__ import annotations

from typing import Annotated, Literal

from infra.configuration.hosting import DEFAULT_INSTANCE_TYPE
from infra.configuration.value import Email, InstanceType, OwnPrefix, Value, like, number, whole


class Batch(Value):
    """How a transform job is made, whatever starts it. Ranges: API reference, CreateTransformJob."""

    # An object that is put below batch/input/ is transformed at once.
    on_upload: bool = False
    # EventBridge Scheduler's own words; it then transforms everything below `schedule_prefix`.
    schedule: (
        Annotated[
            str,
            like(
                r"rate\([1-9]\d* (minutes?|hours?|days?)\)|cron\(\S+( \S+){5}\)",
                "not a schedule; write one like 'rate(1 day)' or 'cron(0 3 * * ? *)', in UTC",
            ),
        ]
        | None
    ) = None
    schedule_prefix: OwnPrefix = "batch/scheduled/"
    instance_type: InstanceType = DEFAULT_INSTANCE_TYPE
    instance_count: Annotated[int, whole(1, 100)] = 1
    content_type: Annotated[str, like(r"[\w.+-]+/[\w.+-]+(;.*)?", "not a media type; write one like 'text/csv'")] = (
        "application/json"
    )
    # How an object is cut into records; the answers are joined in the same way.
    split: Literal["none", "line", "record_io", "tf_record"] = "line"
    strategy: Literal["single_record", "multi_record"] = "multi_record"
    # 0: no limit, bodies are sent in chunks.
    max_payload_mib: Annotated[int, whole(0, 100)] = 6
    # None: what the container reports.
    max_concurrent_transforms: Annotated[int, whole(1, 10_000)] | None = None
    # For the answer to one request, and how often it is asked again.
    invocation_timeout_s: Annotated[int, whole(1, 3600)] = 600
    invocation_retries: Annotated[int, whole(0, 3)] = 3
    # Of a whole job that failed, the first wait between two, and by how much each wait is longer.
    retries: Annotated[int, whole(0, 10)] = 2
    retry_wait_s: Annotated[int, whole(1, 86_400)] = 60
    retry_backoff: Annotated[float, number(1, 10)] = 2.0
    # Who hears of jobs that ended.
    email: Email | None = None
    notify_on: Literal["failure", "always"] = "failure"
