"""What can be read off a template: references, the order that they demand, types that are not here. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from moto.cloudformation import parsing

Json = dict[str, Any]

# Types without a resource: CDK's own bookkeeping and CloudFormation's wait conditions.
NO_RESOURCE = frozenset({"AWS::CDK::Metadata", *parsing.NULL_MODELS})
_SUBSTITUTION = re.compile(r"\$\{([A-Za-z0-9]+)(?:\.[^}]*)?\}")


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
        if kind in NO_RESOURCE:
            continue
        if kind.startswith("Custom::") or kind == "AWS::CloudFormation::CustomResource":
            return f"The local cloud does not run custom resources ({kind}, resource {name})."
        if kind not in parsing.get_model_map():
            return f"The local cloud does not have {kind} (resource {name}); it is refused, not ignored."
    return None


def with_stack_tags(definition: Json, tags: Mapping[str, str] | None) -> Json:
    """A resource definition with the stack's own tags, as CloudFormation hands them down; its own tags win."""
    kind: Any = parsing.get_model_map().get(definition["Type"])
    if not tags or not getattr(kind, "TAKES_STACK_TAGS", False):
        return definition
    properties = definition.get("Properties", {})
    own = properties.get("Tags", [])
    named = {tag["Key"] for tag in own}
    inherited = [{"Key": key, "Value": value} for key, value in tags.items() if key not in named]
    return {**definition, "Properties": {**properties, "Tags": [*own, *inherited]}}


def with_defaults(template: Json, parameters: Mapping[str, Any]) -> Json:
    """The parameters with the template's defaults, so that a later update can ask for the previous value of any."""
    slots = template.get("Parameters", {})
    defaults = {name: slot["Default"] for name, slot in slots.items() if "Default" in slot}
    return {**defaults, **parameters}


def imports(template: Any, export: str) -> bool:
    """Whether a template imports an exported value."""
    if isinstance(template, Mapping):
        return template.get("Fn::ImportValue") == export or any(imports(item, export) for item in template.values())
    return isinstance(template, list) and any(imports(item, export) for item in template)
