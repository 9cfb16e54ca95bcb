"""One synthesised template, and what tests ask of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cfnlint import api

from tests.infra.state_machines import text

Rights = dict[str, tuple[set[str], list[str]]]


@dataclass(frozen=True)
class Synthesised:
    """A template, and the directory that it and the report of cdk-nag lie in."""

    template: dict[str, Any]
    file: Path

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The properties of every resource of a type."""
        return [found["Properties"] for found in self.template["Resources"].values() if found["Type"] == kind]

    def only(self, kind: str) -> dict[str, Any]:
        """The properties of the one resource of a type."""
        (properties,) = self.of_type(kind)
        return properties

    def logical_id(self, kind: str) -> str:
        """That of the one resource of a type."""
        (name,) = (name for name, found in self.template["Resources"].items() if found["Type"] == kind)
        return str(name)

    @property
    def kinds(self) -> set[str]:
        return {resource["Type"] for resource in self.template["Resources"].values()}

    @property
    def report(self) -> str:
        """What cdk-nag found."""
        return (self.file.parent / "validation-report.json").read_text()

    def definition(self, name: str, *, topic: str = "topic") -> str:
        """The definition of the state machine called `name`, with `topic` as the ARN of the topic."""
        machines = self.of_type("AWS::StepFunctions::StateMachine")
        (machine,) = (machine for machine in machines if machine["StateMachineName"] == name)
        return text(machine["DefinitionString"], {self.logical_id("AWS::SNS::Topic"): topic})

    def rights(self, service: str, **values: str) -> list[Rights]:
        """Of every role that `service` may take: actions and resources by the statement's id."""
        return [
            {
                statement["Sid"]: (
                    set(as_list(statement["Action"])),
                    [text(resource, values) for resource in as_list(statement["Resource"])],
                )
                for policy in role["Policies"]
                for statement in policy["PolicyDocument"]["Statement"]
            }
            for role in self.of_type("AWS::IAM::Role")
            if role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Service": service}
        ]

    def rights_of_machine(self, sid: str) -> Rights:
        """Those of the state machine that has a statement `sid`."""
        found = self.rights("states.amazonaws.com", **{self.logical_id("AWS::SNS::Topic"): "topic"})
        (machine,) = (statements for statements in found if sid in statements)
        return machine


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def called_actions(definition: str) -> set[str]:
    """`service:action` of every call in a definition, in lower case."""
    states = json.loads(definition)["States"].values()
    calls = [state["Resource"].split(":::")[1] for state in states if state["Type"] == "Task"]
    return {call.removeprefix("aws-sdk:").lower() for call in calls}


def lint_template(file: Path) -> str:
    """What cfn-lint finds in a template; empty if nothing."""
    command = [Path(sys.executable).with_name("cfn-lint"), file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def lint_definition(definition: str) -> str:
    """What cfn-lint finds in a state machine; empty if nothing. It does not look into the `Fn::Sub` of a template."""
    machine = {"RoleArn": "arn:aws:iam::123456789012:role/machine", "Definition": json.loads(definition)}
    resource = {"Type": "AWS::StepFunctions::StateMachine", "Properties": machine}
    found = api.lint(json.dumps({"Resources": {"Machine": resource}}), regions=["us-east-1"])
    return "\n".join(f"{match.rule.id} {match.message}" for match in found)


# What every machine may do: its log and its traces, whose actions know no resources.
LOGS_AND_TRACES: Rights = {
    "DeliverLogs": (
        {
            "logs:CreateLogDelivery",
            "logs:DeleteLogDelivery",
            "logs:DescribeLogGroups",
            "logs:DescribeResourcePolicies",
            "logs:GetLogDelivery",
            "logs:ListLogDeliveries",
            "logs:PutResourcePolicy",
            "logs:UpdateLogDelivery",
        },
        ["*"],
    ),
    "Trace": (
        {
            "xray:GetSamplingRules",
            "xray:GetSamplingTargets",
            "xray:PutTelemetryRecords",
            "xray:PutTraceSegments",
        },
        ["*"],
    ),
}
