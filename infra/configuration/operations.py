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
    """The name of the model package group. The default is `PREFIX-STAGE`."""
    promotion: bool = False
    """On: an approval of a package of the group deploys it; needs `model.group` and `bootstrapped`."""
    email: Email | None = None
    """The address that is notified when a rollout ends."""


# A threshold of percent, of milliseconds and of a number of things; `false` in the file is None, no alarm of that kind.
_Percent = Annotated[Annotated[float, number(0, 100)] | None, OFF]
_Ms = Annotated[Annotated[int, whole(1, 3_600_000)] | None, OFF]
_Some = Annotated[Annotated[int, whole(1, 1_000_000)] | None, OFF]


class Alarms(Value):
    """Thresholds. A mode has those alarms whose metrics it has."""

    errors_5xx_percent: _Percent = 1.0
    """The percentage of requests in five minutes."""
    errors_4xx_percent: _Percent = None
    """The percentage of requests in five minutes."""
    errors_min_requests: Annotated[int, whole(1, 1_000_000)] = 20
    """With fewer requests, the percentage alarms do not fire."""
    model_p99_ms: _Ms = None
    """p99 of the model's latency."""
    model_p99_percent_of_deadline: _Percent = 80.0
    """If `model_p99_ms` is not set: p99 of the model's latency, as a percentage of the time that platform and server
    allow.
    """
    overhead_average_ms: _Ms = 1000
    """The platform's overhead, for which AWS publishes no percentiles."""
    memory_percent: _Percent = 90.0
    """Memory of an instance or a copy."""
    gpu_memory_percent: _Percent = 95.0
    """Memory of the GPUs."""
    disk_percent: _Percent = 85.0
    """The volume of the model."""
    no_capacity_minutes: Annotated[Annotated[int, whole(1, 1440)] | None, OFF] = 15
    """Requests need an instance, and none serves."""
    backlog: _Some = None
    """async: the number of waiting requests."""
    backlog_age_s: Annotated[Annotated[int, whole(1, 86_400)] | None, OFF] = 3600
    """async: how long the oldest request has waited."""
    failed_invocations: _Some = 1
    """async: failed requests in five minutes."""
    concurrency_percent: _Percent = 90.0
    """serverless: concurrency as a percentage of `max_concurrency`."""
    worker_restarts: Annotated[Annotated[int, whole(1, 1000)] | None, OFF] = None
    """From the server's own metrics, in ten minutes."""
    failed_loads: Annotated[Annotated[int, whole(1, 1000)] | None, OFF] = None
    """The same, for versions in `model.repository`."""


class Observability(Value):
    """Alarms to one SNS topic, and a dashboard."""

    topic_arn: (
        Annotated[
            str,
            like(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]{1,256}", "not the ARN of an SNS topic"),
        ]
        | None
    ) = None
    """The topic that receives the alarms. By default the stack creates one."""
    email: Email | None = None
    """An address that is subscribed to the stack's topic."""
    dashboard: bool = True
    """Creates a CloudWatch dashboard."""
    series: bool = True
    """Shows the server's Prometheus metrics on the dashboard, in modes that are scraped."""
    alarms: Alarms = Field(default_factory=Alarms)
    """Thresholds; table below. `false` disables an alarm."""


class Budget(Value):
    """What a stage may cost; counted by its tags `project` and `stage`."""

    monthly_usd: Annotated[float, number(1, 10_000_000)]
    """The limit for the costs with the tags `project` and `stage`."""
    email: Email
    """The address that is notified."""
    actual_percent: Annotated[tuple[Annotated[int, whole(1, 1000)], ...], LISTED] = (80,)
    """A list of thresholds for the actual costs."""
    forecast_percent: Annotated[tuple[Annotated[int, whole(1, 1000)], ...], LISTED] = (100,)
    """A list of thresholds for the forecast costs."""


class Cost(Value):
    """The monthly estimate at synthesis."""

    prices: str
    """A file of prices, relative to the stage file's directory; [cost.md](cost.md) describes the format."""
    requests_per_month: Annotated[int, whole(0, 10**12)] | None = None
    """For modes that are charged by use. Without it, the estimate is per million requests."""
    seconds_per_request: Annotated[float, number(0.001, 3600)] | None = None
    """For modes that are charged by use."""


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
    """Buckets, key, repository and model package group survive `cdk destroy` and replacement, and their stacks are
    protected from deletion. If the creation of a stack fails, they are deleted, so that their names are free for the
    next deploy.
    """
    old_versions_days: Days = 90
    """How long an overwritten or deleted object can be restored."""
    batch_output_days: Days = 90
    """Results of transform jobs, and the files that `tidegate batch submit` uploaded for them."""
    async_output_days: Days = 30
    """Responses of an asynchronous endpoint, and the request bodies below `async/input/`."""
    captures_days: Days = 90
    """Captured requests."""
    access_logs_days: Days = 365
    """Access logs of the buckets."""
    logs_days: Annotated[LogDays | None, OFF] = 90
    """Container logs, in log groups that the stack creates; a value that CloudWatch allows. `false`: SageMaker creates
    the groups and keeps all logs.
    """
    transform_logs_days: LogDays | None = None
    """Logs of transform jobs. Their group `/aws/sagemaker/TransformJobs` is shared by the account and Region, so only
    one stage may set this key.
    """
    images: Annotated[int, whole(2, 10_000)] = 100
    """How many of the newest images the registry keeps. An image in use must be among them, or the endpoint cannot
    start another instance.
    """
