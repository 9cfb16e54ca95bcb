"""Policies and scheduled actions that change capacities, within the bounds of their targets.

moto keeps targets, policies and scheduled actions; alarms call :meth:`Scaler.scale`, and the clock calls what is
scheduled. In an advance the clock stands until a change is carried out, at most two real minutes: otherwise hours
would pass while a server starts.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from moto.applicationautoscaling.models import ApplicationAutoscalingBackend
from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse

from tidegate.local_cloud.clock import Clock
from tidegate.local_cloud.scaling.capacity import Resource
from tidegate.local_cloud.scaling.policies import DEFAULT_COOLDOWN_S, Activity, allowed, stepped, tracked
from tidegate.local_cloud.scaling.tracking_alarms import COPIES, HIGH, INSTANCES, LOW, alarms_of
from tidegate.local_cloud.schedules.schedules import Due

logger = logging.getLogger(__name__)

Json = dict[str, Any]
_SETTLE_S = 120.0
_KEPT_ACTIVITIES = 1000


@dataclass(slots=True)
class Scaler:
    """``last`` and ``activities`` are its state, in plain values."""

    backend: ApplicationAutoscalingBackend
    make_client: Callable[[str], Any]
    clock: Clock
    last: dict[str, Activity] = field(default_factory=dict)
    activities: list[Json] = field(default_factory=list)

    def install(self) -> None:
        """Lets policies that are put into this process's moto have their alarms."""
        _seams[:] = [self]

    def scale(self, policy_arn: str, alarm_name: str, value: float | None, threshold: float | None) -> None:
        """What an alarm that is in ALARM does, every minute: ``value`` is the metric's, where there is one."""
        policy = next((each for each in self.backend.policies.values() if each.policy_arn == policy_arn), None)
        if policy is None:
            logger.warning("alarm %s acts on the policy %s, which does not exist", alarm_name, policy_arn)
            return
        target = self._target(policy.resource_id, policy.scalable_dimension)
        resource = Resource(self.make_client("sagemaker"), policy.resource_id)
        capacity = resource.capacity()
        if target is None or capacity is None or value is None:
            return
        now, last = self.clock.now(), self.last.get(policy.resource_id)
        # What a scale-out has added counts for the next one until it has had its time.
        base = last.before if last is not None and last.out and last.rests(now) else capacity
        if policy.policy_type == "StepScaling":
            config: Json = policy.step_scaling_policy_configuration or {}
            wanted = stepped(config, base, breach=value - (threshold or 0.0))
            cooldown_s = float(config.get("Cooldown", DEFAULT_COOLDOWN_S))
        else:
            config = policy.target_tracking_scaling_policy_configuration or {}
            if f"-{LOW}-" in alarm_name and not self._all_would_go_in(policy):
                return
            wanted = tracked(base, value=value, target=float(config["TargetValue"]))
            out = f"-{HIGH}-" in alarm_name
            wanted = max(wanted, capacity) if out else min(wanted, capacity)
            cooldown_s = float(config.get("ScaleOutCooldown" if out else "ScaleInCooldown", DEFAULT_COOLDOWN_S))
        wanted = allowed(wanted, capacity=capacity, least=target.min_capacity, most=target.max_capacity)
        if wanted == capacity or _suspended(target, out=wanted > capacity):
            return
        if wanted < capacity and last is not None and last.rests(now):
            return
        cause = f"monitor alarm {alarm_name} in state ALARM triggered policy {policy.policy_name}"
        self._change(resource, capacity, wanted, cause=cause, cooldown_s=cooldown_s)

    def scheduled(self) -> Iterator[Due]:
        """The scheduled actions, as the clock looks at them."""
        for action in list(self.backend.scheduled_actions):
            if action.service_namespace == "sagemaker":
                yield Due(
                    key=f"scheduled action {action.scheduled_action_name} of {action.resource_id}",
                    expression=action.schedule,
                    timezone=action.timezone,
                    begins=_moment(action.start_time),
                    ends=_moment(action.end_time),
                    deliver=lambda _, action=action: self._act_on_schedule(action),  # type: ignore[misc]
                )

    def _act_on_schedule(self, action: Any) -> None:
        """Gives the target new bounds, and brings it within them."""
        target = self._target(action.resource_id, action.scalable_dimension)
        if target is None or (target.suspended_state or {}).get("ScheduledScalingSuspended"):
            return
        given = action.scalable_target_action or {}
        target.update(given.get("MinCapacity"), given.get("MaxCapacity"), None)
        resource = Resource(self.make_client("sagemaker"), action.resource_id)
        capacity = resource.capacity()
        if capacity is None:
            return
        wanted = max(target.min_capacity, min(capacity, target.max_capacity))
        if wanted != capacity:
            cause = f"scheduled action name {action.scheduled_action_name} was triggered"
            self._change(resource, capacity, wanted, cause=cause, cooldown_s=0.0)

    def _change(self, resource: Resource, capacity: int, wanted: int, *, cause: str, cooldown_s: float) -> None:
        begun = self.clock.now()
        activity: Json = {
            "ActivityId": str(uuid.uuid4()),
            "ServiceNamespace": "sagemaker",
            "ResourceId": resource.id,
            "ScalableDimension": INSTANCES if resource.id.startswith("endpoint/") else COPIES,
            "Description": f"Setting desired {'instance' if resource.id.startswith('endpoint/') else 'copy'} count to"
            f" {wanted}.",
            "Cause": cause,
            "StartTime": begun.timestamp(),
        }
        try:
            resource.change(wanted)
        except Exception as error:
            # It is changing already, for one: the alarm goes on, so this is tried again in a minute.
            logger.info("%s stays at %d: %s", resource.id, capacity, error)
            activity |= {"StatusCode": "Failed", "StatusMessage": str(error)[:1023]}
        else:
            logger.info("%s goes from %d to %d: %s", resource.id, capacity, wanted, cause)
            self.last[resource.id] = Activity(at=begun, before=capacity, after=wanted, cooldown_s=cooldown_s)
            if self.clock.is_advanced:
                resource.await_rest(_SETTLE_S)
            activity |= {"StatusCode": "Successful", "StatusMessage": f"Successfully set the count to {wanted}."}
        self.activities.append(activity | {"EndTime": self.clock.now().timestamp()})
        del self.activities[:-_KEPT_ACTIVITIES]

    def _all_would_go_in(self, policy: Any) -> bool:
        """Several target tracking policies scale in only together."""
        cloudwatch = self.make_client("cloudwatch")
        for other in self.backend.policies.values():
            config = other.target_tracking_scaling_policy_configuration
            if other.resource_id != policy.resource_id or other is policy or config is None:
                continue
            names = [alarm.name for alarm in other.alarms if f"-{LOW}-" in alarm.name]
            if not names:
                continue
            found = cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"]
            if any(alarm["StateValue"] != "ALARM" for alarm in found):
                return False
        return True

    def _target(self, resource_id: str, dimension: str) -> Any:
        return self.backend.targets.get(dimension, {}).get(resource_id)

    def describe_activities(self, request: Json) -> Json:
        """DescribeScalingActivities: the newest first. What changed nothing is not kept, as by default on AWS."""
        wanted = ("ServiceNamespace", "ResourceId", "ScalableDimension")
        found = [
            each
            for each in reversed(self.activities)
            if all(request.get(name) in (None, each[name]) for name in wanted)
        ]
        token = str(request.get("NextToken") or "0")
        start = int(token) if token.isascii() and token.isdigit() else 0
        end = start + int(request.get("MaxResults") or 50)
        return {"ScalingActivities": found[start:end]} | ({"NextToken": str(end)} if end < len(found) else {})

    def make_alarms(self, policy: Any) -> None:
        """Of a target tracking policy of SageMaker's: the ones that it has, in moto's CloudWatch too."""
        config = policy.target_tracking_scaling_policy_configuration
        if policy.service_namespace != "sagemaker" or config is None:
            return
        cloudwatch = self.make_client("cloudwatch")
        for request in alarms_of(config, resource=policy.resource_id, policy_arn=policy.policy_arn):
            cloudwatch.put_metric_alarm(**request)
            (found,) = cloudwatch.describe_alarms(AlarmNames=[request["AlarmName"]])["MetricAlarms"]
            policy.alarms.append(_MadeAlarm(found["AlarmName"], found["AlarmArn"]))


@dataclass(frozen=True, slots=True)
class _MadeAlarm:
    """What moto tells of a policy's alarm."""

    name: str
    alarm_arn: str


_seams: list[Scaler] = []
_put_of_moto = ApplicationAutoscalingBackend.put_scaling_policy
_deregister_of_moto = ApplicationAutoscalingBackend.deregister_scalable_target


def _put(self: ApplicationAutoscalingBackend, *arguments: Any, **named: Any) -> Any:
    """A policy that is put again keeps its ARN, which alarms name, and gets new alarms."""
    before = dict(self.policies)
    policy = _put_of_moto(self, *arguments, **named)
    key = next(key for key, each in self.policies.items() if each is policy)
    if (old := before.get(key)) is not None:
        old.delete_alarms(self.account_id, self.region_name)
        policy.policy_arn, policy.creation_time = old.policy_arn, old.creation_time
    for seam in _seams:
        if seam.backend is self:
            seam.make_alarms(policy)
    return policy


def _deregister(self: ApplicationAutoscalingBackend, namespace: str, r_id: str, dimension: str) -> None:
    """With a target go its policies, their alarms and its scheduled actions (DeregisterScalableTarget)."""
    _deregister_of_moto(self, namespace, r_id, dimension)
    for key, policy in list(self.policies.items()):
        if (policy.resource_id, policy.scalable_dimension) == (r_id, dimension):
            policy.delete_alarms(self.account_id, self.region_name)
            del self.policies[key]
    self.scheduled_actions[:] = [
        action
        for action in self.scheduled_actions
        if (action.resource_id, action.scalable_dimension) != (r_id, dimension)
    ]


def _describe_activities(self: ApplicationAutoScalingResponse) -> str:
    seam = next((each for each in _seams if each.backend is self.applicationautoscaling_backend), None)
    request = json.loads(self.body or "{}")
    return json.dumps({"ScalingActivities": []} if seam is None else seam.describe_activities(request))


# moto does not have the operation.
setattr(ApplicationAutoScalingResponse, "describe_scaling_activities", _describe_activities)  # noqa: B010
ApplicationAutoscalingBackend.put_scaling_policy = _put  # type: ignore[method-assign]
ApplicationAutoscalingBackend.deregister_scalable_target = _deregister  # type: ignore[method-assign]


def _suspended(target: Any, *, out: bool) -> bool:
    name = "DynamicScalingOutSuspended" if out else "DynamicScalingInSuspended"
    return bool((target.suspended_state or {}).get(name))


def _moment(given: Any) -> datetime | None:
    if given is None or isinstance(given, datetime):
        return given
    return datetime.fromtimestamp(float(given)).astimezone()
