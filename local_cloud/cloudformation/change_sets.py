"""Change sets, kept by moto and executed by our own stack operations.

moto keeps change sets by name alone and executes them without events, refusals and rollback; deleting an absent one is
an HTTP 500, and describing it says that the stack is missing. CDK's default deployment and its `diff` use all of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.cloudformation.exceptions import CloudFormationError, ValidationError
from moto.cloudformation.models import ChangeSet, CloudFormationBackend, Stack


class ChangeSetNotFound(CloudFormationError):
    """The answer to a question about a change set that is not there; clients wait for this code."""

    code = "ChangeSetNotFound"


Begin = Callable[[CloudFormationBackend, Stack, str, dict[str, Any]], None]

_create_of_moto = CloudFormationBackend.create_change_set


def run_change_sets_ourselves(*, accept: Callable[[str], Any], begin_creation: Begin) -> None:
    """Replaces moto's methods.

    ``accept`` raises what is to be said about a template that cannot be deployed; ``begin_creation`` starts creating a
    stack from a template and parameters.
    """

    def create(self: CloudFormationBackend, **members: Any) -> tuple[str, str]:
        accept(members["template"])
        # Clients name their change sets alike for all stacks, and moto finds them by name: only the latest is kept.
        _delete(self, members["change_set_name"])
        return _create_of_moto(self, **members)

    def execute(self: CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
        change_set = _describe(self, change_set_name)
        if change_set.execution_status != "AVAILABLE":
            raise ValidationError(message=f"ChangeSet [{change_set_name}] of {stack_name} cannot be executed.")
        change_set.execution_status = "EXECUTE_COMPLETE"
        stack = self.stacks[change_set.stack_id]
        if change_set.change_set_type == "CREATE":
            begin_creation(self, stack, change_set.template, change_set.parameters)
        else:
            given = [{"ParameterKey": key, "ParameterValue": value} for key, value in change_set.parameters.items()]
            self.update_stack(
                name=stack.name, template=change_set.template, role_arn=None, parameters=given, tags=change_set.tags
            )

    CloudFormationBackend.create_change_set = create  # type: ignore[method-assign, assignment]
    CloudFormationBackend.execute_change_set = execute  # type: ignore[method-assign]
    CloudFormationBackend.describe_change_set = _describe  # type: ignore[method-assign]
    CloudFormationBackend.delete_change_set = _delete  # type: ignore[method-assign]


def _delete(self: CloudFormationBackend, change_set_name: str) -> None:
    """Like the service: deleting what is not there is no error."""
    for arn, change_set in list(self.change_sets.items()):
        if change_set_name in (arn, change_set.change_set_name):
            del self.change_sets[arn]


def _describe(self: CloudFormationBackend, change_set_name: str) -> ChangeSet:
    for arn, change_set in self.change_sets.items():
        if change_set_name in (arn, change_set.change_set_name):
            return change_set
    raise ChangeSetNotFound(f"ChangeSet [{change_set_name}] does not exist")
