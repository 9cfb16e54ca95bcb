"""What Application Auto Scaling refuses of SageMaker's targets beyond botocore's model.

Sources: RegisterScalableTarget, PutScalingPolicy, PutScheduledAction and StepAdjustment in the API reference; the
sentences are the service's own where people have reported them (docs/local-cloud/errors.md).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError
from moto.applicationautoscaling.models import ApplicationAutoscalingBackend

from tidegate.local_cloud.request_gate import Refusal
from tidegate.local_cloud.scaling.tracking_alarms import COPIES, INSTANCES, PREDEFINED, PROVISIONED
from tidegate.local_cloud.schedules.expressions import ScheduleError, parse

Json = dict[str, Any]
_RESOURCES = {
    INSTANCES: ("endpoint", "variant"),
    PROVISIONED: ("endpoint", "variant"),
    COPIES: ("inference-component",),
}
_CONFIGURATIONS = {
    "StepScaling": "StepScalingPolicyConfiguration",
    "TargetTrackingScaling": "TargetTrackingScalingPolicyConfiguration",
}
_LARGEST_TARGET = 2.0**360
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """Checks requests about targets of SageMaker's; those of other services are moto's alone."""

    backend: ApplicationAutoscalingBackend
    make_client: Callable[[str], Any]

    def __call__(self, operation: str, request: Json) -> None:
        """Raises :class:`.Refusal`."""
        if request.get("ServiceNamespace") != "sagemaker":
            return
        match operation:
            case "RegisterScalableTarget":
                self._check_target(request)
            case "PutScalingPolicy":
                self._demand_target(request)
                self._check_policy(request)
            case "PutScheduledAction":
                self._demand_target(request)
                self._check_action(request)
            case "DeleteScheduledAction":
                self._demand_action(request)

    def _check_target(self, request: Json) -> None:
        resource, dimension = request["ResourceId"], request["ScalableDimension"]
        words = resource.split("/")
        if dimension not in _RESOURCES or tuple(words[::2]) != _RESOURCES[dimension] or len(words) % 2:
            raise Refusal("Unsupported service namespace, resource type or scalable dimension")
        there = self._target(request)
        least = request.get("MinCapacity", there.min_capacity if there is not None else None)
        most = request.get("MaxCapacity", there.max_capacity if there is not None else None)
        if least is None or most is None:
            raise Refusal("A new scalable target needs MinCapacity and MaxCapacity.")
        _check_bounds(least, most)
        if there is None:
            self._demand_resource(words)

    def _demand_resource(self, words: list[str]) -> None:
        """The endpoint and its variant, or the component, must be there."""
        sagemaker = self.make_client("sagemaker")
        try:
            if words[0] != "endpoint":
                sagemaker.describe_inference_component(InferenceComponentName=words[1])
                return
            described = sagemaker.describe_endpoint(EndpointName=words[1])
        except ClientError as error:
            raise Refusal(error.response["Error"]["Message"]) from error
        if words[3] not in [each["VariantName"] for each in described.get("ProductionVariants", [])]:
            raise Refusal(f'Could not find variant "{words[3]}" for endpoint "{described["EndpointArn"]}".')

    def _check_policy(self, request: Json) -> None:
        kind = request.get("PolicyType")
        before = self.backend.policies.get(_key(request))
        if kind is None and before is not None:
            kind = before.policy_type
        if kind is None:
            raise Refusal("PolicyType must be specified for a new policy")
        if kind not in _CONFIGURATIONS:
            raise Refusal(f"The local cloud does not have policies of the type {kind} for SageMaker's targets.")
        config = request.get(_CONFIGURATIONS[kind])
        if config is None:
            raise Refusal(f"{kind} policy configuration must be specified")
        for other, member in _CONFIGURATIONS.items():
            if other != kind and member in request:
                raise Refusal(f"{member} is of policies of the type {other}, and this one is {kind}.")
        if kind == "StepScaling":
            _check_steps(config)
        else:
            _check_tracking(config, request["ScalableDimension"])

    def _check_action(self, request: Json) -> None:
        new = not any(self._is_action(each, request) for each in self.backend.scheduled_actions)
        expression, zone = request.get("Schedule"), request.get("Timezone")
        if new and expression is None:
            raise Refusal("Schedule must be set")
        try:
            parse(expression or "rate(1 day)", timezone=zone, since=_ANY_TIME)
        except ScheduleError as error:
            if "time zone" in str(error):
                raise Refusal(f"Invalid timezone {zone}") from error
            raise Refusal("Invalid schedule expression") from error
        begin, end = request.get("StartTime"), request.get("EndTime")
        if begin is not None and end is not None and begin >= end:
            raise Refusal("StartTime must be before EndTime")
        bounds = request.get("ScalableTargetAction")
        if bounds is None:
            if new:
                raise Refusal("ScalableTargetAction must be set")
            return
        least, most = bounds.get("MinCapacity"), bounds.get("MaxCapacity")
        if least is None and most is None:
            raise Refusal("At least one of minimum capacity and maximum capacity should be provided")
        _check_bounds(least, most)

    def _demand_action(self, request: Json) -> None:
        if not any(self._is_action(each, request) for each in self.backend.scheduled_actions):
            raise Refusal(
                f"No scheduled action found for {_place(request)}, scheduled action name:"
                f" {request['ScheduledActionName']}",
                code="ObjectNotFoundException",
            )

    def _demand_target(self, request: Json) -> None:
        if self._target(request) is None:
            raise Refusal(f"No scalable target registered for {_place(request)}", code="ObjectNotFoundException")

    def _target(self, request: Json) -> Any:
        return self.backend.targets.get(request["ScalableDimension"], {}).get(request["ResourceId"])

    def _is_action(self, action: Any, request: Json) -> bool:
        names = ("scheduled_action_name", "resource_id", "scalable_dimension")
        wanted = ("ScheduledActionName", "ResourceId", "ScalableDimension")
        return [getattr(action, name) for name in names] == [request.get(name) for name in wanted]


def _key(request: Json) -> str:
    """As moto has its policies."""
    return "\t".join(request[name] for name in ("ServiceNamespace", "ResourceId", "ScalableDimension", "PolicyName"))


def _place(request: Json) -> str:
    return (
        f"service namespace: {request['ServiceNamespace']}, resource ID: {request['ResourceId']}, scalable dimension:"
        f" {request['ScalableDimension']}"
    )


def _check_bounds(least: int | None, most: int | None) -> None:
    if least is not None and least < 0:
        raise Refusal("Minimum capacity cannot be less than 0")
    if most is not None and most < 0:
        raise Refusal("Maximum capacity cannot be less than 0")
    if least is not None and most is not None and most < least:
        raise Refusal("Maximum capacity cannot be less than minimum capacity")


def _check_steps(config: Json) -> None:
    if "AdjustmentType" not in config:
        raise Refusal("Adjustment type must be specified")
    if not config.get("StepAdjustments"):
        raise Refusal("At least one step adjustment must be specified")
    if "MinAdjustmentMagnitude" in config and config["AdjustmentType"] != "PercentChangeInCapacity":
        raise Refusal("MinAdjustmentMagnitude needs the AdjustmentType PercentChangeInCapacity.")
    _check_not_negative(config, "Cooldown", "MinAdjustmentMagnitude")
    intervals = []
    for step in config["StepAdjustments"]:
        low = step.get("MetricIntervalLowerBound", -math.inf)
        high = step.get("MetricIntervalUpperBound", math.inf)
        if (low, high) == (-math.inf, math.inf) and len(config["StepAdjustments"]) > 1:
            raise Refusal("The upper and lower bound can't be unspecified in the same step adjustment")
        if low >= high:
            raise Refusal(f"The lower bound {low:g} of a step adjustment must be less than its upper bound {high:g}")
        intervals.append((low, high))
    _check_intervals(sorted(intervals))


def _check_intervals(intervals: list[tuple[float, float]]) -> None:
    """The rules of StepAdjustment in the API reference."""
    if sum(low == -math.inf for low, _ in intervals) > 1:
        raise Refusal("At most one step adjustment can have an unspecified lower bound")
    if sum(high == math.inf for _, high in intervals) > 1:
        raise Refusal("At most one step adjustment can have an unspecified upper bound")
    for (_, end), (begin, _) in itertools.pairwise(intervals):
        if begin < end:
            raise Refusal("Step adjustment intervals can't overlap")
        if begin > end:
            raise Refusal("Step adjustment intervals can't have a gap between them")
    lowest, highest = intervals[0][0], intervals[-1][1]
    if -math.inf < lowest < 0:
        raise Refusal(
            "There must be a step adjustment with an unspecified lower bound when one step adjustment has a negative"
            " lower bound"
        )
    if 0 < highest < math.inf:
        raise Refusal(
            "There must be a step adjustment with an unspecified upper bound when one step adjustment has a positive"
            " upper bound"
        )


def _check_tracking(config: Json, dimension: str) -> None:
    target = config["TargetValue"]
    if not 0 < target <= _LARGEST_TARGET:
        raise Refusal(f"TargetValue is {target:g}; it must be greater than 0 and at most 2^360")
    _check_not_negative(config, "ScaleOutCooldown", "ScaleInCooldown")
    predefined, custom = config.get("PredefinedMetricSpecification"), config.get("CustomizedMetricSpecification")
    if predefined is None and custom is None:
        raise Refusal(
            "PredefinedMetricSpecification or CustomizedMetricSpecification must be set for target tracking scaling."
        )
    if predefined is not None and custom is not None:
        raise Refusal("PredefinedMetricSpecification and CustomizedMetricSpecification exclude each other.")
    if predefined is not None:
        allowed = [name for name, (of_dimension, *_) in PREDEFINED.items() if of_dimension == dimension]
        if predefined["PredefinedMetricType"] not in allowed:
            raise Refusal(
                f"Scalable dimension {dimension} only supports the following predefined metric types:"
                f" {', '.join(allowed)}"
            )
        if "ResourceLabel" in predefined:
            raise Refusal("ResourceLabel is of ALBRequestCountPerTarget only.")
    elif custom is not None:
        _check_custom(custom)


def _check_custom(custom: Json) -> None:
    single = [name for name in ("MetricName", "Namespace", "Dimensions", "Statistic", "Unit") if name in custom]
    queries = custom.get("Metrics")
    if queries is None:
        if not {"MetricName", "Namespace", "Statistic"} <= set(single):
            raise Refusal("The customized metric specification is not valid.")
        return
    returned = [query for query in queries if query.get("ReturnData", True)]
    if single or not queries or len(returned) != 1:
        raise Refusal("The customized metric specification is not valid.")
    if _repeats(query["Id"] for query in queries):
        raise Refusal("The customized metric specification is not valid.")


def _repeats(names: Iterable[str]) -> bool:
    found = list(names)
    return len(set(found)) < len(found)


def _check_not_negative(config: Json, *members: str) -> None:
    for member in members:
        if config.get(member, 0) < 0:
            raise Refusal(f"{member} is {config[member]}; it can't be negative")
