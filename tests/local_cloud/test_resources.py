"""Resource types that moto lacks or drops: each is made, seen through its own API, changed in place, and deleted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import ROLE, Account
from tests.local_cloud.test_stacks import Stack, serving, stack_of

Json = dict[str, Any]
TOPIC = {"Type": "AWS::SNS::Topic", "Properties": {}}
QUEUE = {"Type": "AWS::SQS::Queue", "Properties": {}}
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "*", "Resource": "*"}
    ],
}


class Clients:
    """boto3 clients of the cloud under test, closed at the end."""

    def __init__(self, account: Account, stack: ExitStack) -> None:
        self._account, self._stack, self._made = account, stack, {}

    def __call__(self, service: str) -> Any:
        if service not in self._made:
            self._made[service] = client = self._account.cloud.client(service)
            self._stack.callback(client.close)
        return self._made[service]


@pytest.fixture(scope="module")
def clients(account: Account) -> Iterator[Clients]:
    with ExitStack() as stack:
        yield Clients(account, stack)


@dataclass(frozen=True)
class Case:
    """A resource, a change of it, and how its own service shows it: before, after, and `None` once it is gone."""

    kind: str
    properties: Json
    change: Json
    seen: Callable[[Clients, str], Any]
    before: Any
    after: Any
    others: Json | None = None  # further resources of the template


def alarm(clients: Clients, name: str) -> Any:
    found = clients("cloudwatch").describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm"])["MetricAlarms"]
    return (found[0]["Threshold"], found[0]["Dimensions"][0]["Value"]) if found else None


def subscription(clients: Clients, arn: str) -> Any:
    found = [item for item in clients("sns").list_subscriptions()["Subscriptions"] if item["SubscriptionArn"] == arn]
    if not found:
        return None
    return clients("sns").get_subscription_attributes(SubscriptionArn=arn)["Attributes"].get("RawMessageDelivery")


def schedule(clients: Clients, name: str) -> Any:
    found = [item["Name"] for item in clients("scheduler").list_schedules()["Schedules"] if item["Name"] == name]
    return clients("scheduler").get_schedule(Name=name)["ScheduleExpression"] if found else None


def budget(clients: Clients, name: str) -> Any:
    found = clients("budgets").describe_budgets(AccountId="123456789012")["Budgets"]
    limits = [item["BudgetLimit"]["Amount"] for item in found if item["BudgetName"] == name]
    return float(limits[0]) if limits else None


def rule(clients: Clients, name: str) -> Any:
    found = [item for item in clients("events").list_rules()["Rules"] if item["Name"] == name]
    if not found:
        return None
    targets = clients("events").list_targets_by_rule(Rule=name)["Targets"]
    return json.loads(found[0]["EventPattern"])["source"], sorted(target["Id"] for target in targets)


def state_machine(clients: Clients, arn: str) -> Any:
    states = clients("stepfunctions")
    if arn not in [item["stateMachineArn"] for item in states.list_state_machines()["stateMachines"]]:
        return None
    tags = states.list_tags_for_resource(resourceArn=arn)["tags"]
    return json.loads(states.describe_state_machine(stateMachineArn=arn)["definition"])["StartAt"], tags


def key(clients: Clients, name: str) -> Any:
    kms = clients("kms")
    metadata = kms.describe_key(KeyId=name)["KeyMetadata"]
    if metadata["KeyState"] == "PendingDeletion":
        return None
    tags = {tag["TagKey"]: tag["TagValue"] for tag in kms.list_resource_tags(KeyId=name)["Tags"]}
    return metadata["Description"], kms.get_key_rotation_status(KeyId=name)["KeyRotationEnabled"], tags


def group(clients: Clients, arn: str) -> Any:
    sagemaker = clients("sagemaker")
    groups = sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"]
    if arn not in [item["ModelPackageGroupArn"] for item in groups]:
        return None
    name = arn.rpartition("/")[2]
    try:
        policy = sagemaker.get_model_package_group_policy(ModelPackageGroupName=name)["ResourcePolicy"]
    except sagemaker.exceptions.ClientError:
        policy = "null"
    return sagemaker.list_tags(ResourceArn=arn)["Tags"], json.loads(policy)


def metric_filter(clients: Clients, name: str) -> Any:
    found = clients("logs").describe_metric_filters()["metricFilters"]
    patterns = [item["filterPattern"] for item in found if item["filterName"] == name]
    return patterns[0] if patterns else None


def database(clients: Clients, name: str) -> Any:
    found = [item for item in clients("glue").get_databases()["DatabaseList"] if item["Name"] == name]
    return found[0]["Description"] if found else None


def table(clients: Clients, name: str) -> Any:
    glue = clients("glue")
    if "lake" not in [item["Name"] for item in glue.get_databases()["DatabaseList"]]:
        return None
    found = glue.get_table(DatabaseName="lake", Name=name)["Table"]
    return [column["Name"] for column in found["StorageDescriptor"]["Columns"]], found["Retention"]


def workgroup(clients: Clients, name: str) -> Any:
    athena = clients("athena")
    if name not in [item["Name"] for item in athena.list_work_groups()["WorkGroups"]]:
        return None
    found = athena.get_work_group(WorkGroup=name)["WorkGroup"]["Configuration"]
    return found["EnforceWorkGroupConfiguration"], found["BytesScannedCutoffPerQuery"]


def policy(clients: Clients, arn: str) -> Any:
    iam = clients("iam")
    found = [item for item in iam.list_policies(Scope="Local")["Policies"] if item["Arn"] == arn]
    if not found:
        return None
    version = iam.get_policy_version(PolicyArn=arn, VersionId=found[0]["DefaultVersionId"])["PolicyVersion"]
    roles = iam.list_entities_for_policy(PolicyArn=arn)["PolicyRoles"]
    return version["Document"]["Statement"][0]["Action"], [role["RoleName"] for role in roles]


def allowing(action: str) -> Json:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}


def columns(*names: str) -> Json:
    return {"Columns": [{"Name": name, "Type": "double"} for name in names], "Location": "s3://lake/it/"}


def machine(state: str) -> Json:
    return {"StartAt": state, "States": {state: {"Type": "Succeed"}}}


CASES = [
    Case(
        kind="AWS::CloudWatch::Alarm",
        properties={
            "Namespace": "AWS/SageMaker",
            "MetricName": "ModelLatency",
            "Dimensions": [{"Name": "EndpointName", "Value": "e"}],
            "Statistic": "Average",
            "Period": "60",
            "EvaluationPeriods": 3,
            "Threshold": "5",
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
            "Tags": [{"Key": "team", "Value": "a"}],
        },
        change={"Threshold": 7},
        seen=alarm,
        before=(5.0, "e"),
        after=(7.0, "e"),
    ),
    Case(
        kind="AWS::SNS::Subscription",
        properties={
            "TopicArn": {"Ref": "Topic"},
            "Protocol": "sqs",
            "Endpoint": {"Fn::GetAtt": ["Queue", "Arn"]},
            "RawMessageDelivery": True,
        },
        change={"RawMessageDelivery": False},
        seen=subscription,
        before="true",
        after="false",
        others={"Topic": TOPIC, "Queue": QUEUE},
    ),
    Case(
        kind="AWS::Scheduler::Schedule",
        properties={
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ScheduleExpression": "rate(1 day)",
            "Target": {"Arn": "arn:aws:states:us-east-1:123456789012:stateMachine:s", "RoleArn": ROLE, "Input": "{}"},
        },
        change={"ScheduleExpression": "rate(2 days)"},
        seen=schedule,
        before="rate(1 day)",
        after="rate(2 days)",
    ),
    Case(
        kind="AWS::Budgets::Budget",
        properties={
            "Budget": {"BudgetType": "COST", "TimeUnit": "MONTHLY", "BudgetLimit": {"Amount": 100, "Unit": "USD"}},
            "NotificationsWithSubscribers": [
                {
                    "Notification": {
                        "NotificationType": "ACTUAL",
                        "ComparisonOperator": "GREATER_THAN",
                        "Threshold": 80,
                    },
                    "Subscribers": [{"SubscriptionType": "EMAIL", "Address": "someone@example.com"}],
                }
            ],
        },
        change={"Budget": {"BudgetType": "COST", "TimeUnit": "MONTHLY", "BudgetLimit": {"Amount": 200, "Unit": "USD"}}},
        seen=budget,
        before=100.0,
        after=200.0,
    ),
    Case(
        kind="AWS::Events::Rule",
        properties={
            "EventPattern": {"source": ["aws.s3"]},
            "Targets": [
                {"Id": "a", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}},
                {"Id": "b", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}},
            ],
        },
        change={
            "EventPattern": {"source": ["aws.sagemaker"]},
            "Targets": [{"Id": "b", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}}],
        },
        seen=rule,
        before=(["aws.s3"], ["a", "b"]),
        after=(["aws.sagemaker"], ["b"]),
        others={
            "Queue": QUEUE,
            "QueuePolicy": {
                "Type": "AWS::SQS::QueuePolicy",
                "Properties": {"Queues": [{"Ref": "Queue"}], "PolicyDocument": POLICY},
            },
        },
    ),
    Case(
        kind="AWS::StepFunctions::StateMachine",
        properties={
            "RoleArn": ROLE,
            "DefinitionString": json.dumps(machine("${First}")),
            "DefinitionSubstitutions": {"First": "One"},
            "TracingConfiguration": {"Enabled": True},
            "Tags": [{"Key": "team", "Value": "a"}],
        },
        change={"DefinitionSubstitutions": {"First": "Two"}},
        seen=state_machine,
        before=("One", [{"key": "team", "value": "a"}]),
        after=("Two", [{"key": "team", "value": "a"}]),
    ),
    Case(
        kind="AWS::KMS::Key",
        properties={
            "KeyPolicy": POLICY,
            "Description": "one",
            "EnableKeyRotation": True,
            "Tags": [{"Key": "team", "Value": "a"}, {"Key": "stage", "Value": "b"}],
        },
        change={"Description": "two", "EnableKeyRotation": False, "Tags": [{"Key": "team", "Value": "c"}]},
        seen=key,
        before=("one", True, {"team": "a", "stage": "b"}),
        after=("two", False, {"team": "c"}),
    ),
    Case(
        kind="AWS::SageMaker::ModelPackageGroup",
        properties={"ModelPackageGroupName": "registered", "Tags": [{"Key": "team", "Value": "a"}]},
        change={"Tags": [{"Key": "team", "Value": "b"}], "ModelPackageGroupPolicy": POLICY},
        seen=group,
        before=([{"Key": "team", "Value": "a"}], None),
        after=([{"Key": "team", "Value": "b"}], POLICY),
    ),
    Case(
        kind="AWS::Logs::MetricFilter",
        properties={
            "LogGroupName": {"Ref": "Logs"},
            "FilterPattern": "ERROR",
            "MetricTransformations": [
                {"MetricName": "errors", "MetricNamespace": "tidegate", "MetricValue": "1", "DefaultValue": 0}
            ],
        },
        change={"FilterPattern": "FATAL"},
        seen=metric_filter,
        before="ERROR",
        after="FATAL",
        others={"Logs": {"Type": "AWS::Logs::LogGroup", "Properties": {"RetentionInDays": 7}}},
    ),
    Case(
        kind="AWS::IAM::ManagedPolicy",
        properties={"Description": "one", "PolicyDocument": allowing("glue:GetTable"), "Roles": [{"Ref": "Role"}]},
        change={"PolicyDocument": allowing("glue:GetTables"), "Roles": []},
        seen=policy,
        before=("glue:GetTable", ["holder"]),
        after=("glue:GetTables", []),
        others={
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": {"RoleName": "holder", "AssumeRolePolicyDocument": POLICY},
            }
        },
    ),
    Case(
        kind="AWS::Glue::Database",
        properties={"CatalogId": "123456789012", "DatabaseInput": {"Description": "one"}},
        change={"DatabaseInput": {"Description": "two"}},
        seen=database,
        before="one",
        after="two",
    ),
    Case(
        kind="AWS::Glue::Table",
        properties={
            "CatalogId": "123456789012",
            "DatabaseName": {"Ref": "Database"},
            "TableInput": {"Name": "It", "StorageDescriptor": columns("a"), "Retention": "1"},
        },
        change={"TableInput": {"Name": "It", "StorageDescriptor": columns("a", "b"), "Retention": "2"}},
        seen=table,
        before=(["a"], 1),
        after=(["a", "b"], 2),
        others={
            "Database": {
                "Type": "AWS::Glue::Database",
                "Properties": {"CatalogId": "123456789012", "DatabaseInput": {"Name": "lake"}},
            }
        },
    ),
    Case(
        kind="AWS::Athena::WorkGroup",
        properties={
            "Name": "askers",
            "State": "ENABLED",
            "RecursiveDeleteOption": True,
            "WorkGroupConfiguration": {
                "EnforceWorkGroupConfiguration": "true",
                "BytesScannedCutoffPerQuery": "10000000",
            },
            "Tags": [{"Key": "team", "Value": "a"}],
        },
        change={
            "WorkGroupConfiguration": {"EnforceWorkGroupConfiguration": False, "BytesScannedCutoffPerQuery": 20000000}
        },
        seen=workgroup,
        before=(True, 10_000_000),
        after=(False, 20_000_000),
    ),
]


@contextmanager
def deployed(account: Account, template: Json) -> Iterator[Stack]:
    with stack_of(account) as stack:
        status = stack.create(template)
        assert status == "CREATE_COMPLETE", stack.events("It")
        yield stack


@pytest.mark.parametrize("case", CASES, ids=[case.kind for case in CASES])
def test_it_is_made_seen_changed_in_place_and_deleted(account: Account, clients: Clients, case: Case) -> None:
    resource = {"Type": case.kind, "Properties": case.properties}
    template = {"Resources": {"It": resource, **(case.others or {})}}
    with deployed(account, template) as stack:
        name = stack.resources()["It"]
        assert case.seen(clients, name) == case.before
        changed = {**template["Resources"], "It": {**resource, "Properties": {**case.properties, **case.change}}}
        assert stack.update({"Resources": changed}) == "UPDATE_COMPLETE", stack.events("It")
        assert stack.resources()["It"] == name, "it was replaced"
        assert case.seen(clients, name) == case.after
    assert case.seen(clients, name) is None


def test_a_policy_that_changes_often_keeps_the_newest_versions(account: Account, clients: Clients) -> None:
    """IAM keeps five, and CloudFormation makes room."""

    def template(action: str) -> Json:
        properties = {"PolicyDocument": allowing(action)}
        return {"Resources": {"It": {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}}}

    with deployed(account, template("glue:Get0")) as stack:
        arn = stack.resources()["It"]
        for number in range(1, 8):
            assert stack.update(template(f"glue:Get{number}")) == "UPDATE_COMPLETE", stack.events("It")
        assert policy(clients, arn) == ("glue:Get7", [])
        assert len(clients("iam").list_policy_versions(PolicyArn=arn)["Versions"]) == 5


def test_a_table_of_another_name_or_database_takes_the_place_of_the_old_one(account: Account, clients: Clients) -> None:
    glue = clients("glue")

    def template(database: str, name: str) -> Json:
        table = {"Name": name, "StorageDescriptor": columns("a")}
        return {
            "Resources": {
                "Database": {
                    "Type": "AWS::Glue::Database",
                    "Properties": {"CatalogId": "123456789012", "DatabaseInput": {"Name": database}},
                },
                "It": {
                    "Type": "AWS::Glue::Table",
                    "Properties": {
                        "CatalogId": "123456789012",
                        "DatabaseName": {"Ref": "Database"},
                        "TableInput": table,
                    },
                },
            }
        }

    def catalogue() -> dict[str, list[str]]:
        databases = [item["Name"] for item in glue.get_databases()["DatabaseList"]]
        return {name: [item["Name"] for item in glue.get_tables(DatabaseName=name)["TableList"]] for name in databases}

    with deployed(account, template("pond", "one")) as stack:
        assert catalogue() == {"pond": ["one"]}
        assert stack.update(template("pond", "two")) == "UPDATE_COMPLETE", stack.events("It")
        assert catalogue() == {"pond": ["two"]}
        assert stack.update(template("sea", "two")) == "UPDATE_COMPLETE", stack.events("It")
        assert catalogue() == {"sea": ["two"]}
    assert catalogue() == {}


def scaled(resource: Any, *, maximum: int = 2) -> Json:
    """An endpoint with a scalable target and a policy, as application auto scaling takes them."""
    return {
        "Target": {
            "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
            "Properties": {
                "ServiceNamespace": "sagemaker",
                "ResourceId": resource,
                "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
                "MinCapacity": 1,
                "MaxCapacity": maximum,
                "RoleARN": ROLE,
            },
        },
        "Policy": {
            "Type": "AWS::ApplicationAutoScaling::ScalingPolicy",
            "Properties": {
                "PolicyName": "concurrency",
                "PolicyType": "TargetTrackingScaling",
                "ScalingTargetId": {"Ref": "Target"},
                "TargetTrackingScalingPolicyConfiguration": {
                    "TargetValue": 5,
                    "ScaleInCooldown": 300,
                    "PredefinedMetricSpecification": {
                        "PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"
                    },
                },
            },
        },
    }


def test_a_scalable_target_and_its_policy_follow_the_endpoint(account: Account, clients: Clients) -> None:
    template = serving()
    resource = {"Fn::Join": ["/", ["endpoint", {"Fn::GetAtt": ["Endpoint", "EndpointName"]}, "variant", "AllTraffic"]]}
    template["Resources"] |= scaled(resource)
    scaling = clients("application-autoscaling")

    def targets() -> list[Json]:
        return list(scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"])

    with deployed(account, template) as stack:
        (target,) = targets()
        assert target["ResourceId"] == f"endpoint/{stack.outputs()['Name']}/variant/AllTraffic"
        (policy,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
        assert policy["PolicyARN"] == stack.resources()["Policy"]
        assert policy["TargetTrackingScalingPolicyConfiguration"]["ScaleInCooldown"] == 300
        template["Resources"] |= scaled(resource, maximum=4)
        assert stack.update(template) == "UPDATE_COMPLETE"
        assert [item["MaxCapacity"] for item in targets()] == [4]
    assert targets() == []
    assert scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"] == []


def test_a_target_that_does_not_wait_for_its_endpoint_fails_as_on_aws(account: Account) -> None:
    template = {"Resources": scaled("endpoint/nobody/variant/AllTraffic")}
    with stack_of(account) as stack:
        assert stack.create(template) == "ROLLBACK_COMPLETE"
        assert "Could not find endpoint" in dict(stack.events("Target"))["CREATE_FAILED"]


def test_a_topic_policy_is_there_and_goes_back(account: Account, clients: Clients) -> None:
    sns = clients("sns")
    topic = sns.create_topic(Name=account.name("topic"))["TopicArn"]
    before = sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"]
    properties = {"Topics": [topic], "PolicyDocument": POLICY}
    with deployed(account, {"Resources": {"It": {"Type": "AWS::SNS::TopicPolicy", "Properties": properties}}}):
        assert json.loads(sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"]) == POLICY
    assert sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"] == before


def test_an_alarm_gives_its_arn_and_stands_in_an_output(account: Account) -> None:
    (case,) = [case for case in CASES if case.kind == "AWS::CloudWatch::Alarm"]
    template = {
        "Resources": {"It": {"Type": case.kind, "Properties": case.properties}},
        "Outputs": {"Arn": {"Value": {"Fn::GetAtt": ["It", "Arn"]}}},
    }
    with deployed(account, template) as stack:
        assert stack.outputs()["Arn"].endswith(f":alarm:{stack.resources()['It']}")


def test_a_property_that_is_not_here_is_refused_by_name(account: Account) -> None:
    properties = {"KeyPolicy": POLICY, "BypassPolicyLockoutSafetyCheck": True}
    with stack_of(account) as stack:
        assert stack.create({"Resources": {"It": {"Type": "AWS::KMS::Key", "Properties": properties}}}) == (
            "ROLLBACK_COMPLETE"
        )
        assert "does not have BypassPolicyLockoutSafetyCheck" in dict(stack.events("It"))["CREATE_FAILED"]


EXPIRY = {
    "rulePriority": 1,
    "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 9},
    "action": {"type": "expire"},
}


def test_what_a_later_template_no_longer_names_is_taken_away(account: Account) -> None:
    """And a parameter keeps its history: an update is a new version of it."""
    name = account.name("settled")
    bare: dict[str, Any] = {
        "Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": name}},
        "Repository": {"Type": "AWS::ECR::Repository", "Properties": {"RepositoryName": name}},
        "Parameter": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Name": name, "Type": "String", "Value": "two", "Tags": {"kept": "2"}},
        },
    }
    full: dict[str, Any] = json.loads(json.dumps(bare))
    full["Parameter"]["Properties"] |= {"Value": "one", "Tags": {"kept": "1", "gone": "1"}}
    full["Repository"]["Properties"] |= {
        "LifecyclePolicy": {"LifecyclePolicyText": json.dumps({"rules": [EXPIRY]})},
        "RepositoryPolicyText": POLICY,
    }
    full["Bucket"]["Properties"] |= {
        "VersioningConfiguration": {"Status": "Enabled"},
        "NotificationConfiguration": {"EventBridgeConfiguration": {"EventBridgeEnabled": True}},
        "PublicAccessBlockConfiguration": {"BlockPublicAcls": True},
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        "LifecycleConfiguration": {"Rules": [{"Status": "Enabled", "ExpirationInDays": 3}]},
        "BucketEncryption": {
            "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
        },
    }
    s3, ecr, ssm = account.s3, account.cloud.client("ecr"), account.cloud.client("ssm")
    questions = (
        lambda: s3.get_public_access_block(Bucket=name),
        lambda: s3.get_bucket_ownership_controls(Bucket=name),
        lambda: s3.get_bucket_lifecycle_configuration(Bucket=name),
        lambda: s3.get_bucket_encryption(Bucket=name),
        lambda: ecr.get_lifecycle_policy(repositoryName=name),
        lambda: ecr.get_repository_policy(repositoryName=name),
    )
    with stack_of(account) as stack:
        assert stack.create({"Resources": full}) == "CREATE_COMPLETE", stack.events("Repository")
        for question in questions:
            question()
        assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
        assert stack.update({"Resources": bare}) == "UPDATE_COMPLETE", stack.events("Bucket")
        for question in questions:
            with pytest.raises(ClientError):
                question()
        assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Suspended"
        assert "EventBridgeConfiguration" not in s3.get_bucket_notification_configuration(Bucket=name)
        found = ssm.get_parameter(Name=name)["Parameter"]
        assert (found["Value"], found["Version"]) == ("two", 2)
        tags = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
        assert tags == [{"Key": "kept", "Value": "2"}]
    for client in (ecr, ssm):
        client.close()
