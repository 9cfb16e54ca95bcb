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
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

INSTANCES = "sagemaker:variant:DesiredInstanceCount"
COPIES = "sagemaker:inference-component:DesiredCopyCount"

# Requests in work at once, every 10 s. It says how full an instance is whatever a request takes, on GPUs as on CPUs;
# invocations per minute would need another target for every model.
CONCURRENT_REQUESTS = "SageMakerVariantConcurrentRequestsPerModelHighResolution"
CONCURRENT_REQUESTS_PER_COPY = "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
# What the guide knows for multi-model endpoints, whose metrics come once a minute.
INVOCATIONS_PER_INSTANCE = "SageMakerVariantInvocationsPerInstance"


class Capacity(Construct):
    """How many instances or copies there are, between `minimum` and `maximum`.

    Target tracking goes both ways, but not up from zero, where a metric per instance has no value; `wake` does that.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        of: str,
        dimension: str,
        minimum: int,
        maximum: int,
        after: cdk.CfnResource,
        out_cooldown_s: int,
        in_cooldown_s: int,
    ) -> None:
        """`of` is the resource as Application Auto Scaling writes it, `endpoint/NAME/variant/NAME`."""
        super().__init__(scope, id_)
        self._of = of
        self._cooldowns: dict[str, Any] = {"scale_out_cooldown": out_cooldown_s, "scale_in_cooldown": in_cooldown_s}
        self._target = scaling.CfnScalableTarget(
            self,
            "Target",
            service_namespace="sagemaker",
            resource_id=of,
            scalable_dimension=dimension,
            min_capacity=minimum,
            max_capacity=maximum,
        )
        self._target.add_resource_dependency(after)

    def track(self, metric: str, *, target: float) -> None:
        """Keep one of Application Auto Scaling's own metrics at `target`."""
        self._track(
            predefined_metric_specification=scaling.CfnScalingPolicy.PredefinedMetricSpecificationProperty(
                predefined_metric_type=metric
            ),
            target_value=target,
        )

    def track_endpoint(self, metric: str, *, endpoint_name: str, target: float) -> None:
        """Keep a metric of the endpoint as a whole at `target`."""
        self._track(
            customized_metric_specification=scaling.CfnScalingPolicy.CustomizedMetricSpecificationProperty(
                namespace="AWS/SageMaker",
                metric_name=metric,
                # Not `Endpoint`: a metric with another dimension is another metric, which has no data.
                dimensions=[scaling.CfnScalingPolicy.MetricDimensionProperty(name="EndpointName", value=endpoint_name)],
                statistic="Average",
            ),
            target_value=target,
        )

    def wake(self, metric: str, *, dimension: tuple[str, str], statistic: str, start_s: int) -> None:
        """Have one more as soon as `metric` says that something waits and there is nothing to do it.

        The alarm stays on until the first has started, so the policy rests for `start_s`, the longest that a start may
        take; otherwise it would add one every minute.
        """
        policy = scaling.CfnScalingPolicy(
            self,
            "Wake",
            policy_name=f"{self._slug}-wake",
            policy_type="StepScaling",
            scaling_target_id=self._target.ref,
            step_scaling_policy_configuration=scaling.CfnScalingPolicy.StepScalingPolicyConfigurationProperty(
                adjustment_type="ChangeInCapacity",
                metric_aggregation_type="Maximum",
                cooldown=start_s,
                step_adjustments=[
                    scaling.CfnScalingPolicy.StepAdjustmentProperty(metric_interval_lower_bound=0, scaling_adjustment=1)
                ],
            ),
        )
        name, value = dimension
        cloudwatch.CfnAlarm(
            self,
            "WakeAlarm",
            alarm_name=f"{self._slug}-wake",
            alarm_description=f"Work for {self._of} while it has no capacity; starts the first",
            namespace="AWS/SageMaker",
            metric_name=metric,
            dimensions=[cloudwatch.CfnAlarm.DimensionProperty(name=name, value=value)],
            statistic=statistic,
            period=60,
            evaluation_periods=1,
            datapoints_to_alarm=1,
            threshold=1,
            comparison_operator="GreaterThanOrEqualToThreshold",
            treat_missing_data="notBreaching",
            alarm_actions=[policy.ref],
        )

    def _track(self, **what: Any) -> None:
        scaling.CfnScalingPolicy(
            self,
            "Track",
            policy_name=f"{self._slug}-track",
            policy_type="TargetTrackingScaling",
            scaling_target_id=self._target.ref,
            target_tracking_scaling_policy_configuration=(
                scaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(**what, **self._cooldowns)
            ),
        )

    @property
    def _slug(self) -> str:
        # endpoint/NAME/variant/VARIANT → NAME-VARIANT; inference-component/NAME → NAME
        return "-".join(self._of.split("/")[1::2])


def of_variant(endpoint_name: str, variant_name: str) -> str:
    """A variant as Application Auto Scaling writes it."""
    return f"endpoint/{endpoint_name}/variant/{variant_name}"


def of_component(component_name: str) -> str:
    """An inference component as Application Auto Scaling writes it."""
    return f"inference-component/{component_name}"
