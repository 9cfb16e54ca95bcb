"""The batch construct in a stack of its own, synthesised, and its machines' definitions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.infra.state_machines import ACCOUNT, REGION, text

BUCKET = f"tidegate-dev-data-{ACCOUNT}-{REGION}"
PARAMETER = "/tidegate/dev/model-name"


@dataclass(frozen=True)
class Synthesised:
    """A template, and where it lies."""

    template: dict[str, Any]
    directory: Path

    def of_type(self, kind: str) -> list[dict[str, Any]]:
        """The properties of every resource of a type."""
        return [found["Properties"] for found in self.template["Resources"].values() if found["Type"] == kind]

    def logical_id(self, kind: str) -> str:
        (name,) = (name for name, found in self.template["Resources"].items() if found["Type"] == kind)
        return str(name)

    def definition(self, name: str, **arns: str) -> str:
        """The definition of the machine called `name`; `topic` is the ARN in the place of the topic's reference."""
        (machine,) = (
            found for found in self.of_type("AWS::StepFunctions::StateMachine") if found["StateMachineName"] == name
        )
        values = {self.logical_id("AWS::SNS::Topic"): arns.get("topic", "topic")}
        return text(machine["DefinitionString"], values)
