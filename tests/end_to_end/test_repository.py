"""A stage with a model repository: published, asked for, published again and run in batch, with one deploy.

`life` lives it once, by the real `cdk` and publish commands and plain boto3, on the local cloud with the real server;
each test reads one thing in the notes. The cloud enforces the rights of the role: it may read the repository, and what
jobs read and write lies in the stage's own bucket.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch
from botocore.exceptions import ClientError

from tests.end_to_end.deploying import Deployer, answered, inventory
from tests.infra.conftest import ROOT
from tests.polling import until
from tidegate.infra.stage.names import BATCH_INPUT_PREFIX, BATCH_OUTPUT_PREFIX
from tidegate.training_hooks import publish

STAGE = Path(__file__).parent.relative_to(ROOT) / "stages" / "repository.toml"
BUCKET = "tidegate-live"
REPOSITORY = f"s3://{BUCKET}/models"

HANDLERS = """
import json

import torch


def model_fn(model_dir):
    return torch.load(f"{model_dir}/model.pth", weights_only=True)["w"].item()


def input_fn(request_body, content_type):
    return json.loads(request_body)


def predict_fn(number, weight, context):
    return {"product": number * weight, "model": context.model_name, "version": context.model_version}


def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


def trained(directory: Path, *, weight: float) -> Path:
    """A model that multiplies by `weight`."""
    (directory / "code").mkdir(parents=True, exist_ok=True)
    torch.save({"w": torch.tensor(weight)}, directory / "model.pth")
    (directory / "code/inference.py").write_text(HANDLERS)
    return directory


def publish_by_command(model_dir: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "training_hooks", "publish", str(model_dir), REPOSITORY, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def asked(endpoint: str, attributes: str, operation: str = "invoke_endpoint") -> tuple[dict[str, Any], str]:
    """What the model that `attributes` name makes of 7, and the attributes of the answer."""
    answer = getattr(boto3.client("sagemaker-runtime"), operation)(
        EndpointName=endpoint, ContentType="application/json", Body=b"7", CustomAttributes=attributes
    )
    if operation == "invoke_endpoint":
        body = answer["Body"].read()
    else:
        body = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"])
    return json.loads(body), answer["CustomAttributes"]


def asked_later(endpoint: str, attributes: str) -> dict[str, Any]:
    """The same by an asynchronous endpoint."""
    answer = boto3.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName=endpoint, ContentType="application/json", Body=b"7", CustomAttributes=attributes
    )
    return answered(answer)


def start_asynchronous(model: str, bucket: str) -> str:
    """An asynchronous endpoint of a model that is there: the same container and role, and so the same repository."""
    sagemaker, name = boto3.client("sagemaker"), "live-async"
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {"VariantName": "all", "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        ],
        AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": f"s3://{bucket}/{BATCH_OUTPUT_PREFIX}later/"}},
    )
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    return name


def start_job(name: str, model: str, bucket: str) -> str:
    """A transform job over one line, which is 7, as boto3 starts it."""
    boto3.client("sagemaker").create_transform_job(
        TransformJobName=name,
        ModelName=model,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/{BATCH_INPUT_PREFIX}"}},
            "ContentType": "application/json",
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": f"s3://{bucket}/{BATCH_OUTPUT_PREFIX}{name}/", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    return name


def start_job_by_command(directory: str, model: str, bucket: str, *further: str) -> str:
    """The same by the client's command line; the job's name."""
    source, target = f"{BATCH_INPUT_PREFIX}numbers.jsonl", f"{BATCH_OUTPUT_PREFIX}{directory}/"
    places = ("--input", f"s3://{bucket}/{source}", "--output", f"s3://{bucket}/{target}")
    command = [sys.executable, "-m", "client", "batch", "submit", "--model", model, *places, *further]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def result_of(job: str, directory: str, bucket: str) -> dict[str, Any]:
    """What a transform job wrote below `directory`, when it has ended."""
    sagemaker = boto3.client("sagemaker")

    def ended() -> dict[str, Any] | None:
        described = sagemaker.describe_transform_job(TransformJobName=job)
        return described if described["TransformJobStatus"] != "InProgress" else None

    described = until(ended, f"{job} ends", timeout_s=200, pause_s=0.05)
    assert described["TransformJobStatus"] == "Completed", described
    key = f"{BATCH_OUTPUT_PREFIX}{directory}/numbers.jsonl.out"
    result: dict[str, Any] = json.loads(boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())
    return result


@dataclass
class Life:
    """What was seen, in the order of the story."""

    model: dict[str, Any]
    stable: tuple[dict[str, Any], str]
    by_default: tuple[dict[str, Any], str]
    newest: tuple[dict[str, Any], str]
    streamed: tuple[dict[str, Any], str]
    later: dict[str, Any]
    job_of_default: dict[str, Any]
    job_of_its_own: dict[str, Any]
    refused: str
    untouched: bool
    destroyed: dict[str, list[str]]


@pytest.fixture(scope="module")
def cloud(enforcing_cloud: dict[str, str]) -> dict[str, str]:
    """A cloud in which the rights of roles count."""
    return enforcing_cloud


@pytest.fixture(scope="module")
def life(cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Life:
    directory = tmp_path_factory.mktemp("repository")
    s3, sagemaker = boto3.client("s3"), boto3.client("sagemaker")
    s3.create_bucket(Bucket=BUCKET)
    publish_by_command(trained(directory / "two", weight=2), "times", "--label", "stable")
    publish(trained(directory / "five", weight=5), REPOSITORY, "other")

    deployer = Deployer(cloud, directory, stage=str(STAGE))
    deployer.deploy("--all")
    endpoint = deployer.output("endpoint", "EndpointName")
    model, bucket = deployer.output("endpoint", "ModelName"), deployer.output("storage", "BucketName")
    s3.put_object(Bucket=bucket, Key=f"{BATCH_INPUT_PREFIX}numbers.jsonl", Body=b"7\n")
    before = sagemaker.describe_endpoint(EndpointName=endpoint)
    stable = asked(endpoint, "trace=1;model=times;version=stable")
    by_default = asked(endpoint, "trace=1")
    try:
        asked(endpoint, "model=absent")
        refused = ""
    except ClientError as error:
        refused = str(error)

    asynchronous = start_asynchronous(model, bucket)
    publish(trained(directory / "three", weight=3), REPOSITORY, "times")
    job = start_job("default", model, bucket)
    own_job = start_job_by_command("own", model, bucket, "--environment", "TIDEGATE_DEFAULT_MODEL=times/latest")
    newest = until(
        lambda: found if (found := asked(endpoint, "model=times"))[0]["version"] == 2 else None,
        "version 2 answers",
        timeout_s=200,
    )
    streamed = asked(endpoint, "model=other", "invoke_endpoint_with_response_stream")
    sagemaker.get_waiter("endpoint_in_service").wait(
        EndpointName=asynchronous, WaiterConfig={"Delay": 1, "MaxAttempts": 300}
    )
    later = asked_later(asynchronous, "model=times;version=2")
    of_default, of_its_own = result_of(job, "default", bucket), result_of(own_job, "own", bucket)
    untouched = sagemaker.describe_endpoint(EndpointName=endpoint)["LastModifiedTime"] == before["LastModifiedTime"]

    sagemaker.delete_endpoint(EndpointName=asynchronous)
    described = sagemaker.describe_model(ModelName=model)
    boto3.resource("s3").Bucket(bucket).object_versions.delete()
    deployer.run("destroy", "--all", "--force", *deployer.synthesised())
    return Life(
        model=dict(described),
        stable=stable,
        by_default=by_default,
        newest=newest,
        streamed=streamed,
        later=later,
        job_of_default=of_default,
        job_of_its_own=of_its_own,
        refused=refused,
        untouched=untouched,
        destroyed=inventory("repository"),
    )


def test_the_model_is_an_image_and_the_address_of_the_repository(life: Life) -> None:
    container = life.model["PrimaryContainer"]

    assert container["Environment"]["TIDEGATE_MODEL_REPOSITORY"] == REPOSITORY
    assert not container.keys() & {"ModelDataUrl", "ModelDataSource"}


def test_a_request_names_model_and_version_and_is_told_what_answered(life: Life) -> None:
    assert life.stable == ({"product": 14, "model": "times", "version": 1}, "model=times;version=1")


def test_one_that_names_none_is_answered_by_the_default(life: Life) -> None:
    assert life.by_default == life.stable


def test_a_new_version_answers_without_a_deploy(life: Life) -> None:
    assert life.newest == ({"product": 21, "model": "times", "version": 2}, "model=times;version=2")
    assert life.untouched


def test_a_stream_names_its_model_too(life: Life) -> None:
    assert life.streamed == ({"product": 35, "model": "other", "version": 1}, "model=other;version=1")


def test_an_asynchronous_request_does(life: Life) -> None:
    assert life.later == {"product": 21, "model": "times", "version": 2}


def test_a_transform_job_runs_the_default_or_what_its_environment_names(life: Life) -> None:
    assert life.job_of_default == {"product": 14, "model": "times", "version": 1}
    assert life.job_of_its_own == {"product": 21, "model": "times", "version": 2}


def test_a_model_that_is_not_there_is_an_error_that_lists_what_is(life: Life) -> None:
    assert "404" in life.refused
    assert "other, times" in life.refused


def test_a_destroy_leaves_nothing_and_the_repository_is_still_there(life: Life) -> None:
    assert life.destroyed == {kind: [] for kind in life.destroyed}
    assert boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="models/times/2/manifest.json")["KeyCount"] == 1
