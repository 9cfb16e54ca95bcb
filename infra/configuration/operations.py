"""`[model_registry]`, `[observability]`, `[budget]`, `[cost]`, `[retention]`: running a stage for years."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from infra.configuration.model import ENTITY
from infra.configuration.value import LISTED, Email, Value, like, number, whole

Days = Annotated[int, whole(1, 36_500)]


class ModelRegistry(Value):
    """The stage's own model package group."""

    # None: prefix-stage.
    group: Annotated[str, like(ENTITY, "not a group's name; use letters, digits and single hyphens")] | None = None
    # On, approving a package of the group rolls it out to the stage's endpoint.
    promotion: bool = False
    # Who hears how a roll-out ended.
    email: Email | None = None


class Alarms(Value):
    """Thresholds; None is no alarm of that kind."""

    # Percent of the requests in five minutes.
    errors_5xx_percent: Annotated[float, number(0, 100)] | None = 1.0
    errors_4xx_percent: Annotated[float, number(0, 100)] | None = None
    # 99th percentile of the model's latency and of the platform's own overhead.
    model_p99_ms: Annotated[int, whole(1, 3_600_000)] | None = None
    overhead_p99_ms: Annotated[int, whole(1, 3_600_000)] | None = 1000
    cpu_percent: Annotated[float, number(1, 100)] | None = 90.0
    memory_percent: Annotated[float, number(1, 100)] | None = 90.0
    gpu_percent: Annotated[float, number(1, 100)] | None = None
    gpu_memory_percent: Annotated[float, number(1, 100)] | None = 95.0
    disk_percent: Annotated[float, number(1, 100)] | None = 85.0
    # Asynchronous endpoints: requests that wait, and how long the oldest has waited.
    backlog: Annotated[int, whole(1, 1_000_000)] | None = 1000
    backlog_age_s: Annotated[int, whole(1, 86_400)] | None = 3600


class Observability(Value):
    """Alarms to one SNS topic, and a dashboard."""

    email: Email | None = None
    dashboard: bool = True
    alarms: Alarms = Field(default_factory=Alarms)


class Budget(Value):
    """What a stage may cost; counted by its tags `project` and `stage`."""

    monthly_usd: Annotated[float, number(1, 10_000_000)]
    email: Email
    # Of the month's sum, spent or forecast.
    warn_at_percent: Annotated[tuple[Annotated[int, whole(1, 1000)], ...], LISTED] = (80, 100)


class Cost(Value):
    """The monthly estimate at synthesis."""

    # The file with prices, from where `cdk` is run; docs/cost.md has its form.
    prices: str
    # For what is paid by use: requests and the seconds that one takes.
    requests_per_month: Annotated[int, whole(0, 10**12)] | None = None
    seconds_per_request: Annotated[float, number(0.001, 3600)] | None = None


class Retention(Value):
    """What outlives what."""

    # On, buckets and images stay after `cdk destroy`, and their stacks refuse to be deleted by accident.
    keep_data: bool
    old_versions_days: Days = 90
    batch_output_days: Days = 90
    access_logs_days: Days = 365
    # The newest images that the registry keeps. An image that an endpoint still uses must be among them, or the
    # endpoint cannot start another instance.
    images: Annotated[int, whole(2, 10_000)] = 100
