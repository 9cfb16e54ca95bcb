"""The calls of Terraform's AWS provider, as its resources make them: the operations in their order, the members that
they always send, the waiters, and the words by which they know that something is not there.

Terraform itself does not run here. Source of the calls and words: hashicorp/terraform-provider-aws, internal/service/
sagemaker (model.go, endpoint_configuration.go, endpoint.go, model_package_group.go, model_package_group_policy.go,
pipeline.go) and internal/service/appautoscaling (target.go, policy.go).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
SIZE = {"Type": "INSTANCE_COUNT", "Value": 1}
TAGS = [{"Key": "team", "Value": "a"}, {"Key": "stage", "Value": "test"}]
FAIL = {"Type": "Fail", "Arguments": {"ErrorMessage": "no"}}
GROUP_POLICY = json.dumps({"Version": "2012-10-17", "Statement": []})


def refusal(call: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**members)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def retag(account: Account, arn: str) -> None:
    """What every resource does when its tags change: first those that are gone, then those that are new."""
    sagemaker = account.sagemaker
    assert sorted(tag["Key"] for tag in sagemaker.list_tags(ResourceArn=arn)["Tags"]) == ["stage", "team"]
    sagemaker.delete_tags(ResourceArn=arn, TagKeys=["stage"])
    sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "team", "Value": "b"}])
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "b"}]


def model(account: Account, **environment: str) -> dict[str, Any]:
    """aws_sagemaker_model; the mode is always given."""
    name = account.name("terraform")
    container = {"Image": IMAGE, "Mode": "SingleModel", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    account.sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE,
        PrimaryContainer=container | ({"Environment": environment} if environment else {}),
        Tags=TAGS,
    )
    described: dict[str, Any] = account.sagemaker.describe_model(ModelName=name)
    return described


def configuration(account: Account, of: str, **variant: Any) -> dict[str, Any]:
    """aws_sagemaker_endpoint_configuration; the weight and EnableSSMAccess are always given."""
    name = account.name("terraform")
    machine = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    always = {"VariantName": "terraform-20261130160000000000000001", "ModelName": of, "InitialVariantWeight": 1.0}
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[always | {"EnableSSMAccess": False} | (variant or machine)],
        Tags=TAGS,
    )
    described: dict[str, Any] = account.sagemaker.describe_endpoint_config(EndpointConfigName=name)
    return described


def test_a_model_is_read_as_it_was_made(account: Account) -> None:
    made = model(account, LEVEL="1")
    assert made["PrimaryContainer"] == {
        "Image": IMAGE,
        "Mode": "SingleModel",
        "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz",
        "Environment": {"LEVEL": "1"},
    }
    assert made["ExecutionRoleArn"] == ROLE
    assert made["EnableNetworkIsolation"] is False
    retag(account, made["ModelArn"])
    account.sagemaker.delete_model(ModelName=made["ModelName"])
    assert refusal(account.sagemaker.describe_model, ModelName=made["ModelName"])[0] == "ValidationException"


@pytest.mark.parametrize(
    "variant",
    [
        {},
        {"ServerlessConfig": {"MaxConcurrency": 1, "MemorySizeInMB": 1024}},
        {
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
            "ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 1, "MaxInstanceCount": 2},
            "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        },
    ],
    ids=["machine", "serverless", "scaled"],
)
def test_a_configuration_is_read_as_it_was_made(account: Account, variant: dict[str, Any]) -> None:
    of = model(account)["ModelName"]
    made = configuration(account, of, **variant)
    (read,) = made["ProductionVariants"]
    assert (read["ModelName"], read["InitialVariantWeight"], read["EnableSSMAccess"]) == (of, 1.0, False)
    assert {key: read[key] for key in variant} == variant
    retag(account, made["EndpointConfigArn"])
    account.sagemaker.delete_endpoint_config(EndpointConfigName=made["EndpointConfigName"])
    account.sagemaker.delete_model(ModelName=of)


def test_an_endpoint_is_made_waited_for_changed_and_destroyed(account: Account) -> None:
    sagemaker, name = account.sagemaker, account.name("terraform")
    first, second = model(account, STAND_IN_PREFIX="1"), model(account, STAND_IN_PREFIX="2")
    configs = [configuration(account, each["ModelName"])["EndpointConfigName"] for each in (first, second)]
    routing = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
    deployment = {
        "BlueGreenUpdatePolicy": {"TerminationWaitInSeconds": 0, "TrafficRoutingConfiguration": routing},
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
    }
    in_service = sagemaker.get_waiter("endpoint_in_service")
    quickly = {"Delay": 1, "MaxAttempts": 120}
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=configs[0], DeploymentConfig=deployment, Tags=TAGS)
    in_service.wait(EndpointName=name, WaiterConfig=quickly)
    read = sagemaker.describe_endpoint(EndpointName=name)
    assert (read["EndpointName"], read["EndpointConfigName"]) == (name, configs[0])
    assert read["LastDeploymentConfig"] == deployment
    retag(account, read["EndpointArn"])
    sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=configs[1], DeploymentConfig=deployment)
    in_service.wait(EndpointName=name, WaiterConfig=quickly)
    assert sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"] == configs[1]
    assert account.invoke(name, b"x") == b"2X"
    sagemaker.delete_endpoint(EndpointName=name)
    sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=quickly)
    for config in configs:
        sagemaker.delete_endpoint_config(EndpointConfigName=config)
    for each in (first, second):
        sagemaker.delete_model(ModelName=each["ModelName"])


def test_a_group_and_its_policy_are_made_read_and_destroyed(account: Account) -> None:
    sagemaker, name = account.sagemaker, account.name("terraform")
    arn = sagemaker.create_model_package_group(
        ModelPackageGroupName=name, ModelPackageGroupDescription="digits", Tags=TAGS
    )["ModelPackageGroupArn"]
    await_true(
        lambda: (
            sagemaker.describe_model_package_group(ModelPackageGroupName=name)["ModelPackageGroupStatus"] == "Completed"
        ),
        "the group is there",
    )
    read = sagemaker.describe_model_package_group(ModelPackageGroupName=name)
    assert (read["ModelPackageGroupArn"], read["ModelPackageGroupDescription"]) == (arn, "digits")
    retag(account, arn)
    sagemaker.put_model_package_group_policy(ModelPackageGroupName=name, ResourcePolicy=GROUP_POLICY)
    policy = sagemaker.get_model_package_group_policy(ModelPackageGroupName=name)["ResourcePolicy"]
    assert json.loads(policy) == json.loads(GROUP_POLICY)
    sagemaker.delete_model_package_group_policy(ModelPackageGroupName=name)
    for operation in ("get", "delete"):
        call = getattr(sagemaker, f"{operation}_model_package_group_policy")
        code, message = refusal(call, ModelPackageGroupName=name)
        assert code == "ValidationException"
        assert "Cannot find resource policy" in message
    sagemaker.delete_model_package_group(ModelPackageGroupName=name)


def test_a_pipeline_is_made_read_changed_and_destroyed(account: Account) -> None:
    sagemaker, name = account.sagemaker, account.name("terraform")
    first, second = (json.dumps({"Version": "2020-12-01", "Steps": [FAIL | {"Name": step}]}) for step in ("A", "B"))
    sagemaker.create_pipeline(
        ClientRequestToken="terraform-20261130160000000000000001",
        PipelineName=name,
        PipelineDisplayName=name,
        PipelineDefinition=first,
        RoleArn=ROLE,
        ParallelismConfiguration={"MaxParallelExecutionSteps": 1},
        Tags=TAGS,
    )
    read = sagemaker.describe_pipeline(PipelineName=name)
    assert (read["PipelineName"], read["PipelineDisplayName"], read["RoleArn"]) == (name, name, ROLE)
    assert json.loads(read["PipelineDefinition"]) == json.loads(first)
    assert read["ParallelismConfiguration"] == {"MaxParallelExecutionSteps": 1}
    retag(account, read["PipelineArn"])
    sagemaker.update_pipeline(PipelineName=name, PipelineDefinition=second, PipelineDescription="another")
    read = sagemaker.describe_pipeline(PipelineName=name)
    assert (read["PipelineDescription"], read["PipelineDisplayName"]) == ("another", name)
    assert json.loads(read["PipelineDefinition"]) == json.loads(second)
    token = "terraform-20261130160000000000000002"
    sagemaker.delete_pipeline(ClientRequestToken=token, PipelineName=name)
    assert refusal(sagemaker.describe_pipeline, PipelineName=name)[0] == "ResourceNotFound"
    assert refusal(sagemaker.delete_pipeline, PipelineName=name)[0] == "ResourceNotFound"


@pytest.mark.parametrize(
    ("operation", "member", "words"),
    [
        ("delete_model", "ModelName", "Could not find model"),
        ("describe_endpoint_config", "EndpointConfigName", "Could not find endpoint configuration"),
        ("delete_endpoint_config", "EndpointConfigName", "Could not find endpoint configuration"),
        ("describe_endpoint", "EndpointName", "Could not find endpoint"),
        ("delete_endpoint", "EndpointName", "Could not find endpoint"),
        ("describe_model_package_group", "ModelPackageGroupName", "does not exist"),
        ("delete_model_package_group", "ModelPackageGroupName", "does not exist"),
        ("get_model_package_group_policy", "ModelPackageGroupName", "Cannot find Model Package Group"),
        ("delete_model_package_group_policy", "ModelPackageGroupName", "Cannot find Model Package Group"),
    ],
)
def test_what_is_gone_is_known_by_the_words_that_terraform_looks_for(
    account: Account, operation: str, member: str, words: str
) -> None:
    """Without these words a plan ends with an error where the resource should be made again."""
    code, message = refusal(getattr(account.sagemaker, operation), **{member: "nobody"})
    assert code == "ValidationException"
    assert words in message


def test_a_scalable_target_and_its_policy_are_made_changed_and_destroyed(account: Account) -> None:
    endpoint = account.endpoint(model(account)["ModelName"])
    scaling = account.cloud.client("application-autoscaling")
    key = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/variant-0",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    named = {**key, "PolicyName": "load"}
    asked = {name: key[name] for name in ("ServiceNamespace", "ScalableDimension")}

    def read() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = scaling.describe_scalable_targets(ResourceIds=[key["ResourceId"]], **asked)[
            "ScalableTargets"
        ]
        return found

    def policies() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = scaling.describe_scaling_policies(PolicyNames=["load"], **key)["ScalingPolicies"]
        return found

    scaling.register_scalable_target(**key, MinCapacity=1, MaxCapacity=2, Tags={"team": "a"})
    (target,) = read()
    assert {name: target[name] for name in key} == key
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 2)
    arn = target["ScalableTargetARN"]
    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"team": "a"}
    scaling.untag_resource(ResourceARN=arn, TagKeys=["team"])
    scaling.tag_resource(ResourceARN=arn, Tags={"team": "b"})
    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"team": "b"}
    scaling.register_scalable_target(**key, MinCapacity=1, MaxCapacity=3)
    assert [each["MaxCapacity"] for each in read()] == [3]

    tracking = {
        "TargetValue": 70.0,
        "ScaleInCooldown": 0,
        "ScaleOutCooldown": 0,
        "DisableScaleIn": False,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    }
    put = {**named, "PolicyType": "TargetTrackingScaling"}
    made = scaling.put_scaling_policy(**put, TargetTrackingScalingPolicyConfiguration=tracking)
    (policy,) = policies()
    assert policy["PolicyARN"] == made["PolicyARN"]
    assert policy["TargetTrackingScalingPolicyConfiguration"] == tracking
    scaling.put_scaling_policy(**put, TargetTrackingScalingPolicyConfiguration=tracking | {"TargetValue": 50.0})
    assert [each["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] for each in policies()] == [50.0]
    scaling.delete_scaling_policy(**named)
    assert policies() == []
    scaling.deregister_scalable_target(**key)
    assert read() == []
    for call, members in ((scaling.delete_scaling_policy, named), (scaling.deregister_scalable_target, key)):
        assert refusal(call, **members)[0] == "ObjectNotFoundException"
    scaling.close()
    account.delete(endpoint)
