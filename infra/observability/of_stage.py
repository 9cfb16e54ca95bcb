"""What is watched, read from a stage."""

from __future__ import annotations

import aws_cdk as cdk

from tidegate.inference import settings
from tidegate.infra.configuration.hosting import AsyncHosting, ServerlessHosting
from tidegate.infra.configuration.stage import Stage
from tidegate.infra.hosting import modes
from tidegate.infra.hosting.plan import EndpointPlan
from tidegate.infra.models.container_environment import container_environment
from tidegate.infra.observability.watched import WatchedEndpoint, WatchedStateMachine, WatchedVariant, WatchedWorkflows
from tidegate.infra.stage.names import Names

# How long SageMaker waits for the container. Source: API reference, InvokeEndpoint and InvokeEndpointAsync
# (InvocationTimeoutSeconds, at most an hour).
_PLATFORM_DEADLINE_S = 60.0
_ASYNC_DEADLINE_S = 3600.0


def endpoint(stage: Stage, names: Names) -> WatchedEndpoint:
    """The endpoint of `stage`."""
    hosting = stage.hosting
    plan = modes.plan(hosting)
    return WatchedEndpoint(
        name=names.endpoint,
        mode=hosting.mode,
        variants=_variants(plan),
        deadline_s=_deadline_s(stage),
        component=None if plan.component is None else names.endpoint,
        repository=settings.read(container_environment(stage)).model_repository is not None,
        provisioned_concurrency=isinstance(hosting, ServerlessHosting) and hosting.provisioned_concurrency is not None,
    )


def workflows(stage: Stage, names: Names, stack: cdk.Stack) -> WatchedWorkflows:
    """The state machines and queues that `stage` has; `stack` gives their ARNs an account and a Region."""
    machines, queues = [], []
    batch = stage.batch
    if batch is not None:
        machines.append(names.batch_jobs)
        if batch.on_upload or batch.schedule is not None:
            machines.append(names.batch_intake)
            queues.append(f"{names.batch_jobs}-undelivered")
    if stage.model_registry is not None and stage.model_registry.promotion:
        machines.append(names.promotion)
        queues.append(f"{names.promotion}-undelivered")
    return WatchedWorkflows(
        state_machines=tuple(
            WatchedStateMachine(
                name=name,
                arn=stack.format_arn(
                    service="states",
                    resource="stateMachine",
                    resource_name=name,
                    arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
                ),
            )
            for name in machines
        ),
        dead_letter_queues=tuple(queues),
        schedule_group=names.batch_jobs if batch is not None and batch.schedule is not None else None,
    )


def _variants(plan: EndpointPlan) -> tuple[WatchedVariant, ...]:
    without_gpus = plan.component is not None and not plan.component.copies.gpus
    return tuple(
        WatchedVariant(
            name=variant.name,
            gpus=0 if variant.instances is None or without_gpus else variant.instances.gpus,
        )
        for variant in plan.variants
    )


def _deadline_s(stage: Stage) -> float:
    """The shorter of what the platform and what the server allow for an answer."""
    platform_s = _ASYNC_DEADLINE_S if isinstance(stage.hosting, AsyncHosting) else _PLATFORM_DEADLINE_S
    return min(platform_s, settings.read(container_environment(stage)).timeout_s)
