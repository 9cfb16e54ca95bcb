"""Approving a model rolls it out, and an upload is transformed: what a stage with a registry and batch does by itself.

Between the approval and the answer all is the stage's own: a rule of EventBridge, a state machine, CloudFormation.
The stage is bootstrapped, and has all stacks but the network's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.end_to_end.deploying import Deployer, archive, inventory, invoke
from tests.infra.conftest import ROOT
from tests.polling import until

STAGE = Path(__file__).parent.relative_to(ROOT) / "stages" / "approved.toml"
GROUP = "tidegate-approved"
TYPE = "ml.g6.xlarge"


def register(address: str) -> str:
    """A new version of the group, not approved yet; its image is in the stage's repository, which the role may pull."""
    image = f"123456789012.dkr.ecr.us-east-1.amazonaws.com/{GROUP}:1"
    specification = {
        "Containers": [{"Image": image, "ModelDataUrl": address}],
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


def executions(name: str = "promotion") -> dict[str, str]:
    """The states of the executions of one of the stage's machines, by their ARN."""
    states = boto3.client("stepfunctions")
    (machine,) = [
        item["stateMachineArn"]
        for item in states.list_state_machines()["stateMachines"]
        if item["name"] == f"{GROUP}-{name}"
    ]
    listed = states.list_executions(stateMachineArn=machine)["executions"]
    return {item["executionArn"]: item["status"] for item in listed}


def promotions() -> list[str]:
    """Those states alone, of the machine that rolls out."""
    return list(executions().values())


def outcome(approve: Callable[[], None]) -> str:
    """Why the roll-out that `approve` begins rolled nothing out; empty where it did."""
    before = executions()
    approve()
    begun = until(lambda: set(executions()) - set(before), "the approval begins a roll-out")
    (execution,) = begun
    until(lambda: executions()[execution] != "RUNNING", "the roll-out ends")
    return str(boto3.client("stepfunctions").describe_execution(executionArn=execution).get("cause", ""))


def serve_behind_the_stack_s_back(package: str) -> str:
    """What an alarm of SageMaker's does: the endpoint is in service with another package; returns its configuration."""
    sagemaker = boto3.client("sagemaker")
    now = sagemaker.describe_endpoint(EndpointName=GROUP)["EndpointConfigName"]
    model = sagemaker.describe_endpoint_config(EndpointConfigName=now)["ProductionVariants"][0]["ModelName"]
    role = sagemaker.describe_model(ModelName=model)["ExecutionRoleArn"]
    sagemaker.create_model(ModelName="before", ExecutionRoleArn=role, PrimaryContainer={"ModelPackageName": package})
    variant = {"VariantName": "primary", "ModelName": "before", "InitialInstanceCount": 1, "InstanceType": TYPE}
    sagemaker.create_endpoint_config(EndpointConfigName="before", ProductionVariants=[variant])
    sagemaker.update_endpoint(EndpointName=GROUP, EndpointConfigName="before")
    return str(now)


def infra(*arguments: str) -> tuple[int, str]:
    """`python -m infra`: exit code, and all that it said."""
    command = [sys.executable, "-m", "tidegate.infra", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    return done.returncode, done.stdout + done.stderr


def policies(bucket: str) -> list[str]:
    """Those of the stage's bucket, repository and group."""
    return [
        boto3.client("s3").get_bucket_policy(Bucket=bucket)["Policy"],
        boto3.client("ecr").get_repository_policy(repositoryName=GROUP)["policyText"],
        boto3.client("sagemaker").get_model_package_group_policy(ModelPackageGroupName=GROUP)["ResourcePolicy"],
    ]


@pytest.fixture(scope="module")
def cloud(enforcing_cloud: dict[str, str]) -> dict[str, str]:
    """A cloud in which the rights of roles count."""
    return enforcing_cloud


@dataclass
class Life:
    """What was seen, in the order of the story."""

    before: dict[str, list[str]]
    shared: list[str]
    first: float
    second: float
    rollouts: list[str]
    broken: str
    after_broken: float
    gone_back: str
    served_said: tuple[int, str]
    served_again: int
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
    before, shared = inventory("approved"), policies(deployer.output("storage", "BucketName"))

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

    broken_package = register(
        deployer.upload(archive(directory, weight=5, handlers="def model_fn(model_dir) return None"))
    )
    broken = outcome(lambda: decide(broken_package, "Approved"))
    after_broken = float(invoke(GROUP, 7)["product"])

    config = serve_behind_the_stack_s_back(first_package)
    until(lambda: in_service(14), "the endpoint serves another package than its stack names")
    gone_back = outcome(lambda: [decide(second_package, status) for status in ("PendingManualApproval", "Approved")])
    served_said = infra("served", "--stage", str(STAGE))
    boto3.client("sagemaker").update_endpoint(EndpointName=GROUP, EndpointConfigName=config)
    until(lambda: in_service(21), "the endpoint serves what its stack names again")
    served_again, _ = infra("served", "--stage", str(STAGE))
    boto3.client("sagemaker").delete_endpoint_config(EndpointConfigName="before")
    boto3.client("sagemaker").delete_model(ModelName="before")

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

    until(lambda: "RUNNING" not in executions("batch").values(), "the job's manifest is written")
    for name in before["buckets"]:
        boto3.resource("s3").Bucket(name).object_versions.delete()
    # As docs/promotion.md says.
    deployer.run("destroy", "endpoint", "--exclusively", "--force", *deployer.synthesised())
    assert infra("models", "delete", "--all", "--stage", str(STAGE))[0] == 0
    deployer.run("destroy", "--all", "--force", *deployer.synthesised())
    return Life(
        before=before,
        shared=shared,
        first=first,
        second=second,
        rollouts=rollouts,
        broken=broken,
        after_broken=after_broken,
        gone_back=gone_back,
        served_said=served_said,
        served_again=served_again,
        redeploy_said=redeploy_said,
        after_redeploy=after_redeploy,
        transformed=transformed,
        destroyed=inventory("approved"),
    )


def test_what_another_account_may_do_is_in_the_policies_of_what_was_deployed(life: Life) -> None:
    """Recorded as deployed; the local cloud is one account, and enforces no policy against another."""
    assert len(life.shared) == 3
    assert all("arn:aws:iam::210987654321:root" in policy for policy in life.shared)


def test_before_an_approval_there_is_no_endpoint(life: Life) -> None:
    assert life.before["endpoints"] == []
    assert len(life.before["stacks"]) == 6


def test_each_approval_rolls_its_model_out(life: Life) -> None:
    assert (life.first, life.second) == (14, 21)


def test_a_rejection_rolls_nothing_out(life: Life) -> None:
    assert life.rollouts == ["SUCCEEDED", "SUCCEEDED"]


def test_a_model_that_does_not_load_is_rolled_back(life: Life) -> None:
    """The cause is in the message only where the stack takes its time to go back."""
    assert life.broken.startswith("RolledBack: ")
    assert life.after_broken == 21


def test_an_endpoint_that_serves_another_model_than_its_stack_names_is_no_success(life: Life) -> None:
    """Neither a roll-out nor the command says that all is well, although the stack does."""
    assert life.gone_back.startswith(f"RolledBack: the stack {GROUP}-endpoint names ")
    assert f"and {GROUP} serves before" in life.gone_back
    status, said = life.served_said
    assert status == 1
    assert f"endpoint {GROUP} serves before, and its stack names " in said
    assert life.served_again == 0


def test_a_later_deploy_does_not_take_the_approved_model_back(life: Life) -> None:
    assert life.after_redeploy == 21
    assert life.redeploy_said.count("(no changes)") == len(life.before["stacks"])


def test_an_upload_is_transformed_by_the_approved_model_and_joined_as_the_stage_says(life: Life) -> None:
    assert life.transformed["SageMakerInput"] == 5
    assert life.transformed["SageMakerOutput"]["product"] == 15


def test_a_destroy_leaves_nothing(life: Life) -> None:
    assert life.destroyed == {kind: [] for kind in life.before}
