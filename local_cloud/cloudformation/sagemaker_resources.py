"""AWS::SageMaker::Model, EndpointConfig and Endpoint: they call our SageMaker through boto3.

moto finds a class by its being a direct subclass of ``CloudFormationModel``; of two classes for one type the later
wins. An update returns the same object when it was made in place and another one when the resource was replaced; the
old one is then deleted by :mod:`.stacks` after everything else succeeded (as CloudFormation's clean-up phase does).
"""

# ruff: noqa: ARG002, ARG003 - the signatures are those by which moto calls these classes

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

from botocore.exceptions import ClientError
from botocore.model import ListShape, MapShape, Shape, StructureShape
from moto.cloudformation.exceptions import UnformattedGetAttTemplateException
from moto.core.common_models import CloudFormationModel

from local_cloud.cloudformation.clients import clients

Json = dict[str, Any]

_POLL_S = 0.1
_NAME_CHARS = 63  # model, endpoint configuration and endpoint names
_UPDATE_ONLY = ("RetainAllVariantProperties", "ExcludeRetainedVariantProperties")  # these say how an update goes


class ResourceFailed(Exception):
    """A resource could not be brought to the wanted state; the text is the reason in the stack's events."""


class _Resource:
    """What the SageMaker resources share: a name, an ARN, and the properties they were made with."""

    NAME: ClassVar[str]
    ATTRIBUTES: ClassVar[dict[str, str]]  # Fn::GetAtt name: attribute of the object

    def __init__(self, name: str, properties: Json) -> None:
        self.name = name
        self.properties = properties
        self.arn = ""

    @property
    def physical_resource_id(self) -> str:
        # What Ref gives is the ARN for the SageMaker types ("Return values" of each in the CloudFormation reference).
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
        resource = cls(properties.get(cls.NAME) or _shortened(resource_name), properties)
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
        if named == original_resource.name:
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


class SageMakerModel(_Resource, CloudFormationModel):
    NAME = "ModelName"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"ModelName": "name", "ModelArn": "arn"}

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SageMaker::Model"

    @staticmethod
    def cloudformation_name_type() -> str:
        return "ModelName"

    def create(self) -> None:
        request = _as_request("CreateModel", {**self.properties, "ModelName": self.name})
        self.arn = clients().sagemaker.create_model(**request)["ModelArn"]

    def update(self, properties: Json) -> bool:
        return _only_tags_changed(self, properties)

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            clients().sagemaker.delete_model(ModelName=self.name)


class SageMakerEndpointConfig(_Resource, CloudFormationModel):
    NAME = "EndpointConfigName"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"EndpointConfigName": "name", "EndpointConfigArn": "arn"}

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SageMaker::EndpointConfig"

    @staticmethod
    def cloudformation_name_type() -> str:
        return "EndpointConfigName"

    def create(self) -> None:
        request = _as_request("CreateEndpointConfig", {**self.properties, "EndpointConfigName": self.name})
        self.arn = clients().sagemaker.create_endpoint_config(**request)["EndpointConfigArn"]

    def update(self, properties: Json) -> bool:
        return _only_tags_changed(self, properties)

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            clients().sagemaker.delete_endpoint_config(EndpointConfigName=self.name)


class SageMakerEndpoint(_Resource, CloudFormationModel):
    NAME = "EndpointName"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"EndpointName": "name", "EndpointArn": "arn"}

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SageMaker::Endpoint"

    @staticmethod
    def cloudformation_name_type() -> str:
        return "EndpointName"

    def create(self) -> None:
        request = _as_request("CreateEndpoint", {**self.properties, "EndpointName": self.name}, without=_UPDATE_ONLY)
        self.arn = clients().sagemaker.create_endpoint(**request)["EndpointArn"]
        description = self._settled()
        if description["EndpointStatus"] != "InService":
            reason = description.get("FailureReason", description["EndpointStatus"])
            self.delete("", "")
            raise ResourceFailed(f"Endpoint {self.name} failed: {reason}")

    def update(self, properties: Json) -> bool:
        request = _as_request("UpdateEndpoint", {**properties, "EndpointName": self.name}, without=("Tags",))
        if _without_tags(properties) != _without_tags(self.properties):
            clients().sagemaker.update_endpoint(**request)
            description = self._settled()
            if description["EndpointConfigName"] != request["EndpointConfigName"]:
                raise ResourceFailed(f"Endpoint {self.name} could not be updated: {description.get('FailureReason')}")
        _retag(self.arn, self.properties, properties)
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            self._settled()
            clients().sagemaker.delete_endpoint(EndpointName=self.name)
            while True:
                clients().sagemaker.describe_endpoint(EndpointName=self.name)
                time.sleep(_POLL_S)

    def _settled(self) -> Json:
        """The description once the endpoint rests; its own start-up time-out bounds the wait."""
        while True:
            description: Json = clients().sagemaker.describe_endpoint(EndpointName=self.name)
            if description["EndpointStatus"] not in ("Creating", "Updating"):
                return description
            time.sleep(_POLL_S)


def _as_request(operation: str, properties: Json, *, without: Sequence[str] = ()) -> Json:
    """Properties as the API takes them: the same names, but numbers and booleans may be words in a template."""
    shape = clients().sagemaker.meta.service_model.operation_model(operation).input_shape
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


def _shortened(name: str) -> str:
    """A generated name within the service's length, still different from its siblings."""
    if len(name) <= _NAME_CHARS:
        return name
    return f"{name[: _NAME_CHARS - 9].rstrip('-')}-{secrets.token_hex(4)}"


def _without_tags(properties: Json) -> Json:
    return {name: value for name, value in properties.items() if name != "Tags"}


def _only_tags_changed(resource: _Resource, properties: Json) -> bool:
    if _without_tags(properties) != _without_tags(resource.properties):
        return False
    _retag(resource.arn, resource.properties, properties)
    return True


def _retag(arn: str, old: Json, new: Json) -> None:
    wanted = {tag["Key"] for tag in new.get("Tags", [])}
    gone = [tag["Key"] for tag in old.get("Tags", []) if tag["Key"] not in wanted]
    if gone:
        clients().sagemaker.delete_tags(ResourceArn=arn, TagKeys=gone)
    if wanted:
        clients().sagemaker.add_tags(ResourceArn=arn, Tags=new["Tags"])


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """Suppresses the service's "Could not find": what is to be deleted is not there."""
    try:
        yield
    except ClientError as error:
        if not error.response["Error"]["Message"].startswith("Could not find"):
            raise
