"""AWS::Glue::Database, AWS::Glue::Table and AWS::Athena::WorkGroup, which moto lacks, through boto3.

Glue's catalogue is really there and can be asked; Athena's queries are moto's, which read no file.
"""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Resource, ResourceFailed, as_request

_GONE = "EntityNotFoundException"


class GlueDatabase(Resource, CloudFormationModel):
    TYPE = "AWS::Glue::Database"
    NAME_CHARS = 255

    def __init__(self, name: str, properties: Json) -> None:
        super().__init__(_name_of(properties, "DatabaseInput", properties.get("DatabaseName"), name), properties)

    @property
    def physical_resource_id(self) -> str:
        return self.name

    def create(self) -> None:
        client("glue").create_database(**self._request("CreateDatabase", self.properties))

    def update(self, properties: Json) -> bool:
        if _name_of(properties, "DatabaseInput", properties.get("DatabaseName"), self.name) != self.name:
            return False
        client("glue").update_database(Name=self.name, **self._request("UpdateDatabase", properties))
        return True

    def _request(self, operation: str, properties: Json) -> Json:
        given = {**properties, "DatabaseInput": {**properties["DatabaseInput"], "Name": self.name}}
        return as_request("glue", operation, given, without=("DatabaseName",))

    def delete(self, account_id: str, region_name: str) -> None:
        try:
            client("glue").delete_database(Name=self.name)
        except ClientError as error:
            if error.response["Error"]["Code"] != _GONE:
                raise


class GlueTable(Resource, CloudFormationModel):
    TYPE = "AWS::Glue::Table"
    NAME_CHARS = 255

    def __init__(self, name: str, properties: Json) -> None:
        super().__init__(_name_of(properties, "TableInput", properties.get("Name"), name), properties)

    @property
    def physical_resource_id(self) -> str:
        return self.name

    def create(self) -> None:
        client("glue").create_table(**self._request("CreateTable", self.properties))

    def update(self, properties: Json) -> bool:
        named = _name_of(properties, "TableInput", properties.get("Name"), self.name)
        if named != self.name or properties["DatabaseName"] != self.properties["DatabaseName"]:
            return False
        client("glue").update_table(**self._request("UpdateTable", properties))
        return True

    def _request(self, operation: str, properties: Json) -> Json:
        given = {**properties, "TableInput": {**properties["TableInput"], "Name": self.name}}
        return as_request("glue", operation, given, without=("Name",))

    def delete(self, account_id: str, region_name: str) -> None:
        try:
            client("glue").delete_table(DatabaseName=self.properties["DatabaseName"], Name=self.name)
        except ClientError as error:
            if error.response["Error"]["Code"] != _GONE:  # it went with its database
                raise


class AthenaWorkGroup(Resource, CloudFormationModel):
    TYPE = "AWS::Athena::WorkGroup"
    NAME = "Name"
    NAME_CHARS = 128

    @property
    def physical_resource_id(self) -> str:
        return self.name

    def create(self) -> None:
        given = {name: value for name, value in self.properties.items() if name != "RecursiveDeleteOption"}
        # moto's workgroups know no other state.
        if given.pop("State", "ENABLED") != "ENABLED":
            raise ResourceFailed("The local cloud has enabled workgroups only")
        given["Configuration"] = given.pop("WorkGroupConfiguration", {})
        client("athena").create_work_group(
            **as_request("athena", "CreateWorkGroup", {"Tags": [], **given, "Name": self.name})
        )

    def update(self, properties: Json) -> bool:
        # moto has no UpdateWorkGroup.
        self.delete("", "")
        self.properties = properties
        self.create()
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        client("athena").delete_work_group(WorkGroup=self.name, RecursiveDeleteOption=True)


def _name_of(properties: Json, inside: str, beside: str | None, generated: str) -> str:
    """The name as the catalogue keeps it: in small letters, and said in either of two places."""
    return str(properties[inside].get("Name") or beside or generated).lower()
