"""What a stage takes that is paid for: quantities only, in the units of the prices."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from tidegate.infra.configuration.hosting import RealtimeHosting, ServerlessHosting
from tidegate.infra.configuration.operations import Cost
from tidegate.infra.configuration.stage import Stage
from tidegate.infra.cost.estimate import HOURS_IN_A_MONTH, Item, Per
from tidegate.infra.hosting import modes

_MILLION = Decimal(1_000_000)
_SECONDS_IN_A_MONTH = HOURS_IN_A_MONTH * 3600
_MIB_IN_A_GIB = Decimal(1024)


def of_stage(
    stage: Stage, *, alarm_metrics: int = 0, interface_endpoints: int = 0, nat_gateways: int = 0
) -> list[Item]:
    """Everything of `stage` that has a price by the hour, the request or the month.

    The three numbers are counted by who makes the resources: metrics that alarms look at, interface endpoints (one for
    each service and availability zone), and NAT gateways.
    """
    return [
        *_of_hosting(stage),
        *_of_api(stage),
        *_of_batch(stage),
        *_of_the_rest(stage, alarm_metrics, interface_endpoints, nat_gateways),
    ]


def _of_hosting(stage: Stage) -> Iterator[Item]:
    hosting = stage.hosting
    if isinstance(hosting, ServerlessHosting):
        yield from _of_serverless(hosting, stage.cost)
        return
    plan = modes.plan(hosting)
    table = "async_hour" if plan.results else "endpoint_hour"
    for variant in plan.all_variants:
        if (fleet := variant.instances) is not None:
            kind = "shadow" if variant is plan.shadow else "variant"
            what = "instances" if fleet.managed else f"{kind} {variant.name}"
            if fleet.reservation is not None:
                many = f"{what}: {fleet.most} x {fleet.instance_type}, paid with their reservation"
                yield _item(many, table, fleet.instance_type, 0)
                continue
            yield _instances(what, fleet.instance_type, fleet.least, fleet.most, table=table)
            for other in fleet.fallbacks:
                yield _instances(what, other, fleet.least, fleet.most, table=table, per="month of another type")
    if isinstance(hosting, RealtimeHosting) and (monitor := hosting.monitor) is not None:
        count = Decimal(monitor.instance_count)
        yield Item(
            what=f"monitor: {count} x {monitor.instance_type}",
            table="processing_hour",
            price=monitor.instance_type,
            low=count,
            high=count,
            per="hour of a job",
        )


def _instances(what: str, instance_type: str, low: int, high: int, *, table: str, per: Per = "month") -> Item:
    many = f"{low}" if low == high else f"{low} to {high}"
    low_hours, high_hours = low * HOURS_IN_A_MONTH, high * HOURS_IN_A_MONTH
    return _item(f"{what}: {many} x {instance_type}", table, instance_type, low_hours, high_hours, per=per)


def _of_serverless(hosting: ServerlessHosting, cost: Cost | None) -> Iterator[Item]:
    gib = hosting.memory_mib / _MIB_IN_A_GIB
    seconds = cost.seconds_per_request if cost else None
    requests = cost.requests_per_month if cost else None
    # Without an assumption of how long a request takes, that of one second is easy to multiply.
    each = Decimal(str(seconds or 1)) * gib
    what = f"requests of {seconds:g} s" if seconds else "requests, for each second that one takes,"
    if requests is not None and seconds is not None:
        yield _item(f"{requests:,} {what} in {gib:g} GB", "serverless", "gb_second", requests * each)
    else:
        yield _item(f"{what} in {gib:g} GB", "serverless", "gb_second", _MILLION * each, per="million requests")
    if (warm := hosting.provisioned_concurrency) is not None:
        gb_seconds = warm * gib * _SECONDS_IN_A_MONTH
        yield _item(f"kept warm: {warm} x {gib:g} GB", "serverless", "provisioned_gb_second", gb_seconds)


def _of_api(stage: Stage) -> Iterator[Item]:
    if stage.api is None:
        return
    if stage.cost is not None and (requests := stage.cost.requests_per_month) is not None:
        yield _item(f"API: {requests:,} requests", "api", "million_requests", requests / _MILLION)
    else:
        yield _item("requests through the API", "api", "million_requests", 1, per="million requests")


def _of_batch(stage: Stage) -> Iterator[Item]:
    if (batch := stage.batch) is not None:
        what = f"{batch.instance_count} x {batch.instance_type}"
        yield _item(what, "transform_hour", batch.instance_type, batch.instance_count, per="hour of a job")
        if batch.table is not None and batch.table.athena:
            yield _item("Athena", "athena", "scanned_tb", 1, per="TB read by queries")


def _of_the_rest(stage: Stage, alarm_metrics: int, interface_endpoints: int, nat_gateways: int) -> Iterator[Item]:
    watched = stage.observability
    own_topic = watched is not None and watched.topic_arn is None
    keys = (stage.encryption.key == "new") + own_topic
    dashboards = watched is not None and watched.dashboard
    for what, table, price, count, times in (
        ("interface endpoints", "network", "interface_endpoint_hour", interface_endpoints, HOURS_IN_A_MONTH),
        ("NAT gateways", "network", "nat_gateway_hour", nat_gateways, HOURS_IN_A_MONTH),
        ("KMS keys", "month", "kms_key", keys, 1),
        ("metrics of alarms", "month", "alarm_metric", alarm_metrics, 1),
        ("dashboards", "month", "dashboard", int(dashboards), 1),
    ):
        if count:
            yield _item(f"{what}: {count}", table, price, count * times)


def _item(
    what: str, table: str, price: str, low: Decimal | int, high: Decimal | int | None = None, *, per: Per = "month"
) -> Item:
    """As many at the most as at the least, where no `high` is said."""
    most = low if high is None else high
    return Item(what=what, table=table, price=price, low=Decimal(low), high=Decimal(most), per=per)
