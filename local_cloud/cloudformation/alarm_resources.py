"""AWS::CloudWatch::Alarm and CompositeAlarm, through boto3: what looks at them is :mod:`local_cloud.alarms`."""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

from typing import ClassVar

from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Overwritten, as_request


class _NamedAlarm(Overwritten):
    NAME = "AlarmName"
    NAME_CHARS = 255
    IDENTITY = ("AlarmName",)
    ATTRIBUTES: ClassVar[dict[str, str]] = {"Arn": "arn"}
    TAKES_STACK_TAGS = True
    KIND: ClassVar[str]  # in DescribeAlarms: the member that lists alarms of this type

    @property
    def physical_resource_id(self) -> str:
        return self.name

    def _note_arn(self) -> None:
        answer = client("cloudwatch").describe_alarms(AlarmNames=[self.name], AlarmTypes=[self.KIND.removesuffix("s")])
        self.arn = answer[self.KIND][0]["AlarmArn"]

    def delete(self, account_id: str, region_name: str) -> None:
        client("cloudwatch").delete_alarms(AlarmNames=[self.name])


class Alarm(_NamedAlarm, CloudFormationModel):
    TYPE = "AWS::CloudWatch::Alarm"
    KIND = "MetricAlarms"

    def put(self, properties: Json) -> None:
        request = as_request("cloudwatch", "PutMetricAlarm", {**properties, "AlarmName": self.name})
        client("cloudwatch").put_metric_alarm(**request)
        self._note_arn()


class CompositeAlarm(_NamedAlarm, CloudFormationModel):
    TYPE = "AWS::CloudWatch::CompositeAlarm"
    KIND = "CompositeAlarms"

    def put(self, properties: Json) -> None:
        request = as_request("cloudwatch", "PutCompositeAlarm", {**properties, "AlarmName": self.name})
        client("cloudwatch").put_composite_alarm(**request)
        self._note_arn()
