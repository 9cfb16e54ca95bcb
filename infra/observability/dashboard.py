"""The dashboard as a resource."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from tidegate.infra.observability.dashboard_body import body
from tidegate.infra.observability.dashboard_plan import Section


class Dashboard(Construct):
    """Alarms on top, then the sections of a plan."""

    def __init__(
        self, scope: Construct, id_: str, *, name: str, sections: Iterable[Section], alarm_arns: Sequence[str]
    ) -> None:
        super().__init__(scope, id_)
        stack = cdk.Stack.of(self)
        content = body(sections, alarm_arns=alarm_arns, region=stack.region)
        cloudwatch.CfnDashboard(self, "Dashboard", dashboard_name=name, dashboard_body=stack.to_json_string(content))
