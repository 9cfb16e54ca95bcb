"""Fixtures for pytest: `pytest_plugins = ["tidegate.local_cloud.pytest_plugin"]` in the top `conftest.py`.

It is named there and not found by itself (no entry point): an installed package should not take part in the tests of
projects that do not ask for it. Where tests run in several processes, each has a cloud of its own.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tidegate.local_cloud import inventory, leftovers
from tidegate.local_cloud.cloud import CloudError, LocalCloud

ROLE = "arn:aws:iam::123456789012:role/AmazonSageMaker-ExecutionRole-local"
"""A role that may do everything: that of the exported credentials."""
_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/model:1"
_SETTLE_TIMEOUT_S = 600.0  # AWS gives a container 8 minutes to become healthy
_PAUSE_S = 0.05
_REPORTED_LINES = 200
_numbers = itertools.count(1)
_in_use: list[Account] = []


@dataclass(slots=True)
class Account:
    """A cloud's account for one test: what the test makes in it goes with the test."""

    cloud: LocalCloud
    bucket: str
    role: str = ROLE
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        """An ordinary boto3 client; the same one each time."""
        if service not in self._clients:
            self._clients[service] = self.cloud.client(service)
        return self._clients[service]

    def name(self, kind: str = "thing") -> str:
        """A name that no other test of this process has."""
        return f"{kind}-{os.getpid()}-{next(_numbers)}"

    def endpoint(
        self,
        *,
        image: str = _IMAGE,
        archive: bytes | None = None,
        environment: Mapping[str, str] | None = None,
        startup_timeout_s: int = 480,
    ) -> str:
        """The name of a new endpoint in service. ``archive`` is a model.tar.gz.

        Raises AssertionError with the FailureReason, and what the server said, where it does not come into service.
        """
        name, sagemaker = self.name("endpoint"), self.client("sagemaker")
        container: dict[str, Any] = {"Image": image, "Environment": dict(environment or {})}
        if archive is not None:
            self.client("s3").put_object(Bucket=self.bucket, Key=f"{name}/model.tar.gz", Body=archive)
            container["ModelDataUrl"] = f"s3://{self.bucket}/{name}/model.tar.gz"
        sagemaker.create_model(ModelName=name, ExecutionRoleArn=self.role, PrimaryContainer=container)
        variant = {
            "VariantName": "all",
            "ModelName": name,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
            "ContainerStartupHealthCheckTimeoutInSeconds": startup_timeout_s,
        }
        sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        description = self._settled(name)
        if description is None or description["EndpointStatus"] != "InService":
            raise AssertionError(f"endpoint {name} did not come into service: {description}\n{self.log(name)}")
        return name

    def invoke(self, endpoint: str, body: bytes, **options: Any) -> bytes:
        """The body of an answer; ``options`` are those of boto3's ``invoke_endpoint``."""
        answer = self.client("sagemaker-runtime").invoke_endpoint(EndpointName=endpoint, Body=body, **options)
        answered: bytes = answer["Body"].read()
        return answered

    def log(self, name: str) -> str:
        """What an endpoint or a job has written; "" for nothing."""
        with suppress(CloudError):
            return self.cloud.log_text(name)
        return ""

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _settled(self, endpoint: str) -> dict[str, Any] | None:
        """The description of an endpoint that rests; None for one that is gone."""
        deadline = time.monotonic() + _SETTLE_TIMEOUT_S
        while True:
            try:
                found: dict[str, Any] = self.client("sagemaker").describe_endpoint(EndpointName=endpoint)
            except ClientError:
                return None
            if found["EndpointStatus"] in ("InService", "Failed"):
                return found
            if time.monotonic() > deadline:
                raise AssertionError(f"endpoint {endpoint} is still {found['EndpointStatus']}")
            time.sleep(_PAUSE_S)


@pytest.fixture(scope="session")
def local_cloud_options() -> dict[str, Any]:
    """What :class:`.LocalCloud` is made with; override it in `conftest.py`, such as by a ``container_command``."""
    return {}


@pytest.fixture(scope="session")
def local_cloud(local_cloud_options: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    """One cloud for all tests."""
    with LocalCloud(tmp_path_factory.mktemp("local-cloud") / "state", **local_cloud_options) as cloud:
        yield cloud


@pytest.fixture(scope="session")
def local_cloud_clients(local_cloud: LocalCloud) -> Iterator[leftovers.Clients]:
    """Clients of the cloud by service, made once: that takes longer than what they are asked."""
    made: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in made:
            made[service] = local_cloud.client(service)
        return made[service]

    yield client
    for each in made.values():
        each.close()


@pytest.fixture
def local_account(local_cloud: LocalCloud, local_cloud_clients: leftovers.Clients) -> Iterator[Account]:
    """The account of a test: plain boto3 reaches it, it has a bucket, and what the test makes is removed after it.

    Jobs cannot be removed, nor can keys: those are stopped, these stay.
    """
    account = Account(local_cloud, bucket=f"test-{os.getpid()}-{next(_numbers)}")
    with local_cloud.activated():
        before = leftovers.there(local_cloud_clients)
        account.client("s3").create_bucket(Bucket=account.bucket)
        _in_use.append(account)
        try:
            yield account
        finally:
            _in_use.remove(account)
            try:
                leftovers.remove_all_but(local_cloud_clients, before)
            finally:
                account.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,  # noqa: ARG001 - a hook's arguments have their names
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed is reported with what its endpoints and jobs wrote."""
    report = yield
    if report.failed and call.when != "teardown":
        for account in _in_use:
            report.sections += _said(account)
    return report


def _said(account: Account) -> list[tuple[str, str]]:
    """A section for each endpoint or job of the cloud that wrote something: its last lines."""
    sections = []
    sagemaker = account.client("sagemaker")
    for kind in inventory.WITH_LOGS:
        for item in inventory.listed(sagemaker, kind):
            name, status = item[kind.name_member], item.get(kind.status_member, "")
            lines = account.log(f"{kind.name}/{name}").splitlines()
            if lines:
                cut = [f"… {len(lines) - _REPORTED_LINES} lines more"] if len(lines) > _REPORTED_LINES else []
                text = "\n".join([*cut, *lines[-_REPORTED_LINES:]])
                sections.append((f"local cloud: {kind.name} {name} ({status})", text))
    return sections
