"""Approving a model rolls it out, and an upload is transformed: what a stage with a registry and batch does by itself.

Between the approval and the answer all is the stage's own: a rule of EventBridge, a state machine, CloudFormation.
The stage is bootstrapped, and has all stacks but the network's.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.end_to_end.deploying import Deployer, archive, inventory, invoke
from tests.infra.conftest import ROOT

pytestmark = pytest.mark.timeout(500)  # the whole life is the fixture of the first test

STAGE = Path(__file__).parent.relative_to(ROOT) / "stages" / "approved.toml"
GROUP = "tidegate-approved"


def until(question: Callable[[], Any], what: str, *, timeout_s: float = 120) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + timeout_s
    while not (answer := question()):
        assert time.monotonic() < deadline, f"in vain: {what}"
        threading.Event().wait(0.2)
    return answer


def register(address: str) -> str:
    """A new version of the group, not approved yet."""
    specification = {
        "Containers": [{"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1", "ModelDataUrl": address}],
        "SupportedContentTypes": ["application/json"],
        "SupportedResponseMIMETypes": ["application/json"],
    }
    made = boto3.client("sagemaker").create_model_package(
        ModelPackageGroupName=GROUP, InferenceSpecification=specification
    )
    return str(made["ModelPackageArn"])


def decide(package: str, status: str) -> None:
    boto3.client("sagemaker").update_model_package(ModelPackageArn=package, ModelApprovalStatus=status)


def in_service(answer: float) -> bool:
    """Whether the endpoint is there, rests, and makes `answer` of 7."""
    endpoints = boto3.client("sagemaker").list_endpoints(NameContains=GROUP)["Endpoints"]
    if [item["EndpointStatus"] for item in endpoints] != ["InService"]:
        return False
    return float(invoke(GROUP, 7)["product"]) == answer


def promotions() -> list[str]:
    """The states of the executions of the machine that rolls out."""
    states = boto3.client("stepfunctions")
    (machine,) = [
        item["stateMachineArn"]
        for item in states.list_state_machines()["stateMachines"]
        if item["name"] == f"{GROUP}-promotion"
    ]
    return [item["status"] for item in states.list_executions(stateMachineArn=machine)["executions"]]


@dataclass
class Life:
    """What was seen, in the order of the story."""

    before: dict[str, list[str]]
    first: float
    second: float
    rollouts: list[str]
    redeploy_said: str
    after_redeploy: float
    transformed: dict[str, Any]
    destroyed: dict[str, list[str]]


@pytest.fixture(scope="module")
def life(cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Life:
    directory = tmp_path_factory.mktemp("approved")
    deployer = Deployer(cloud, directory, stage=str(STAGE))
    deployer.run("bootstrap", f"aws://{cloud['CDK_DEFAULT_ACCOUNT']}/{cloud['CDK_DEFAULT_REGION']}")
    deployer.deploy("--all")
    before = inventory("approved")

    first_package = register(deployer.upload(archive(directory, weight=2)))
    decide(first_package, "Approved")
    until(lambda: in_service(14), "the first approval brings the endpoint")
    first = float(invoke(GROUP, 7)["product"])

    second_package = register(deployer.upload(archive(directory, weight=3)))
    decide(register(deployer.upload(archive(directory, weight=4))), "Rejected")
    until(lambda: "RUNNING" not in promotions(), "the first roll-out is over")
    decide(second_package, "Approved")
    until(lambda: in_service(21), "the second approval changes the model")
    second = float(invoke(GROUP, 7)["product"])
    until(lambda: "RUNNING" not in promotions(), "the second roll-out is over")

    rollouts = promotions()

    redeploy_said = deployer.deploy("--all")
    after_redeploy = float(invoke(GROUP, 7)["product"])

    s3, bucket = boto3.client("s3"), deployer.output("storage", "BucketName")
    s3.put_object(Bucket=bucket, Key="batch/input/number.json", Body=b"5")
    key = until(
        lambda: [
            item["Key"]
            for item in s3.list_objects_v2(Bucket=bucket, Prefix="batch/").get("Contents", [])
            if item["Key"].endswith("number.json.out")
        ],
        "the upload is transformed",
    )[0]
    transformed = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    for name in before["buckets"]:
        boto3.resource("s3").Bucket(name).object_versions.delete()
    sagemaker = boto3.client("sagemaker")
    for version in sagemaker.list_model_packages(ModelPackageGroupName=GROUP)["ModelPackageSummaryList"]:
        sagemaker.delete_model_package(ModelPackageName=version["ModelPackageArn"])
    deployer.run("destroy", "--all", "--force", *deployer.synthesised())
    return Life(
        before=before,
        first=first,
        second=second,
        rollouts=rollouts,
        redeploy_said=redeploy_said,
        after_redeploy=after_redeploy,
        transformed=transformed,
        destroyed=inventory("approved"),
    )


def test_before_an_approval_there_is_no_endpoint(life: Life) -> None:
    assert life.before["endpoints"] == []
    assert len(life.before["stacks"]) == 6


def test_each_approval_rolls_its_model_out(life: Life) -> None:
    assert (life.first, life.second) == (14, 21)


def test_a_rejection_rolls_nothing_out(life: Life) -> None:
    assert life.rollouts == ["SUCCEEDED", "SUCCEEDED"]


def test_a_later_deploy_does_not_take_the_approved_model_back(life: Life) -> None:
    assert life.after_redeploy == 21
    assert life.redeploy_said.count("(no changes)") == len(life.before["stacks"])


def test_an_upload_is_transformed_by_the_approved_model_and_joined_as_the_stage_says(life: Life) -> None:
    assert life.transformed["SageMakerInput"] == 5
    assert life.transformed["SageMakerOutput"]["product"] == 15


def test_a_destroy_leaves_nothing(life: Life) -> None:
    assert life.destroyed == {kind: [] for kind in life.before}
