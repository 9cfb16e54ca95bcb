"""What EventBridge refuses of rules and their targets beyond botocore's model.

Sources: PutRule and PutTargets in the API reference, "Amazon EventBridge quotas", and "Comparison operators" of the
user guide; the sentences are the service's own where people have reported them (docs/local-cloud/errors.md).
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.events.models import EventsBackend

from tidegate.local_cloud.request_gate import Refusal
from tidegate.local_cloud.schedules.expressions import ScheduleError, parse, says_one_as_one

logger = logging.getLogger(__name__)

Json = dict[str, Any]
_MOST_TARGETS = 5
_LONGEST_PATTERN_BYTES = 2048
_OPERATORS = frozenset(
    {"prefix", "suffix", "anything-but", "numeric", "exists", "cidr", "wildcard", "equals-ignore-case"}
)
_PARAMETERS = {
    "BatchParameters": "batch",
    "EcsParameters": "ecs",
    "KinesisParameters": "kinesis",
    "SageMakerPipelineParameters": "sagemaker",
    "SqsParameters": "sqs",
}
# The services that EventBridge calls only in a role ("Using resource-based policies for Amazon EventBridge").
_IN_A_ROLE = frozenset({"batch", "codebuild", "codepipeline", "ecs", "firehose", "kinesis", "sagemaker", "states"})
_CALLED_HERE = frozenset({"events", "logs", "sagemaker", "sns", "sqs", "states"})
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class EventRules:
    """Checks requests to EventBridge."""

    backend: EventsBackend

    def __call__(self, operation: str, request: Json) -> None:
        """Raises :class:`.Refusal`."""
        match operation:
            case "PutRule":
                _check_rule(request)
            case "PutTargets":
                self._check_targets(request)
            case "TestEventPattern":  # of moto's, which answers nothing
                raise Refusal("The local cloud does not have TestEventPattern.", code="UnknownOperationException")

    def _check_targets(self, request: Json) -> None:
        targets = request["Targets"]
        for target_id, times in Counter(target["Id"] for target in targets).items():
            if times > 1:
                raise Refusal(f"More than one target with Id '{target_id}' is provided.")
        for target in targets:
            _check_target(target, request["Rule"])
        bus = self.backend.event_buses.get((request.get("EventBusName") or "default").split("/")[-1])
        rule = bus.rules.get(request["Rule"]) if bus is not None else None
        there = {target["Id"] for target in rule.targets} if rule is not None else set()
        if len(there | {target["Id"] for target in targets}) > _MOST_TARGETS:
            raise Refusal("The requested resource exceeds the maximum number allowed.", code="LimitExceededException")


def _check_rule(request: Json) -> None:
    expression, text = request.get("ScheduleExpression"), request.get("EventPattern")
    if expression:
        try:
            parse(expression, since=_ANY_TIME)
        except ScheduleError as error:
            raise Refusal("Parameter ScheduleExpression is not valid.") from error
        if expression.startswith("at(") or not says_one_as_one(expression):
            raise Refusal("Parameter ScheduleExpression is not valid.")
    if text is None:
        return
    if len(text.encode()) > _LONGEST_PATTERN_BYTES:
        raise Refusal(
            f"Parameter EventPattern for rule {request['Name']} exceeds limit of {_LONGEST_PATTERN_BYTES}.",
            code="LimitExceededException",
        )
    try:
        pattern = json.loads(text)
    except ValueError as error:
        raise _bad_pattern("Invalid JSON") from error
    if pattern == {} and not expression:
        raise Refusal("Parameter(s) EventPattern or ScheduleExpression must be specified.")
    for reason in _faults(pattern):
        raise _bad_pattern(reason)


def _bad_pattern(reason: str) -> Refusal:
    return Refusal(f"Event pattern is not valid. Reason: {reason}", code="InvalidEventPatternException")


def _faults(pattern: Any) -> Iterator[str]:
    """Why a pattern is none."""
    if not isinstance(pattern, dict):
        yield "Filter is not an object"
        return
    for name, value in pattern.items():
        if name == "$or":
            if not isinstance(value, list) or len(value) < 2:
                yield "There must have at least 2 Objects in $or relationship."
                return
            for each in value:
                yield from _faults(each)
        elif isinstance(value, dict):
            if not value:
                yield "Empty objects are not allowed"
            yield from _faults(value)
        elif not isinstance(value, list):
            yield f"'{name}' must be an object or an array"
        elif not value:
            yield "Empty arrays are not allowed"
        else:
            for each in value:
                yield from _matcher_faults(each)


def _matcher_faults(matcher: Any) -> Iterator[str]:
    if isinstance(matcher, list):
        yield "Match value must be String, number, true, false, or null"
    elif isinstance(matcher, dict):
        if len(matcher) != 1:
            yield "Only one key allowed in match expression"
        for operator, value in matcher.items():
            if operator not in _OPERATORS:
                yield f"Unrecognized match type {operator}"
            elif operator == "exists" and not isinstance(value, bool):
                yield "exists match pattern must be either true or false."
            elif operator == "numeric" and not _is_numeric(value):
                yield "Value of numeric must be an array of comparisons and numbers."


def _is_numeric(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (2, 4)
        and all(sign in ("<", "<=", "=", ">=", ">") for sign in value[::2])
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in value[1::2])
    )


def _check_target(target: Json, rule: str) -> None:
    name, arn = target["Id"], target["Arn"]
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or not parts[2]:
        raise Refusal(f"Parameter {arn} is not valid. Reason: Provided Arn is not in correct format.")
    service = parts[2]
    if sum(member in target for member in ("Input", "InputPath", "InputTransformer")) > 1:
        raise Refusal(f"Only one of Input, InputPath, or InputTransformer must be provided for target {name}.")
    if "Input" in target:
        try:
            json.loads(target["Input"])
        except ValueError as error:
            raise Refusal(f"JSON syntax error in input for target {name}.") from error
    for parameters, of_service in _PARAMETERS.items():
        if parameters in target and service != of_service:
            raise Refusal(f"Parameter(s) {parameters} not supported for target: {name}.")
    if service in _IN_A_ROLE and "RoleArn" not in target:
        raise Refusal(f"RoleArn is required for target {arn}.")
    if service not in _CALLED_HERE:
        logger.warning("rule %s: its target %s is recorded, and nothing is delivered to it", rule, arn)
