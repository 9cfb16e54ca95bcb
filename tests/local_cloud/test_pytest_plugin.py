"""The fixtures for other projects, in a project of their own that pytest really runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.local_cloud.conftest import STAND_IN
from tidegate.local_cloud import LocalCloud

CONFTEST = f"""
import pytest

pytest_plugins = ["tidegate.local_cloud.pytest_plugin"]

@pytest.fixture(scope="session")
def local_cloud_options():
    return {{"container_command": {list(STAND_IN)!r}}}
"""
TESTS = """
import json

import boto3
import pytest

from tidegate.local_cloud import leftovers

seen, made = [], {}

def test_code_that_calls_plain_boto3_reaches_the_account(local_account):
    endpoint = local_account.endpoint(environment={"STAND_IN_PREFIX": "said: "})
    answer = boto3.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=b"word")
    assert answer["Body"].read() == b"said: WORD"
    boto3.client("s3").put_object(Bucket=local_account.bucket, Key="a/b", Body=b"x")
    boto3.client("s3").create_bucket(Bucket="made-by-the-test")
    seen.append(local_account.bucket)

def test_one_thing_of_many_rooms_is_made(local_account, local_cloud_clients):
    before = leftovers.there(local_cloud_clients)
    fail = {"Version": "2020-12-01", "Steps": [{"Name": "F", "Type": "Fail", "Arguments": {"ErrorMessage": "x"}}]}
    sagemaker, role = local_account.client("sagemaker"), local_account.role
    sagemaker.create_pipeline(
        PipelineName="p", ClientRequestToken="t" * 32, RoleArn=role, PipelineDefinition=json.dumps(fail)
    )
    sagemaker.create_model_package_group(ModelPackageGroupName="g")
    local_account.client("scheduler").create_schedule_group(Name="group")
    target = {"Arn": "arn:aws:sqs:us-east-1:123456789012:q", "RoleArn": role}
    daily = {"ScheduleExpression": "rate(1 day)", "FlexibleTimeWindow": {"Mode": "OFF"}, "Target": target}
    for group in ("default", "group"):
        local_account.client("scheduler").create_schedule(Name="s", GroupName=group, **daily)
    local_account.client("sqs").create_queue(QueueName="q")
    events = local_account.client("events")
    events.put_rule(Name="r", ScheduleExpression="rate(1 day)")
    events.put_targets(Rule="r", Targets=[{"Id": "t", "Arn": target["Arn"]}])
    watched = {"Namespace": "n", "MetricName": "m", "Period": 60, "EvaluationPeriods": 1, "Statistic": "Sum"}
    cloudwatch = local_account.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="a", Threshold=1, ComparisonOperator="GreaterThanThreshold", **watched
    )
    cloudwatch.put_composite_alarm(AlarmName="c", AlarmRule='ALARM("a")')
    local_account.client("sns").create_topic(Name="topic")
    local_account.client("ssm").put_parameter(Name="/of/the/test", Value="v", Type="String")
    local_account.client("logs").create_log_group(logGroupName="of-the-test")
    trust = {"Version": "2012-10-17", "Statement": []}
    iam = local_account.client("iam")
    iam.create_role(RoleName="of-the-test", AssumeRolePolicyDocument=json.dumps(trust))
    allow = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    policy = iam.create_policy(PolicyName="of-the-test", PolicyDocument=json.dumps(allow))["Policy"]["Arn"]
    iam.attach_role_policy(RoleName="of-the-test", PolicyArn=policy)
    iam.put_role_policy(RoleName="of-the-test", PolicyName="inline", PolicyDocument=json.dumps(allow))
    pass_on = {"StartAt": "P", "States": {"P": {"Type": "Pass", "End": True}}}
    local_account.client("stepfunctions").create_state_machine(name="m", definition=json.dumps(pass_on), roleArn=role)
    local_account.client("ecr").create_repository(repositoryName="of-the-test")
    template = {"Resources": {"B": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "of-a-stack"}}}}
    local_account.client("cloudformation").create_stack(StackName="stack", TemplateBody=json.dumps(template))
    local_account.client("cloudformation").get_waiter("stack_create_complete").wait(StackName="stack")
    local_account.client("s3").put_object(Bucket="of-a-stack", Key="k", Body=b"x")
    made.update({room: names - before[room] for room, names in leftovers.there(local_cloud_clients).items()})
    assert sum(map(bool, made.values())) >= 16, made

def test_what_another_test_made_is_gone(local_account, local_cloud_clients):
    assert seen
    now = leftovers.there(local_cloud_clients)
    assert {room: names & now[room] for room, names in made.items() if names & now[room]} == {}
    sagemaker = local_account.client("sagemaker")
    for operation, member in (
        ("list_endpoints", "Endpoints"), ("list_models", "Models"), ("list_endpoint_configs", "EndpointConfigs")
    ):
        assert getattr(sagemaker, operation)()[member] == []
    assert [bucket["Name"] for bucket in local_account.client("s3").list_buckets()["Buckets"]] == [local_account.bucket]

def test_that_fails_after_a_call(local_account):
    local_account.invoke(local_account.endpoint(), b"word")
    assert False, "on purpose"

def test_whose_endpoint_does_not_come_up(local_account):
    local_account.endpoint(environment={"STAND_IN_ERROR": "no weights"})
"""
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest prints of the project."""
    project = tmp_path_factory.mktemp("project")
    (project / "conftest.py").write_text(CONFTEST)
    (project / "test_mine.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "test_mine.py"],
        cwd=project,
        env={**ENVIRONMENT, "AWS_PROFILE": "somebody", "AWS_ENDPOINT_URL_IAM": "http://127.0.0.1:9"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
    )
    return done.stdout


def test_an_account_serves_one_test_and_is_clean_for_the_next(said: str) -> None:
    assert re.search(r"^FAILED test_mine\.py::test_that_fails_after_a_call", said, re.MULTILINE), said
    assert re.search(r"^FAILED test_mine\.py::test_whose_endpoint_does_not_come_up", said, re.MULTILINE), said
    assert "2 failed, 3 passed" in said, said


def test_a_failure_is_reported_with_what_the_servers_wrote(said: str) -> None:
    failure = said.partition("___ test_that_fails_after_a_call ___")[2].partition("\n___")[0]
    heading, _, text = failure.partition("local cloud: endpoint endpoint-")[2].partition("\n")
    assert "(InService)" in heading
    assert "POST /invocations" in text
    assert "did not come into service" in said
    assert "tidegate: error: no weights" in said


def test_plain_boto3_talks_to_a_cloud_for_the_length_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    monkeypatch.setenv("AWS_PROFILE", "somebody")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    before = dict(os.environ)
    with LocalCloud.temporary() as cloud:
        directory = cloud.directory
        with cloud.activated():
            assert "AWS_PROFILE" not in os.environ
            client = boto3.client("sts")
            assert client.get_caller_identity()["Account"] == "123456789012"
            client.close()
        assert dict(os.environ) == before
        assert boto3.DEFAULT_SESSION is None
    assert not directory.parent.exists()
