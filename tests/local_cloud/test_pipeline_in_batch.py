"""The script of docs/guides/stages.md in a transform job: a Pipeline over the lines of each request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.inference.pipeline.guide import handler, lines
from tests.local_cloud.conftest import BUCKET, Account, await_true
from tests.local_cloud.test_real_server import packed
from tidegate.local_cloud import LocalCloud


@pytest.fixture
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with LocalCloud(tmp_path_factory.mktemp("stages") / "state") as cloud:
        account = Account(cloud)
        yield account
        for client in (account.s3, account.sagemaker, account.runtime, account.cloudformation):
            client.close()


def test_a_pipeline_answers_one_line_for_each_line_of_a_transform_job(account: Account) -> None:
    """In order, the bad one with its error; many lines to a request, and more of them than a batch has."""
    given, got = lines()
    model = account.model(data=account.put("model.tar.gz", packed({"code/inference.py": handler().encode()})))
    account.put("in/a.jsonl", given.encode())
    account.put("in/b.jsonl", given.encode() * 500)
    account.sagemaker.create_transform_job(
        TransformJobName="stages",
        ModelName=model,
        BatchStrategy="MultiRecord",
        MaxPayloadInMB=1,
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in/"}},
            "ContentType": "application/jsonlines",
            "SplitType": "Line",
        },
        TransformOutput={
            "S3OutputPath": f"s3://{BUCKET}/out",
            "AssembleWith": "Line",
            "Accept": "application/jsonlines",
        },
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    job: dict[str, Any] = {}

    def ended() -> bool:
        job.update(account.sagemaker.describe_transform_job(TransformJobName="stages"))
        return bool(job["TransformJobStatus"] != "InProgress")

    await_true(ended, "the job ends", timeout_s=200)
    assert job["TransformJobStatus"] == "Completed", job
    assert account.get("out/a.jsonl.out") == got.encode()
    assert account.get("out/b.jsonl.out") == got.encode() * 500
