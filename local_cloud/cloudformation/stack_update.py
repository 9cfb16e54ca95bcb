"""One update of a stack, with its clean-up or its rollback."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from moto.cloudformation import parsing
from moto.cloudformation.models import CloudFormationBackend, Stack

from tidegate.local_cloud.cloudformation.stack_steps import (
    Leftover,
    coming,
    discard,
    enter,
    make,
    physical_id,
    reason_of,
    remove,
    tell,
)
from tidegate.local_cloud.cloudformation.templates import Json, in_order, references, with_stack_tags

_UNDER_WAY = "update_under_way"  # lies in moto's own object, so that it goes where that goes


def under_way(stack: Stack) -> StackUpdate | None:
    """The update of a stack that has not come to its end."""
    update: StackUpdate | None = vars(stack).get(_UNDER_WAY)
    return update


@dataclass(slots=True, kw_only=True)
class StackUpdate:
    """Everything is carried over to ``new_map``, which takes the place of the stack's resource map at the end.

    A resource is concerned when its definition changed, when a parameter that it names changed, or when a resource that
    it names was replaced: when a model's data changes, the definitions of the configuration that names the model and of
    the endpoint that names the configuration stay the same, and both must change.
    """

    stack: Stack
    template: str
    definition: Json
    parameters: Json
    tags: dict[str, str] | None
    new_map: parsing.ResourceMap
    _old: list[Leftover] = field(default_factory=list)
    _created: list[str] = field(default_factory=list)
    _modified: list[str] = field(default_factory=list)
    _replaced: dict[str, Any] = field(default_factory=dict)  # logical id: the resource that was replaced

    @property
    def _old_definitions(self) -> Json:
        definitions: Json = self.stack.resource_map._resource_json_map
        return definitions

    def run(self, backend: CloudFormationBackend) -> None:
        """Ends in UPDATE_COMPLETE or UPDATE_ROLLBACK_COMPLETE."""
        self._old += [
            Leftover(name=name, definition=definition, resource=resource, just_made=False)
            for name, definition in self._old_definitions.items()
            if (resource := self.stack.resource_map._parsed_resources.get(name)) is not None
        ]
        vars(self.stack)[_UNDER_WAY] = self
        try:
            self._run(backend)
        finally:
            del vars(self.stack)[_UNDER_WAY]

    def leftovers(self) -> list[Leftover]:
        """What the update has made or replaced, and the stack does not have by its own map."""
        known = list(self.stack.resource_map._parsed_resources.values())
        made = [
            Leftover(name=name, definition=definition, resource=resource, just_made=True)
            for name, definition in self.definition["Resources"].items()
            if (resource := self.new_map._parsed_resources.get(name)) is not None
        ]
        return [each for each in (*self._old, *made) if not any(each.resource is resource for resource in known)]

    def _run(self, backend: CloudFormationBackend) -> None:
        old_map, old_definitions = self.stack.resource_map, self._old_definitions
        definitions = self.definition["Resources"]
        for name in definitions.keys() & old_definitions.keys():
            if name in old_map._parsed_resources:
                self.new_map._parsed_resources[name] = old_map._parsed_resources[name]
        for name in in_order(definitions):
            failure = self._apply(name)
            if failure is not None:
                self._roll_back(name, failure)
                return
        self._adopt(backend)
        enter(self.stack, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        # Deletes what was replaced and what the template no longer has; a failure here does not fail the update.
        for name, old in reversed(self._replaced.items()):
            if definitions[name].get("UpdateReplacePolicy") == "Retain":
                kind, identity = old_definitions[name]["Type"], physical_id(old)
                tell(self.stack, name, kind, "DELETE_SKIPPED", physical_id=identity)
            else:
                discard(self.stack, name, old_definitions[name], old)
        gone = [name for name in reversed(in_order(old_definitions)) if name not in definitions]
        remove(self.stack, old_map, old_definitions, gone)
        enter(self.stack, "UPDATE_COMPLETE")

    def _apply(self, name: str) -> str | None:
        """Brings one resource to its new definition; returns the reason when that failed."""
        if name not in self.new_map._parsed_resources:
            failure = make(self.stack, self.new_map, name)
            if failure is None:
                self._created.append(name)
            return failure
        if not self._concerned(name):
            return None
        return self._modify(name, self.definition["Resources"][name], self.new_map)

    def _concerned(self, name: str) -> bool:
        new, old_parameters = self.definition["Resources"][name], self.stack.resource_map.resolved_parameters
        changed = {key for key, value in self.new_map.resolved_parameters.items() if old_parameters.get(key) != value}
        old_map = self.stack.resource_map
        before = with_stack_tags(self._old_definitions[name], old_map.tags)
        after = with_stack_tags(new, self.new_map.tags)
        return after != before or bool(references(new) & (self._replaced.keys() | changed))

    def _modify(self, name: str, definition: Json, resource_map: parsing.ResourceMap) -> str | None:
        stack, kind, old = self.stack, definition["Type"], resource_map._parsed_resources[name]
        identity = physical_id(old)
        tell(stack, name, kind, "UPDATE_IN_PROGRESS", physical_id=identity)
        try:
            if kind != self._old_definitions[name]["Type"]:
                raise ValueError("a resource cannot change its type; give the new one another logical id")
            with coming(stack, name, definition):
                new: Any = parsing.parse_and_update_resource(
                    name,
                    with_stack_tags(definition, resource_map.tags),
                    resource_map,
                    stack.account_id,
                    stack.region_name,
                )
            if new is None:  # moto's class for the type has no update
                raise ValueError(f"the local cloud cannot update {kind}; destroy the stack and deploy it again")
        except Exception as error:
            tell(stack, name, kind, "UPDATE_FAILED", reason=reason_of(error), physical_id=identity)
            return reason_of(error)
        resource_map._parsed_resources[name] = new
        if new is not old and physical_id(new) != identity:
            self._replaced[name] = old
        else:
            self._modified.append(name)
        tell(stack, name, kind, "UPDATE_COMPLETE", physical_id=physical_id(new))
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

    def _roll_back(self, failed: str, reason: str) -> None:
        stack, old_map = self.stack, self.stack.resource_map
        enter(
            stack,
            "UPDATE_ROLLBACK_IN_PROGRESS",
            f"The following resource(s) failed to update: [{failed}]. {reason}",
        )
        # First what refers to the new things goes back, then the new things go.
        replacements = {name: self.new_map._parsed_resources[name] for name in self._replaced}
        for name in reversed(tuple(self._modified)):
            self._modify(name, self._old_definitions[name], old_map)
        for name, new in reversed(replacements.items()):
            discard(stack, name, self.definition["Resources"][name], new)
        remove(stack, self.new_map, self.definition["Resources"], reversed(self._created), just_made=True)
        enter(stack, "UPDATE_ROLLBACK_COMPLETE")
