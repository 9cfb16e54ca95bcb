"""AWS::SageMaker::Pipeline: our SageMaker by boto3. It is deleted with its executions, which are stopped first.

Source: AWS::SageMaker::Pipeline in the CloudFormation template reference
(https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-sagemaker-pipeline.html). That AWS
stops what runs is not verified.
"""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

import json
import time
from typing import ClassVar

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Resource, ResourceFailed, as_request
from tidegate.local_cloud.cloudformation.sagemaker_resources import retag

_POLL_S = 0.1
_DEFINITION = "PipelineDefinition"


class SageMakerPipeline(Resource, CloudFormationModel):
    TYPE = "AWS::SageMaker::Pipeline"
    NAME = "PipelineName"
    ATTRIBUTES: ClassVar[dict[str, str]] = {}
    TAKES_STACK_TAGS = True

    def create(self) -> None:
        wanted = {**_request(self.properties), "PipelineName": self.name}
        self.arn = client("sagemaker").create_pipeline(**as_request("sagemaker", "CreatePipeline", wanted))[
            "PipelineArn"
        ]

    def update(self, properties: Json) -> bool:
        wanted = {**_request(properties), "PipelineName": self.name}
        client("sagemaker").update_pipeline(**as_request("sagemaker", "UpdatePipeline", wanted, without=("Tags",)))
        retag(self.arn, self.properties, properties)
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        while True:
            try:
                self._stop_executions()
                client("sagemaker").delete_pipeline(PipelineName=self.name)
            except ClientError as error:
                match error.response["Error"]["Code"]:
                    case "ResourceNotFound":
                        return
                    case "ConflictException":  # an execution is stopping
                        time.sleep(_POLL_S)
                        continue
                raise
            return

    def _stop_executions(self) -> None:
        pages = client("sagemaker").get_paginator("list_pipeline_executions").paginate(PipelineName=self.name)
        for execution in pages.search("PipelineExecutionSummaries[?PipelineExecutionStatus == 'Executing']"):
            client("sagemaker").stop_pipeline_execution(PipelineExecutionArn=execution["PipelineExecutionArn"])


def _request(properties: Json) -> Json:
    """What the operations take: a template has the definition as an object, as a text, or as a place in S3."""
    request = dict(properties)
    definition = request.pop(_DEFINITION, None)
    if not isinstance(definition, dict):
        raise ResourceFailed(f"{_DEFINITION} is an object with PipelineDefinitionBody or PipelineDefinitionS3Location.")
    if "PipelineDefinitionBody" in definition:
        body = definition["PipelineDefinitionBody"]
        request[_DEFINITION] = body if isinstance(body, str) else json.dumps(body)
    if "PipelineDefinitionS3Location" in definition:
        place = definition["PipelineDefinitionS3Location"]
        names = {"Bucket": "Bucket", "Key": "ObjectKey", "Version": "VersionId"}
        request["PipelineDefinitionS3Location"] = {names[name]: place[name] for name in names if name in place}
    return request
