"""What the resource classes share that act through boto3: creation, update in place or by replacement, deletion.

moto finds a resource class because it inherits from ``CloudFormationModel`` directly, calls it as that class lays down,
and keeps the object. An update that needs another resource returns another object, with another physical id; who
deletes the old one is CloudFormation's clean-up phase (:mod:`.stack_update`).
"""

# ruff: noqa: ARG003 - the signatures are those by which moto calls these classes

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Self

from botocore.model import ListShape, MapShape, Shape, StructureShape
from moto.cloudformation.exceptions import UnformattedGetAttTemplateException
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client

Json = dict[str, Any]


_told: ContextVar[Callable[[Resource], None] | None] = ContextVar("_told", default=None)


@contextmanager
def telling(tell: Callable[[Resource], None]) -> Iterator[None]:
    """Within the block ``tell`` hears of a resource before it is made, which may take minutes."""
    token = _told.set(tell)
    try:
        yield
    finally:
        _told.reset(token)


class ResourceFailed(Exception):
    """A resource could not be brought to the wanted state; the text is the reason in the stack's events."""


class Resource:
    """One resource: its name, its ARN (where it has one) and the properties that it was made with."""

    TYPE: ClassVar[str]
    NAME: ClassVar[str] = ""  # the property that may hold its name; empty where the type has none
    NAME_CHARS: ClassVar[int] = 63  # how long a generated name may be
    ATTRIBUTES: ClassVar[dict[str, str]] = {}  # Fn::GetAtt name: attribute of the object
    TAKES_STACK_TAGS: ClassVar[bool] = False  # whether CloudFormation hands the stack's own tags down to it

    def __init__(self, name: str, properties: Json) -> None:
        self.name = name
        self.properties = properties
        self.arn = ""

    @classmethod
    def cloudformation_type(cls) -> str:
        return cls.TYPE

    @classmethod
    def cloudformation_name_type(cls) -> str:
        return cls.NAME

    @property
    def physical_resource_id(self) -> str:
        """What Ref gives ("Return values" of each type in the CloudFormation reference); the ARN for most."""
        return self.arn

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in cls.ATTRIBUTES

    def get_cfn_attribute(self, attribute_name: str) -> str:
        if attribute_name not in self.ATTRIBUTES:
            raise UnformattedGetAttTemplateException
        return str(getattr(self, self.ATTRIBUTES[attribute_name]))

    def is_created(self) -> bool:
        return True

    def create(self) -> None:
        """Makes the resource and sets ``arn``."""
        raise NotImplementedError

    def update(self, properties: Json) -> bool:
        """Takes new properties in place; returns False when that needs another resource."""
        raise NotImplementedError

    def delete(self, account_id: str, region_name: str) -> None:
        """Deletes the resource; one that is already gone is no error."""
        raise NotImplementedError

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str, **kwargs: Any
    ) -> Self:
        properties = cloudformation_json.get("Properties", {})
        resource = cls(properties.get(cls.NAME) or shortened(resource_name, cls.NAME_CHARS), properties)
        if (tell := _told.get()) is not None:
            tell(resource)
        resource.create()
        return resource

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Self,
        new_resource_name: str,
        cloudformation_json: Json,
        account_id: str,
        region_name: str,
    ) -> Self:
        properties = cloudformation_json.get("Properties", {})
        if properties == original_resource.properties:
            return original_resource
        named = properties.get(cls.NAME)
        if named in (None, original_resource.name) and original_resource.update(properties):
            original_resource.properties = properties
            return original_resource
        if named is not None and named == original_resource.name:
            raise ResourceFailed(
                "CloudFormation cannot update a stack when a custom-named resource requires replacing."
                f" Rename {named} and update the stack again."
            )
        return cls.create_from_cloudformation_json(new_resource_name, cloudformation_json, account_id, region_name)

    @classmethod
    def delete_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Json, account_id: str, region_name: str
    ) -> None:
        raise NotImplementedError("moto deletes these resources through their own delete()")


class Overwritten(Resource):
    """A resource that one call makes and that the same call, made again, changes."""

    IDENTITY: ClassVar[tuple[str, ...]] = ()  # properties that say which one it is: their change makes another one

    def put(self, properties: Json) -> None:
        """Makes or changes the resource, and sets ``arn`` where there is one."""
        raise NotImplementedError

    def create(self) -> None:
        self.put(self.properties)

    def update(self, properties: Json) -> bool:
        if any(properties.get(name) != self.properties.get(name) for name in self.IDENTITY):
            return False
        self.put(properties)
        return True


class Delegate:
    """A class that takes the place of one of moto's own: it adds what that one drops and leaves the rest to it."""

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return cls.moto_class().has_cfn_attr(attr)

    @classmethod
    def moto_class(cls) -> type[CloudFormationModel]:
        raise NotImplementedError

    def is_created(self) -> bool:
        return True


def as_request(service: str, operation: str, properties: Json, *, without: Sequence[str] = ()) -> Json:
    """Properties as the API takes them: the same names, but numbers and booleans may be words in a template."""
    shape = client(service).meta.service_model.operation_model(operation).input_shape
    kept = {name: value for name, value in properties.items() if name not in without}
    converted: Json = _converted(shape, kept)
    return converted


def _converted(shape: Shape, value: Any) -> Any:
    if isinstance(shape, StructureShape) and isinstance(value, dict):
        # What the API has not stays as it is: boto3 refuses it by name.
        members = shape.members
        return {name: _converted(members[name], item) if name in members else item for name, item in value.items()}
    if isinstance(shape, ListShape) and isinstance(value, list):
        return [_converted(shape.member, item) for item in value]
    if isinstance(shape, MapShape) and isinstance(value, dict):
        return {key: _converted(shape.value, item) for key, item in value.items()}
    if shape.type_name == "string":
        return str(value).lower() if isinstance(value, bool) else str(value)
    if isinstance(value, str):
        match shape.type_name:
            case "integer" | "long":
                return int(value)
            case "float" | "double":
                return float(value)
            case "boolean" if value.lower() in ("true", "false"):
                return value.lower() == "true"
    return value


def shortened(name: str, chars: int) -> str:
    """A generated name within the service's length, still different from its siblings."""
    if len(name) <= chars:
        return name
    return f"{name[: chars - 9].rstrip('-')}-{secrets.token_hex(4)}"


def is_true(value: Any) -> bool:
    """CloudFormation takes booleans as words too."""
    return value if isinstance(value, bool) else str(value).lower() == "true"
