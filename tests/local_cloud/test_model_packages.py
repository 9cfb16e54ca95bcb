"""The model registry: groups, versions, approval, and models that are made from a version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true


@pytest.fixture
def group(account: Account) -> Iterator[str]:
    name = account.name("Group")  # its ARN has small letters
    account.sagemaker.create_model_package_group(ModelPackageGroupName=name, Tags=[{"Key": "team", "Value": "a"}])
    yield name
    for version in account.sagemaker.list_model_packages(ModelPackageGroupName=name)["ModelPackageSummaryList"]:
        account.sagemaker.delete_model_package(ModelPackageName=version["ModelPackageArn"])
    account.sagemaker.delete_model_package_group(ModelPackageGroupName=name)


def register(account: Account, group: str, **options: Any) -> str:
    """The ARN of a new version of the group."""
    container = {
        "Image": "serve",
        "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz",
        "Environment": {"STAND_IN_PREFIX": "packaged ", "KEPT": "yes"},
    }
    specification = {
        "Containers": [container],
        "SupportedContentTypes": ["application/json"],
        "SupportedResponseMIMETypes": ["application/json"],
    }
    arn: str = account.sagemaker.create_model_package(
        ModelPackageGroupName=group, InferenceSpecification=specification, **options
    )["ModelPackageArn"]
    return arn


def versions(account: Account, group: str, **filters: str) -> list[int]:
    found = account.sagemaker.list_model_packages(ModelPackageGroupName=group, **filters)["ModelPackageSummaryList"]
    return [item["ModelPackageVersion"] for item in found]


def test_versions_count_up_wait_for_approval_and_are_listed_by_it(account: Account, group: str) -> None:
    first, second = register(account, group), register(account, group)
    assert [arn.rpartition("/")[2] for arn in (first, second)] == ["1", "2"]
    assert account.sagemaker.describe_model_package(ModelPackageName=first)["ModelApprovalStatus"] == (
        "PendingManualApproval"
    )
    account.sagemaker.update_model_package(
        ModelPackageArn=first, ModelApprovalStatus="Approved", ApprovalDescription="0.99"
    )
    assert versions(account, group) == [2, 1]
    arn = account.sagemaker.describe_model_package_group(ModelPackageGroupName=group)["ModelPackageGroupArn"]
    assert versions(account, arn) == [2, 1]
    assert versions(account, group, ModelApprovalStatus="Approved") == [1]
    described = account.sagemaker.describe_model_package(ModelPackageName=first)
    assert (described["ApprovalDescription"], described["ModelPackageStatus"]) == ("0.99", "Completed")
    account.sagemaker.delete_model_package(ModelPackageName=second)
    assert register(account, group).endswith("/3"), "numbers are never used again"


def test_the_policy_of_a_group_is_kept_and_described(account: Account, group: str) -> None:
    policy = '{"Version": "2012-10-17", "Statement": []}'
    account.sagemaker.put_model_package_group_policy(ModelPackageGroupName=group, ResourcePolicy=policy)
    assert account.sagemaker.get_model_package_group_policy(ModelPackageGroupName=group)["ResourcePolicy"] == policy

    account.sagemaker.delete_model_package_group_policy(ModelPackageGroupName=group)
    with pytest.raises(ClientError, match="Cannot find resource policy for: arn:aws:sagemaker"):
        account.sagemaker.get_model_package_group_policy(ModelPackageGroupName=group)


def test_a_model_of_a_version_runs_its_container_with_the_models_own_variables(account: Account, group: str) -> None:
    name, arn = account.name("model"), register(account, group, ModelApprovalStatus="Approved")
    container = {"ModelPackageName": arn, "Environment": {"STAND_IN_PREFIX": "own "}}
    account.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
    assert account.sagemaker.describe_model(ModelName=name)["PrimaryContainer"] == container
    endpoint = account.endpoint(name)
    assert account.invoke(endpoint, b"abc") == b"own ABC"
    environment = json.loads(account.invoke(endpoint, b"environment:"))
    assert environment["KEPT"] == "yes"
    account.delete(endpoint)


def test_a_change_of_approval_is_announced_to_the_rules_that_wait_for_it(account: Account, group: str) -> None:
    events, sqs = account.cloud.client("events"), account.cloud.client("sqs")
    queue = sqs.create_queue(QueueName=account.name("events"))["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Model Package State Change"],
        "detail": {"ModelPackageGroupName": [group], "ModelApprovalStatus": ["Approved"]},
    }
    events.put_rule(Name=group, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=group, Targets=[{"Id": "queue", "Arn": arn}])
    rejected, approved = register(account, group), register(account, group)
    account.sagemaker.update_model_package(ModelPackageArn=rejected, ModelApprovalStatus="Rejected")
    account.sagemaker.update_model_package(ModelPackageArn=approved, ModelApprovalStatus="Approved")
    account.sagemaker.update_model_package(ModelPackageArn=approved, ApprovalDescription="no change of approval")
    messages: list[Any] = []

    def told() -> bool:
        messages.extend(sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []))
        return bool(messages)

    await_true(told, "the rule's queue is told")
    (event,) = [json.loads(message["Body"]) for message in messages]
    assert event["resources"] == [approved]
    assert event["detail"]["ModelPackageArn"] == approved
    events.remove_targets(Rule=group, Ids=["queue"])
    events.delete_rule(Name=group)
    for client in (events, sqs):
        client.close()


def test_a_group_that_holds_versions_is_not_deleted(account: Account, group: str) -> None:
    register(account, group)
    with pytest.raises(ClientError, match="still contains Model Packages"):
        account.sagemaker.delete_model_package_group(ModelPackageGroupName=group)


def test_metadata_of_a_version_is_added_to_and_taken_from(account: Account, group: str) -> None:
    arn = register(account, group, CustomerMetadataProperties={"commit": "a", "accuracy": "0.9"})
    account.sagemaker.update_model_package(
        ModelPackageArn=arn, CustomerMetadataProperties={"commit": "b"}, CustomerMetadataPropertiesToRemove=["accuracy"]
    )
    described = account.sagemaker.describe_model_package(ModelPackageName=arn)
    assert described["CustomerMetadataProperties"] == {"commit": "b"}


def test_what_would_be_certified_and_validated_is_kept_and_described(account: Account, group: str) -> None:
    kept = {
        "CertifyForMarketplace": False,
        "ModelLifeCycle": {"Stage": "Development", "StageStatus": "Pending"},
        "ValidationSpecification": {
            "ValidationRole": ROLE,
            "ValidationProfiles": [
                {
                    "ProfileName": "p",
                    "TransformJobDefinition": {
                        "TransformInput": {
                            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b"}}
                        },
                        "TransformOutput": {"S3OutputPath": "s3://b/out"},
                        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
                    },
                }
            ],
        },
    }
    arn = register(account, group, **kept)
    described = account.sagemaker.describe_model_package(ModelPackageName=arn)
    assert {name: described[name] for name in kept} == kept
    stage = {"Stage": "Production", "StageStatus": "Approved", "StageDescription": "live"}
    account.sagemaker.update_model_package(ModelPackageArn=arn, ModelLifeCycle=stage, SourceUri="s3://b/source")
    described = account.sagemaker.describe_model_package(ModelPackageName=arn)
    assert (described["ModelLifeCycle"], described["SourceUri"]) == (stage, "s3://b/source")


def test_a_package_outside_a_group_has_a_name_and_no_version_and_makes_models(account: Account) -> None:
    name, specification = account.name("Alone"), {"Containers": [{"Image": "serve"}]}
    create = {"ModelPackageName": name, "InferenceSpecification": specification, "ModelApprovalStatus": "Approved"}
    arn = account.sagemaker.create_model_package(**create)["ModelPackageArn"]
    assert arn.endswith(f":model-package/{name.lower()}")
    for spelling in (arn, name):
        described = account.sagemaker.describe_model_package(ModelPackageName=spelling)
        assert (described["ModelPackageName"], described["InferenceSpecification"]) == (name, specification)
        assert not {"ModelPackageVersion", "ModelPackageGroupName", "ModelApprovalStatus"} & described.keys()
    with pytest.raises(ClientError, match="already exists"):
        account.sagemaker.create_model_package(**create)
    with pytest.raises(ClientError, match="in no group, so it has no ModelApprovalStatus"):
        account.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus="Approved")
    account.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"ModelPackageName": arn})

    def listed(**options: str) -> list[str]:
        return [
            item["ModelPackageArn"]
            for item in account.sagemaker.list_model_packages(**options)["ModelPackageSummaryList"]
        ]

    assert arn in listed()
    assert arn in listed(ModelPackageType="Both")
    assert arn not in listed(ModelPackageType="Versioned")
    account.sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "team", "Value": "a"}])
    account.sagemaker.delete_model_package(ModelPackageName=name)
    assert arn not in listed()


@pytest.mark.parametrize(
    ("call", "members", "words"),
    [
        (
            "describe_model_package",
            {"ModelPackageName": "nothing"},
            "model-package/nothing does not exist",
        ),
        (
            "describe_model_package_group",
            {"ModelPackageGroupName": "none"},
            "model-package-group/none does not exist",
        ),
        ("create_model_package", {"ModelPackageName": "alone"}, "exactly one container"),
        ("create_model_package", {}, "either ModelPackageGroupName, for a new version, or ModelPackageName"),
    ],
)
def test_what_is_not_there_is_said(account: Account, call: str, members: dict[str, str], words: str) -> None:
    with pytest.raises(ClientError, match=words):
        getattr(account.sagemaker, call)(**members)


def test_a_model_of_a_version_that_is_not_there_is_refused(account: Account) -> None:
    arn = "arn:aws:sagemaker:us-east-1:123456789012:model-package/nobody/1"
    with pytest.raises(ClientError, match=f"ModelPackage {arn} does not exist"):
        account.sagemaker.create_model(
            ModelName="no", ExecutionRoleArn=ROLE, PrimaryContainer={"ModelPackageName": arn}
        )
