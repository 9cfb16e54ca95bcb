"""Inference components: models with copies of their own behind an endpoint that itself runs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true
from tests.local_cloud.test_stacks import stack_of

VARIANT = {
    "VariantName": "v",
    "InstanceType": "ml.g6.xlarge",
    "InitialInstanceCount": 1,
    "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 2},
}


@pytest.fixture(scope="module")
def endpoint(account: Account) -> Iterator[str]:
    name = account.name("shared")
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=name, ExecutionRoleArn=ROLE, ProductionVariants=[VARIANT]
    )
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert account.settled(name)["EndpointStatus"] == "InService"
    yield name
    account.delete(name)


def specification(**environment: str) -> dict[str, Any]:
    container = {"Image": "serve", "ArtifactUrl": f"s3://{BUCKET}/model.tar.gz", "Environment": environment}
    return {"Container": container, "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 512}}


class Component:
    """One component of the endpoint, and what a user sees of it."""

    def __init__(self, account: Account, endpoint: str) -> None:
        self.account, self.endpoint, self.name = account, endpoint, account.name("component")

    def create(self, wanted: dict[str, Any], copies: int = 1) -> dict[str, Any]:
        self.account.sagemaker.create_inference_component(
            InferenceComponentName=self.name,
            EndpointName=self.endpoint,
            VariantName="v",
            Specification=wanted,
            RuntimeConfig={"CopyCount": copies},
            Tags=[{"Key": "team", "Value": "a"}],
        )
        return self.settled()

    def settled(self) -> dict[str, Any]:
        await_true(
            lambda: self.describe()["InferenceComponentStatus"] not in ("Creating", "Updating"), f"{self.name} settles"
        )
        return self.describe()

    def describe(self) -> dict[str, Any]:
        found: dict[str, Any] = self.account.sagemaker.describe_inference_component(InferenceComponentName=self.name)
        return found

    def invoke(self, body: bytes) -> bytes:
        return self.account.invoke(self.endpoint, body, InferenceComponentName=self.name)

    def delete(self) -> None:
        """Deletes it and waits until it is gone."""
        self.account.sagemaker.delete_inference_component(InferenceComponentName=self.name)
        await_true(lambda: self.name not in listed(self.account, self.endpoint), f"{self.name} goes")


@pytest.fixture
def component(account: Account, endpoint: str) -> Iterator[Component]:
    made = Component(account, endpoint)
    yield made
    if made.name in listed(account, endpoint):
        made.delete()


def listed(account: Account, endpoint: str) -> list[str]:
    found = account.sagemaker.list_inference_components(EndpointNameEquals=endpoint)["InferenceComponents"]
    return [item["InferenceComponentName"] for item in found]


def test_components_of_one_endpoint_answer_for_themselves(account: Account, component: Component) -> None:
    description = component.create(specification(STAND_IN_PREFIX="one "))
    assert description["InferenceComponentStatus"] == "InService"
    assert description["RuntimeConfig"] == {"DesiredCopyCount": 1, "CurrentCopyCount": 1}
    assert description["Specification"]["Container"]["DeployedImage"]["SpecifiedImage"] == "serve"
    other = Component(account, component.endpoint)
    other.create({"ModelName": account.model(STAND_IN_PREFIX="two ")})
    assert (component.invoke(b"a"), other.invoke(b"a")) == (b"one A", b"two A")
    assert set(listed(account, component.endpoint)) == {component.name, other.name}
    other.delete()


def test_without_copies_a_request_is_told_that_there_is_no_capacity(component: Component) -> None:
    component.create(specification(), copies=0)
    with pytest.raises(ClientError, match="has no capacity to process this request"):
        component.invoke(b"a")
    component.account.sagemaker.update_inference_component_runtime_config(
        InferenceComponentName=component.name, DesiredRuntimeConfig={"CopyCount": 2}
    )
    assert component.settled()["RuntimeConfig"]["DesiredCopyCount"] == 2
    assert component.invoke(b"a") == b"A"


def test_an_update_that_fails_leaves_the_old_one_serving(component: Component) -> None:
    component.create(specification(STAND_IN_PREFIX="old "))
    sagemaker = component.account.sagemaker
    sagemaker.update_inference_component(
        InferenceComponentName=component.name, Specification=specification(STAND_IN_ERROR="bad weights.")
    )
    description = component.settled()
    assert "bad weights." in description["FailureReason"]
    assert description["Specification"]["Container"]["Environment"] == {"STAND_IN_PREFIX": "old "}
    assert component.invoke(b"a") == b"old A"
    # What failed is not taken for what runs: the same wish is tried again.
    sagemaker.update_inference_component(
        InferenceComponentName=component.name, Specification=specification(STAND_IN_ERROR="bad weights.")
    )
    assert "bad weights." in component.settled()["FailureReason"]
    sagemaker.update_inference_component(
        InferenceComponentName=component.name, Specification=specification(STAND_IN_PREFIX="new ")
    )
    assert "FailureReason" not in component.settled()
    assert component.invoke(b"a") == b"new A"


def test_a_component_that_is_changing_is_left_alone_and_a_deleted_one_is_there_until_its_server_is_not(
    account: Account, component: Component, tmp_path: Path
) -> None:
    may_end = tmp_path / "may-end"
    component.create(specification(STAND_IN_ENDS_ONCE_THERE_IS=str(may_end)))
    sagemaker, name = account.sagemaker, {"InferenceComponentName": component.name}
    sagemaker.delete_inference_component(**name)
    assert component.describe()["InferenceComponentStatus"] == "Deleting"
    arn = f"arn:aws:sagemaker:us-east-1:123456789012:inference-component/{component.name}"
    for call in (
        lambda: sagemaker.delete_inference_component(**name),
        lambda: sagemaker.update_inference_component(**name, RuntimeConfig={"CopyCount": 2}),
        lambda: sagemaker.update_inference_component_runtime_config(**name, DesiredRuntimeConfig={"CopyCount": 0}),
    ):
        with pytest.raises(ClientError, match=f'Cannot update in-progress inference component "{arn}"'):
            call()
    with pytest.raises(ClientError, match=f'Cannot create already existing inference component "{arn}"'):
        component.create(specification())
    may_end.touch()
    await_true(lambda: component.name not in listed(account, component.endpoint), "it goes")
    component.create(specification(), copies=0)


def test_a_request_must_name_a_component_of_its_endpoint(account: Account, endpoint: str) -> None:
    with pytest.raises(ClientError, match="Inference Component Name header is required"):
        account.invoke(endpoint, b"a")
    with pytest.raises(ClientError, match=f"Inference component nobody of endpoint {endpoint} not found"):
        account.invoke(endpoint, b"a", InferenceComponentName="nobody")


def test_an_endpoint_with_components_is_not_deleted(account: Account, component: Component) -> None:
    component.create(specification(), copies=0)
    with pytest.raises(ClientError, match=f"still has inference components: {component.name}"):
        account.sagemaker.delete_endpoint(EndpointName=component.endpoint)


def test_a_component_needs_a_variant_without_a_model(account: Account) -> None:
    plain = account.endpoint(account.model())
    with pytest.raises(ClientError, match="has no variant v for inference components"):
        Component(account, plain).create(specification())
    account.delete(plain)


def test_a_stack_makes_a_component_scales_it_and_updates_it_in_place(account: Account) -> None:
    name = account.name("stacked")
    resources: dict[str, Any] = {
        "Config": {
            "Type": "AWS::SageMaker::EndpointConfig",
            "Properties": {"ExecutionRoleArn": ROLE, "ProductionVariants": [VARIANT]},
        },
        "Endpoint": {
            "Type": "AWS::SageMaker::Endpoint",
            "Properties": {
                "EndpointName": name,
                "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
            },
        },
        "Component": {
            "Type": "AWS::SageMaker::InferenceComponent",
            "DependsOn": "Endpoint",
            "Properties": {
                "InferenceComponentName": name,
                "EndpointName": name,
                "VariantName": "v",
                "Specification": specification(STAND_IN_PREFIX="one "),
                "RuntimeConfig": {"CopyCount": 1},
                "DeploymentConfig": {
                    "RollingUpdatePolicy": {
                        "MaximumBatchSize": {"Type": "COPY_COUNT", "Value": 1},
                        "WaitIntervalInSeconds": 0,
                    }
                },
            },
        },
        "Target": {
            "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
            "DependsOn": "Component",
            "Properties": {
                "ServiceNamespace": "sagemaker",
                "ResourceId": f"inference-component/{name}",
                "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
                "MinCapacity": 0,
                "MaxCapacity": 2,
            },
        },
    }
    template = {"Resources": resources}
    with stack_of(account) as stack:
        assert stack.create(template) == "CREATE_COMPLETE", stack.events("Component") + stack.events("Target")
        assert account.invoke(name, b"a", InferenceComponentName=name) == b"one A"
        before = stack.resources()
        changed = json.loads(json.dumps(template))
        changed["Resources"]["Component"]["Properties"]["Specification"] = specification(STAND_IN_PREFIX="two ")
        assert stack.update(changed) == "UPDATE_COMPLETE", stack.events("Component")
        assert stack.resources() == before
        assert account.invoke(name, b"a", InferenceComponentName=name) == b"two A"
        changed["Resources"]["Component"]["Properties"]["Specification"] = specification(STAND_IN_ERROR="broken.")
        assert stack.update(changed) == "UPDATE_ROLLBACK_COMPLETE"
        assert account.invoke(name, b"a", InferenceComponentName=name) == b"two A"
    assert name not in account.endpoints()
