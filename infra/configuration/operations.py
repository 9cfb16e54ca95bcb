"""`[model_registry]`, `[observability]`, `[budget]`, `[cost]`, `[retention]`: running a stage for years."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field

from tidegate.infra.configuration.model import ENTITY
from tidegate.infra.configuration.value import LISTED, OFF, Email, Rule, Value, like, number, whole

Days = Annotated[int, whole(1, 36_500)]


class ModelRegistry(Value):
    """The stage's own model package group."""

    # None: prefix-stage.
    group: Annotated[str, like(ENTITY, "not a group's name; use letters, digits and single hyphens")] | None = None
    # On, approving a package of the group rolls it out to the stage's endpoint.
    promotion: bool = False
    # Who hears how a roll-out ended.
    email: Email | None = None


# A threshold of percent, of milliseconds and of a number of things; `false` in the file is None, no alarm of that kind.
_Percent = Annotated[Annotated[float, number(0, 100)] | None, OFF]
_Ms = Annotated[Annotated[int, whole(1, 3_600_000)] | None, OFF]
_Some = Annotated[Annotated[int, whole(1, 1_000_000)] | None, OFF]


class Alarms(Value):
    """Thresholds. A mode has those alarms whose metrics it has."""

    # Of the requests of five minutes; fewer requests than the last of the three raise no alarm by percent.
    errors_5xx_percent: _Percent = 1.0
    errors_4xx_percent: _Percent = None
    errors_min_requests: Annotated[int, whole(1, 1_000_000)] = 20
    # 99th percentile of the model's latency. None: by percent of the time that the platform and the server leave it.
    model_p99_ms: _Ms = None
    model_p99_percent_of_deadline: _Percent = 80.0
    # Of the platform itself, for which AWS publishes no percentiles.
    overhead_average_ms: _Ms = 1000
    memory_percent: _Percent = 90.0
    gpu_memory_percent: _Percent = 95.0
    disk_percent: _Percent = 85.0
    # Requests or instances are wanted, and none serves.
    no_capacity_minutes: Annotated[Annotated[int, whole(1, 1440)] | None, OFF] = 15
    # Asynchronous endpoints: requests that wait, how long the oldest has waited, failures in five minutes.
    backlog: _Some = None
    backlog_age_s: Annotated[Annotated[int, whole(1, 86_400)] | None, OFF] = 3600
    failed_invocations: _Some = 1
    # Serverless endpoints: of max_concurrency.
    concurrency_percent: _Percent = 90.0
    # The server's own series, in ten minutes.
    worker_restarts: Annotated[Annotated[int, whole(1, 1000)] | None, OFF] = None
    # The same, where the server has a model repository.
    failed_loads: Annotated[Annotated[int, whole(1, 1000)] | None, OFF] = None


class Observability(Value):
    """Alarms to one SNS topic, and a dashboard."""

    # None: a topic of the stage's own.
    topic_arn: (
        Annotated[
            str,
            like(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}", "not the ARN of an SNS topic"),
        ]
        | None
    ) = None
    email: Email | None = None
    dashboard: bool = True
    # The server's own Prometheus series on the dashboard, where the mode is scraped.
    series: bool = True
    alarms: Alarms = Field(default_factory=Alarms)


class Budget(Value):
    """What a stage may cost; counted by its tags `project` and `stage`."""

    monthly_usd: Annotated[float, number(1, 10_000_000)]
    email: Email
    # Of the month's sum: spent, and forecast.
    actual_percent: Annotated[tuple[Annotated[int, whole(1, 1000)], ...], LISTED] = (80,)
    forecast_percent: Annotated[tuple[Annotated[int, whole(1, 1000)], ...], LISTED] = (100,)


class Cost(Value):
    """The monthly estimate at synthesis."""

    # The file with prices, by its path from the stage file's directory; docs/cost.md has its form.
    prices: str
    # For what is paid by use: requests and the seconds that one takes. None: said per million requests.
    requests_per_month: Annotated[int, whole(0, 10**12)] | None = None
    seconds_per_request: Annotated[float, number(0.001, 3600)] | None = None


# Source: API reference, CloudWatch Logs, PutRetentionPolicy.
_LOG_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
_LogDays = Annotated[
    int,
    BeforeValidator(
        Rule(
            lambda days: isinstance(days, int) and not isinstance(days, bool) and days in _LOG_DAYS,
            f"not a retention of CloudWatch; write one of {', '.join(map(str, _LOG_DAYS))}",
        )
    ),
]


class Retention(Value):
    """What outlives what."""

    # On, buckets and images stay after `cdk destroy`, and their stacks refuse to be deleted by accident.
    keep_data: bool
    old_versions_days: Days = 90
    batch_output_days: Days = 90
    # Answers of an asynchronous endpoint, and captured requests.
    async_output_days: Days = 30
    captures_days: Days = 90
    access_logs_days: Days = 365
    # What the endpoint's containers print. False: SageMaker makes the log groups, which it never deletes.
    logs_days: Annotated[_LogDays | None, OFF] = 90
    # The same of transform jobs, whose log group is one for all jobs of the account in a Region, so at most one stage
    # can make it.
    transform_logs_days: _LogDays | None = None
    # The newest images that the registry keeps. An image that an endpoint still uses must be among them, or the
    # endpoint cannot start another instance.
    images: Annotated[int, whole(2, 10_000)] = 100
