"""What EventBridge Scheduler refuses beyond botocore's model.

Sources: the API reference and "Using universal targets in EventBridge Scheduler"; the sentences are the service's own
where people have reported them (docs/local-cloud/errors.md says which are not verified).
"""

from __future__ import annotations

import functools
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.scheduler.models import EventBridgeSchedulerBackend

from tidegate.local_cloud.access import RoleSessions
from tidegate.local_cloud.clock import Clock
from tidegate.local_cloud.request_gate import Refusal
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed
from tidegate.local_cloud.sagemaker.shapes import operation_model
from tidegate.local_cloud.schedules.expressions import ScheduleError, parse, zone_of
from tidegate.local_cloud.schedules.targets import UNIVERSAL, is_called_here, service_of

logger = logging.getLogger(__name__)

Json = dict[str, Any]
_SERVICE = "scheduler.amazonaws.com"
_EARLIEST = timedelta(minutes=5)
# "Using templated targets in EventBridge Scheduler": the services that have one.
_TEMPLATED = frozenset(
    {
        "codebuild", "codepipeline", "ecs", "events", "firehose", "inspector", "kinesis", "lambda", "sagemaker", "sns",
        "sqs", "states",
    }
)  # fmt: skip
_PARAMETERS = {
    "EcsParameters": "ecs",
    "EventBridgeParameters": "events",
    "KinesisParameters": "kinesis",
    "SageMakerPipelineParameters": "sagemaker",
    "SqsParameters": "sqs",
}
_INPUT_IS_JSON = frozenset({"events", "lambda", "states"})  # CreateSchedule, Target.Input
# "EventBridge Scheduler does not support read-only API actions": the prefixes of its guide.
_READS = (
    "get", "describe", "list", "poll", "receive", "search", "scan", "query", "select", "read", "lookup", "discover",
    "validate", "batchGet", "batchDescribe", "batchRead", "transactGet", "adminGet", "adminList", "testMigration",
    "retrieve", "testConnection", "translateDocument", "isAuthorized", "invokeModel",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRules:
    """Checks requests to EventBridge Scheduler; with ``sessions`` also whether it can take a target's role."""

    backend: EventBridgeSchedulerBackend
    clock: Clock
    region: str
    sessions: RoleSessions | None

    def __call__(self, operation: str, request: Json) -> None:
        """Raises :class:`.Refusal`."""
        match operation:
            case "CreateSchedule" | "UpdateSchedule":
                self._check_schedule(request, new=operation == "CreateSchedule")
            case "CreateScheduleGroup" if request["Name"] == "default":
                raise Refusal("This operation cannot be performed on schedule group default.")
            case "CreateScheduleGroup" if request["Name"] in self.backend.schedule_groups:
                raise Refusal(f"Schedule group {request['Name']} already exists.", code="ConflictException")
            case "DeleteScheduleGroup" if request["Name"] == "default":
                raise Refusal("This operation cannot be performed on schedule group default.")
            case "DeleteScheduleGroup":
                self._demand_group(request["Name"])

    def _check_schedule(self, request: Json, *, new: bool) -> None:
        self._demand_group(request.get("GroupName") or "default")
        expression, now = request["ScheduleExpression"], self.clock.now()
        zone = request.get("ScheduleExpressionTimezone")
        try:
            zone_of(zone)
        except ScheduleError as error:
            raise Refusal(f"Invalid Schedule Expression Timezone {zone}.") from error
        try:
            parse(expression, timezone=zone, since=now)
        except ScheduleError as error:
            raise Refusal(f"Invalid Schedule Expression {expression}.") from error
        begin, end = request.get("StartDate"), request.get("EndDate")
        if begin is not None and end is not None and begin >= end:
            raise Refusal("The StartDate you specify must come before the EndDate.")
        # "EventBridge Scheduler ignores StartDate for one-time schedules."
        recurs = not expression.startswith("at(")
        if new and recurs and begin is not None and datetime.fromtimestamp(begin, UTC) < now - _EARLIEST:
            raise Refusal("The StartDate you specify cannot be earlier than 5 minutes ago.")
        _check_window(request["FlexibleTimeWindow"])
        self._check_target(request["Target"], request)

    def _demand_group(self, name: str) -> None:
        if name not in self.backend.schedule_groups:
            raise Refusal(f"Schedule group {name} does not exist.", code="ResourceNotFoundException")

    def _check_target(self, target: Json, request: Json) -> None:
        arn: str = target["Arn"]
        parts = arn.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn" or not parts[2]:
            raise Refusal("Provided Arn is not in correct format.")
        service = parts[2]
        if arn.startswith(UNIVERSAL):
            _check_universal(arn, target)
        elif service not in _TEMPLATED:
            raise Refusal(f"{service} is not a supported service for a target.")
        elif parts[3] and parts[3] != self.region:
            raise Refusal(f"The target ARN provided does not match the current region {self.region}.")
        for parameters, of_service in _PARAMETERS.items():
            if parameters in target and (service != of_service or arn.startswith(UNIVERSAL)):
                raise Refusal(f"Parameters {parameters} not supported for the target.")
        if service == "events" and "EventBridgeParameters" not in target:
            raise Refusal("EventBridgeParameters must be specified for a target that is an event bus.")
        if service in _INPUT_IS_JSON and "Input" in target:
            _demand_json(target["Input"])
        self._check_role(target["RoleArn"], request)
        if not is_called_here(target):
            logger.warning(
                "schedule %s: its target %s is recorded, and nothing is delivered to it", request["Name"], arn
            )

    def _check_role(self, role_arn: str, request: Json) -> None:
        if self.sessions is None:
            return
        group = self.backend.schedule_groups[request.get("GroupName") or "default"]
        try:
            self.sessions.session(role_arn, taken_by=_SERVICE, source_arn=group.arn)
        except RoleNotAssumed as error:
            raise Refusal(
                "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."
            ) from error


def _check_window(window: Json) -> None:
    given = "MaximumWindowInMinutes" in window
    if window["Mode"] == "OFF" and given:
        raise Refusal("MaximumWindowInMinutes must not be provided when FlexibleTimeWindowMode is set to OFF.")
    if window["Mode"] == "FLEXIBLE" and not given:
        raise Refusal("MaximumWindowInMinutes must be provided when FlexibleTimeWindowMode is set to FLEXIBLE.")


def _check_universal(arn: str, target: Json) -> None:
    identifier, _, action = arn.removeprefix(UNIVERSAL).partition(":")
    service = service_of(identifier)
    if service is None:
        raise Refusal(f"{identifier} is not a supported service for a target.")
    if action.startswith(_READS) or not _has(service, action):
        raise Refusal(f"{action} API is not supported.")
    if "Input" not in target:
        raise Refusal("You must provide an input to set this target for your schedule.")
    _demand_json(target["Input"])


@functools.cache
def _has(service: str, action: str) -> bool:
    return action[:1].islower() and operation_model(service, action[:1].upper() + action[1:]) is not None


def _demand_json(text: str) -> None:
    try:
        json.loads(text)
    except ValueError as error:
        raise Refusal("JSON syntax error in input for the target.") from error
