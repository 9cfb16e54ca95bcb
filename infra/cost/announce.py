"""The estimate on the console: `cdk synth`, `diff` and `deploy` show what their app writes to standard error.

An annotation would be the CDK's own way, but its command line shows warnings and errors only.
"""

from __future__ import annotations

import datetime
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import aws_cdk as cdk

from tidegate.infra.configuration import ConfigurationError, Stage
from tidegate.infra.configuration.network import NewVpc
from tidegate.infra.cost import estimate, usage
from tidegate.infra.cost import prices as price_file
from tidegate.infra.hosting import update_capacity
from tidegate.infra.loopback import is_loopback
from tidegate.infra.observability import endpoint_alarms, of_stage, workflow_alarms
from tidegate.infra.observability.alarm import MetricAlarm
from tidegate.infra.stacks.interface_endpoints import interface_endpoints
from tidegate.infra.stage.names import Names


def announce(
    stack: cdk.Stack,
    stage: Stage,
    *,
    directory: Path,
    today: datetime.date | None = None,
) -> None:
    """Say what a month of `stage` costs, or why nobody can say; `stack` gives names an account and a Region.

    `directory` is where the path of the prices begins, the stage file's own. Raises `ConfigurationError` for a file of
    prices that is wrong, or that is about another Region.
    """
    text = describe(
        stage,
        directory=directory,
        alarm_metrics=_alarm_metrics(stack, stage),
        interface_endpoints=_interface_endpoints(stage),
        nat_gateways=int(isinstance(stage.network, NewVpc) and stage.network.nat),
        today=today or datetime.datetime.now(tz=datetime.UTC).date(),
    )
    # The local cloud, to which the CDK is led by this variable, has no quotas.
    is_local = is_loopback(urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).netloc)
    lines = [text, *([] if is_local else map(_quota, update_capacity.needed(stage.hosting)))]
    print("\n".join(lines), file=sys.stderr)  # noqa: T201 - the command line's own output


def describe(
    stage: Stage,
    *,
    directory: Path,
    alarm_metrics: int,
    interface_endpoints: int,
    nat_gateways: int,
    today: datetime.date,
) -> str:
    """The report on `stage`, or one line where it names no prices."""
    if stage.cost is None:
        return (
            f"no cost estimate: stage {stage.name} names no prices; Tidegate's docs/cost.md says how to write them down"
        )
    path = directory / stage.cost.prices
    prices = price_file.read(path)
    if stage.region is not None and prices.region != stage.region:
        raise ConfigurationError(
            f"{path.name}: region={prices.region!r} is not the stage's, {stage.region}, and prices differ between "
            "Regions; write a file for that one"
        )
    items = usage.of_stage(
        stage, alarm_metrics=alarm_metrics, interface_endpoints=interface_endpoints, nat_gateways=nat_gateways
    )
    return estimate.text(items, prices, stage=stage.name, today=today)


def _quota(found: update_capacity.Needed) -> str:
    """What must be asked for in Service Quotas, where an account has less."""
    beside = f", and {found.beside} more while an update rolls out" if found.beside else ""
    short = f" where {found.instead_of} is short" if found.instead_of else ""
    return (
        f"quota '{found.instance_type} for endpoint usage': {found.total}, because {found.serving} may serve{short}"
        f"{beside} ({found.how})"
    )


def _interface_endpoints(stage: Stage) -> int:
    # One for each service and availability zone; with a NAT gateway there are none.
    return len(interface_endpoints(stage)) * stage.network.zone_count if isinstance(stage.network, NewVpc) else 0


def _alarm_metrics(stack: cdk.Stack, stage: Stage) -> int:
    # AWS counts the metrics that an alarm looks at, not alarms.
    if stage.observability is None:
        return 0
    names = Names(prefix=stage.prefix, stage=stage.name)
    alarms = [
        *endpoint_alarms.of_endpoint(of_stage.endpoint(stage, names), stage.observability.alarms),
        *workflow_alarms.of_workflows(of_stage.workflows(stage, names, stack)),
    ]
    return sum(len(alarm.inputs) if isinstance(alarm, MetricAlarm) else 1 for alarm in alarms)
