"""Rules call state machines, topics and pipelines; moto delivers to queues, log groups and buses, and fails else."""

from __future__ import annotations

import copy
import json
import logging
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from jsonpath_ng.parser import JsonPathParser
from moto.events.models import EventPattern, Rule

from tidegate.local_cloud.access import RoleSessions
from tidegate.local_cloud.schedules.targets import FAILURES, Targets

logger = logging.getLogger(__name__)

_PLACEHOLDER = re.compile(r"<(?P<name>[^<>\s]+)>")
_STRING_OR_PLACEHOLDER = re.compile(rf'(?P<string>"(?:[^"\\]|\\.)*")|{_PLACEHOLDER.pattern}')
_send_of_moto = Rule.send_to_targets


def start_machines_from_rules(make_client: Callable[[str], Any], sessions: RoleSessions | None = None) -> None:
    """Replaces moto's delivery to a rule's targets, for this process; with ``sessions`` in the target's role."""
    targets = Targets(make_client, sessions)

    def send(self: Rule, original_event: Any, transform_input: bool = True) -> None:
        if self.state == "DISABLED" or not (_is_due(self, original_event) or _matches(self, original_event)):
            return
        for target in list(self.targets):
            try:
                if _is_ours(target):
                    payload = _input(target, original_event)
                    targets.call(target, payload, taken_by="events.amazonaws.com", source_arn=self.arn)
                    continue
                other = copy.copy(self)
                other.targets, other.event_pattern = [target], EventPattern(None, {})  # it has been asked above
                _send_of_moto(other, original_event, transform_input)
            # As on AWS, whoever caused the event does not learn of it.
            except FAILURES as error:
                logger.warning("rule %s could not start %s: %s", self.name, target["Arn"], error)
            except Exception:
                logger.exception("rule %s could not start %s", self.name, target["Arn"])

    Rule.send_to_targets = send  # type: ignore[method-assign]


def _is_due(rule: Rule, event: Any) -> bool:
    """Whether this is the event of the rule's own schedule, which no pattern keeps away."""
    return bool(event.get("detail-type") == "Scheduled Event" and event.get("resources") == [rule.arn])


def _matches(rule: Rule, event: Any) -> bool:
    """A rule without a pattern has a schedule alone, and hears of nothing else; moto lets it hear of everything."""
    return bool(rule.event_pattern.get_pattern()) and rule.event_pattern.matches_event(event)


def _is_ours(target: dict[str, Any]) -> bool:
    """moto delivers to log groups and buses, and to queues what has no constant input."""
    service = target["Arn"].split(":")[2]
    return service in ("states", "sns", "sagemaker") or (service == "sqs" and "Input" in target)


def _input(target: dict[str, Any], original_event: Any) -> str:
    """What the target gets: the event, its own constant, or what its transformer makes of the event."""
    if "Input" in target:
        return str(target["Input"])
    event = {name: value for name, value in original_event.items() if name != "ingestion-time"}
    if isinstance(event.get("time"), int | float):
        event["time"] = datetime.fromtimestamp(event["time"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if transformer := target.get("InputTransformer"):
        found = {name: _at(event, path) for name, path in transformer.get("InputPathsMap", {}).items()}
        found["aws.events.event.json"] = event
        return filled(transformer["InputTemplate"], found)
    return json.dumps(event)


def filled(template: str, values: Mapping[str, Any]) -> str:
    """An input template with its placeholders: as JSON where one stands alone, as text where it stands in a string."""

    def text(match: re.Match[str]) -> str:
        value = values.get(match["name"], "")
        return json.dumps(value if isinstance(value, str) else json.dumps(value))[1:-1]

    def either(match: re.Match[str]) -> str:
        if match["string"] is not None:
            return _PLACEHOLDER.sub(text, match["string"])
        return json.dumps(values.get(match["name"]))

    return _STRING_OR_PLACEHOLDER.sub(either, template)


def _at(event: Mapping[str, Any], path: str) -> Any:
    matches = JsonPathParser().parse(path).find(event)
    return matches[0].value if matches else None
