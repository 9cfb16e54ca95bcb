"""A cloud that remembers: after `down` and after `kill -9` there is all that had an answer, or it is named as lost."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import ROLE, STAND_IN, await_true, model_archive
from tidegate.local_cloud import CloudError, LocalCloud
from tidegate.local_cloud.processes import belonging, process_birth
from tidegate.local_cloud.state_directory import StateDirectory

BUCKET = "kept-bucket"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1"
TEMPLATE = {
    "Resources": {
        "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "of-the-stack"}},
        "Parameter": {
            "Type": "AWS::SSM::Parameter",
            "Properties": {"Name": "/of/the/stack", "Type": "String", "Value": {"Ref": "Topic"}},
        },
    },
    "Outputs": {"Topic": {"Value": {"Ref": "Topic"}}},
}


def kept_cloud(directory: Path) -> LocalCloud:
    return LocalCloud(directory, container_command=STAND_IN, keep=True)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "state"
    yield path
    LocalCloud(path).down(delete=True)


@pytest.fixture
def cloud(directory: Path) -> Iterator[LocalCloud]:
    """A cloud that remembers, not up yet."""
    cloud = kept_cloud(directory)
    yield cloud
    cloud.down(delete=True)


def kill(cloud: LocalCloud) -> None:
    """Ends the supervisor at once; returns when it is gone."""
    record = cloud.record()
    assert record is not None
    os.kill(record.process_id, signal.SIGKILL)
    await_true(lambda: process_birth(record.process_id) != record.birth, "the supervisor is gone")


def kill_all(cloud: LocalCloud) -> list[psutil.Process]:
    """Ends the supervisor, and what stands for each container; returns the servers, which are left."""
    leaders = [int(entry.name) for entry in (cloud.directory / "containers").iterdir()]
    left = [process for leader in leaders for process in belonging(leader)]
    kill(cloud)
    for leader in leaders:
        os.kill(leader, signal.SIGKILL)
    assert all(process.is_running() for process in left)
    return left


def remarks(cloud: LocalCloud) -> list[str]:
    record = cloud.record()
    assert record is not None
    return list(record.remarks)


def in_service(cloud: LocalCloud, endpoint: str) -> None:
    sagemaker = cloud.client("sagemaker")
    await_true(
        lambda: sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService",
        f"endpoint {endpoint} is in service",
    )


def make_objects(s3: Any) -> dict[str, Any]:
    """Objects of every kind; what one needs to know to find them again."""
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=model_archive({"code/inference.py": "# four functions"}))
    s3.put_object(Bucket=BUCKET, Key="plain", Body=b"plain", Metadata={"a": "b"}, Tagging="c=d", ContentType="text/x")
    s3.put_object(Bucket=BUCKET, Key="large", Body=b"large" * 2_000_000)
    s3.put_object(Bucket=BUCKET, Key="empty", Body=b"")
    s3.put_object(Bucket=BUCKET, Key="overwritten", Body=b"old")
    s3.put_object(Bucket=BUCKET, Key="overwritten", Body=b"new")
    s3.put_object(Bucket=BUCKET, Key="deleted", Body=b"gone")
    s3.delete_object(Bucket=BUCKET, Key="deleted")
    s3.put_object(Bucket=BUCKET, Key="tagged later", Body=b"x")
    s3.put_object_tagging(Bucket=BUCKET, Key="tagged later", Tagging={"TagSet": [{"Key": "t", "Value": "u"}]})
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket=BUCKET, Key="versioned", Body=b"1")["VersionId"]
    s3.put_object(Bucket=BUCKET, Key="versioned", Body=b"2")
    s3.put_object(Bucket=BUCKET, Key="marked", Body=b"under a delete marker")
    s3.delete_object(Bucket=BUCKET, Key="marked")
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="in parts")["UploadId"]
    part = s3.upload_part(Bucket=BUCKET, Key="in parts", UploadId=upload, PartNumber=1, Body=b"p" * 6_000_000)
    return {"first": first, "upload": upload, "part": part["ETag"]}


def check_objects(s3: Any, known: dict[str, Any]) -> None:
    def read(key: str, **options: str) -> bytes:
        content: bytes = s3.get_object(Bucket=BUCKET, Key=key, **options)["Body"].read()
        return content

    plain = s3.get_object(Bucket=BUCKET, Key="plain")
    assert (plain["Metadata"], plain["ContentType"], plain["TagCount"]) == ({"a": "b"}, "text/x", 1)
    assert plain["Body"].read() == b"plain"
    assert read("large") == b"large" * 2_000_000
    assert s3.get_object(Bucket=BUCKET, Key="large", Range="bytes=5-9")["Body"].read() == b"large"
    assert (read("empty"), read("overwritten")) == (b"", b"new")
    assert s3.get_object_tagging(Bucket=BUCKET, Key="tagged later")["TagSet"] == [{"Key": "t", "Value": "u"}]
    assert (read("versioned"), read("versioned", VersionId=known["first"])) == (b"2", b"1")
    for key in ("deleted", "marked"):
        with pytest.raises(ClientError):
            read(key)
    listed = s3.list_object_versions(Bucket=BUCKET)
    assert [marker["Key"] for marker in listed["DeleteMarkers"]] == ["marked"]
    parts = s3.list_parts(Bucket=BUCKET, Key="in parts", UploadId=known["upload"])["Parts"]
    assert [(part["PartNumber"], part["ETag"], part["Size"]) for part in parts] == [(1, known["part"], 6_000_000)]


def make_resources(cloud: LocalCloud) -> dict[str, Any]:
    """Something of each service that the stacks of this project use."""
    known: dict[str, Any] = {}
    cloud.client("iam").create_role(
        RoleName="kept", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []})
    )
    cloud.client("iam").attach_role_policy(
        RoleName="kept", PolicyArn="arn:aws:iam::aws:policy/AmazonSageMakerFullAccess"
    )
    table = {
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
        "BillingMode": "PAY_PER_REQUEST",
    }
    cloud.client("dynamodb").create_table(TableName="kept", **table)
    cloud.client("dynamodb").put_item(TableName="kept", Item={"id": {"S": "1"}})
    queue = cloud.client("sqs").create_queue(QueueName="kept")["QueueUrl"]
    cloud.client("sqs").send_message(QueueUrl=queue, MessageBody="waiting")
    key = cloud.client("kms").create_key()["KeyMetadata"]["KeyId"]
    known["secret"] = cloud.client("kms").encrypt(KeyId=key, Plaintext=b"secret")["CiphertextBlob"]
    cloud.client("glue").create_database(DatabaseInput={"Name": "kept"})
    cloud.client("ecr").create_repository(repositoryName="kept")
    cloud.client("logs").create_log_group(logGroupName="/kept")
    cloud.client("events").put_rule(Name="kept", ScheduleExpression="rate(1 hour)")
    cloud.client("cloudwatch").put_metric_alarm(
        AlarmName="kept",
        Namespace="kept",
        MetricName="count",
        Statistic="Sum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
    )
    cloudformation = cloud.client("cloudformation")
    cloudformation.create_stack(StackName="kept", TemplateBody=json.dumps(TEMPLATE))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="kept", WaiterConfig={"Delay": 1})
    known["topic"] = cloudformation.describe_stacks(StackName="kept")["Stacks"][0]["Outputs"][0]["OutputValue"]
    return known


def check_resources(cloud: LocalCloud, known: dict[str, Any]) -> None:
    iam = cloud.client("iam")
    attached = iam.list_attached_role_policies(RoleName="kept")["AttachedPolicies"]
    assert [policy["PolicyName"] for policy in attached] == ["AmazonSageMakerFullAccess"]
    policy = iam.get_policy(PolicyArn="arn:aws:iam::aws:policy/AmazonSageMakerFullAccess")["Policy"]
    assert policy["AttachmentCount"] == 1
    assert cloud.client("dynamodb").scan(TableName="kept")["Items"] == [{"id": {"S": "1"}}]
    queue = cloud.client("sqs").get_queue_url(QueueName="kept")["QueueUrl"]
    attributes = cloud.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert attributes["ApproximateNumberOfMessages"] == "1"
    assert cloud.client("kms").decrypt(CiphertextBlob=known["secret"])["Plaintext"] == b"secret"
    assert cloud.client("glue").get_database(Name="kept")["Database"]["Name"] == "kept"
    assert cloud.client("ecr").describe_repositories()["repositories"][0]["repositoryName"] == "kept"
    groups = cloud.client("logs").describe_log_groups(logGroupNamePrefix="/kept")["logGroups"]
    assert [group["logGroupName"] for group in groups] == ["/kept"]
    assert cloud.client("events").describe_rule(Name="kept")["ScheduleExpression"] == "rate(1 hour)"
    assert [alarm["AlarmName"] for alarm in cloud.client("cloudwatch").describe_alarms()["MetricAlarms"]] == ["kept"]
    stack = cloud.client("cloudformation").describe_stacks(StackName="kept")["Stacks"][0]
    assert (stack["StackStatus"], stack["Outputs"][0]["OutputValue"]) == ("CREATE_COMPLETE", known["topic"])
    parameter = cloud.client("ssm").get_parameter(Name="/of/the/stack")["Parameter"]
    assert parameter["Value"] == known["topic"]


def make_model(sagemaker: Any, name: str) -> None:
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    tags = [{"Key": "kept", "Value": name}]
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container, Tags=tags)


def make_endpoint(cloud: LocalCloud, name: str, **config: Any) -> None:
    sagemaker = cloud.client("sagemaker")
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=f"{name}-config", ProductionVariants=[variant], **config)
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=f"{name}-config")
    in_service(cloud, name)


def test_what_had_an_answer_is_there_after_a_kill_and_after_down(cloud: LocalCloud, directory: Path) -> None:
    cloud.up()
    objects = make_objects(cloud.client("s3"))
    resources = make_resources(cloud)
    sagemaker = cloud.client("sagemaker")
    make_model(sagemaker, "m")
    sagemaker.create_model_package_group(ModelPackageGroupName="g")
    specification = {
        "Containers": [{"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
    }
    package = sagemaker.create_model_package(ModelPackageGroupName="g", InferenceSpecification=specification)
    make_endpoint(cloud, "e")
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="e", DesiredWeightsAndCapacities=[{"VariantName": "v", "DesiredWeight": 0.25}]
    )
    created = sagemaker.describe_model(ModelName="m")["CreationTime"]

    def check() -> None:
        assert remarks(cloud) == []
        check_objects(cloud.client("s3"), objects)
        check_resources(cloud, resources)
        sagemaker = cloud.client("sagemaker")
        model = sagemaker.describe_model(ModelName="m")
        assert model["CreationTime"] == created
        assert sagemaker.list_tags(ResourceArn=model["ModelArn"])["Tags"] == [{"Key": "kept", "Value": "m"}]
        described = sagemaker.describe_model_package(ModelPackageName=package["ModelPackageArn"])
        assert described["ModelPackageVersion"] == 1
        in_service(cloud, "e")
        variant = sagemaker.describe_endpoint(EndpointName="e")["ProductionVariants"][0]
        assert variant["CurrentWeight"] == 0.25
        answer = cloud.client("sagemaker-runtime").invoke_endpoint(EndpointName="e", Body=b"hello")
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200

    addresses = cloud.environment["AWS_ENDPOINT_URL"], cloud.environment["AWS_ENDPOINT_URL_SAGEMAKER"]
    left = kill_all(cloud)
    assert left
    cloud.up()
    assert not any(process.is_running() and process_birth(process.pid) for process in left)
    check()
    assert (cloud.environment["AWS_ENDPOINT_URL"], cloud.environment["AWS_ENDPOINT_URL_SAGEMAKER"]) == addresses
    assert cloud.down()
    assert not list((directory / "containers").iterdir())
    cloud.up()
    check()
    # What was remembered is a resource as any other.
    s3, upload = cloud.client("s3"), objects["upload"]
    parts = [{"PartNumber": 1, "ETag": objects["part"]}]
    s3.complete_multipart_upload(Bucket=BUCKET, Key="in parts", UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=BUCKET, Key="in parts")["Body"].read() == b"p" * 6_000_000
    cloud.client("cloudformation").delete_stack(StackName="kept")
    cloud.client("cloudformation").get_waiter("stack_delete_complete").wait(StackName="kept", WaiterConfig={"Delay": 1})
    with pytest.raises(ClientError):
        cloud.client("ssm").get_parameter(Name="/of/the/stack")
    assert cloud.down(delete=True)
    assert not directory.exists()


def test_what_was_running_is_failed_and_named_or_goes_on(cloud: LocalCloud, directory: Path) -> None:
    cloud.up()
    s3, sagemaker = cloud.client("s3"), cloud.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=model_archive({"code/inference.py": "# four functions"}))
    make_model(sagemaker, "m")
    make_endpoint(cloud, "async", AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": f"s3://{BUCKET}/answers"}})
    sagemaker.create_processing_job(
        ProcessingJobName="long",
        RoleArn=ROLE,
        AppSpecification={"ImageUri": IMAGE, "ContainerEntrypoint": ["sleep", "600"]},
        ProcessingResources={"ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}},
    )
    s3.put_object(Bucket=BUCKET, Key="question", Body=b"hello")
    # The containers are stopped, so that the request cannot have its answer before the end.
    leaders = [int(entry.name) for entry in (directory / "containers").iterdir()]
    for server in [process for leader in leaders for process in belonging(leader)]:
        with suppress(psutil.NoSuchProcess):
            server.suspend()
    answer = cloud.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName="async", InputLocation=f"s3://{BUCKET}/question"
    )
    kill(cloud)
    cloud.up()
    sagemaker, s3 = cloud.client("sagemaker"), cloud.client("s3")
    assert [remark for remark in remarks(cloud) if "processing job long was running" in remark]
    job = sagemaker.describe_processing_job(ProcessingJobName="long")
    assert job["ProcessingJobStatus"] == "Failed"
    assert "The local cloud ended" in job["FailureReason"]
    in_service(cloud, "async")
    key = urlsplit(answer["OutputLocation"]).path.lstrip("/")
    await_true(
        lambda: key in [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])],
        "the asynchronous request has its answer",
    )
    assert all(process_birth(leader) is None for leader in leaders), "no process of the killed cloud is left"


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(directory: Path) -> Run:
    """Runs ``python -m local_cloud`` with its state in this test's directory."""

    def local_cloud(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"LOCAL_CLOUD_DIR": str(directory)}
        command = [sys.executable, "-m", "local_cloud", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    return local_cloud


def test_the_command_line_keeps_leaves_and_deletes(run: Run, directory: Path) -> None:
    plain = run("up")
    assert plain.returncode == 0, plain.stderr
    refused = run("up", "--keep")
    assert refused.returncode == 1
    assert "does not keep its state" in refused.stderr
    assert run("down").returncode == 0
    assert not directory.exists()

    kept = run("up", "--keep", "--region", "eu-west-1")
    assert kept.returncode == 0, kept.stderr
    assert "remembers" in kept.stderr
    LocalCloud(directory).client("sns").create_topic(Name="kept")
    down = run("down")
    assert f"its state stays in {directory}" in down.stderr
    elsewhere = run("up", "--region", "us-west-2")
    assert elsewhere.returncode == 1
    assert "is of a cloud in eu-west-1" in elsewhere.stderr
    again = run("up")
    assert again.returncode == 0, again.stderr
    exported = dict(
        shlex.split(line)[1].split("=", 1) for line in again.stdout.splitlines() if line.startswith("export ")
    )
    assert exported["AWS_REGION"] == "eu-west-1"
    topics = LocalCloud(directory).client("sns").list_topics()["Topics"]
    assert [topic["TopicArn"] for topic in topics] == ["arn:aws:sns:eu-west-1:123456789012:kept"]
    assert run("down", "--delete").returncode == 0
    assert not directory.exists()


def test_what_cannot_be_trusted_is_refused_and_left_as_it_is(run: Run, cloud: LocalCloud, directory: Path) -> None:
    cloud.up()
    cloud.client("sns").create_topic(Name="kept")
    address = cloud.environment["AWS_ENDPOINT_URL"]
    cloud.down()
    snapshot = StateDirectory(directory).kept.snapshot
    whole = snapshot.read_bytes()

    def refusal() -> str:
        before = sorted((path, path.read_bytes()) for path in (directory / "kept").rglob("*") if path.is_file())
        done = run("up")
        assert done.returncode == 1, done.stdout
        after = sorted((path, path.read_bytes()) for path in (directory / "kept").rglob("*") if path.is_file())
        assert after == before
        return done.stderr

    snapshot.write_bytes(whole[:-100])
    assert "is damaged" in refusal()
    snapshot.write_bytes(whole.replace(b'"moto": "', b'"moto": "1', 1))
    assert "was written by" in refusal()
    snapshot.write_bytes(whole)
    (directory / "kept").chmod(0o755)
    assert "open to other users" in refusal()
    (directory / "kept").chmod(0o700)
    with socket.socket() as other:
        other.bind(("127.0.0.1", urlsplit(address).port or 0))
        other.listen()
        done = run("up")
        assert done.returncode == 0, done.stderr
        assert "was taken" in done.stderr
    assert len(cloud.client("sns").list_topics()["Topics"]) == 1


def test_two_at_once_start_one_cloud(directory: Path) -> None:
    environment = os.environ | {"LOCAL_CLOUD_DIR": str(directory)}
    command = [sys.executable, "-m", "local_cloud", "up", "--keep"]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1]


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for place, reason in {
        "file": "file is a file",
        "file/state": "file is a file",
        "link": "link is a link that leads nowhere",
    }.items():
        with pytest.raises(CloudError, match=f"{place} cannot be used: .*{reason}; choose another directory"):
            kept_cloud(tmp_path / place).up()
    with pytest.raises(CloudError, match="no directory can be made there"):
        kept_cloud(Path("/proc/state")).up()
