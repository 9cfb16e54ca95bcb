"""Alarms as resources."""

from __future__ import annotations

from collections.abc import Iterable

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from tidegate.infra.observability.alarm import Alarm, MetricAlarm, SeriesAlarm
from tidegate.infra.observability.metrics import MetricReference


class Alarms(Construct):
    """Each alarm of a plan, under `prefix` and its kind; says so when it begins and when it is over."""

    def __init__(self, scope: Construct, id_: str, *, plan: Iterable[Alarm], prefix: str, topic_arn: str) -> None:
        super().__init__(scope, id_)
        self.arns: list[str] = []
        for alarm in plan:
            name = alarm.kind if alarm.kind.startswith(prefix) else f"{prefix}-{alarm.kind}"
            # By name and not by reference, so that the dashboard can be made where an alarm is not known.
            self.arns.append(
                cdk.Stack.of(self).format_arn(
                    service="cloudwatch",
                    resource="alarm",
                    resource_name=name,
                    arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
                )
            )
            if isinstance(alarm, MetricAlarm):
                render(self, _id(alarm.kind), alarm, name=name, alarm_actions=[topic_arn], ok_actions=[topic_arn])
            else:
                self._add_of_series(alarm, name, topic_arn)

    def _add_of_series(self, alarm: SeriesAlarm, name: str, topic_arn: str) -> None:
        cloudwatch.CfnAlarm(
            self,
            _id(alarm.kind),
            alarm_name=name,
            alarm_description=alarm.meaning,
            evaluation_criteria=cloudwatch.CfnAlarm.EvaluationCriteriaProperty(
                prom_ql_criteria=cloudwatch.CfnAlarm.AlarmPromQLCriteriaProperty(
                    query=alarm.promql, pending_period=0, recovery_period=300
                )
            ),
            evaluation_interval=60,
            alarm_actions=[topic_arn],
            ok_actions=[topic_arn],
        )


def render(
    scope: Construct,
    id_: str,
    alarm: MetricAlarm,
    *,
    name: str,
    alarm_actions: list[str] | None,
    ok_actions: list[str] | None = None,
) -> cloudwatch.CfnAlarm:
    """An alarm on metrics.

    L1, because the L2 puts its resource one level deeper. Under another logical id CloudFormation would make an alarm
    of the same name before it removes the old one, and refuses that.
    """
    single = next(iter(alarm.inputs.values())) if alarm.expression is None else None
    return cloudwatch.CfnAlarm(
        scope,
        id_,
        alarm_name=name,
        alarm_description=alarm.meaning,
        comparison_operator=alarm.comparison,
        threshold=alarm.threshold,
        datapoints_to_alarm=alarm.breaching,
        evaluation_periods=alarm.periods,
        treat_missing_data=alarm.missing,
        # Percentiles are compared however few requests there are (the default): to ignore small samples would mean
        # fewer than a thousand in a minute for a p99, and most endpoints would never be looked at.
        alarm_actions=alarm_actions,
        ok_actions=ok_actions,
        metrics=None if single else [*_inputs(alarm), _result(alarm)],
        **(_single(single) if single else {}),  # type: ignore[arg-type]  # keywords of CfnAlarm
    )


def _single(metric: MetricReference) -> dict[str, object]:
    percentile = metric.statistic.startswith("p")
    return {
        "namespace": metric.namespace,
        "metric_name": metric.name,
        "dimensions": _dimensions(metric),
        "period": metric.period_s,
        "extended_statistic" if percentile else "statistic": metric.statistic,
    }


def _inputs(alarm: MetricAlarm) -> list[cloudwatch.CfnAlarm.MetricDataQueryProperty]:
    return [
        cloudwatch.CfnAlarm.MetricDataQueryProperty(
            id=key,
            return_data=False,
            metric_stat=cloudwatch.CfnAlarm.MetricStatProperty(
                metric=cloudwatch.CfnAlarm.MetricProperty(
                    namespace=metric.namespace,
                    metric_name=metric.name,
                    dimensions=_dimensions(metric),
                ),
                period=metric.period_s,
                stat=metric.statistic,
            ),
        )
        for key, metric in alarm.inputs.items()
    ]


def _result(alarm: MetricAlarm) -> cloudwatch.CfnAlarm.MetricDataQueryProperty:
    return cloudwatch.CfnAlarm.MetricDataQueryProperty(
        id="result", label=alarm.kind, expression=alarm.expression, return_data=True
    )


def _dimensions(metric: MetricReference) -> list[cloudwatch.CfnAlarm.DimensionProperty]:
    return [cloudwatch.CfnAlarm.DimensionProperty(name=name, value=value) for name, value in metric.dimensions.items()]


def _id(kind: str) -> str:
    return "".join(part.capitalize() for part in kind.split("-"))
