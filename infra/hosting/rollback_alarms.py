"""The alarms that send a new version back while it is rolled out, and tell the operators afterwards.

They belong to the endpoint and not to the observability stack, because the endpoint's deployment configuration names
them: they must exist, and look at the new configuration, before a roll-out begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from constructs import Construct

from tidegate.infra.configuration.rollout import Rollback
from tidegate.infra.hosting import timeouts
from tidegate.infra.hosting.plan import EndpointPlan
from tidegate.infra.observability.alarm import MetricAlarm
from tidegate.infra.observability.alarms import render
from tidegate.infra.observability.metrics import COMPONENTS, INSTANCES, REQUESTS, MetricReference


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One metric of one variant or component. Divided by `unit` it is in the unit of the threshold."""

    metric: MetricReference
    unit: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What is looked at. Empty `gpu_memory`: there is no GPU."""

    errors: Sequence[Series]
    latency: Sequence[Series]
    gpu_memory: Sequence[Series]


def watch_variants(endpoint_name: str, config_name: str, plan: EndpointPlan) -> Watched:
    """The variants of an endpoint.

    With the configuration's name as a dimension only the new fleet counts: a version that answers with errors can be
    replaced, although it fills the alarm of the endpoint as a whole. Source: SageMaker guide, auto-rollback
    configuration, monitor the new fleet. The instances' own metrics have no such dimension.
    """
    fleets = [
        {"EndpointName": endpoint_name, "VariantName": variant.name, "EndpointConfigName": config_name}
        for variant in plan.variants
    ]
    return Watched(
        errors=[_errors(fleet) for fleet in fleets],
        latency=[_latency(fleet) for fleet in fleets],
        gpu_memory=[
            # Percent of one GPU, summed over all of the instance.
            _series(
                INSTANCES,
                "GPUMemoryUtilization",
                "Maximum",
                {"EndpointName": endpoint_name, "VariantName": variant.name},
                unit=variant.instances.gpus,
            )
            for variant in plan.variants
            if variant.instances is not None and variant.instances.gpus
        ],
    )


def watch_component(component_name: str, *, gpu: bool) -> Watched:
    """An inference component: old and new copies together, since nothing in its metrics tells them apart."""
    component = {"InferenceComponentName": component_name}
    memory = _series(COMPONENTS, "GPUMemoryUtilizationNormalized", "Maximum", component)
    return Watched(errors=[_errors(component)], latency=[_latency(component)], gpu_memory=[memory] if gpu else [])


def _errors(dimensions: dict[str, str]) -> Series:
    # Each request is a 0 or a 1, so the average is the share.
    return _series(REQUESTS, "Invocation5XXErrors", "Average", dimensions, unit=0.01)


def _latency(dimensions: dict[str, str]) -> Series:
    # Published in microseconds.
    return _series(REQUESTS, "ModelLatency", "p99", dimensions, unit=1000.0)


def _series(namespace: str, name: str, statistic: str, dimensions: dict[str, str], *, unit: float = 1.0) -> Series:
    metric = MetricReference(
        namespace=namespace,
        name=name,
        statistic=statistic,
        dimensions=dimensions,
        period_s=timeouts.ALARM_PERIOD_S,
    )
    return Series(metric=metric, unit=unit)


class RollbackAlarms(Construct):
    """At most one alarm of each kind, whatever the number of variants: SageMaker takes ten for a roll-out."""

    def __init__(
        self, scope: Construct, id_: str, *, prefix: str, watched: Watched, rollback: Rollback, topic_arn: str | None
    ) -> None:
        super().__init__(scope, id_)
        plan = [
            _alarm(kind, series, threshold, description)
            for kind, series, threshold, description in (
                ("5xx", watched.errors, rollback.max_5xx_percent, "Percent of the requests answered with 5xx"),
                ("latency", watched.latency, rollback.max_p99_ms, "99th percentile of the model's latency, in ms"),
                (
                    "gpu-memory",
                    watched.gpu_memory,
                    rollback.max_gpu_memory_percent,
                    "Percent of the GPU memory in use",
                ),
            )
            if threshold is not None and series
        ]
        # The names that a deployment configuration carries.
        self.names = [f"{prefix}-rollback-{alarm.kind}" for alarm in plan]
        actions = None if topic_arn is None else [topic_arn]
        self.alarms = [
            render(self, alarm.kind, alarm, name=name, alarm_actions=actions)
            for alarm, name in zip(plan, self.names, strict=True)
        ]

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


def _alarm(kind: str, series: Sequence[Series], threshold: float, description: str) -> MetricAlarm:
    """On one series as it is, and else on the worst of all; a variant without requests counts as 0."""
    expression = None
    if len(series) == 1:
        # Through text, so that 1 percent is 0.01 and not 0.010000000000000002.
        threshold = float(f"{threshold * series[0].unit:.9g}")
    else:
        values = ", ".join(f"FILL(m{number}, 0) / {one.unit:g}" for number, one in enumerate(series))
        expression = f"MAX([{values}])"
    return MetricAlarm(
        kind=kind,
        meaning=f"{description}; too much during a roll-out sends the new version back",
        inputs={f"m{number}": one.metric for number, one in enumerate(series)},
        expression=expression,
        comparison="GreaterThanThreshold",
        threshold=threshold,
        breaching=timeouts.BAD_ALARM_PERIODS,
        periods=timeouts.ALARM_PERIODS,
        # No request is no error, and before the first deploy there is no metric at all: missing is not breaching.
    )
