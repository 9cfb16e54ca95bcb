"""The real server in the place of the stand-in: it serves, works in a batch, and says what a deployer did wrong."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from local_cloud import LocalCloud
from tests.local_cloud.conftest import BUCKET, Account, await_true

HANDLERS = """
import json, os, torch

def model_fn(model_dir):
    return torch.load(os.path.join(model_dir, "model.pth"), weights_only=True)

def input_fn(body, content_type):
    return [float(cell) for cell in (body.decode() if isinstance(body, bytes) else body).split(",")]

def predict_fn(row, model):
    return [cell * model["w"].item() for cell in row]

def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


def weights() -> bytes:
    content = io.BytesIO()
    torch.save({"w": torch.tensor(2.0)}, content)
    return content.getvalue()


def archive(handlers: str | None, model: bytes) -> bytes:
    content = io.BytesIO()
    files = {"model.pth": model} | ({"code/inference.py": handlers.encode()} if handlers is not None else {})
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with LocalCloud(tmp_path_factory.mktemp("real") / "state") as cloud:
        account = Account(cloud)
        yield account
        for client in (account.s3, account.sagemaker, account.runtime, account.cloudformation):
            client.close()


def test_the_real_server_answers_and_works_in_a_batch(real: Account) -> None:
    model = real.model(data=real.put("good.tar.gz", archive(HANDLERS, weights())))
    real.put("in/rows.csv", b"1,2\n3,4\n")
    real.sagemaker.create_transform_job(
        TransformJobName="rows",
        ModelName=model,
        BatchStrategy="SingleRecord",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in/"}},
            "ContentType": "text/csv",
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 1},
    )
    endpoint = real.endpoint(model)
    assert real.invoke(endpoint, b"1,2", ContentType="text/csv") == b"[2.0, 4.0]"
    job: dict[str, Any] = {}

    def ended() -> bool:
        job.update(real.sagemaker.describe_transform_job(TransformJobName="rows"))
        return bool(job["TransformJobStatus"] != "InProgress")

    await_true(ended, "the job ends", timeout_s=60)
    assert job["TransformJobStatus"] == "Completed", job
    assert real.get("out/rows.csv.out") == b"[2.0, 4.0]\n[6.0, 8.0]\n"
    real.delete(endpoint)


@pytest.mark.parametrize(
    ("handlers", "model", "words"),
    [
        (f"{HANDLERS}\ndef broken(:\n", weights(), "inference.py"),
        (HANDLERS.replace("def predict_fn(row, model)", "def predict_fn()"), weights(), "predict_fn"),
        (HANDLERS, b"not a state dict", "model"),
    ],
    ids=["syntax error", "bad signature", "corrupt weights"],
)
def test_a_deployers_mistake_is_the_failure_reason_in_the_servers_own_line(
    real: Account, handlers: str, model: bytes, words: str
) -> None:
    reason = real.failed_endpoint(real.model(data=real.put("bad.tar.gz", archive(handlers, model))))
    assert reason.startswith("tidegate: error: ")
    assert words in reason
