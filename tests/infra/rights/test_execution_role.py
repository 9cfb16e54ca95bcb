"""The endpoint's role may do what serving and transform jobs need, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.conftest import Synthesise, Synthesised
from tests.infra.stacks.test_endpoint import text

# Actions for which AWS defines no resource type (service authorization reference).
WITHOUT_RESOURCES = {"cloudwatch:PutMetricData", "ecr:GetAuthorizationToken"}


IN_A_VPC = {"network": {"vpc": "vpc-0a1b2c3d", "subnets": ["subnet-0a1b2c3d"], "security_groups": ["sg-0a1b2c3d"]}}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statements(stage: Synthesised) -> dict[str, dict[str, Any]]:
    role = stage.only("endpoint", "AWS::IAM::Role")
    (policy,) = role["Policies"]
    return {statement["Sid"]: statement for statement in policy["PolicyDocument"]["Statement"]}


def resources(statement: dict[str, Any]) -> list[str]:
    return [text(resource) for resource in as_list(statement["Resource"])]


def test_no_stage_has_more_than_one_role_or_any_managed_policy_but_that_for_callers(stage: Synthesised) -> None:
    role = stage.only("endpoint", "AWS::IAM::Role")

    assert "ManagedPolicyArns" not in role
    for unit in stage.templates:
        assert not stage.properties(unit, "AWS::IAM::Policy")
        assert len(stage.properties(unit, "AWS::IAM::ManagedPolicy")) == (unit == "endpoint")
        assert unit == "endpoint" or not stage.properties(unit, "AWS::IAM::Role")


def test_only_sagemaker_may_take_the_role(stage: Synthesised) -> None:
    (trust,) = stage.only("endpoint", "AWS::IAM::Role")["AssumeRolePolicyDocument"]["Statement"]

    assert trust["Principal"] == {"Service": "sagemaker.amazonaws.com"}


def test_no_action_is_a_wildcard(stage: Synthesised) -> None:
    actions = {action for statement in statements(stage).values() for action in as_list(statement["Action"])}

    assert all(statement["Effect"] == "Allow" for statement in statements(stage).values())
    assert not [action for action in actions if "*" in action]
    # Of a stage whose roll-outs are watched by alarms.
    assert actions - {"cloudwatch:DescribeAlarms"} == {
        "cloudwatch:PutMetricData",
        "ecr:BatchCheckLayerAvailability",
        "ecr:BatchGetImage",
        "ecr:GetAuthorizationToken",
        "ecr:GetDownloadUrlForLayer",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
        "s3:AbortMultipartUpload",
        "s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
    }


def test_every_resource_is_named_where_aws_knows_resources(stage: Synthesised) -> None:
    for statement in statements(stage).values():
        if "*" in resources(statement):
            assert set(as_list(statement["Action"])) <= WITHOUT_RESOURCES
            assert resources(statement) == ["*"]
        else:
            assert not [r for r in resources(statement) if r.split(":", 5)[5].startswith("*")]


def test_models_and_batch_input_may_be_read_and_batch_output_written(all_stages: dict[str, Synthesised]) -> None:
    allowed = statements(all_stages["dev"])
    bucket = "arn:${AWS::Partition}:s3:::tidegate-dev-data-${AWS::AccountId}-${AWS::Region}"

    assert resources(allowed["ReadModels"]) == [f"{bucket}/models/*"]
    assert resources(allowed["ReadBatchInput"]) == [f"{bucket}/batch/input/*"]
    assert resources(allowed["ReadBatchLists"]) == [f"{bucket}/batch/output/*.manifest.json"]
    assert resources(allowed["WriteBatchOutput"]) == [f"{bucket}/batch/output/*"]
    assert resources(allowed["ListBucket"]) == [bucket]


def test_logs_go_to_the_endpoint_s_own_group_and_that_of_transform_jobs(all_stages: dict[str, Synthesised]) -> None:
    groups = {arn.split("log-group:")[1] for arn in resources(statements(all_stages["dev"])["WriteLogs"])}

    assert groups == {
        "/aws/sagemaker/Endpoints/tidegate-dev",
        "/aws/sagemaker/Endpoints/tidegate-dev:*",
        "/aws/sagemaker/TransformJobs",
        "/aws/sagemaker/TransformJobs:*",
    }


def test_an_archive_in_another_bucket_may_be_read_and_nothing_beside_it(synthesise: Synthesise) -> None:
    allowed = statements(synthesise(stage="dev", model_data_url="s3://elsewhere/a/model.tar.gz"))

    assert resources(allowed["ReadThisModel"]) == ["arn:${AWS::Partition}:s3:::elsewhere/a/model.tar.gz"]
    assert "elsewhere" not in str([statement for sid, statement in allowed.items() if sid != "ReadThisModel"])


@pytest.mark.parametrize(
    ("values", "repository"),
    [
        (
            {"image_tag": "1"},
            "arn:${AWS::Partition}:ecr:${AWS::Region}:${AWS::AccountId}:repository/tidegate-dev",
        ),
        (
            {"image_uri": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a/b@sha256:" + "0a" * 32},
            "arn:${AWS::Partition}:ecr:eu-west-1:123456789012:repository/a/b",
        ),
    ],
)
def test_the_image_may_be_pulled_from_its_own_repository_only(
    values: dict[str, str], repository: str, synthesise: Synthesise
) -> None:
    assert resources(statements(synthesise(stage="dev", **values))["PullImage"]) == [repository]


def test_an_image_outside_of_ecr_needs_no_right_to_ecr(synthesise: Synthesise) -> None:
    allowed = statements(synthesise(stage="dev", image_uri="registry.example/serving:1", changes=IN_A_VPC))

    assert "PullImage" not in allowed
    assert "LogInToRegistry" not in allowed
