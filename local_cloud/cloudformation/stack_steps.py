"""The steps of a stack operation: one resource made or deleted, each with its events."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from moto.cloudformation import parsing
from moto.cloudformation.models import Event, Stack

from tidegate.local_cloud.cloudformation import network_resources
from tidegate.local_cloud.cloudformation.resource_class import telling
from tidegate.local_cloud.cloudformation.templates import NO_RESOURCE, Json, with_stack_tags

# They lie in moto's own object, so that they go where it goes.
_COMING, _LEFTOVERS = "coming", "leftovers"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """A resource that a stack has beside those of its template, because an operation was cut off."""

    name: str
    definition: Json
    resource: Any
    just_made: bool
    """By that operation; else it was to be replaced, or is not in the template any more."""

    @property
    def is_kept(self) -> bool:
        policies = (self.definition.get("DeletionPolicy"), self.definition.get("UpdateReplacePolicy"))
        return "Retain" in policies or (not self.just_made and "RetainExceptOnCreate" in policies)


def enter(stack: Stack, status: str, reason: str | None = None) -> None:
    """Puts the stack into a status; who sees the status also sees its event."""
    tell(stack, stack.name, "AWS::CloudFormation::Stack", status, reason=reason, physical_id=stack.stack_id)
    vars(stack)["status_reason"] = reason  # moto's answers have it as StackStatusReason, and moto never sets it
    stack.status = status


def tell(stack: Stack, name: str, kind: str, status: str, *, reason: str | None = None, physical_id: str = "") -> None:
    """Adds an event to the stack's."""
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


def make(stack: Stack, resource_map: parsing.ResourceMap, name: str) -> str | None:
    """Creates one resource; returns the reason when that failed."""
    definition = resource_map._resource_json_map[name]
    kind = definition["Type"]
    condition = definition.get("Condition")
    if kind in NO_RESOURCE or (condition and not resource_map.lazy_condition_map[condition]):
        return None
    tell(stack, name, kind, "CREATE_IN_PROGRESS")
    try:
        with coming(stack, name, definition):
            resource: Any = parsing.parse_and_create_resource(
                name, with_stack_tags(definition, resource_map.tags), resource_map, stack.account_id, stack.region_name
            )
    except Exception as error:
        if not isinstance(error, ClientError | BotoCoreError):
            logger.info("resource %s of stack %s failed", name, stack.name, exc_info=True)
        tell(stack, name, kind, "CREATE_FAILED", reason=reason_of(error))
        return reason_of(error)
    resource_map._parsed_resources[name] = resource
    tell(stack, name, kind, "CREATE_COMPLETE", physical_id=physical_id(resource))
    return None


@contextmanager
def coming(stack: Stack, name: str, definition: Json) -> Iterator[None]:
    """Within the block the stack knows of the resource that is being made, for who finds it after a restart."""
    begun: dict[str, Leftover] = vars(stack).setdefault(_COMING, {})

    def begin(resource: Any) -> None:
        begun[name] = Leftover(name=name, definition=definition, resource=resource, just_made=True)

    try:
        with telling(begin):
            yield
    finally:
        begun.pop(name, None)


def cut_off(stack: Stack, also: Iterable[Leftover] = ()) -> None:
    """After a restart: what was being made, and ``also`` what else the stack has made, goes when it is deleted."""
    leftovers: list[Leftover] = vars(stack).setdefault(_LEFTOVERS, [])
    leftovers += [*also, *vars(stack).pop(_COMING, {}).values()]


def remove_leftovers(stack: Stack) -> None:
    """Deletes what an operation that was cut off has left; what is gone already is no failure."""
    leftovers: list[Leftover] = vars(stack).pop(_LEFTOVERS, [])
    for each in reversed(leftovers):
        if not each.is_kept:
            discard(stack, each.name, each.definition, each.resource)


def remove(
    stack: Stack,
    resource_map: parsing.ResourceMap,
    definitions: Mapping[str, Json],
    names: Iterable[str],
    *,
    just_made: bool = False,
) -> list[str]:
    """Deletes resources in the given order; returns the logical ids of those that could not be deleted.

    What a DeletionPolicy keeps is left alone; with ``just_made``, when the operation that made these resources is
    rolled back, that is ``Retain`` alone. Source: CloudFormation template reference, DeletionPolicy attribute.
    """
    kept = ("Retain",) if just_made else ("Retain", "RetainExceptOnCreate")
    failed = []
    for name in names:
        resource = resource_map._parsed_resources.get(name)
        if resource is None:
            continue
        if definitions[name].get("DeletionPolicy") in kept:
            tell(stack, name, definitions[name]["Type"], "DELETE_SKIPPED", physical_id=physical_id(resource))
            continue
        if discard(stack, name, definitions[name], resource):
            resource_map._parsed_resources.pop(name, None)
        else:
            failed.append(name)
    return failed


def discard(stack: Stack, name: str, definition: Json, resource: Any) -> bool:
    """Deletes one resource; returns whether that went well."""
    kind, identity = definition["Type"], physical_id(resource)
    tell(stack, name, kind, "DELETE_IN_PROGRESS", physical_id=identity)
    try:
        # Else the way that moto itself deletes: by the object where it can, or by the class of its type.
        if not network_resources.delete(kind, resource):
            stack.resource_map._delete_resource(resource, definition)
    except Exception as error:
        tell(stack, name, kind, "DELETE_FAILED", reason=reason_of(error), physical_id=identity)
        return False
    tell(stack, name, kind, "DELETE_COMPLETE", physical_id=identity)
    return True


def physical_id(resource: Any) -> str:
    """The physical id of a resource object of moto's or ours."""
    return str(getattr(resource, "physical_resource_id", "") or "")


def reason_of(error: Exception) -> str:
    """What an event says about a failure."""
    if isinstance(error, ClientError):
        return str(error.response["Error"]["Message"])
    return str(error) or type(error).__name__
