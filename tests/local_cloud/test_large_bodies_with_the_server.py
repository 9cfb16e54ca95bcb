"""A large body through the local cloud to the real server: from S3's file to the script's, and the answer back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.local_cloud.conftest import ROLE, await_true, model_archive
from tests.local_cloud.test_large_bodies import digest_of, written
from tidegate.client import Endpoint, InvocationFailed
from tidegate.local_cloud import LocalCloud

MIB = 1024 * 1024
BODY_MIB = 96
BUCKET = "large"
SCRIPT = """
import hashlib
from typing import BinaryIO

def model_fn(model_dir):
    return None

def input_fn(body: BinaryIO, content_type):
    digest = hashlib.sha256()
    size = 0
    while block := body.read(1 << 20):
        digest.update(block)
        size += len(block)
    return {"sha256": digest.hexdigest(), "bytes": size}

def predict_fn(found, model):
    return found

def output_fn(found, accept):
    # As many bytes back as came, piece by piece: the digest, again and again.
    word = found["sha256"].encode()
    for _ in range(0, found["bytes"], 1 << 20):
        yield word * ((1 << 20) // len(word))
"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with LocalCloud(tmp_path_factory.mktemp("large") / "state") as cloud, pytest.MonkeyPatch.context() as patch:
        s3, sagemaker = cloud.client("s3"), cloud.client("sagemaker")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=model_archive({"code/inference.py": SCRIPT}))
        environment = {"TIDEGATE_WORKERS": "1", "TIDEGATE_MAX_BODY_BYTES": str(100 * MIB)}
        container: dict[str, Any] = {
            "Image": "serve",
            "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz",
            "Environment": environment,
        }
        sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        output = {"S3OutputPath": f"s3://{BUCKET}/out", "S3FailurePath": f"s3://{BUCKET}/failed"}
        sagemaker.create_endpoint_config(
            EndpointConfigName="c", ProductionVariants=[variant], AsyncInferenceConfig={"OutputConfig": output}
        )
        sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="c")
        await_true(
            lambda: sagemaker.describe_endpoint(EndpointName="e")["EndpointStatus"] == "InService",
            "it is in service",
            timeout_s=200,
        )
        for name, value in cloud.environment.items():
            patch.setenv(name, value)
        yield Endpoint("e", session=boto3.Session())
        for client in (s3, sagemaker):
            client.close()


def test_a_large_body_reaches_the_script_as_a_file_and_a_large_answer_comes_back(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    digest = written(tmp_path / "in", BODY_MIB * MIB)
    submitted = endpoint.submit(
        tmp_path / "in", content_type="application/octet-stream", input_location=f"s3://{BUCKET}/in"
    )
    answer = submitted.save(tmp_path / "out", timeout_s=110, poll_s=0.2)
    assert answer.stat().st_size == BODY_MIB * MIB
    assert digest_of(answer) == hashlib.sha256(digest.encode() * (BODY_MIB * MIB // len(digest))).hexdigest()


def test_a_body_beyond_the_servers_limit_is_refused_by_its_name(endpoint: Endpoint, tmp_path: Path) -> None:
    written(tmp_path / "in", 101 * MIB)
    submitted = endpoint.submit(
        tmp_path / "in", content_type="application/octet-stream", input_location=f"s3://{BUCKET}/too-large"
    )
    with pytest.raises(InvocationFailed, match=r"413.*TIDEGATE_MAX_BODY_BYTES"):
        submitted.wait(timeout_s=110, poll_s=0.2)
