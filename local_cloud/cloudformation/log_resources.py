"""AWS::Logs::MetricFilter, which moto lacks, through boto3: stored and described; the servers' logs are files here."""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Overwritten


class MetricFilter(Overwritten, CloudFormationModel):
    TYPE = "AWS::Logs::MetricFilter"
    NAME = "FilterName"
    NAME_CHARS = 512
    IDENTITY = ("FilterName", "LogGroupName")

    @property
    def physical_resource_id(self) -> str:
        return self.name

    def put(self, properties: Json) -> None:
        transformations = []
        for given in properties["MetricTransformations"]:
            made = {name[0].lower() + name[1:]: value for name, value in given.items()}
            if "defaultValue" in made:
                made["defaultValue"] = float(made["defaultValue"])
            if "dimensions" in made:
                made["dimensions"] = {item["Key"]: item["Value"] for item in made["dimensions"]}
            transformations.append(made)
        if properties is not self.properties:
            self.delete("", "")  # moto keeps the old one beside the new
        client("logs").put_metric_filter(
            logGroupName=properties["LogGroupName"],
            filterName=self.name,
            filterPattern=properties["FilterPattern"],
            metricTransformations=transformations,
        )

    def delete(self, account_id: str, region_name: str) -> None:
        try:
            client("logs").delete_metric_filter(logGroupName=self.properties["LogGroupName"], filterName=self.name)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":  # it went with its log group
                raise
