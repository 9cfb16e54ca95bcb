"""How traffic moves to a new version: SageMaker's deployment guardrails.

Which mode gets what (source: SageMaker guide, deployment guardrails, exclusions):

- real-time, asynchronous, multi-model: blue/green, as the stage file says, which starts as many instances again. With
  one variant also a rolling update, which starts a batch of them at a time.
- component: copies are replaced in a rolling update of the component itself.
- serverless: nothing. SageMaker starts the new version beside the old one and moves all traffic when it answers.
- P2, P3 and Inferentia types: our image does not run there.

Old and new configuration must have variants of the same names, which is why ours are named once and for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from tidegate.infra.configuration.rollout import AllAtOnce, Canary, ComponentRollout, Linear, Rolling
from tidegate.infra.hosting import timeouts
from tidegate.infra.hosting.plan import EndpointPlan, StartTimeouts


def deployment_config(
    scope: Construct, plan: EndpointPlan, *, alarm_names: Sequence[str]
) -> sagemaker.CfnEndpoint.DeploymentConfigProperty | None:
    """The stage file's shifts or batches; None where it has none for the endpoint itself.

    A part of a fleet of one is the whole of it, and SageMaker takes at most half. With blue/green such a fleet moves
    all at once; the alarms look on through the baking time as they would through the shifts. A rolling update of it is
    refused by `validation.hosting`.
    """
    rollout = plan.rollout
    if rollout is None:
        return None
    fleets = [variant.instances for variant in plan.variants if variant.instances is not None]
    starts = fleets[0].starts
    if isinstance(rollout, Rolling):
        return sagemaker.CfnEndpoint.DeploymentConfigProperty(
            rolling_update_policy=_batches(rollout, starts), auto_rollback_configuration=_watched_by(alarm_names)
        )
    # An update keeps the count of the moment, which may be as low as the minimum. Where that is none it starts the
    # first count.
    smallest = min(fleet.least or fleet.first for fleet in fleets)
    if smallest < 2 and not isinstance(rollout, AllAtOnce):
        cdk.Annotations.of(scope).add_warning_v2(
            "tidegate:rollout-of-one-instance",
            f"hosting.rollout.strategy={rollout.strategy!r} moves a part of the instances first, and there may be only "
            "one, so all traffic moves at once; have at least two instances for it",
        )
        rollout = AllAtOnce(strategy="all_at_once", bake_s=rollout.bake_s, rollback=rollout.rollback)
    return sagemaker.CfnEndpoint.DeploymentConfigProperty(
        blue_green_update_policy=sagemaker.CfnEndpoint.BlueGreenUpdatePolicyProperty(
            traffic_routing_configuration=_shift(rollout),
            termination_wait_in_seconds=rollout.bake_s,
            maximum_execution_timeout_in_seconds=timeouts.rollout_timeout_s(
                waits_s=waits_s(rollout), download_s=starts.download_s, startup_s=starts.startup_s
            ),
        ),
        auto_rollback_configuration=_watched_by(alarm_names),
    )


def _watched_by(alarm_names: Sequence[str]) -> sagemaker.CfnEndpoint.AutoRollbackConfigProperty | None:
    if not alarm_names:
        return None
    return sagemaker.CfnEndpoint.AutoRollbackConfigProperty(
        alarms=[sagemaker.CfnEndpoint.AlarmProperty(alarm_name=name) for name in alarm_names]
    )


def _batches(rollout: Rolling, starts: StartTimeouts) -> sagemaker.CfnEndpoint.RollingUpdatePolicyProperty:
    """Batch by batch: new instances first, then as many old ones go."""
    batches = math.ceil(100 / rollout.percent)

    def part(percent: int) -> sagemaker.CfnEndpoint.CapacitySizeProperty:
        return sagemaker.CfnEndpoint.CapacitySizeProperty(type="CAPACITY_PERCENT", value=percent)

    return sagemaker.CfnEndpoint.RollingUpdatePolicyProperty(
        maximum_batch_size=part(rollout.percent),
        wait_interval_in_seconds=rollout.wait_s,
        rollback_maximum_batch_size=None if rollout.rollback_percent == 100 else part(rollout.rollback_percent),
        maximum_execution_timeout_in_seconds=timeouts.rollout_timeout_s(
            # Each batch starts after the one before, so their starts add up like waits.
            waits_s=batches * rollout.wait_s + (batches - 1) * starts.total_s,
            download_s=starts.download_s,
            startup_s=starts.startup_s,
        ),
    )


def component_deployment_config(
    rollout: ComponentRollout, *, alarm_names: Sequence[str], starts: StartTimeouts
) -> sagemaker.CfnInferenceComponent.InferenceComponentDeploymentConfigProperty:
    """Batch by batch: new copies first, then as many old ones go. A rollback is done at once, which is the default."""
    batches = math.ceil(100 / rollout.percent)
    return sagemaker.CfnInferenceComponent.InferenceComponentDeploymentConfigProperty(
        rolling_update_policy=sagemaker.CfnInferenceComponent.InferenceComponentRollingUpdatePolicyProperty(
            maximum_batch_size=sagemaker.CfnInferenceComponent.InferenceComponentCapacitySizeProperty(
                type="CAPACITY_PERCENT", value=rollout.percent
            ),
            wait_interval_in_seconds=rollout.wait_s,
            maximum_execution_timeout_in_seconds=timeouts.rollout_timeout_s(
                # Each batch starts after the one before, so their starts add up like waits.
                waits_s=batches * rollout.wait_s + (batches - 1) * starts.startup_s,
                download_s=starts.download_s,
                startup_s=starts.startup_s,
            ),
        ),
        auto_rollback_configuration=sagemaker.CfnInferenceComponent.AutoRollbackConfigurationProperty(
            alarms=[sagemaker.CfnInferenceComponent.AlarmProperty(alarm_name=name) for name in alarm_names]
        )
        if alarm_names
        else None,
    )


def waits_s(rollout: AllAtOnce | Canary | Linear) -> int:
    """What a roll-out waits on purpose, at most: after each shift, and before the old fleet goes.

    The guide does not say whether the last shift is followed by a wait of its own; too long a limit costs nothing.
    """
    if isinstance(rollout, AllAtOnce):
        return rollout.bake_s
    shifts = 2 if isinstance(rollout, Canary) else math.ceil(100 / rollout.percent)
    return shifts * rollout.wait_s + rollout.bake_s


def _shift(rollout: AllAtOnce | Canary | Linear) -> sagemaker.CfnEndpoint.TrafficRoutingConfigProperty:
    if isinstance(rollout, AllAtOnce):
        return sagemaker.CfnEndpoint.TrafficRoutingConfigProperty(type="ALL_AT_ONCE", wait_interval_in_seconds=0)
    size = sagemaker.CfnEndpoint.CapacitySizeProperty(type="CAPACITY_PERCENT", value=rollout.percent)
    if isinstance(rollout, Canary):
        return sagemaker.CfnEndpoint.TrafficRoutingConfigProperty(
            type="CANARY", canary_size=size, wait_interval_in_seconds=rollout.wait_s
        )
    return sagemaker.CfnEndpoint.TrafficRoutingConfigProperty(
        type="LINEAR", linear_step_size=size, wait_interval_in_seconds=rollout.wait_s
    )
