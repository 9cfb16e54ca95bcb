"""AWS::SageMaker::Model, EndpointConfig, Endpoint, InferenceComponent and others: our SageMaker by boto3.

moto finds a class by its being a direct subclass of ``CloudFormationModel``; of two classes for one type the later
wins, and these come after moto's own.
"""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Resource, ResourceFailed, as_request

_POLL_S = 0.1
_GROUP_POLICY = "ModelPackageGroupPolicy"
_UPDATE_ONLY = ("RetainAllVariantProperties", "ExcludeRetainedVariantProperties")  # these say how an update goes


class SageMakerModel(Resource, CloudFormationModel):
    TYPE = "AWS::SageMaker::Model"
    NAME = "ModelName"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"ModelName": "name", "ModelArn": "arn"}
    TAKES_STACK_TAGS = True

    def create(self) -> None:
        request = as_request("sagemaker", "CreateModel", {**self.properties, "ModelName": self.name})
        self.arn = client("sagemaker").create_model(**request)["ModelArn"]

    def update(self, properties: Json) -> bool:
        return _only_tags_changed(self, properties)

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            client("sagemaker").delete_model(ModelName=self.name)


class SageMakerEndpointConfig(Resource, CloudFormationModel):
    TYPE = "AWS::SageMaker::EndpointConfig"
    NAME = "EndpointConfigName"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"EndpointConfigName": "name", "EndpointConfigArn": "arn"}
    TAKES_STACK_TAGS = True

    def create(self) -> None:
        properties = {**self.properties, "EndpointConfigName": self.name}
        request = as_request("sagemaker", "CreateEndpointConfig", properties)
        self.arn = client("sagemaker").create_endpoint_config(**request)["EndpointConfigArn"]

    def update(self, properties: Json) -> bool:
        return _only_tags_changed(self, properties)

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            client("sagemaker").delete_endpoint_config(EndpointConfigName=self.name)


class SageMakerEndpoint(Resource, CloudFormationModel):
    TYPE = "AWS::SageMaker::Endpoint"
    NAME = "EndpointName"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"EndpointName": "name", "EndpointArn": "arn"}
    TAKES_STACK_TAGS = True

    def create(self) -> None:
        properties = {**self.properties, "EndpointName": self.name}
        request = as_request("sagemaker", "CreateEndpoint", properties, without=_UPDATE_ONLY)
        self.arn = client("sagemaker").create_endpoint(**request)["EndpointArn"]
        description = self._settled()
        if description["EndpointStatus"] != "InService":
            reason = description.get("FailureReason", description["EndpointStatus"])
            self.delete("", "")
            raise ResourceFailed(f"Endpoint {self.name} failed: {reason}")

    def update(self, properties: Json) -> bool:
        wanted = {**properties, "EndpointName": self.name}
        request = as_request("sagemaker", "UpdateEndpoint", wanted, without=("Tags",))
        if _without_tags(properties) != _without_tags(self.properties):
            client("sagemaker").update_endpoint(**request)
            description = self._settled()
            if description["EndpointConfigName"] != request["EndpointConfigName"]:
                raise ResourceFailed(f"Endpoint {self.name} could not be updated: {description.get('FailureReason')}")
        retag(self.arn, self.properties, properties)
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            self._settled()
            client("sagemaker").delete_endpoint(EndpointName=self.name)
            while True:
                client("sagemaker").describe_endpoint(EndpointName=self.name)
                time.sleep(_POLL_S)

    def _settled(self) -> Json:
        """The description once the endpoint rests; its own start-up time-out bounds the wait."""
        while True:
            description: Json = client("sagemaker").describe_endpoint(EndpointName=self.name)
            if description["EndpointStatus"] not in ("Creating", "Updating", "RollingBack"):
                return description
            time.sleep(_POLL_S)


class SageMakerInferenceComponent(Resource, CloudFormationModel):
    TYPE = "AWS::SageMaker::InferenceComponent"
    NAME = "InferenceComponentName"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"InferenceComponentName": "name", "InferenceComponentArn": "arn"}
    TAKES_STACK_TAGS = True

    def create(self) -> None:
        properties = {**self.properties, "InferenceComponentName": self.name}
        # How an update goes is in every template and not in the call that creates.
        request = as_request("sagemaker", "CreateInferenceComponent", properties, without=("DeploymentConfig",))
        self.arn = client("sagemaker").create_inference_component(**request)["InferenceComponentArn"]
        description = self._settled()
        if description["InferenceComponentStatus"] != "InService":
            self.delete("", "")
            raise ResourceFailed(f"Inference component {self.name} failed: {description.get('FailureReason')}")

    def update(self, properties: Json) -> bool:
        if any(properties.get(name) != self.properties.get(name) for name in ("EndpointName", "VariantName")):
            return False
        if _without_tags(properties) != _without_tags(self.properties):
            wanted = {**properties, "InferenceComponentName": self.name}
            without = ("Tags", "EndpointName", "EndpointArn", "VariantName")
            request = as_request("sagemaker", "UpdateInferenceComponent", wanted, without=without)
            client("sagemaker").update_inference_component(**request)
            description = self._settled()
            if "FailureReason" in description:
                raise ResourceFailed(
                    f"Inference component {self.name} could not be updated: {description['FailureReason']}"
                )
        retag(self.arn, self.properties, properties)
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            self._settled()
            client("sagemaker").delete_inference_component(InferenceComponentName=self.name)
            while True:
                client("sagemaker").describe_inference_component(InferenceComponentName=self.name)
                time.sleep(_POLL_S)

    def _settled(self) -> Json:
        while True:
            description: Json = client("sagemaker").describe_inference_component(InferenceComponentName=self.name)
            if description["InferenceComponentStatus"] not in ("Creating", "Updating"):
                return description
            time.sleep(_POLL_S)


class SageMakerModelPackageGroup(Resource, CloudFormationModel):
    TYPE = "AWS::SageMaker::ModelPackageGroup"
    NAME = "ModelPackageGroupName"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"ModelPackageGroupArn": "arn"}
    TAKES_STACK_TAGS = True

    def create(self) -> None:
        properties = {**self.properties, "ModelPackageGroupName": self.name}
        request = as_request("sagemaker", "CreateModelPackageGroup", properties, without=(_GROUP_POLICY,))
        self.arn = client("sagemaker").create_model_package_group(**request)["ModelPackageGroupArn"]
        self._let_in(self.properties.get(_GROUP_POLICY))

    def update(self, properties: Json) -> bool:
        before, after = (
            {name: value for name, value in each.items() if name not in ("Tags", _GROUP_POLICY)}
            for each in (self.properties, properties)
        )
        if before != after:
            return False
        self._let_in(properties.get(_GROUP_POLICY))
        retag(self.arn, self.properties, properties)
        return True

    def _let_in(self, policy: Json | None) -> None:
        """The policy, which has calls of its own."""
        if policy is None:
            with _gone_is_fine():
                client("sagemaker").delete_model_package_group_policy(ModelPackageGroupName=self.name)
        else:
            client("sagemaker").put_model_package_group_policy(
                ModelPackageGroupName=self.name, ResourcePolicy=json.dumps(policy)
            )

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            client("sagemaker").delete_model_package_group(ModelPackageGroupName=self.name)


class SageMakerDataQualityJobDefinition(Resource, CloudFormationModel):
    TYPE = "AWS::SageMaker::DataQualityJobDefinition"
    NAME = "JobDefinitionName"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"JobDefinitionArn": "arn"}
    TAKES_STACK_TAGS = True

    def create(self) -> None:
        properties = {**self.properties, "JobDefinitionName": self.name}
        request = as_request("sagemaker", "CreateDataQualityJobDefinition", properties)
        self.arn = client("sagemaker").create_data_quality_job_definition(**request)["JobDefinitionArn"]

    def update(self, properties: Json) -> bool:
        return _only_tags_changed(self, properties)

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            client("sagemaker").delete_data_quality_job_definition(JobDefinitionName=self.name)


class SageMakerMonitoringSchedule(Resource, CloudFormationModel):
    TYPE = "AWS::SageMaker::MonitoringSchedule"
    NAME = "MonitoringScheduleName"
    ATTRIBUTES: ClassVar[dict[str, str]] = {"MonitoringScheduleArn": "arn"}
    TAKES_STACK_TAGS = True

    def create(self) -> None:
        properties = {**self.properties, "MonitoringScheduleName": self.name}
        request = as_request("sagemaker", "CreateMonitoringSchedule", properties)
        self.arn = client("sagemaker").create_monitoring_schedule(**request)["MonitoringScheduleArn"]

    def update(self, properties: Json) -> bool:
        wanted = {**properties, "MonitoringScheduleName": self.name}
        client("sagemaker").update_monitoring_schedule(
            **as_request("sagemaker", "UpdateMonitoringSchedule", wanted, without=("Tags",))
        )
        retag(self.arn, self.properties, properties)
        return True

    def delete(self, account_id: str, region_name: str) -> None:
        with _gone_is_fine():
            client("sagemaker").delete_monitoring_schedule(MonitoringScheduleName=self.name)


def _without_tags(properties: Json) -> Json:
    return {name: value for name, value in properties.items() if name != "Tags"}


def _only_tags_changed(resource: Resource, properties: Json) -> bool:
    if _without_tags(properties) != _without_tags(resource.properties):
        return False
    retag(resource.arn, resource.properties, properties)
    return True


def retag(arn: str, old: Json, new: Json) -> None:
    """Gives a resource of SageMaker the tags of its new properties in the place of those of the old ones."""
    wanted = {tag["Key"] for tag in new.get("Tags", [])}
    gone = [tag["Key"] for tag in old.get("Tags", []) if tag["Key"] not in wanted]
    if gone:
        client("sagemaker").delete_tags(ResourceArn=arn, TagKeys=gone)
    if wanted:
        client("sagemaker").add_tags(ResourceArn=arn, Tags=new["Tags"])


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """Suppresses what the service says of a resource that is not there, which often has no code of its own."""
    try:
        yield
    except ClientError as error:
        said = error.response["Error"]["Message"]
        if not (said.startswith(("Could not find", "Cannot find")) or said.endswith("does not exist.")):
            raise
