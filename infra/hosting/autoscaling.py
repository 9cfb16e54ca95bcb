"""Instances or copies that come and go with the load, by Application Auto Scaling.

A scalable target is made after its endpoint and deleted before it. It does not stand in the way of a new model, image
or count. SageMaker refuses one update while it exists: another instance type for its variant, or no such variant any
more; and CloudFormation, which deletes only after all updates, cannot take the target away first. Such a change is two
deploys: one without `[hosting.scaling]`, which leaves the instances alone, and one with it and the new type. For the
same reason no logical name here depends on the instance type: a target that was replaced under the same physical name
would be deleted after it was made. Source: SageMaker guide, update endpoints that use auto scaling.
"""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_applicationautoscaling as scaling
from constructs import Construct

from tidegate.infra.configuration.scaling import Action, bounds
from tidegate.infra.hosting.plan import ScalingPlan, Wake
from tidegate.infra.observability.alarm import on_one
from tidegate.infra.observability.alarms import render
from tidegate.infra.observability.metrics import REQUESTS, MetricReference

_Policy = scaling.CfnScalingPolicy

INSTANCES = "sagemaker:variant:DesiredInstanceCount"
COPIES = "sagemaker:inference-component:DesiredCopyCount"


class Capacity(Construct):
    """How many instances or copies there are. See `plan.ScalingPlan`."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        # The resource as Application Auto Scaling writes it, `endpoint/NAME/variant/NAME`.
        of: str,
        dimension: str,
        plan: ScalingPlan,
        # The dimension under which metrics of work that waits are found. Not `Endpoint`: a metric with another
        # dimension is another metric, which has no data.
        waiting: tuple[str, str],
        after: cdk.CfnResource,
    ) -> None:
        super().__init__(scope, id_)
        # endpoint/NAME/variant/VARIANT → NAME-VARIANT; inference-component/NAME → NAME
        slug = "-".join(of.split("/")[1::2])
        target = scaling.CfnScalableTarget(
            self,
            "Target",
            service_namespace="sagemaker",
            resource_id=of,
            scalable_dimension=dimension,
            min_capacity=plan.least,
            max_capacity=plan.most,
            scheduled_actions=[_at(action) for action in plan.schedule] or None,
        )
        target.add_resource_dependency(after)
        _Policy(
            self,
            "Track",
            policy_name=f"{slug}-track",
            policy_type="TargetTrackingScaling",
            scaling_target_id=target.ref,
            target_tracking_scaling_policy_configuration=_Policy.TargetTrackingScalingPolicyConfigurationProperty(
                scale_out_cooldown=plan.out_cooldown_s,
                scale_in_cooldown=plan.in_cooldown_s,
                target_value=plan.target,
                **_metric(plan, waiting),
            ),
        )
        if plan.wake is not None:
            self._wake(plan.wake, of=of, slug=slug, target=target, waiting=waiting)

    def _wake(
        self, wake: Wake, *, of: str, slug: str, target: scaling.CfnScalableTarget, waiting: tuple[str, str]
    ) -> None:
        policy = _Policy(
            self,
            "Wake",
            policy_name=f"{slug}-wake",
            policy_type="StepScaling",
            scaling_target_id=target.ref,
            step_scaling_policy_configuration=_Policy.StepScalingPolicyConfigurationProperty(
                adjustment_type="ChangeInCapacity",
                metric_aggregation_type="Maximum",
                cooldown=wake.start_s,
                step_adjustments=[_Policy.StepAdjustmentProperty(metric_interval_lower_bound=0, scaling_adjustment=1)],
            ),
        )
        name, value = waiting
        alarm = on_one(
            kind="wake",
            meaning=f"Work for {of} while it has no capacity; starts the first",
            metric=MetricReference(
                namespace=REQUESTS, name=wake.metric, dimensions={name: value}, statistic=wake.statistic
            ),
            comparison="GreaterThanOrEqualToThreshold",
            threshold=1,
        )
        render(self, "WakeAlarm", alarm, name=f"{slug}-wake", alarm_actions=[policy.ref])


def _at(action: Action) -> scaling.CfnScalableTarget.ScheduledActionProperty:
    """Other bounds from a moment on; what is outside of them then comes or goes at once."""
    low, high = bounds(action)
    return scaling.CfnScalableTarget.ScheduledActionProperty(
        scheduled_action_name=action.name,
        schedule=action.when,
        timezone=action.timezone,
        scalable_target_action=scaling.CfnScalableTarget.ScalableTargetActionProperty(
            min_capacity=low, max_capacity=high
        ),
    )


def _metric(plan: ScalingPlan, waiting: tuple[str, str]) -> dict[str, Any]:
    if not plan.of_endpoint:
        predefined = _Policy.PredefinedMetricSpecificationProperty(predefined_metric_type=plan.metric)
        return {"predefined_metric_specification": predefined}
    name, value = waiting
    return {
        "customized_metric_specification": _Policy.CustomizedMetricSpecificationProperty(
            namespace=REQUESTS,
            metric_name=plan.metric,
            dimensions=[_Policy.MetricDimensionProperty(name=name, value=value)],
            statistic="Average",
        )
    }


def of_variant(endpoint_name: str, variant_name: str) -> str:
    """A variant as Application Auto Scaling writes it."""
    return f"endpoint/{endpoint_name}/variant/{variant_name}"


def of_component(component_name: str) -> str:
    """An inference component as Application Auto Scaling writes it."""
    return f"inference-component/{component_name}"
