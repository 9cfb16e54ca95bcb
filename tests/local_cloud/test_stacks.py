"""CloudFormation through plain boto3: stacks that create, update in place, roll back and delete what really runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from tests.local_cloud.conftest import BUCKET, ROLE, Account, await_true, model_archive
from tidegate.local_cloud.cloudformation.templates import in_order, references

VARIANT = {"VariantName": "AllTraffic", "InstanceType": "ml.g6.xlarge", "InitialInstanceCount": "1"}


def serving(prefix: str = "", data: str = "model.tar.gz", **environment: str) -> dict[str, Any]:
    """A template of a model, its configuration and its endpoint, without names."""
    return {
        "Resources": {
            # In this order on purpose: what refers to others comes first.
            "Endpoint": {
                "Type": "AWS::SageMaker::Endpoint",
                "Properties": {"EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]}},
            },
            "Config": {
                "Type": "AWS::SageMaker::EndpointConfig",
                "Properties": {
                    "ProductionVariants": [{**VARIANT, "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]}}]
                },
            },
            "Model": {
                "Type": "AWS::SageMaker::Model",
                "Properties": {
                    "ExecutionRoleArn": ROLE,
                    "PrimaryContainer": {
                        "Image": "serve",
                        "ModelDataUrl": f"s3://{BUCKET}/{data}",
                        "Environment": {"STAND_IN_PREFIX": prefix, **environment},
                    },
                },
            },
        },
        "Outputs": {
            "Name": {"Value": {"Fn::GetAtt": ["Endpoint", "EndpointName"]}},
            "Arn": {"Value": {"Ref": "Endpoint"}},
        },
    }


class Stack:
    """One stack and what a user sees of it."""

    def __init__(self, account: Account, name: str) -> None:
        self.account, self.name = account, name
        self._client = account.cloudformation

    def create(self, template: dict[str, Any], **options: Any) -> str:
        self._client.create_stack(StackName=self.name, TemplateBody=json.dumps(template), **options)
        return self.settled()

    def update(self, template: dict[str, Any], **options: Any) -> str:
        self._client.update_stack(StackName=self.name, TemplateBody=json.dumps(template), **options)
        return self.settled()

    def settled(self) -> str:
        await_true(lambda: not self.describe()["StackStatus"].endswith("IN_PROGRESS"), f"stack {self.name} settles")
        status: str = self.describe()["StackStatus"]
        return status

    def describe(self) -> dict[str, Any]:
        description: dict[str, Any] = self._client.describe_stacks(StackName=self.name)["Stacks"][0]
        return description

    def outputs(self) -> dict[str, str]:
        return {output["OutputKey"]: output["OutputValue"] for output in self.describe()["Outputs"]}

    def events(self, name: str) -> list[tuple[str, str]]:
        events = self._client.describe_stack_events(StackName=self.name)["StackEvents"]
        return [
            (event["ResourceStatus"], event.get("ResourceStatusReason", ""))
            for event in reversed(events)
            if event["LogicalResourceId"] == name
        ]

    def resources(self) -> dict[str, str]:
        summaries = self._client.list_stack_resources(StackName=self.name)["StackResourceSummaries"]
        return {item["LogicalResourceId"]: item["PhysicalResourceId"] for item in summaries}

    def delete(self) -> None:
        self._client.delete_stack(StackName=self.name)
        deleted = self._client.get_waiter("stack_delete_complete")
        deleted.wait(StackName=self.name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 6000})


@contextmanager
def stack_of(account: Account) -> Iterator[Stack]:
    stack = Stack(account, account.name("stack"))
    try:
        yield stack
    finally:
        stack.delete()


@pytest.fixture
def stack(account: Account) -> Iterator[Stack]:
    with stack_of(account) as made:
        yield made


def named(account: Account, kind: str, mark: str) -> list[str]:
    """Names of models, configurations or endpoints that hold ``mark``."""
    calls = {
        "models": ("list_models", "Models", "ModelName"),
        "configs": ("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
        "endpoints": ("list_endpoints", "Endpoints", "EndpointName"),
    }
    call, member, name = calls[kind]
    return [item[name] for item in getattr(account.sagemaker, call)(NameContains=mark, MaxResults=100)[member]]


@pytest.mark.parametrize(
    ("service", "operation", "members"),
    [
        ("cloudformation", "cancel_update_stack", {"StackName": "any"}),
        ("ssm", "get_inventory", {}),
    ],
)
def test_an_operation_that_moto_does_not_have_is_refused_by_its_name(
    account: Account, service: str, operation: str, members: dict[str, Any]
) -> None:
    client = account.cloud.client(service)
    with pytest.raises(ClientError) as caught:
        getattr(client, operation)(**members)
    client.close()
    wanted = "".join(word.capitalize() for word in operation.split("_"))
    assert f"The local cloud does not have {wanted} of {service}." in str(caught.value)
    assert caught.value.response["ResponseMetadata"].get("RetryAttempts", 0) == 0


def test_a_stack_creates_what_it_says_and_refers_to_it(account: Account, stack: Stack) -> None:
    assert stack.create(serving("one ")) == "CREATE_COMPLETE"
    outputs = stack.outputs()
    assert outputs["Name"].startswith(f"{stack.name}-Endpoint-")
    assert outputs["Arn"] == stack.resources()["Endpoint"]
    assert outputs["Arn"].endswith(f":endpoint/{outputs['Name'].lower()}")
    assert account.invoke(outputs["Name"], b"a") == b"one A"
    assert stack.events("Endpoint") == [("CREATE_IN_PROGRESS", ""), ("CREATE_COMPLETE", "")]


def test_new_model_data_reaches_the_endpoint_in_place(account: Account, stack: Stack) -> None:
    account.put("other.tar.gz", model_archive({"model.pth": "other"}))
    assert stack.create(serving()) == "CREATE_COMPLETE"
    before, endpoint = stack.resources(), stack.outputs()["Name"]
    assert stack.update(serving(data="other.tar.gz")) == "UPDATE_COMPLETE"
    after = stack.resources()
    assert after["Endpoint"] == before["Endpoint"]
    assert after["Model"] != before["Model"]
    assert after["Config"] != before["Config"]
    assert json.loads(account.invoke(endpoint, b"files:")) == {"model.pth": "other"}
    assert len(named(account, "models", stack.name)) == len(named(account, "configs", stack.name)) == 1
    assert ("DELETE_COMPLETE", "") in stack.events("Model"), "what was replaced is cleaned up"


def test_an_update_without_changes_is_refused_and_touches_nothing(stack: Stack) -> None:
    stack.create(serving())
    with pytest.raises(ClientError, match="No updates are to be performed"):
        stack.update(serving())
    assert stack.settled() == "CREATE_COMPLETE"


def test_a_failing_endpoint_fails_the_stack_with_its_reason(account: Account, stack: Stack) -> None:
    assert stack.create(serving(STAND_IN_ERROR="predict_fn is missing.")) == "ROLLBACK_COMPLETE"
    status, reason = stack.events("Endpoint")[-1]
    assert status == "CREATE_FAILED"
    assert "tidegate: error: predict_fn is missing." in reason
    rollback = dict(stack.events(stack.name))["ROLLBACK_IN_PROGRESS"]
    assert rollback.startswith("The following resource(s) failed to create: [Endpoint]. Endpoint ")
    assert "predict_fn is missing." in rollback
    for kind in ("models", "configs", "endpoints"):
        assert named(account, kind, stack.name) == [], kind


def test_an_update_that_fails_is_rolled_back_and_the_old_model_serves(account: Account, stack: Stack) -> None:
    stack.create(serving("old "))
    before, endpoint = stack.resources(), stack.outputs()["Name"]
    assert stack.update(serving("new ", STAND_IN_ERROR="bad weights.")) == "UPDATE_ROLLBACK_COMPLETE"
    assert "bad weights." in dict(stack.events("Endpoint"))["UPDATE_FAILED"]
    assert stack.resources() == before
    assert account.invoke(endpoint, b"a") == b"old A"
    assert len(named(account, "models", stack.name)) == 1
    assert stack.update(serving("third ")) == "UPDATE_COMPLETE"
    assert account.invoke(endpoint, b"a") == b"third A"


def test_a_deleted_stack_leaves_nothing(account: Account) -> None:
    with stack_of(account) as stack:
        stack.create(serving())
    for kind in ("models", "configs", "endpoints"):
        assert named(account, kind, stack.name) == [], kind


def test_names_are_honoured_and_a_named_thing_is_not_replaced_under_its_name(account: Account, stack: Stack) -> None:
    template, name = serving(), account.name("named")
    for resource, member in (("Model", "ModelName"), ("Config", "EndpointConfigName"), ("Endpoint", "EndpointName")):
        template["Resources"][resource]["Properties"][member] = name
    assert stack.create(template) == "CREATE_COMPLETE"
    assert account.invoke(name, b"a") == b"A"
    assert named(account, "models", name) == named(account, "configs", name) == [name]
    template["Resources"]["Model"]["Properties"]["PrimaryContainer"]["Image"] = "another"
    assert stack.update(template) == "UPDATE_ROLLBACK_COMPLETE"
    assert f"Rename {name} and update the stack again." in dict(stack.events("Model"))["UPDATE_FAILED"]


def test_tags_change_without_a_replacement(account: Account, stack: Stack) -> None:
    template = serving()
    template["Resources"]["Model"]["Properties"]["Tags"] = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    stack.create(template)
    before = stack.resources()
    template["Resources"]["Model"]["Properties"]["Tags"] = [{"Key": "b", "Value": "3"}]
    assert stack.update(template) == "UPDATE_COMPLETE"
    assert stack.resources() == before
    assert account.sagemaker.list_tags(ResourceArn=before["Model"])["Tags"] == [{"Key": "b", "Value": "3"}]


def test_the_tags_of_a_stack_reach_its_resources_and_change_with_it(account: Account, stack: Stack) -> None:
    template = serving()
    template["Resources"]["Model"]["Properties"]["Tags"] = [{"Key": "own", "Value": "1"}]
    stack.create(template, Tags=[{"Key": "team", "Value": "a"}, {"Key": "own", "Value": "of the stack"}])

    def tags(name: str) -> dict[str, str]:
        found = account.sagemaker.list_tags(ResourceArn=stack.resources()[name])["Tags"]
        return {tag["Key"]: tag["Value"] for tag in found}

    assert tags("Endpoint") == {"team": "a", "own": "of the stack"}
    assert tags("Model") == {"team": "a", "own": "1"}
    before = stack.resources()
    assert stack.update(template, Tags=[{"Key": "team", "Value": "b"}]) == "UPDATE_COMPLETE"
    assert stack.resources() == before
    assert tags("Endpoint") == {"team": "b"}
    assert tags("Model") == {"team": "b", "own": "1"}


def test_parameters_keep_their_previous_and_default_values(account: Account, stack: Stack) -> None:
    template = serving()
    template["Parameters"] = {"Prefix": {"Type": "String", "Default": "default "}}
    environment = template["Resources"]["Model"]["Properties"]["PrimaryContainer"]["Environment"]
    environment["STAND_IN_PREFIX"] = {"Ref": "Prefix"}
    stack.create(template)
    endpoint = stack.outputs()["Name"]
    assert account.invoke(endpoint, b"a") == b"default A"
    given = [{"ParameterKey": "Prefix", "ParameterValue": "given "}]
    assert stack.update(template, Parameters=given) == "UPDATE_COMPLETE"
    assert account.invoke(endpoint, b"a") == b"given A"
    template["Description"] = "changed"
    kept = [{"ParameterKey": "Prefix", "UsePreviousValue": True}]
    assert stack.update(template, Parameters=kept) == "UPDATE_COMPLETE"
    assert account.invoke(endpoint, b"a") == b"given A"


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ({"Type": "AWS::Lambda::Url"}, "does not have AWS::Lambda::Url"),
        ({"Type": "Custom::S3AutoDeleteObjects"}, "does not run custom resources"),
    ],
)
def test_a_type_that_is_not_here_is_refused_before_anything_is_made(
    account: Account, resource: dict[str, Any], words: str
) -> None:
    template = serving()
    template["Resources"]["Stranger"] = resource
    name = account.name("stack")
    with pytest.raises(ClientError, match=words):
        account.cloudformation.create_stack(StackName=name, TemplateBody=json.dumps(template))
    assert named(account, "models", name) == []


def test_a_member_that_is_not_here_fails_the_resource_by_name(stack: Stack) -> None:
    template = serving()
    template["Resources"]["Config"]["Properties"]["ExplainerConfig"] = {
        "ClarifyExplainerConfig": {"ShapConfig": {"ShapBaselineConfig": {"ShapBaseline": "1"}}}
    }
    assert stack.create(template) == "ROLLBACK_COMPLETE"
    assert "does not have ExplainerConfig.ClarifyExplainerConfig.ShapConfig" in stack.events("Config")[-1][1]


def keeping(bucket: str, policy: str, **more: Any) -> dict[str, Any]:
    """A template of a bucket that outlives its stack, and of `more`, which is made after it."""
    kept = {"Type": "AWS::S3::Bucket", "DeletionPolicy": policy, "Properties": {"BucketName": bucket}}
    return {"Resources": {"Bucket": kept, **more}}


def failing() -> dict[str, Any]:
    return {
        "Type": "AWS::SageMaker::Endpoint",
        "DependsOn": "Bucket",
        "Properties": {"EndpointConfigName": "there-is-none-of-this-name"},
    }


def buckets(account: Account) -> set[str]:
    return {bucket["Name"] for bucket in account.s3.list_buckets()["Buckets"]}


def test_what_is_kept_except_on_create_goes_with_a_creation_that_fails_and_can_be_made_again(account: Account) -> None:
    """As the stacks of a stage with keep_data have it: the second attempt finds no name taken."""
    bucket, stack = account.name("bucket"), Stack(account, account.name("stack"))
    policy = "RetainExceptOnCreate"
    assert stack.create(keeping(bucket, policy, Endpoint=failing())) == "ROLLBACK_COMPLETE"
    assert stack.events("Bucket")[-1][0] == "DELETE_COMPLETE"
    assert bucket not in buckets(account)
    stack.delete()
    assert stack.create(keeping(bucket, policy)) == "CREATE_COMPLETE"
    assert stack.update(keeping(bucket, policy, Endpoint=failing())) == "UPDATE_ROLLBACK_COMPLETE"
    assert bucket in buckets(account), "it was there before the update"
    stack.delete()
    assert bucket in buckets(account), "the stack is gone, and its data stays"


def test_what_is_kept_in_any_case_stays_behind_a_creation_that_fails(account: Account) -> None:
    """So the next attempt finds the name taken, as in an account."""
    bucket, stack = account.name("bucket"), Stack(account, account.name("stack"))
    assert stack.create(keeping(bucket, "Retain", Endpoint=failing())) == "ROLLBACK_COMPLETE"
    assert stack.events("Bucket")[-1][0] == "DELETE_SKIPPED"
    stack.delete()
    assert bucket in buckets(account)
    assert stack.create(keeping(bucket, "Retain")) == "ROLLBACK_COMPLETE"
    assert "BucketAlreadyExists" in stack.events("Bucket")[-1][1]
    stack.delete()


def test_what_an_update_made_before_it_failed_is_kept_as_its_policy_says(account: Account) -> None:
    first, second, stack = account.name("bucket"), account.name("bucket"), Stack(account, account.name("stack"))
    assert stack.create(keeping(first, "Delete")) == "CREATE_COMPLETE"
    for policy, stays in (("RetainExceptOnCreate", False), ("Retain", True)):
        added = keeping(second, policy)["Resources"]["Bucket"] | {"DependsOn": "Bucket"}
        broken = failing() | {"DependsOn": "Second"}
        assert stack.update(keeping(first, "Delete", Second=added, Endpoint=broken)) == "UPDATE_ROLLBACK_COMPLETE"
        assert (second in buckets(account)) is stays
    stack.delete()
    assert first not in buckets(account)


def test_a_replaced_bucket_stays_where_its_policy_says_so(account: Account) -> None:
    first, second, stack = account.name("bucket"), account.name("bucket"), Stack(account, account.name("stack"))
    template = keeping(first, "Delete")
    template["Resources"]["Bucket"]["UpdateReplacePolicy"] = "Retain"
    assert stack.create(template) == "CREATE_COMPLETE"
    template["Resources"]["Bucket"]["Properties"]["BucketName"] = second
    assert stack.update(template) == "UPDATE_COMPLETE"
    assert {first, second} <= buckets(account)
    stack.delete()
    assert first in buckets(account)
    assert second not in buckets(account)


def test_a_bucket_is_what_its_template_says(account: Account, stack: Stack) -> None:
    name = account.name("bucket")
    properties = {
        "BucketName": name,
        "VersioningConfiguration": {"Status": "Enabled"},
        "PublicAccessBlockConfiguration": {
            "BlockPublicAcls": True,
            "BlockPublicPolicy": "true",
            "IgnorePublicAcls": True,
            "RestrictPublicBuckets": True,
        },
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [
                {"BucketKeyEnabled": True, "ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
            ]
        },
        "LifecycleConfiguration": {
            "Rules": [
                {"Id": "old", "Status": "Enabled", "NoncurrentVersionExpiration": {"NoncurrentDays": 30}},
                {"Status": "Enabled", "Prefix": "tmp/", "ExpirationInDays": 1},
            ]
        },
        "Tags": [{"Key": "team", "Value": "a"}],
    }
    denied = {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": {"Fn::Join": ["", [{"Fn::GetAtt": ["Bucket", "Arn"]}, "/*"]]},
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        },
    }
    template = {
        "Resources": {
            "Policy": {
                "Type": "AWS::S3::BucketPolicy",
                "Properties": {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": denied},
            },
            "Bucket": {"Type": "AWS::S3::Bucket", "Properties": properties},
        }
    }
    assert stack.create(template) == "CREATE_COMPLETE"
    s3 = account.s3
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    assert all(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values())
    (rule,) = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["BucketKeyEnabled"] is True
    assert [rule["Filter"]["Prefix"] for rule in s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]] == [
        "",
        "tmp/",
    ]
    policy = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])
    assert policy["Statement"]["Resource"] == f"arn:aws:s3:::{name}/*"
    s3.put_object(Bucket=name, Key="k", Body=b"policies are stored, not enforced")
    properties["VersioningConfiguration"]["Status"] = "Suspended"
    assert stack.update(template) == "UPDATE_COMPLETE"
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Suspended"
    account.cloudformation.delete_stack(StackName=stack.name)
    assert stack.settled() == "DELETE_FAILED"
    assert "not empty" in dict(stack.events("Bucket"))["DELETE_FAILED"]
    assert stack.describe()["StackStatusReason"] == "The following resource(s) failed to delete: [Bucket]."
    for version in s3.list_object_versions(Bucket=name)["Versions"]:
        s3.delete_object(Bucket=name, Key="k", VersionId=version["VersionId"])


def test_a_repository_scans_and_forgets_as_its_template_says(account: Account, stack: Stack) -> None:
    policy = json.dumps(
        {
            "rules": [
                {
                    "rulePriority": 1,
                    "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 5},
                    "action": {"type": "expire"},
                }
            ]
        }
    )
    properties = {
        "ImageScanningConfiguration": {"ScanOnPush": True},
        "ImageTagMutability": "IMMUTABLE",
        "LifecyclePolicy": {"LifecyclePolicyText": policy},
    }
    template = {
        "Resources": {"Images": {"Type": "AWS::ECR::Repository", "Properties": properties}},
        "Outputs": {"Name": {"Value": {"Ref": "Images"}}},
    }
    assert stack.create(template) == "CREATE_COMPLETE"
    ecr, name = account.cloud.client("ecr"), stack.outputs()["Name"]
    (repository,) = ecr.describe_repositories(repositoryNames=[name])["repositories"]
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert json.loads(ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"]) == json.loads(policy)
    ecr.close()


def test_a_parameter_takes_tags_as_a_template_writes_them(account: Account, stack: Stack) -> None:
    name = f"/{account.name('parameter')}"
    properties = {"Name": name, "Type": "String", "Value": "1", "Tags": {"team": "a"}}
    template = {"Resources": {"Parameter": {"Type": "AWS::SSM::Parameter", "Properties": properties}}}
    assert stack.create(template) == "CREATE_COMPLETE"
    properties["Value"] = "2"
    assert stack.update(template) == "UPDATE_COMPLETE"
    ssm = account.cloud.client("ssm")
    assert ssm.get_parameter(Name=name)["Parameter"]["Value"] == "2"
    assert ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"] == [
        {"Key": "team", "Value": "a"}
    ]
    ssm.close()


def test_an_exported_value_is_imported_and_protects_its_stack(account: Account, stack: Stack) -> None:
    exporting = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {"Topic": {"Value": {"Ref": "Topic"}, "Export": {"Name": f"{stack.name}-topic"}}},
    }
    importing = {
        "Resources": {
            "Parameter": {
                "Type": "AWS::SSM::Parameter",
                "Properties": {"Type": "String", "Value": {"Fn::ImportValue": f"{stack.name}-topic"}},
            }
        }
    }
    stack.create(exporting)
    with stack_of(account) as user:
        assert user.create(importing) == "CREATE_COMPLETE"
        with pytest.raises(ClientError, match=f"in use by {user.name}"):
            account.cloudformation.delete_stack(StackName=stack.name)


def change(stack: Stack, template: dict[str, Any], kind: str) -> list[tuple[str, str]]:
    """Deploys by a change set, as `cdk deploy` does; returns what it said it would do."""
    client = stack.account.cloudformation
    client.create_change_set(
        StackName=stack.name, ChangeSetName="cdk", ChangeSetType=kind, TemplateBody=json.dumps(template)
    )
    described = client.describe_change_set(StackName=stack.name, ChangeSetName="cdk")
    client.execute_change_set(StackName=stack.name, ChangeSetName="cdk")
    resources = [item["ResourceChange"] for item in described["Changes"]]
    return sorted((item["Action"], item["LogicalResourceId"]) for item in resources)


def test_change_sets_say_what_they_do_and_do_it(account: Account, stack: Stack) -> None:
    said = change(stack, serving("one "), "CREATE")
    assert said == [("Add", "Config"), ("Add", "Endpoint"), ("Add", "Model")]
    assert stack.settled() == "CREATE_COMPLETE"
    endpoint = stack.outputs()["Name"]
    assert change(stack, serving("two "), "UPDATE") == [("Modify", "Model")]
    assert stack.settled() == "UPDATE_COMPLETE"
    assert account.invoke(endpoint, b"a") == b"two A"
    assert change(stack, serving("three ", STAND_IN_ERROR="no."), "UPDATE") == [("Modify", "Model")]
    assert stack.settled() == "UPDATE_ROLLBACK_COMPLETE"
    assert account.invoke(endpoint, b"a") == b"two A"


def test_a_change_set_without_changes_says_so_and_sees_what_parameter_store_holds(account: Account) -> None:
    ssm, client = account.cloud.client("ssm"), account.cloudformation
    name = f"/{account.name('looked-up')}"
    ssm.put_parameter(Name=name, Type="String", Value="one")
    template = {
        "Parameters": {"LookedUp": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": name}},
        "Resources": {
            "Copy": {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": {"Ref": "LookedUp"}}}
        },
    }
    with stack_of(account) as stack:
        change(stack, template, "CREATE")
        stack.settled()
        copy = stack.resources()["Copy"]
        members = {"StackName": stack.name, "ChangeSetName": "cdk"}
        previous = [{"ParameterKey": "LookedUp", "UsePreviousValue": True}]
        wanted = {**members, "TemplateBody": json.dumps(template), "Parameters": previous, "ChangeSetType": "UPDATE"}
        client.create_change_set(**wanted)
        described = client.describe_change_set(**members)
        assert (described["Status"], described["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
        assert "didn't contain changes" in described["StatusReason"]
        ssm.put_parameter(Name=name, Type="String", Value="two", Overwrite=True)
        client.create_change_set(**wanted)
        client.execute_change_set(**members)
        assert stack.settled() == "UPDATE_COMPLETE"
        assert ssm.get_parameter(Name=copy)["Parameter"]["Value"] == "two"
    ssm.close()


def test_change_sets_of_several_stacks_have_one_name_and_do_not_meet(account: Account) -> None:
    client = account.cloudformation
    with stack_of(account) as one, stack_of(account) as two:
        for stack, value in ((one, "one"), (two, "two")):
            resource = {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": value}}
            client.create_change_set(
                StackName=stack.name,
                ChangeSetName="cdk",
                ChangeSetType="CREATE",
                TemplateBody=json.dumps({"Resources": {"It": resource}}),
            )
        for stack in (one, two):
            assert client.describe_change_set(StackName=stack.name, ChangeSetName="cdk")["StackName"] == stack.name
            client.execute_change_set(StackName=stack.name, ChangeSetName="cdk")
            assert stack.settled() == "CREATE_COMPLETE"
        assert one.resources() != two.resources()


def test_a_template_in_s3_is_deployed_from_this_cloud(account: Account, stack: Stack) -> None:
    account.put("templates/one.json", json.dumps({"Resources": {"It": {"Type": "AWS::SNS::Topic"}}}).encode())
    for address in (account.cloud.environment["AWS_ENDPOINT_URL_S3"], "https://s3.us-east-1.amazonaws.com"):
        client = account.cloudformation
        client.create_stack(StackName=stack.name, TemplateURL=f"{address}/{BUCKET}/templates/one.json")
        assert stack.settled() == "CREATE_COMPLETE"
        stack.delete()


def test_a_change_set_refuses_what_a_stack_refuses(account: Account) -> None:
    template = {"Resources": {"Stranger": {"Type": "AWS::Lambda::Url"}}}
    with pytest.raises(ClientError, match="does not have AWS::Lambda::Url"):
        change(Stack(account, account.name("stack")), template, "CREATE")


def test_a_change_set_that_is_not_there_is_not_found_and_deleting_it_is_no_error(account: Account) -> None:
    members = {"StackName": "nobody", "ChangeSetName": "nothing"}
    with pytest.raises(ClientError) as caught:
        account.cloudformation.describe_change_set(**members)
    assert caught.value.response["Error"]["Code"] == "ChangeSetNotFound"
    account.cloudformation.delete_change_set(**members)


def test_references_of_every_kind_are_seen() -> None:
    definition = {
        "DependsOn": ["A", "B"],
        "Properties": {
            "x": {"Ref": "C"},
            "y": [{"Fn::GetAtt": ["D", "Arn"]}, {"Fn::GetAtt": "E.Arn"}],
            "z": {"Fn::Sub": ["${F}-${G.Arn}-${own}-${!Literal}", {"own": {"Ref": "H"}}]},
        },
    }
    assert references(definition) >= set("ABCDEFGH")
    assert "Literal" not in references(definition)


@given(st.permutations(range(6)), st.data())
def test_every_resource_comes_after_those_it_refers_to(order: list[int], data: st.DataObject) -> None:
    resources = {}
    for number in order:
        earlier = data.draw(st.lists(st.integers(0, max(0, number - 1)), max_size=3)) if number else []
        resources[f"R{number}"] = {"DependsOn": [f"R{other}" for other in earlier]}
    found = in_order(resources)
    assert sorted(found) == sorted(resources)
    for name, definition in resources.items():
        assert all(found.index(other) < found.index(name) for other in definition["DependsOn"])


def test_a_circle_is_said_to_be_one() -> None:
    with pytest.raises(ValueError, match="Circular dependency"):
        in_order({"A": {"DependsOn": "B"}, "B": {"DependsOn": "A"}})
