"""AWS::ApplicationAutoScaling::ScalableTarget and ScalingPolicy, through boto3; :mod:`local_cloud.scaling` acts.

moto has the service but not the two types, and its service takes a target for an endpoint that is not there; AWS does
not. A template that forgets to say that the target depends on the endpoint therefore fails here as it would there.
"""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar

from botocore.exceptions import ClientError
from moto.applicationautoscaling import models, responses
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Overwritten, ResourceFailed, as_request

_TARGET = ("ServiceNamespace", "ResourceId", "ScalableDimension")
_SERVICE = "application-autoscaling"
_COPIES = "sagemaker:inference-component:DesiredCopyCount"


def take_inference_components() -> None:
    """moto's service takes variants of endpoints and refuses the copies of inference components; now it takes both."""
    members = [(dimension.name, dimension.value) for dimension in models.ScalableDimensionValueSet]
    make: Callable[..., Any] = Enum
    extended = make("ScalableDimensionValueSet", [*members, ("SAGEMAKER_COMPONENT_DESIRED_COPY_COUNT", _COPIES)])
    for module in (models, responses):
        setattr(module, "ScalableDimensionValueSet", extended)  # noqa: B010 - a class of moto's, replaced


class ScalableTarget(Overwritten, CloudFormationModel):
    TYPE = "AWS::ApplicationAutoScaling::ScalableTarget"
    IDENTITY = _TARGET
    ATTRIBUTES: ClassVar[dict[str, str]] = {"Id": "physical_resource_id"}

    @property
    def physical_resource_id(self) -> str:
        return "|".join(str(self.properties[name]) for name in ("ResourceId", "ScalableDimension", "ServiceNamespace"))

    def put(self, properties: Json) -> None:
        _demand_target_resource(properties)
        scaling = client(_SERVICE)
        given = {name: value for name, value in properties.items() if name not in ("ScheduledActions", "Tags")}
        scaling.register_scalable_target(**as_request(_SERVICE, "RegisterScalableTarget", given))
        wanted = {action["ScheduledActionName"]: action for action in properties.get("ScheduledActions", [])}
        for action in self.properties.get("ScheduledActions", []):
            if action["ScheduledActionName"] not in wanted:
                scaling.delete_scheduled_action(
                    ScheduledActionName=action["ScheduledActionName"], **_target_of(properties)
                )
        for action in wanted.values():
            request = as_request(_SERVICE, "PutScheduledAction", {**action, **_target_of(properties)})
            scaling.put_scheduled_action(**request)

    def delete(self, account_id: str, region_name: str) -> None:
        try:
            client(_SERVICE).deregister_scalable_target(**_target_of(self.properties))
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("ObjectNotFoundException", "ValidationException"):
                raise


class ScalingPolicy(Overwritten, CloudFormationModel):
    TYPE = "AWS::ApplicationAutoScaling::ScalingPolicy"
    NAME = "PolicyName"
    IDENTITY = ("PolicyName", "ScalingTargetId", *_TARGET)
    ATTRIBUTES: ClassVar[dict[str, str]] = {"Arn": "arn"}

    @property
    def _target(self) -> Json:
        if "ScalingTargetId" in self.properties:
            resource, dimension, namespace = self.properties["ScalingTargetId"].split("|")
            return {"ServiceNamespace": namespace, "ResourceId": resource, "ScalableDimension": dimension}
        return _target_of(self.properties)

    def put(self, properties: Json) -> None:
        api = {"TargetTrackingScalingPolicyConfiguration", "StepScalingPolicyConfiguration", "PolicyType"}
        strangers = sorted(set(properties) - api - set(self.IDENTITY))
        if strangers:
            raise ResourceFailed(f"The local cloud does not have {strangers[0]} of {self.TYPE}.")
        given = {name: properties[name] for name in properties.keys() & api}
        if not client(_SERVICE).describe_scalable_targets(
            ServiceNamespace=self._target["ServiceNamespace"], ResourceIds=[self._target["ResourceId"]]
        )["ScalableTargets"]:
            raise ResourceFailed(f"No scalable target registered for {self._target['ResourceId']}.")
        request = as_request(_SERVICE, "PutScalingPolicy", {**given, **self._target, "PolicyName": self.name})
        self.arn = client(_SERVICE).put_scaling_policy(**request)["PolicyARN"]

    def delete(self, account_id: str, region_name: str) -> None:
        try:
            client(_SERVICE).delete_scaling_policy(PolicyName=self.name, **self._target)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("ObjectNotFoundException", "ValidationException"):
                raise


def _target_of(properties: Json) -> Json:
    return {name: properties[name] for name in _TARGET}


def _demand_target_resource(properties: Json) -> None:
    """Raises :class:`ResourceFailed` when what is to be scaled is not there."""
    kind, _, rest = str(properties["ResourceId"]).partition("/")
    name = rest.partition("/")[0]
    sagemaker = client("sagemaker")
    if kind == "endpoint":
        description = sagemaker.describe_endpoint(EndpointName=name)
        variant = rest.rpartition("/")[2]
        if variant not in [item["VariantName"] for item in description.get("ProductionVariants", [])]:
            raise ResourceFailed(f"Endpoint {name} has no variant {variant}, so {properties['ResourceId']} is nothing.")
    elif kind == "inference-component":
        sagemaker.describe_inference_component(InferenceComponentName=name)
