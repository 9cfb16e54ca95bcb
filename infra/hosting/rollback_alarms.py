"""The alarms that send a new version back while it is rolled out, and tell the operators afterwards.

They belong to the endpoint and not to the observability stack, because the endpoint's deployment configuration names
them: they must exist, and look at the new configuration, before a roll-out begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from tidegate.infra.configuration.rollout import Rollback
from tidegate.infra.hosting import instance_types, timeouts
from tidegate.infra.hosting.variant_plans import VariantPlan

_INVOCATIONS = "AWS/SageMaker"
_INSTANCES = "/aws/sagemaker/Endpoints"
_COPIES = "/aws/sagemaker/InferenceComponents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric of one variant or component. Divided by `unit` it is in the unit of the threshold."""

    namespace: str
    metric: str
    # CloudWatch's name: Average, Maximum, p99.
    statistic: str
    dimensions: dict[str, str]
    unit: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is looked at. Empty `gpu_memory`: there is no GPU."""

    errors: Sequence[Series]
    latency: Sequence[Series]
    gpu_memory: Sequence[Series]


def watch_variants(endpoint_name: str, config_name: str, variants: Sequence[VariantPlan]) -> Watched:
    """Variants of an endpoint.

    With the configuration's name as a dimension only the new fleet counts: a version that answers with errors can be
    replaced, although it fills the alarm of the endpoint as a whole. Source: SageMaker guide, auto-rollback
    configuration, monitor the new fleet. The instances' own metrics have no such dimension.
    """
    fleets = [
        {"EndpointName": endpoint_name, "VariantName": variant.name, "EndpointConfigName": config_name}
        for variant in variants
    ]
    return Watched(
        errors=[_errors(fleet) for fleet in fleets],
        latency=[_latency(fleet) for fleet in fleets],
        gpu_memory=[
            # Percent of one GPU, summed over all of the instance.
            Series(
                namespace=_INSTANCES,
                metric="GPUMemoryUtilization",
                statistic="Maximum",
                dimensions={"EndpointName": endpoint_name, "VariantName": variant.name},
                unit=instance_types.gpu_count(variant.instance_type),
            )
            for variant in variants
            if instance_types.has_gpu(variant.instance_type)
        ],
    )


def watch_component(component_name: str, *, gpu: bool) -> Watched:
    """An inference component: old and new copies together, since nothing in its metrics tells them apart."""
    component = {"InferenceComponentName": component_name}
    memory = Series(
        namespace=_COPIES, metric="GPUMemoryUtilizationNormalized", statistic="Maximum", dimensions=component
    )
    return Watched(errors=[_errors(component)], latency=[_latency(component)], gpu_memory=[memory] if gpu else [])


def _errors(dimensions: dict[str, str]) -> Series:
    # Each request is a 0 or a 1, so the average is the share.
    return Series(
        namespace=_INVOCATIONS,
        metric="Invocation5XXErrors",
        statistic="Average",
        dimensions=dimensions,
        unit=0.01,
    )


def _latency(dimensions: dict[str, str]) -> Series:
    # Published in microseconds.
    return Series(namespace=_INVOCATIONS, metric="ModelLatency", statistic="p99", dimensions=dimensions, unit=1000.0)


class RollbackAlarms(Construct):
    """At most one alarm of each kind, whatever the number of variants: SageMaker takes ten for a roll-out."""

    def __init__(
        self, scope: Construct, id_: str, *, prefix: str, watched: Watched, rollback: Rollback, topic_arn: str | None
    ) -> None:
        super().__init__(scope, id_)
        self._prefix = prefix
        self._topic_arn = topic_arn
        self.alarms: list[cloudwatch.CfnAlarm] = []
        self._add("5xx", watched.errors, rollback.max_5xx_percent, "Percent of the requests answered with 5xx")
        self._add("latency", watched.latency, rollback.max_p99_ms, "99th percentile of the model's latency, in ms")
        self._add("gpu-memory", watched.gpu_memory, rollback.max_gpu_memory_percent, "Percent of the GPU memory in use")

    @property
    def names(self) -> list[str]:
        """The names that a deployment configuration carries."""
        return [str(alarm.alarm_name) for alarm in self.alarms]

    @property
    def arns(self) -> tuple[str, ...]:
        """What the execution role must be able to describe, from the names, so that the role can be made first."""
        stack = cdk.Stack.of(self)
        return tuple(
            stack.format_arn(
                service="cloudwatch",
                resource="alarm",
                resource_name=name,
                arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
            )
            for name in self.names
        )

    def _add(self, kind: str, series: Sequence[Series], threshold: float | None, description: str) -> None:
        if threshold is None or not series:
            return
        if len(series) == 1:
            (only,) = series
            # Through text, so that 1 percent is 0.01 and not 0.010000000000000002.
            measured: dict[str, Any] = _one(only) | {"threshold": float(f"{threshold * only.unit:.9g}")}
        else:
            measured = {"metrics": _worst_of(series), "threshold": threshold}
        self.alarms.append(
            cloudwatch.CfnAlarm(
                self,
                kind,
                alarm_name=f"{self._prefix}-rollback-{kind}",
                alarm_description=f"{description}; too much during a roll-out sends the new version back",
                comparison_operator="GreaterThanThreshold",
                evaluation_periods=timeouts.ALARM_PERIODS,
                datapoints_to_alarm=timeouts.BAD_ALARM_PERIODS,
                # No request is no error, and before the first deploy there is no metric at all.
                treat_missing_data="notBreaching",
                alarm_actions=None if self._topic_arn is None else [self._topic_arn],
                **measured,
            )
        )


def _one(series: Series) -> dict[str, Any]:
    kind = "extended_statistic" if series.statistic.startswith("p") else "statistic"
    return {
        "namespace": series.namespace,
        "metric_name": series.metric,
        "dimensions": _dimensions(series),
        "period": timeouts.ALARM_PERIOD_S,
        kind: series.statistic,
    }


def _worst_of(series: Sequence[Series]) -> list[cloudwatch.CfnAlarm.MetricDataQueryProperty]:
    """The highest of all, in the unit of the threshold; a variant without requests counts as 0."""
    queries = [
        cloudwatch.CfnAlarm.MetricDataQueryProperty(
            id=f"m{number}",
            return_data=False,
            metric_stat=cloudwatch.CfnAlarm.MetricStatProperty(
                metric=cloudwatch.CfnAlarm.MetricProperty(
                    namespace=one.namespace, metric_name=one.metric, dimensions=_dimensions(one)
                ),
                period=timeouts.ALARM_PERIOD_S,
                stat=one.statistic,
            ),
        )
        for number, one in enumerate(series)
    ]
    values = ", ".join(f"FILL(m{number}, 0) / {one.unit:g}" for number, one in enumerate(series))
    worst = cloudwatch.CfnAlarm.MetricDataQueryProperty(id="worst", expression=f"MAX([{values}])", return_data=True)
    return [*queries, worst]


def _dimensions(series: Series) -> list[cloudwatch.CfnAlarm.DimensionProperty]:
    return [cloudwatch.CfnAlarm.DimensionProperty(name=name, value=value) for name, value in series.dimensions.items()]
