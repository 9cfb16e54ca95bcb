"""Observability: alarms to a topic, a dashboard, and the budget."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from tidegate.infra.configuration import Stage
from tidegate.infra.configuration.operations import Observability
from tidegate.infra.observability import dashboard_plan, endpoint_alarms, of_stage, workflow_alarms
from tidegate.infra.observability.alarms import Alarms
from tidegate.infra.observability.budget import MonthlyBudget
from tidegate.infra.observability.dashboard import Dashboard
from tidegate.infra.observability.topic import AlarmTopic
from tidegate.infra.stacks.stage_stack import StageStack


class ObservabilityStack(StageStack):
    """What `[observability]` and `[budget]` of the stage ask for. It knows the other stacks by name only."""

    def __init__(self, scope: Construct, unit: str, *, stage: Stage) -> None:
        super().__init__(
            scope, unit, stage=stage, description=f"Alarms, dashboard and budget of {stage.prefix} {stage.name}"
        )
        if stage.observability is not None:
            self._watch(stage, stage.observability)
        if stage.budget is not None:
            MonthlyBudget(
                self,
                "Budget",
                name=f"{stage.prefix}-{stage.name}",
                monthly_usd=stage.budget.monthly_usd,
                tags={"project": stage.prefix, "stage": stage.name},
                email=stage.budget.email,
                actual_percent=stage.budget.actual_percent,
                forecast_percent=stage.budget.forecast_percent,
            )

    def _watch(self, stage: Stage, wanted: Observability) -> None:
        prefix = f"{stage.prefix}-{stage.name}"
        endpoint = of_stage.endpoint(stage, self.names)
        workflows = of_stage.workflows(stage, self.names, self)
        topic_arn = wanted.topic_arn or self._topic(self.names.alarm_topic, wanted.email)
        alarms = Alarms(
            self,
            "Alarms",
            plan=[*endpoint_alarms.of_endpoint(endpoint, wanted.alarms), *workflow_alarms.of_workflows(workflows)],
            prefix=prefix,
            topic_arn=topic_arn,
        )
        self.output("AlarmTopicArn", topic_arn, "Where alarms go; subscribe more addresses here")
        if wanted.dashboard:
            Dashboard(
                self,
                "Dashboard",
                name=prefix,
                sections=dashboard_plan.sections(endpoint, workflows, with_series=wanted.series),
                alarm_arns=alarms.arns,
            )
            self.output("DashboardName", prefix, "In the CloudWatch console, under Dashboards")

    def _topic(self, name: str, email: str | None) -> str:
        topic = AlarmTopic(
            self,
            "Topic",
            name=name,
            email=email,
            # Nothing but messages on their way is encrypted with the key of the topic.
            removal_policy=cdk.RemovalPolicy.DESTROY,
        )
        return topic.topic.topic_arn
