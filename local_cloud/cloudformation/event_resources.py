"""AWS::Events::Rule and AWS::StepFunctions::StateMachine, through boto3.

moto has both types, but drops tags, logging and tracing, and cannot update a rule's targets.
"""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

import json
import re
from typing import Any, ClassVar

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Overwritten, Resource, ResourceFailed, as_request

_RULE = ("EventBusName", "EventPattern", "ScheduleExpression", "State", "Description", "RoleArn", "Tags")
_STATE_MACHINE = (
    "StateMachineName", "StateMachineType", "RoleArn", "LoggingConfiguration", "TracingConfiguration", "Tags",
    "DefinitionString", "Definition", "DefinitionSubstitutions",
)  # fmt: skip


class Rule(Overwritten, CloudFormationModel):
    TYPE = "AWS::Events::Rule"
    NAME = "Name"
    NAME_CHARS = 64
    IDENTITY = ("Name", "EventBusName")
    ATTRIBUTES: ClassVar[dict[str, str]] = {"Arn": "arn"}

    @property
    def physical_resource_id(self) -> str:
        return self.name

    @property
    def _bus(self) -> Json:
        return {"EventBusName": self.properties["EventBusName"]} if "EventBusName" in self.properties else {}

    def put(self, properties: Json) -> None:
        strangers = sorted(set(properties) - {*_RULE, "Name", "Targets"})
        if strangers:
            raise ResourceFailed(f"The local cloud does not have {strangers[0]} of {self.TYPE}.")
        events = client("events")
        given = {name: properties[name] for name in _RULE if name in properties}
        if isinstance(given.get("EventPattern"), dict):
            given["EventPattern"] = json.dumps(given["EventPattern"])
        self.arn = events.put_rule(**as_request("events", "PutRule", {**given, "Name": self.name}))["RuleArn"]
        wanted = properties.get("Targets", [])
        self._remove_targets(keep={target["Id"] for target in wanted})
        if wanted:
            request = as_request("events", "PutTargets", {"Rule": self.name, "Targets": wanted, **self._bus})
            failed = events.put_targets(**request)["FailedEntries"]
            if failed:
                raise ResourceFailed(f"Rule {self.name} does not take the target {failed[0]['TargetId']}.")

    def _remove_targets(self, *, keep: set[str]) -> None:
        events = client("events")
        targets = events.list_targets_by_rule(Rule=self.name, **self._bus)["Targets"]
        gone = [target["Id"] for target in targets if target["Id"] not in keep]
        if gone:
            events.remove_targets(Rule=self.name, Ids=gone, **self._bus)

    def delete(self, account_id: str, region_name: str) -> None:
        try:
            self._remove_targets(keep=set())
            client("events").delete_rule(Name=self.name, **self._bus)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise


class StateMachine(Resource, CloudFormationModel):
    TYPE = "AWS::StepFunctions::StateMachine"
    NAME = "StateMachineName"
    NAME_CHARS = 80
    ATTRIBUTES: ClassVar[dict[str, str]] = {"Arn": "arn", "Name": "name"}
    TAKES_STACK_TAGS = True

    def create(self) -> None:
        request = {"name": self.name, "type": self.properties.get("StateMachineType", "STANDARD")}
        tags = [_lower_first(tag) for tag in self.properties.get("Tags", [])]
        answer = client("stepfunctions").create_state_machine(**request, **self._changing(self.properties), tags=tags)
        self.arn = answer["stateMachineArn"]

    def update(self, properties: Json) -> bool:
        if properties.get("StateMachineType") != self.properties.get("StateMachineType"):
            return False
        states = client("stepfunctions")
        states.update_state_machine(stateMachineArn=self.arn, **self._changing(properties))
        wanted = {tag["Key"] for tag in properties.get("Tags", [])}
        gone = [tag["Key"] for tag in self.properties.get("Tags", []) if tag["Key"] not in wanted]
        if gone:
            states.untag_resource(resourceArn=self.arn, tagKeys=gone)
        if wanted:
            states.tag_resource(resourceArn=self.arn, tags=[_lower_first(tag) for tag in properties["Tags"]])
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        client("stepfunctions").delete_state_machine(stateMachineArn=self.arn)  # an absent one is no error

    def _changing(self, properties: Json) -> Json:
        strangers = sorted(set(properties) - set(_STATE_MACHINE))
        if strangers:
            raise ResourceFailed(f"The local cloud does not have {strangers[0]} of {self.TYPE}.")
        members = {
            "definition": _definition(properties),
            "roleArn": properties["RoleArn"],
            "loggingConfiguration": _lower_first(properties.get("LoggingConfiguration", {"Level": "OFF"})),
            "tracingConfiguration": _lower_first(properties.get("TracingConfiguration", {"Enabled": False})),
        }
        return as_request("stepfunctions", "UpdateStateMachine", members)


def _definition(properties: Json) -> str:
    text = properties.get("DefinitionString") or json.dumps(properties["Definition"])
    values = properties.get("DefinitionSubstitutions", {})
    return re.sub(r"\$\{(\w+)\}", lambda match: str(values.get(match[1], match[0])), text)


def _lower_first(value: Any) -> Any:
    """Members as the API of Step Functions writes them: their first letter is small."""
    if isinstance(value, dict):
        return {name[0].lower() + name[1:]: _lower_first(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_lower_first(item) for item in value]
    return value
