"""Stack operations as CloudFormation does them: in the background, in the order of references, with an event for each
resource, with the reason of a failure, with rollback, and with replacements carried on to whatever refers to them.

moto's own do it inside the API call and in the order of the text, turn a failure into an HTTP 500 without rollback, and
compare raw templates, so that an endpoint would go on naming a configuration that was replaced. This module takes the
place of three methods of moto's CloudFormation backend (create, update, delete) and of two properties of its Stack that
would create resources as a side effect of looking at an unfinished stack. Templates, parameters, conditions, functions and
resource classes stay moto's.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from moto.cloudformation import models, parsing
from moto.cloudformation.exceptions import AlreadyExistsException, ValidationError
from moto.cloudformation.models import CloudFormationBackend, Event, Stack
from moto.cloudformation.utils import generate_stack_id

logger = logging.getLogger(__name__)

Json = dict[str, Any]

# Types without a resource: CDK's own bookkeeping and CloudFormation's wait conditions.
_NO_RESOURCE = frozenset({"AWS::CDK::Metadata", *parsing.NULL_MODELS})
_SUBSTITUTION = re.compile(r"\$\{([A-Za-z0-9]+)(?:\.[^}]*)?\}")
_outputs_of_moto = Stack.outputs


def run_stacks_ourselves() -> None:
    """Replaces the methods named at the top of this module. Calling it again changes nothing."""
    CloudFormationBackend.create_stack = _create_stack  # type: ignore[method-assign]
    CloudFormationBackend.update_stack = _update_stack  # type: ignore[method-assign]
    CloudFormationBackend.delete_stack = _delete_stack  # type: ignore[method-assign]
    Stack.outputs = property(_outputs)  # type: ignore[assignment, method-assign]
    Stack.stack_resources = property(_stack_resources)  # type: ignore[assignment, method-assign]


def references(definition: Any) -> set[str]:
    """The logical ids (and parameters) that a resource definition names by Ref, GetAtt, Sub or DependsOn."""
    found: set[str] = set()
    if isinstance(definition, Mapping):
        for key, value in definition.items():
            if key == "Ref" and isinstance(value, str):
                found.add(value)
            elif key == "Fn::GetAtt":
                found.add(value[0] if isinstance(value, list) else str(value).partition(".")[0])
            elif key == "DependsOn":
                found.update([value] if isinstance(value, str) else value)
            elif key == "Fn::Sub":
                text = value if isinstance(value, str) else value[0]
                found.update(_SUBSTITUTION.findall(text))
                found |= references(value)
            else:
                found |= references(value)
    elif isinstance(definition, list):
        for item in definition:
            found |= references(item)
    return found


def in_order(resources: Mapping[str, Json]) -> list[str]:
    """The logical ids so that each comes after those it refers to. Raises ValueError for a circle."""
    order: list[str] = []
    entered: set[str] = set()

    def visit(name: str) -> None:
        if name in order:
            return
        if name in entered:
            raise ValueError(f"Circular dependency between resources: {name}")
        entered.add(name)
        for other in sorted(references(resources[name]) & resources.keys()):
            visit(other)
        order.append(name)

    for name in resources:
        visit(name)
    return order


def unsupported(resources: Mapping[str, Json]) -> str | None:
    """A sentence about the first resource whose type the local cloud does not have; None when it has them all."""
    for name, definition in resources.items():
        kind = definition["Type"]
        if kind in _NO_RESOURCE:
            continue
        if kind.startswith("Custom::") or kind == "AWS::CloudFormation::CustomResource":
            return f"The local cloud does not run custom resources ({kind}, resource {name})."
        if kind not in parsing.get_model_map():
            return f"The local cloud does not have {kind} (resource {name}); it is refused, not ignored."
    return None


def _create_stack(
    self: CloudFormationBackend, name: str, template: str, parameters: dict[str, Any], **options: Any
) -> Stack:
    if any(stack.name == name for stack in self.stacks.values()):
        raise AlreadyExistsException(f"Stack {name} already exists")
    definition = _accepted(template)
    stack = Stack(
        stack_id=generate_stack_id(name, self.region_name, self.account_id),
        name=name,
        template=template,
        parameters=_with_defaults(definition, parameters),
        account_id=self.account_id,
        region_name=self.region_name,
        cross_stack_resources=self.exports,
        **options,
    )
    self.stacks[stack.stack_id] = stack
    _begin(stack, "CREATE_IN_PROGRESS", _create, self)
    return stack


def _update_stack(
    self: CloudFormationBackend,
    name: str,
    template: str,
    role_arn: str | None,
    parameters: list[dict[str, Any]],
    tags: dict[str, str] | None,
) -> Stack:
    stack = self.get_stack(name)
    if not stack.status.endswith("_COMPLETE"):
        raise ValidationError(message=f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated.")
    definition = _accepted(template)
    given = self._resolve_update_parameters(instance=stack, incoming_params=parameters)
    resolved = _with_defaults(definition, given)
    if definition == stack.template_dict and resolved == stack.parameters and tags in (None, stack.tags):
        raise ValidationError(message="No updates are to be performed.")
    new_map = parsing.ResourceMap(
        stack.stack_id,
        stack.name,
        resolved,
        tags if tags is not None else stack.tags,
        account_id=stack.account_id,
        region_name=stack.region_name,
        template=definition,
        cross_stack_resources=self.exports,
    )
    new_map.load()
    _begin(stack, "UPDATE_IN_PROGRESS", _Update(stack, template, definition, resolved, tags, new_map).run, self)
    return stack


def _delete_stack(self: CloudFormationBackend, name_or_stack_id: str) -> None:
    stack = next((each for each in self.stacks.values() if name_or_stack_id in (each.name, each.stack_id)), None)
    if stack is None or stack.status == "DELETE_IN_PROGRESS":
        return
    users = [
        other.name
        for other in self.stacks.values()
        for export in (stack.exports if stack.status.endswith("_COMPLETE") else [])
        if other is not stack and _imports(other.template_dict, export.name)
    ]
    if users:
        raise ValidationError(message=f"Export of {stack.name} cannot be deleted as it is in use by {', '.join(users)}")
    _begin(stack, "DELETE_IN_PROGRESS", _delete, self)


def _begin(stack: Stack, status: str, work: Any, backend: CloudFormationBackend) -> None:
    _enter(stack, status, "User Initiated")
    threading.Thread(target=_guarded, args=(stack, work, backend), name=f"stack {stack.name}", daemon=True).start()


def _guarded(stack: Stack, work: Any, backend: CloudFormationBackend) -> None:
    try:
        work(stack, backend) if work in (_create, _delete) else work(backend)
    except Exception as error:
        # Only a mistake of this module comes here; a stack must not stay in progress for ever because of it.
        logger.exception("stack %s broke", stack.name)
        _enter(stack, stack.status.replace("_IN_PROGRESS", "_FAILED"), f"{type(error).__name__}: {error}")


def _create(stack: Stack, backend: CloudFormationBackend) -> None:
    resource_map = stack.resource_map
    made: list[str] = []
    for name in in_order(stack.template_dict["Resources"]):
        failure = _make(stack, resource_map, name)
        if failure is not None:
            _enter(stack, "ROLLBACK_IN_PROGRESS", f"The following resource(s) failed to create: [{name}]. {failure}")
            _remove(stack, resource_map, stack.template_dict["Resources"], reversed(made))
            _enter(stack, "ROLLBACK_COMPLETE")
            return
        made.append(name)
    for export in stack.exports:
        backend.exports[export.name] = export
    _enter(stack, "CREATE_COMPLETE")


def _delete(stack: Stack, backend: CloudFormationBackend) -> None:
    definitions = stack.template_dict["Resources"]
    exports = [name for name, export in backend.exports.items() if export.exporting_stack_id == stack.stack_id]
    failures = _remove(stack, stack.resource_map, definitions, reversed(in_order(definitions)), retain=True)
    if failures:
        _enter(stack, "DELETE_FAILED", f"The following resource(s) failed to delete: [{', '.join(failures)}].")
        return
    for name in exports:
        backend.exports.pop(name, None)
    _enter(stack, "DELETE_COMPLETE")
    backend.deleted_stacks[stack.stack_id] = stack
    backend.stacks.pop(stack.stack_id, None)


class _Update:
    """One update of a stack: everything is carried over to a new resource map, which takes the old one's place at the end."""

    def __init__(
        self,
        stack: Stack,
        template: str,
        definition: Json,
        parameters: Json,
        tags: dict[str, str] | None,
        new_map: parsing.ResourceMap,
    ) -> None:
        self.stack, self.template, self.definition = stack, template, definition
        self.parameters, self.tags, self.new_map = parameters, tags, new_map
        self.old_map, self.old_definitions = stack.resource_map, dict(stack.template_dict["Resources"])
        self.created: list[str] = []
        self.modified: list[str] = []
        self.replaced: dict[str, Any] = {}  # logical id: the resource that was replaced

    def run(self, backend: CloudFormationBackend) -> None:
        definitions = self.definition["Resources"]
        for name in definitions.keys() & self.old_definitions.keys():
            if name in self.old_map._parsed_resources:
                self.new_map._parsed_resources[name] = self.old_map._parsed_resources[name]
        for name in in_order(definitions):
            failure = self._apply(name)
            if failure is not None:
                self._roll_back(name, failure)
                return
        self._adopt(backend)
        _enter(self.stack, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        self._clean_up()
        _enter(self.stack, "UPDATE_COMPLETE")

    def _apply(self, name: str) -> str | None:
        """Brings one resource to its new definition; returns the reason when that failed."""
        if name not in self.new_map._parsed_resources:
            failure = _make(self.stack, self.new_map, name)
            if failure is None:
                self.created.append(name)
            return failure
        if not self._concerned(name):
            return None
        return self._modify(name, self.definition["Resources"][name], self.new_map)

    def _concerned(self, name: str) -> bool:
        new, old = self.definition["Resources"][name], self.old_definitions[name]
        changed_parameters = {
            key
            for key, value in self.new_map.resolved_parameters.items()
            if self.old_map.resolved_parameters.get(key) != value
        }
        return new != old or bool(references(new) & (self.replaced.keys() | changed_parameters))

    def _modify(self, name: str, definition: Json, resource_map: parsing.ResourceMap) -> str | None:
        old = resource_map._parsed_resources[name]
        _tell(self.stack, name, definition["Type"], "UPDATE_IN_PROGRESS", physical_id=_physical_id(old))
        try:
            if definition["Type"] != self.old_definitions[name]["Type"]:
                raise ValueError("a resource cannot change its type; give the new one another logical id")
            new = parsing.parse_and_update_resource(
                name, definition, resource_map, self.stack.account_id, self.stack.region_name
            )
            if new is None:
                raise ValueError(
                    f"the local cloud cannot update {definition['Type']}; destroy the stack and deploy it again"
                )
        except Exception as error:
            _tell(
                self.stack,
                name,
                definition["Type"],
                "UPDATE_FAILED",
                reason=_reason(error),
                physical_id=_physical_id(old),
            )
            return _reason(error)
        resource_map._parsed_resources[name] = new
        if new is not old and _physical_id(new) != _physical_id(old):
            self.replaced[name] = old
        else:
            self.modified.append(name)
        _tell(self.stack, name, definition["Type"], "UPDATE_COMPLETE", physical_id=_physical_id(new))
        return None

    def _adopt(self, backend: CloudFormationBackend) -> None:
        stack = self.stack
        stack.template, stack.template_dict = self.template, self.definition
        stack.parameters, stack.resource_map = self.parameters, self.new_map
        stack.description = self.definition.get("Description")
        if self.tags is not None:
            stack.tags = self.tags
        stack.output_map = stack._create_output_map()
        for name in [key for key, export in backend.exports.items() if export.exporting_stack_id == stack.stack_id]:
            del backend.exports[name]
        for export in stack.exports:
            backend.exports[export.name] = export

    def _clean_up(self) -> None:
        """Deletes what was replaced and what the template no longer has; a failure here does not fail the update."""
        for name, old in reversed(self.replaced.items()):
            _discard(self.stack, name, self.old_definitions[name], old)
        gone = [name for name in reversed(in_order(self.old_definitions)) if name not in self.definition["Resources"]]
        _remove(self.stack, self.old_map, self.old_definitions, gone, retain=True)

    def _roll_back(self, failed: str, reason: str) -> None:
        stack = self.stack
        _enter(
            stack, "UPDATE_ROLLBACK_IN_PROGRESS", f"The following resource(s) failed to update: [{failed}]. {reason}"
        )
        # First what refers to the new things goes back, then the new things go.
        replacements = {name: self.new_map._parsed_resources[name] for name in self.replaced}
        self.old_map._parsed_resources.update(self.replaced)
        for name in reversed(self.modified):
            self._modify(name, self.old_definitions[name], self.old_map)
        for name, new in reversed(replacements.items()):
            _discard(stack, name, self.definition["Resources"][name], new)
        _remove(stack, self.new_map, self.definition["Resources"], reversed(self.created))
        _enter(stack, "UPDATE_ROLLBACK_COMPLETE")


def _make(stack: Stack, resource_map: parsing.ResourceMap, name: str) -> str | None:
    """Creates one resource; returns the reason when that failed."""
    definition = resource_map._resource_json_map[name]
    kind = definition["Type"]
    condition = definition.get("Condition")
    if kind in _NO_RESOURCE or (condition and not resource_map.lazy_condition_map[condition]):
        return None
    _tell(stack, name, kind, "CREATE_IN_PROGRESS")
    try:
        resource = parsing.parse_and_create_resource(
            name, definition, resource_map, stack.account_id, stack.region_name
        )
    except Exception as error:
        if not isinstance(error, ClientError | BotoCoreError):
            logger.info("resource %s of stack %s failed", name, stack.name, exc_info=True)
        _tell(stack, name, kind, "CREATE_FAILED", reason=_reason(error))
        return _reason(error)
    resource_map._parsed_resources[name] = resource
    _tell(stack, name, kind, "CREATE_COMPLETE", physical_id=_physical_id(resource))
    return None


def _remove(
    stack: Stack,
    resource_map: parsing.ResourceMap,
    definitions: Mapping[str, Json],
    names: Iterable[str],
    *,
    retain: bool = False,
) -> list[str]:
    """Deletes resources in the given order; returns the logical ids of those that could not be deleted."""
    failed = []
    for name in names:
        resource = resource_map._parsed_resources.get(name)
        if resource is None:
            continue
        if retain and definitions[name].get("DeletionPolicy") in ("Retain", "RetainExceptOnCreate"):
            _tell(stack, name, definitions[name]["Type"], "DELETE_SKIPPED", physical_id=_physical_id(resource))
            continue
        if _discard(stack, name, definitions[name], resource):
            resource_map._parsed_resources.pop(name, None)
        else:
            failed.append(name)
    return failed


def _discard(stack: Stack, name: str, definition: Json, resource: Any) -> bool:
    kind, physical_id = definition["Type"], _physical_id(resource)
    _tell(stack, name, kind, "DELETE_IN_PROGRESS", physical_id=physical_id)
    try:
        # The way that moto itself deletes: by the object where it can, else by the class of its type.
        stack.resource_map._delete_resource(resource, definition)
    except Exception as error:
        _tell(stack, name, kind, "DELETE_FAILED", reason=_reason(error), physical_id=physical_id)
        return False
    _tell(stack, name, kind, "DELETE_COMPLETE", physical_id=physical_id)
    return True


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


def _with_defaults(definition: Json, parameters: Mapping[str, Any]) -> Json:
    """The parameters with the template's defaults, so that a later update can say "the previous value" of any of them."""
    slots = definition.get("Parameters", {})
    defaults = {name: slot["Default"] for name, slot in slots.items() if "Default" in slot}
    return {**defaults, **parameters}


def _imports(definition: Any, export: str) -> bool:
    if isinstance(definition, Mapping):
        return definition.get("Fn::ImportValue") == export or any(
            _imports(item, export) for item in definition.values()
        )
    return isinstance(definition, list) and any(_imports(item, export) for item in definition)


def _outputs(self: Stack) -> list[dict[str, Any]] | None:
    if self.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"):
        return None
    outputs: list[dict[str, Any]] | None = _outputs_of_moto.fget(self)  # type: ignore[attr-defined]
    return outputs


def _stack_resources(self: Stack) -> list[Any]:
    parsed = self.resource_map._parsed_resources
    return [parsed[name] for name in self.resource_map._resource_json_map if parsed.get(name) is not None]


def _enter(stack: Stack, status: str, reason: str | None = None) -> None:
    _tell(stack, stack.name, "AWS::CloudFormation::Stack", status, reason=reason, physical_id=stack.stack_id)
    stack.status = status


def _tell(stack: Stack, name: str, kind: str, status: str, *, reason: str | None = None, physical_id: str = "") -> None:
    event = Event(
        stack_id=stack.stack_id,
        stack_name=stack.name,
        logical_resource_id=name,
        physical_resource_id=physical_id,
        resource_type=kind,
        resource_status=status,
        resource_status_reason=reason,
        resource_properties=None,
    )
    # Readers sort events by their time, which has milliseconds: each is at least one later than the one before.
    if stack.events:
        event.timestamp = max(event.timestamp, stack.events[-1].timestamp + timedelta(milliseconds=1))
    stack.events.append(event)
    event.sendToSns(stack.account_id, stack.region_name, stack.notification_arns)


def _physical_id(resource: Any) -> str:
    return str(getattr(resource, "physical_resource_id", "") or "")


def _reason(error: Exception) -> str:
    if isinstance(error, ClientError):
        return str(error.response["Error"]["Message"])
    return str(error) or type(error).__name__


__all__ = ["in_order", "models", "references", "run_stacks_ourselves", "unsupported"]
