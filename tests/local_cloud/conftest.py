"""One local cloud for all tests of this room, with the stand-in where the real server would be."""

from __future__ import annotations

import io
import itertools
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.local_cloud.answers import watched
from tests.polling import until
from tidegate.local_cloud import LocalCloud

STAND_IN = (sys.executable, str(Path(__file__).parent / "stand_in.py"), "serve")
ROLE = "arn:aws:iam::123456789012:role/service"
BUCKET = "test-bucket"
_numbers = itertools.count()


def await_true(question: Callable[[], bool], what: str, *, timeout_s: float = 120.0) -> None:
    """Asks until the answer is yes; fails with ``what`` when it does not come."""
    until(question, what, timeout_s=timeout_s, pause_s=0.02)


def model_archive(files: Mapping[str, str]) -> bytes:
    """A model.tar.gz with these files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


@dataclass
class Account:
    """Plain boto3 clients of one cloud, and the calls that nearly every test makes.

    Whatever SageMaker answers in a test must be as botocore's model has it.
    """

    cloud: LocalCloud
    s3: Any = field(init=False)
    sagemaker: Any = field(init=False)
    runtime: Any = field(init=False)
    cloudformation: Any = field(init=False)

    def __post_init__(self) -> None:
        self.s3 = self.cloud.client("s3")
        self.sagemaker = watched(self.cloud.client("sagemaker"))
        self.runtime = watched(self.cloud.client("sagemaker-runtime"))
        self.cloudformation = self.cloud.client("cloudformation")
        self.s3.create_bucket(Bucket=BUCKET)
        self.put("model.tar.gz", model_archive({"code/inference.py": "# four functions"}))

    def name(self, kind: str = "thing") -> str:
        return f"{kind}-{next(_numbers)}"

    def put(self, key: str, content: bytes) -> str:
        self.s3.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def get(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    def keys(self, prefix: str) -> list[str]:
        return [item["Key"] for item in self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])]

    def model(self, *, data: str | None = f"s3://{BUCKET}/model.tar.gz", **environment: str) -> str:
        name = self.name("model")
        container = {"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/serve:1", "Environment": environment}
        if data is not None:
            container["ModelDataUrl"] = data
        self.sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)
        return name

    def config(self, *models: str, weights: tuple[float, ...] = (), **variant: Any) -> str:
        name = self.name("config")
        variants = [
            {
                "VariantName": f"variant-{index}",
                "ModelName": model,
                "InstanceType": "ml.g6.xlarge",
                "InitialInstanceCount": 1,
                **({"InitialVariantWeight": weights[index]} if weights else {}),
                **variant,
            }
            for index, model in enumerate(models)
        ]
        self.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
        return name

    def settled(self, endpoint: str) -> dict[str, Any]:
        """The endpoint's description once it rests."""
        description: dict[str, Any] = {}

        def rests() -> bool:
            description.clear()
            description.update(self.sagemaker.describe_endpoint(EndpointName=endpoint))
            return description["EndpointStatus"] not in ("Creating", "Updating", "Deleting")

        await_true(rests, f"endpoint {endpoint} settles")
        return description

    def endpoint(self, *models: str, **options: Any) -> str:
        """An endpoint in service."""
        name = self.name("endpoint")
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=self.config(*models, **options))
        description = self.settled(name)
        assert description["EndpointStatus"] == "InService", description
        return name

    def failed_endpoint(self, *models: str, **options: Any) -> str:
        """Why an endpoint did not come into service; the endpoint is deleted."""
        name = self.name("endpoint")
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=self.config(*models, **options))
        description = self.settled(name)
        assert description["EndpointStatus"] == "Failed", description
        self.sagemaker.delete_endpoint(EndpointName=name)
        reason: str = description["FailureReason"]
        return reason

    def invoke(self, endpoint: str, body: bytes, **options: Any) -> bytes:
        answer: bytes = self.runtime.invoke_endpoint(EndpointName=endpoint, Body=body, **options)["Body"].read()
        return answer

    def delete(self, endpoint: str) -> None:
        """Deletes an endpoint and waits until it is gone."""
        self.sagemaker.delete_endpoint(EndpointName=endpoint)
        await_true(lambda: endpoint not in self.endpoints(), f"endpoint {endpoint} goes")

    def endpoints(self) -> list[str]:
        return [item["EndpointName"] for item in self.sagemaker.list_endpoints()["Endpoints"]]


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """The cloud that all tests of this room share; tests keep apart by the names that they use."""
    directory = tmp_path_factory.mktemp("local-cloud") / "state"
    with LocalCloud(directory, container_command=STAND_IN) as cloud:
        account = Account(cloud)
        yield account
        for client in (account.s3, account.sagemaker, account.runtime, account.cloudformation):
            client.close()
