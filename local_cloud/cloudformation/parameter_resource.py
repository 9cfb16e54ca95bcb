"""AWS::SSM::Parameter, through boto3: moto's own class wants tags as a list and begins anew with every change."""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

from typing import ClassVar

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Resource, as_request


class SSMParameter(Resource, CloudFormationModel):
    TYPE = "AWS::SSM::Parameter"
    NAME = "Name"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"Type": "kind", "Value": "value"}

    @property
    def physical_resource_id(self) -> str:
        return self.name

    @property
    def kind(self) -> str:
        return str(self.properties["Type"])

    @property
    def value(self) -> str:
        return str(self.properties["Value"])

    def create(self) -> None:
        self._put(self.properties, overwrite=False)

    def update(self, properties: Json) -> bool:
        self._put(properties, overwrite=True)
        gone = self.properties.get("Tags", {}).keys() - properties.get("Tags", {}).keys()
        if gone:
            ssm = client("ssm")
            ssm.remove_tags_from_resource(ResourceType="Parameter", ResourceId=self.name, TagKeys=sorted(gone))
        return True

    def _put(self, properties: Json, *, overwrite: bool) -> None:
        ssm = client("ssm")
        given = {**properties, "Name": self.name, "Overwrite": overwrite}
        ssm.put_parameter(**as_request("ssm", "PutParameter", given, without=("Tags",)))
        # In the template a map, in the API a list.
        tags = [{"Key": key, "Value": str(value)} for key, value in properties.get("Tags", {}).items()]
        if tags:
            ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId=self.name, Tags=tags)

    def delete(self, account_id: str, region_name: str) -> None:
        try:
            client("ssm").delete_parameter(Name=self.name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ParameterNotFound":
                raise
