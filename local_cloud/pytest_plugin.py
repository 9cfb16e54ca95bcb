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

from tidegate.local_cloud import inventory
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


@pytest.fixture
def local_account(local_cloud: LocalCloud) -> Iterator[Account]:
    """The account of a test: plain boto3 reaches it, it has a bucket, and what the test makes is removed after it."""
    account = Account(local_cloud, bucket=f"test-{os.getpid()}-{next(_numbers)}")
    with local_cloud.activated():
        before = _there(account)
        account.client("s3").create_bucket(Bucket=account.bucket)
        _in_use.append(account)
        try:
            yield account
        finally:
            _in_use.remove(account)
            try:
                _remove(account, {kind: found - before[kind] for kind, found in _there(account).items()})
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


_DELETE = {
    # in this order; what it takes to delete one
    "InferenceComponent": ("delete_inference_component", "InferenceComponentName"),
    "Endpoint": ("delete_endpoint", "EndpointName"),
    "EndpointConfig": ("delete_endpoint_config", "EndpointConfigName"),
    "Model": ("delete_model", "ModelName"),
}
_STOP = {
    "TrainingJob": ("stop_training_job", "TrainingJobName"),
    "ProcessingJob": ("stop_processing_job", "ProcessingJobName"),
    "TransformJob": ("stop_transform_job", "TransformJobName"),
    "HyperParameterTuningJob": ("stop_hyper_parameter_tuning_job", "HyperParameterTuningJobName"),
}
_LISTED = {"EndpointConfig": "EndpointConfigs", "Model": "Models"}


def _there(account: Account) -> dict[str, set[str]]:
    """The names of all that is removed after a test, by kind."""
    sagemaker, s3 = account.client("sagemaker"), account.client("s3")
    kinds = [inventory.ENDPOINT, inventory.COMPONENT, *inventory.JOBS]
    kinds += [
        inventory.Kind(name=resource, resource=resource, summaries=member) for resource, member in _LISTED.items()
    ]
    found = {kind.resource: {item[kind.name_member] for item in inventory.listed(sagemaker, kind)} for kind in kinds}
    return found | {"Bucket": {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}}


def _remove(account: Account, made: Mapping[str, set[str]]) -> None:
    sagemaker = account.client("sagemaker")
    for resource, (operation, member) in _STOP.items():
        for name in made[resource]:
            with suppress(ClientError):  # it has ended
                getattr(sagemaker, operation)(**{member: name})
    deadline = time.monotonic() + _SETTLE_TIMEOUT_S
    for resource, (operation, member) in _DELETE.items():
        left = made[resource]
        while left:
            for name in left:
                # Gone by now; or it is changing still, or has adapters, and is asked to go again.
                with suppress(ClientError):
                    getattr(sagemaker, operation)(**{member: name})
            left = left & _there(account)[resource]
            if time.monotonic() > deadline:
                raise AssertionError(f"{resource} of a test still there after it: {', '.join(sorted(left))}")
            time.sleep(_PAUSE_S)
    s3 = account.client("s3")
    for bucket in made["Bucket"]:
        versions = s3.get_paginator("list_object_versions")
        for page in versions.paginate(Bucket=bucket):
            for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                s3.delete_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
        s3.delete_bucket(Bucket=bucket)
