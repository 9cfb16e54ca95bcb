"""Change sets, kept by moto and executed by our own stack operations.

moto finds change sets by name alone, whatever their stack, and executes them without events, refusals and rollback;
deleting an absent one is an HTTP 500, describing it says that the stack is missing, and every change set that is to
create a stack makes another stack of that name. CDK's default deployment, also of several stacks at once, and its
`diff` need all of that as it is on AWS.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from moto.cloudformation.exceptions import CloudFormationError, ValidationError
from moto.cloudformation.models import ChangeSet, CloudFormationBackend, Stack
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.responses import ActionResult, EmptyResult


class ChangeSetNotFound(CloudFormationError):
    """The answer to a question about a change set that is not there; clients wait for this code."""

    code = "ChangeSetNotFound"


_NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."
ChangesNothing = Callable[[CloudFormationBackend, Stack, str, dict[str, Any], dict[str, str] | None], bool]
Begin = Callable[[CloudFormationBackend, Stack, str, dict[str, Any]], None]

_lock = threading.RLock()
_create_of_moto = CloudFormationBackend.create_change_set


def run_change_sets_ourselves(
    *, accept: Callable[[str], Any], changes_nothing: ChangesNothing, begin_creation: Begin
) -> None:
    """Replaces moto's methods.

    ``accept`` raises what is to be said about a template that cannot be deployed; ``changes_nothing`` says whether an
    update would find everything as it is; ``begin_creation`` starts creating a stack from a template and parameters.
    """

    def create(self: CloudFormationBackend, **members: Any) -> tuple[str, str]:
        accept(members["template"])
        name = members["stack_name"]
        _delete(self, members["change_set_name"], name)
        with _lock:
            # A stack that waits for its first change set is nothing yet: the next change set begins it anew.
            for stack in [each for each in self.stacks.values() if each.name == name]:
                if stack.status == "REVIEW_IN_PROGRESS":
                    del self.stacks[stack.stack_id]
                elif members["change_set_type"] == "CREATE":
                    raise ValidationError(message=f"Stack [{name}] already exists and cannot be created again.")
            updated = next((each for each in self.stacks.values() if each.name == name), None)
            if updated is not None:
                members["parameters"] = _as_given(updated, members["parameters"])
            arn, stack_id = _create_of_moto(self, **members)
            if updated is not None:
                template, parameters, tags = members["template"], members["parameters"], members.get("tags")
                _settle(self.change_sets[arn], unchanged=changes_nothing(self, updated, template, parameters, tags))
            return arn, stack_id

    def execute(self: CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
        change_set = _describe(self, change_set_name, stack_name)
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
    # moto raises in the place of a change set that says so.
    CloudFormationResponse._validate_different_update = _anything_goes  # type: ignore[method-assign, assignment]
    CloudFormationResponse.describe_change_set = _describe_action  # type: ignore[method-assign]
    CloudFormationResponse.delete_change_set = _delete_action  # type: ignore[method-assign]


def _anything_goes(*_: Any) -> None:
    """An update that changes nothing is refused by the stack operations, and told by change sets."""


def _settle(change_set: ChangeSet, *, unchanged: bool) -> None:
    """The state of a change set that is to update a stack."""
    change_set.status = "FAILED" if unchanged else "CREATE_COMPLETE"
    change_set.execution_status = "UNAVAILABLE" if unchanged else "AVAILABLE"
    change_set.status_reason = _NO_CHANGES if unchanged else None


def _as_given(stack: Stack, parameters: dict[str, Any]) -> dict[str, Any]:
    """For UsePreviousValue moto takes the resolved value, such as what Parameter Store holds under the given name."""
    resolved = stack.resource_map.resolved_parameters
    return {
        key: stack.parameters.get(key, value) if key in resolved and resolved[key] == value else value
        for key, value in parameters.items()
    }


def _delete(self: CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> None:
    """Like the service: deleting what is not there is no error."""
    with _lock:
        for arn, change_set in list(self.change_sets.items()):
            if _is_meant(change_set, change_set_name, stack_name):
                del self.change_sets[arn]


def _describe(self: CloudFormationBackend, change_set_name: str, stack_name: str | None = None) -> ChangeSet:
    with _lock:
        for change_set in self.change_sets.values():
            if _is_meant(change_set, change_set_name, stack_name):
                return change_set
    raise ChangeSetNotFound(f"ChangeSet [{change_set_name}] does not exist")


def _is_meant(change_set: ChangeSet, name: str, stack: str | None) -> bool:
    """By its ARN, or by its name and the name or ARN of its stack."""
    if name == change_set.change_set_id:
        return True
    return name == change_set.change_set_name and stack in (None, change_set.stack_name, change_set.stack_id)


def _describe_action(self: CloudFormationResponse) -> ActionResult:
    name, stack = self._get_param("ChangeSetName"), self._get_param("StackName")
    return ActionResult(_describe(self.cloudformation_backend, name, stack))


def _delete_action(self: CloudFormationResponse) -> EmptyResult:
    _delete(self.cloudformation_backend, self._get_param("ChangeSetName"), self._get_param("StackName"))
    return EmptyResult()
