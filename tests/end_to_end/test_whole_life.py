"""The whole life of a model on a laptop: trained, approved, deployed, asked, run in batch, read as a table.

SageMaker does its part in a role with the rights that this takes and no more, and the cloud enforces them.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import boto3
import duckdb
import numpy as np
import pytest

from tests.contract.running import wait_until
from tests.end_to_end.deploying import role_for
from tests.infra.conftest import ROOT
from tests.polling import until
from tidegate.client.batch import BatchJob

pytestmark = pytest.mark.timeout(1200)  # each step has its own limit

BUCKET = "whole-life"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/tidegate:cpu"
INSTANCE = "ml.m5.large"
LIMIT_S = 240
JSON_LINES = "application/jsonlines"


@pytest.fixture(scope="module")
def cloud(enforcing_cloud: dict[str, str]) -> dict[str, str]:
    """A cloud in which the rights of roles count."""
    return enforcing_cloud


@pytest.fixture(scope="module")
def role(cloud: dict[str, str]) -> str:
    """The ARN of a role that may do what the story takes."""
    return role_for(boto3.client("iam"), "whole-life", bucket=BUCKET, repository="tidegate")


def test_a_model_goes_from_its_training_script_to_a_table_of_its_answers(role: str, tmp_path: Path) -> None:
    s3, sagemaker = boto3.client("s3"), boto3.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)

    # train
    s3.put_object(Bucket=BUCKET, Key="source.tar.gz", Body=digits_source())
    sagemaker.create_training_job(
        TrainingJobName="digits",
        RoleArn=role,
        AlgorithmSpecification={
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "validation:accuracy", "Regex": "validation_accuracy=([0-9.]+)"}],
        },
        HyperParameters={
            "sagemaker_program": json.dumps("train.py"),
            "sagemaker_submit_directory": json.dumps(f"s3://{BUCKET}/source.tar.gz"),
            "epochs": "2",
        },
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/trained"},
        ResourceConfig={"InstanceType": INSTANCE, "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 3600},
    )
    job: dict[str, Any] = {}

    def is_trained() -> bool:
        job.update(sagemaker.describe_training_job(TrainingJobName="digits"))
        return job["TrainingJobStatus"] not in ("InProgress", "Stopping")

    wait_until(is_trained, "the digits are trained", LIMIT_S)
    assert job["TrainingJobStatus"] == "Completed", job
    accuracy = {item["MetricName"]: item["Value"] for item in job["FinalMetricDataList"]}["validation:accuracy"]
    images, labels = held_out(s3)

    # register, approve
    sagemaker.create_model_package_group(ModelPackageGroupName="digits")
    container = {"Image": IMAGE, "ModelDataUrl": job["ModelArtifacts"]["S3ModelArtifacts"]}
    package = sagemaker.create_model_package(
        ModelPackageGroupName="digits",
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [container],
            "SupportedContentTypes": [JSON_LINES],
            "SupportedResponseMIMETypes": [JSON_LINES],
        },
    )["ModelPackageArn"]
    sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Approved")
    approved = sagemaker.list_model_packages(ModelPackageGroupName="digits", ModelApprovalStatus="Approved")
    assert [item["ModelPackageArn"] for item in approved["ModelPackageSummaryList"]] == [package]

    # deploy
    sagemaker.create_model(ModelName="digits", ExecutionRoleArn=role, Containers=[{"ModelPackageName": package}])
    variant = {"VariantName": "all", "ModelName": "digits", "InstanceType": INSTANCE, "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="digits", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="digits", EndpointConfigName="digits")

    def status() -> str:
        described: str = sagemaker.describe_endpoint(EndpointName="digits")["EndpointStatus"]
        return described

    assert until(lambda: (now := status()) != "Creating" and now, "the endpoint is there") == "InService"

    # invoke
    answer = boto3.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="digits",
        Body=json.dumps(images[:3].tolist()),
        ContentType="application/json",
        Accept="application/json",
    )
    alone = [item["label"] for item in json.load(answer["Body"])["predictions"]]
    sagemaker.delete_endpoint(EndpointName="digits")

    # batch
    lines = "".join(json.dumps({"image": image.tolist()}) + "\n" for image in images)
    s3.put_object(Bucket=BUCKET, Key="incoming/monday.jsonl", Body=lines.encode())
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/incoming/"}}
    sagemaker.create_transform_job(
        TransformJobName="digits",
        ModelName="digits",
        TransformInput={"DataSource": source, "ContentType": JSON_LINES, "SplitType": "Line"},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/answers", "Accept": JSON_LINES, "AssembleWith": "Line"},
        TransformResources={"InstanceType": INSTANCE, "InstanceCount": 1},
    )
    BatchJob("digits").wait(timeout_s=LIMIT_S, poll_s=0.2)

    # table
    written = BatchJob("digits").table(f"s3://{BUCKET}/tables/digits/", columns="label:string,probability:double")
    assert written.records == len(labels)
    parquet = tmp_path / "part.parquet"
    bucket, _, key = written.location.removeprefix("s3://").partition("/")
    s3.download_file(bucket, key, str(parquet))
    found = [label for (label,) in duckdb.read_parquet(str(parquet)).order("record").select("label").fetchall()]
    assert found[:3] == alone
    # The script said how many of these it gets right, with four places, and so says the table.
    right = np.mean([label == str(truth) for label, truth in zip(found, labels, strict=True)])
    assert right == pytest.approx(accuracy, abs=1e-4)


def digits_source() -> bytes:
    """examples/digits, as the SDK packs a source directory."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name in ("train.py", "code"):
            tar.add(ROOT / "examples" / "digits" / name, name)
    return content.getvalue()


def held_out(s3: Any) -> tuple[Any, Any]:
    """The digits that the script kept for itself: output.tar.gz of its job."""
    archive = s3.get_object(Bucket=BUCKET, Key="trained/digits/output/output.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        content = tar.extractfile("held_out.npz")
        assert content is not None
        with np.load(io.BytesIO(content.read())) as arrays:
            return arrays["images"], arrays["labels"]
