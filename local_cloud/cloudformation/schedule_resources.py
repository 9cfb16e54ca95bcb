"""AWS::Scheduler::Schedule and ScheduleGroup, through boto3: what fires them is :mod:`local_cloud.schedules`."""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Resource, as_request


class ScheduleGroup(Resource, CloudFormationModel):
    TYPE = "AWS::Scheduler::ScheduleGroup"
    NAME = "Name"
    NAME_CHARS = 64
    ATTRIBUTES: ClassVar[dict[str, str]] = {"Arn": "arn"}
    TAKES_STACK_TAGS = True

    @property
    def physical_resource_id(self) -> str:
        return self.name

    def create(self) -> None:
        request = as_request("scheduler", "CreateScheduleGroup", {**self.properties, "Name": self.name})
        self.arn = client("scheduler").create_schedule_group(**request)["ScheduleGroupArn"]

    def update(self, properties: Json) -> bool:
        wanted = properties.get("Tags", [])
        gone = {tag["Key"] for tag in self.properties.get("Tags", [])} - {tag["Key"] for tag in wanted}
        if gone:
            client("scheduler").untag_resource(ResourceArn=self.arn, TagKeys=sorted(gone))
        client("scheduler").tag_resource(ResourceArn=self.arn, Tags=wanted)
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            client("scheduler").delete_schedule_group(Name=self.name)


class Schedule(Resource, CloudFormationModel):
    TYPE = "AWS::Scheduler::Schedule"
    NAME = "Name"
    NAME_CHARS = 64
    ATTRIBUTES: ClassVar[dict[str, str]] = {"Arn": "arn"}

    @property
    def physical_resource_id(self) -> str:
        return self.name

    def create(self) -> None:
        request = as_request("scheduler", "CreateSchedule", {**self.properties, "Name": self.name})
        self.arn = client("scheduler").create_schedule(**request)["ScheduleArn"]

    def update(self, properties: Json) -> bool:
        if properties.get("GroupName") != self.properties.get("GroupName"):
            return False
        request = as_request("scheduler", "UpdateSchedule", {**properties, "Name": self.name})
        self.arn = client("scheduler").update_schedule(**request)["ScheduleArn"]
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        group = {"GroupName": self.properties["GroupName"]} if "GroupName" in self.properties else {}
        with _gone_is_fine():
            client("scheduler").delete_schedule(Name=self.name, **group)


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
