"""An old deployment that asks for batches, moved here as it is: by `cdk deploy`, asked by many boto3 clients at once.

Its script gives one series as (time, features), which glued to another is a third one. What the local cloud does not
show: instances of several workers each (the server here has as many as this machine has room for).
"""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest

from tests.end_to_end.deploying import Deployer, archive
from tests.infra.conftest import ROOT

STAGE = Path(__file__).parent.relative_to(ROOT) / "stages" / "batches.toml"
CLIENTS = 8
REQUESTS = 160
SERIES = """
import json

import torch


def model_fn(model_dir):
    return None


def input_fn(body, content_type):
    return torch.tensor(json.loads(body), dtype=torch.float64)


def predict_fn(series, model):
    return series - series.mean(0)


def output_fn(prediction, accept):
    return json.dumps(prediction.tolist())
"""


def centred(series: list[list[float]]) -> list[list[float]]:
    """What the script answers to one series alone."""
    means = [sum(column) / len(series) for column in zip(*series, strict=True)]
    return [[value - mean for value, mean in zip(step, means, strict=True)] for step in series]


@pytest.fixture(scope="module")
def cloud(enforcing_cloud: dict[str, str]) -> dict[str, str]:
    """A cloud in which the rights of roles count."""
    return enforcing_cloud


def test_every_client_of_a_deployed_endpoint_reads_the_answer_to_its_own_series(
    cloud: dict[str, str], tmp_path: Path
) -> None:
    deployer = Deployer(cloud, tmp_path, stage=str(STAGE))
    deployer.deploy("storage")
    deployer.deploy("--all", "-c", f"model_data_url={deployer.upload(archive(tmp_path, weight=2, handlers=SERIES))}")
    endpoint, runtime = deployer.output("endpoint", "EndpointName"), boto3.client("sagemaker-runtime")
    source = random.Random(5)  # noqa: S311 - it is to be repeatable
    asked = [[[source.uniform(-9, 9), source.random()] for _ in range(source.randint(2, 9))] for _ in range(REQUESTS)]

    def ask(series: list[list[float]]) -> list[list[float]]:
        answer = runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType="application/json", Body=json.dumps(series).encode()
        )
        found: list[list[float]] = json.loads(answer["Body"].read())
        return found

    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(ask, asked))
    wrong = [
        number
        for number, (answer, series) in enumerate(zip(answers, asked, strict=True))
        if len(answer) != len(series)
        or any(step != pytest.approx(wanted) for step, wanted in zip(answer, centred(series), strict=True))
    ]
    assert wrong == []
    boto3.resource("s3").Bucket(deployer.output("storage", "BucketName")).object_versions.delete()
    deployer.run("destroy", "--all", "--force", *deployer.synthesised())
