"""`[model_registry]`, `[observability]`, `[budget]`, `[cost]`, `[retention]`: running a stage for years."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from tidegate.infra.configuration.model import ENTITY
from tidegate.infra.configuration.value import LISTED, OFF, Email, Rule, Value, like, number, whole

Days = Annotated[int, whole(1, 36_500)]


class ModelRegistry(Value):
    """The stage's own model package group."""

    group: Annotated[str, like(ENTITY, "not a group's name; use letters, digits and single hyphens")] | None = None
    """Else `PREFIX-STAGE`."""
    promotion: bool = False
    """On: approving a package of the group rolls it out; needs `model.group` and `bootstrapped`."""
    email: Email | None = None
    """Who hears how a roll-out ended."""


# A threshold of percent, of milliseconds and of a number of things; `false` in the file is None, no alarm of that kind.
_Percent = Annotated[Annotated[float, number(0, 100)] | None, OFF]
_Ms = Annotated[Annotated[int, whole(1, 3_600_000)] | None, OFF]
_Some = Annotated[Annotated[int, whole(1, 1_000_000)] | None, OFF]


class Alarms(Value):
    """Thresholds. A mode has those alarms whose metrics it has."""

    errors_5xx_percent: _Percent = 1.0
    """Of the requests of five minutes."""
    errors_4xx_percent: _Percent = None
    """Of the requests of five minutes."""
    errors_min_requests: Annotated[int, whole(1, 1_000_000)] = 20
    """Fewer requests raise no alarm by percent."""
    model_p99_ms: _Ms = None
    """Latency of the model."""
    model_p99_percent_of_deadline: _Percent = 80.0
    """Where there is none: by percent of the time that platform and server leave it."""
    overhead_average_ms: _Ms = 1000
    """Of the platform, for which AWS publishes no percentiles."""
    memory_percent: _Percent = 90.0
    """Of an instance or a copy."""
    gpu_memory_percent: _Percent = 95.0
    """Of the GPUs."""
    disk_percent: _Percent = 85.0
    """Of the model's volume."""
    no_capacity_minutes: Annotated[Annotated[int, whole(1, 1440)] | None, OFF] = 15
    """Wanted, and no instance serves."""
    backlog: _Some = None
    """async: requests that wait."""
    backlog_age_s: Annotated[Annotated[int, whole(1, 86_400)] | None, OFF] = 3600
    """async: how long the oldest has waited."""
    failed_invocations: _Some = 1
    """async, in five minutes."""
    concurrency_percent: _Percent = 90.0
    """serverless, of `max_concurrency`."""
    worker_restarts: Annotated[Annotated[int, whole(1, 1000)] | None, OFF] = None
    """The server's own series, in ten minutes."""
    failed_loads: Annotated[Annotated[int, whole(1, 1000)] | None, OFF] = None
    """The same, of versions in `model.repository`."""


class Observability(Value):
    """Alarms to one SNS topic, and a dashboard."""

    topic_arn: (
        Annotated[
            str,
            like(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}", "not the ARN of an SNS topic"),
        ]
        | None
    ) = None
    """Who hears of alarms; else a topic of the stage."""
    email: Email | None = None
    """Subscribed to the topic of the stage."""
    dashboard: bool = True
    """One of CloudWatch."""
    series: bool = True
    """The server's own Prometheus series on it, where the mode is scraped."""
    alarms: Alarms = Field(default_factory=Alarms)
    """Thresholds; table below. `false` takes an alarm away."""


class Budget(Value):
    """What a stage may cost; counted by its tags `project` and `stage`."""

    monthly_usd: Annotated[float, number(1, 10_000_000)]
    """Counted by the tags `project` and `stage`."""
    email: Email
    """Who hears of it."""
    actual_percent: Annotated[tuple[Annotated[int, whole(1, 1000)], ...], LISTED] = (80,)
    """A list; spent."""
    forecast_percent: Annotated[tuple[Annotated[int, whole(1, 1000)], ...], LISTED] = (100,)
    """A list; forecast."""


class Cost(Value):
    """The monthly estimate at synthesis."""

    prices: str
    """A file of prices, by its path from the stage file's directory; [cost.md](cost.md) has its form."""
    requests_per_month: Annotated[int, whole(0, 10**12)] | None = None
    """For what is paid by use; else said per million requests."""
    seconds_per_request: Annotated[float, number(0.001, 3600)] | None = None
    """For what is paid by use."""


# Source: API reference, CloudWatch Logs, PutRetentionPolicy.
_LOG_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
LogDays = Annotated[
    int,
    BeforeValidator(
        Rule(
            lambda days: isinstance(days, int) and not isinstance(days, bool) and days in _LOG_DAYS,
            f"not a retention of CloudWatch; write one of {', '.join(map(str, _LOG_DAYS))}",
            {"enum": list(_LOG_DAYS)},
        )
    ),
]


class Retention(Value):
    """What outlives what."""

    keep_data: bool
    """Buckets, key, repository and model package group outlive `cdk destroy` and their replacement, and their stacks
    refuse to be deleted. A creation that fails takes them away again, so that the next one finds no name taken.
    """
    old_versions_days: Days = 90
    """How long an overwritten or deleted object can be had back."""
    batch_output_days: Days = 90
    """Results of transform jobs, and what `python -m client batch submit` uploaded for them."""
    async_output_days: Days = 30
    """Results of an asynchronous endpoint, and the bodies below `async/input/`."""
    captures_days: Days = 90
    """Captured requests."""
    access_logs_days: Days = 365
    """Who asked the buckets for what."""
    logs_days: Annotated[LogDays | None, OFF] = 90
    """What containers print, in the log groups that the stage makes; one of CloudWatch's numbers, `false`: SageMaker
    makes the groups and keeps all.
    """
    transform_logs_days: LogDays | None = None
    """The same of transform jobs; their group `/aws/sagemaker/TransformJobs` is one for the account and Region, so at
    most one stage may say it.
    """
    images: Annotated[int, whole(2, 10_000)] = 100
    """The newest that the registry keeps; one that an endpoint uses must be among them, or the endpoint cannot start
    another instance.
    """
