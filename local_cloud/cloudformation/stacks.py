"""Stack operations as CloudFormation does them: in the background, in the order of references, with an event for each
resource, with the reason of a failure, with rollback, and with replacements carried on to whatever refers to them.

moto's own do it inside the API call and in the order of the text, turn a failure into an HTTP 500 without rollback, and
compare raw templates, so that an endpoint would go on naming a configuration that was replaced. This module takes the
place of three methods of moto's CloudFormation backend (create, update, delete) and of two properties of its Stack that
would create resources as a side effect of looking at an unfinished stack; :mod:`.change_sets` does the same for change
sets. Templates, parameters, conditions, functions
and resource classes stay moto's.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from moto.cloudformation import parsing
from moto.cloudformation.exceptions import AlreadyExistsException, ValidationError
from moto.cloudformation.models import CloudFormationBackend, Stack, cloudformation_backends
from moto.cloudformation.responses import CloudFormationResponse
from moto.cloudformation.utils import generate_stack_id

from tidegate.local_cloud.cloudformation.change_sets import run_change_sets_ourselves
from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.stack_steps import cut_off, enter, make, remove, remove_leftovers
from tidegate.local_cloud.cloudformation.stack_update import StackUpdate, under_way
from tidegate.local_cloud.cloudformation.templates import Json, imports, in_order, unsupported, with_defaults

logger = logging.getLogger(__name__)

_PATIENCE_S = 5.0
_CUT_OFF = {"UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": "UPDATE_COMPLETE"}  # what is left over is left over
_outputs_of_moto = Stack.outputs


def run_stacks_ourselves() -> None:
    """Replaces the methods named at the top of this module. Calling it again changes nothing."""
    CloudFormationBackend.create_stack = _create_stack  # type: ignore[method-assign, assignment]
    CloudFormationBackend.update_stack = _update_stack  # type: ignore[method-assign, assignment]
    CloudFormationBackend.delete_stack = _delete_stack  # type: ignore[method-assign]
    run_change_sets_ourselves(
        accept=_accepted, changes_nothing=_changes_nothing, begin_creation=_create_from_change_set
    )
    CloudFormationResponse._get_stack_from_s3_url = _template_at  # type: ignore[method-assign, assignment]
    Stack.outputs = property(_outputs)  # type: ignore[assignment, method-assign]
    Stack.stack_resources = property(_stack_resources)  # type: ignore[assignment, method-assign]


def resume() -> list[str]:
    """After a restart: an operation that was under way has failed. Returns what is lost, in sentences."""
    lost = []
    for _, _, backend in list(cloudformation_backends.iter_backends()):
        stacks: dict[str, Stack] = vars(backend)["stacks"]
        for stack in list(stacks.values()):
            if stack.status.endswith("_IN_PROGRESS") and stack.status != "REVIEW_IN_PROGRESS":
                status = _CUT_OFF.get(stack.status, stack.status.replace("_IN_PROGRESS", "_FAILED"))
                update = under_way(stack)
                cut_off(stack, update.leftovers() if update is not None else ())
                enter(stack, status, "The local cloud ended while this was under way; delete the stack.")
                lost.append(f"stack {stack.name} was being changed, and is {status} now: delete it and deploy again")
    return lost


def _create_stack(
    self: CloudFormationBackend, name: str, template: str, parameters: dict[str, Any], **options: Any
) -> Stack:
    if any(stack.name == name for stack in self.stacks.values()):
        raise AlreadyExistsException(f"Stack {name} already exists")
    definition = _accepted(template)
    stack = Stack(  # type: ignore[abstract] # moto never defines two of its own abstract methods
        stack_id=generate_stack_id(name, self.region_name, self.account_id),
        name=name,
        template=template,
        parameters=with_defaults(definition, parameters),
        account_id=self.account_id,
        region_name=self.region_name,
        cross_stack_resources=self.exports,
        **options,
    )
    self.stacks[stack.stack_id] = stack
    _begin(stack, "CREATE_IN_PROGRESS", functools.partial(_create, stack, self))
    return stack


def _update_stack(
    self: CloudFormationBackend,
    *,
    name: str,
    template: str,
    parameters: list[dict[str, Any]],
    tags: dict[str, str] | None,
    **_not_enforced: Any,  # the role: rights are not checked here
) -> Stack:
    stack = self.get_stack(name)
    if not stack.status.endswith("_COMPLETE"):
        raise ValidationError(message=f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated.")
    definition = _accepted(template)
    given = self._resolve_update_parameters(instance=stack, incoming_params=parameters)
    resolved = with_defaults(definition, given)
    new_map = _new_map(self, stack, definition, resolved, tags)
    if _is_unchanged(stack, definition, new_map, tags):
        raise ValidationError(message="No updates are to be performed.")
    update = StackUpdate(
        stack=stack, template=template, definition=definition, parameters=resolved, tags=tags, new_map=new_map
    )
    _begin(stack, "UPDATE_IN_PROGRESS", functools.partial(update.run, self))
    return stack


def _new_map(
    backend: CloudFormationBackend, stack: Stack, definition: Json, parameters: Json, tags: dict[str, str] | None
) -> parsing.ResourceMap:
    """What an update brings the stack to, with parameters resolved and nothing made yet."""
    new_map = parsing.ResourceMap(
        stack.stack_id,
        stack.name,
        parameters,
        tags if tags is not None else stack.tags,
        account_id=stack.account_id,
        region_name=stack.region_name,
        template=definition,
        cross_stack_resources=backend.exports,
    )
    new_map.load()
    return new_map


def _is_unchanged(stack: Stack, definition: Json, new_map: parsing.ResourceMap, tags: dict[str, str] | None) -> bool:
    # Resolved, because the value behind a name in Parameter Store may be another one than at the last update.
    same_parameters = new_map.resolved_parameters == stack.resource_map.resolved_parameters
    return definition == stack.template_dict and same_parameters and tags in (None, stack.tags)


def _changes_nothing(
    backend: CloudFormationBackend, stack: Stack, template: str, parameters: Json, tags: dict[str, str] | None
) -> bool:
    """The question of a change set that is to update a stack."""
    definition = Stack.parse_template(template)
    new_map = _new_map(backend, stack, definition, with_defaults(definition, parameters), tags)
    return _is_unchanged(stack, definition, new_map, tags)


def _delete_stack(self: CloudFormationBackend, name_or_stack_id: str) -> None:
    stack = next((each for each in self.stacks.values() if name_or_stack_id in (each.name, each.stack_id)), None)
    if stack is None or stack.status == "DELETE_IN_PROGRESS":
        return
    if stack.status == "REVIEW_IN_PROGRESS":  # no change set made anything yet
        del self.stacks[stack.stack_id]
        return
    users = [
        other.name
        for other in self.stacks.values()
        for export in _exports(self, stack)
        if other is not stack and imports(other.template_dict, export)
    ]
    if users:
        raise ValidationError(message=f"Export of {stack.name} cannot be deleted as it is in use by {', '.join(users)}")
    _begin(stack, "DELETE_IN_PROGRESS", functools.partial(_delete, stack, self))


def _create_from_change_set(
    self: CloudFormationBackend, stack: Stack, template: str, parameters: dict[str, Any]
) -> None:
    """The stack exists already, empty and in REVIEW_IN_PROGRESS."""
    definition = _accepted(template)
    stack.template, stack.template_dict = template, definition
    stack.parameters = with_defaults(definition, parameters)
    stack.cross_stack_resources = self.exports
    stack.resource_map = stack._create_resource_map()
    stack.output_map = stack._create_output_map()
    _begin(stack, "CREATE_IN_PROGRESS", functools.partial(_create, stack, self))


def _begin(stack: Stack, status: str, work: Callable[[], None]) -> None:
    """Starts an operation and answers when it is done, or after ``_PATIENCE_S`` while it goes on.

    The CDK command line looks at a stack at once and then every five seconds; what is done at its first look costs it
    no wait, and most stacks are made in less time.
    """
    enter(stack, status, "User Initiated")
    worker = threading.Thread(target=_guarded, args=(stack, work), name=f"stack {stack.name}", daemon=True)
    worker.start()
    worker.join(_PATIENCE_S)


def _guarded(stack: Stack, work: Callable[[], None]) -> None:
    try:
        work()
    except Exception as error:
        # Only a mistake of this module comes here; a stack must not stay in progress for ever because of it.
        logger.exception("stack %s broke", stack.name)
        enter(stack, stack.status.replace("_IN_PROGRESS", "_FAILED"), f"{type(error).__name__}: {error}")


def _create(stack: Stack, backend: CloudFormationBackend) -> None:
    resource_map = stack.resource_map
    made: list[str] = []
    for name in in_order(stack.template_dict["Resources"]):
        failure = make(stack, resource_map, name)
        if failure is not None:
            enter(stack, "ROLLBACK_IN_PROGRESS", f"The following resource(s) failed to create: [{name}]. {failure}")
            remove(stack, resource_map, stack.template_dict["Resources"], reversed(made), just_made=True)
            enter(stack, "ROLLBACK_COMPLETE")
            return
        made.append(name)
    for export in stack.exports:
        backend.exports[export.name] = export
    enter(stack, "CREATE_COMPLETE")


def _delete(stack: Stack, backend: CloudFormationBackend) -> None:
    definitions = stack.template_dict["Resources"]
    failures = remove(stack, stack.resource_map, definitions, reversed(in_order(definitions)))
    remove_leftovers(stack)
    if failures:
        enter(stack, "DELETE_FAILED", f"The following resource(s) failed to delete: [{', '.join(failures)}].")
        return
    for name in _exports(backend, stack):
        del backend.exports[name]
    enter(stack, "DELETE_COMPLETE")
    backend.deleted_stacks[stack.stack_id] = stack
    backend.stacks.pop(stack.stack_id, None)


def _exports(backend: CloudFormationBackend, stack: Stack) -> list[str]:
    return [name for name, export in backend.exports.items() if export.exporting_stack_id == stack.stack_id]


def _template_at(_self: CloudFormationResponse, template_url: str) -> str:
    """The template that a bootstrapped deployment has put into S3, by an address of this cloud or of AWS."""
    address = urlsplit(template_url)
    host, path = address.hostname or "", address.path.lstrip("/")
    if host == "127.0.0.1" or host.startswith("s3"):
        bucket, _, key = path.partition("/")
    else:
        bucket, key = host.partition(".")[0], path
    content: bytes = client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return content.decode()


def _accepted(template: str) -> Json:
    definition = Stack.parse_template(template)
    if not isinstance(definition, dict) or not definition.get("Resources"):
        raise ValidationError(message="Template format error: At least one Resources member must be defined.")
    sentence = unsupported(definition["Resources"])
    if sentence is not None:
        raise ValidationError(message=sentence)
    try:
        in_order(definition["Resources"])
    except ValueError as error:
        raise ValidationError(message=str(error)) from error
    return definition


def _outputs(self: Stack) -> list[dict[str, Any]] | None:
    if self.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"):
        return None
    outputs: list[dict[str, Any]] | None = _outputs_of_moto.fget(self)  # type: ignore[attr-defined]
    return outputs


def _stack_resources(self: Stack) -> list[Any]:
    parsed = self.resource_map._parsed_resources
    return [parsed[name] for name in self.resource_map._resource_json_map if parsed.get(name) is not None]
