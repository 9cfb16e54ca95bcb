"""Serverless variants: the same process, with the limits and exclusions of the platform."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import ROLE, Account
from tidegate.local_cloud.sagemaker.limits import Limits

SERVERLESS_BODY_BYTES = Limits().serverless_body_bytes
SERVERLESS = {"MemorySizeInMB": 2048, "MaxConcurrency": 5}


def configure(account: Account, model: str, *, config: dict[str, Any] | None = None, **variant: Any) -> str:
    name = account.name("serverless")
    variants = [{"VariantName": "v", "ModelName": model, "ServerlessConfig": SERVERLESS, **variant}]
    account.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, **(config or {}))
    return name


@pytest.fixture(scope="module")
def endpoint(account: Account) -> Iterator[str]:
    name = configure(account, account.model())
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert account.settled(name)["EndpointStatus"] == "InService"
    yield name
    account.delete(name)


def test_a_serverless_endpoint_answers_and_is_described_without_instances(account: Account, endpoint: str) -> None:
    assert account.invoke(endpoint, b"abc") == b"ABC"
    (variant,) = account.sagemaker.describe_endpoint(EndpointName=endpoint)["ProductionVariants"]
    assert variant["CurrentServerlessConfig"] == SERVERLESS
    assert "CurrentInstanceCount" not in variant


def test_an_update_makes_no_endpoint_with_instances_serverless(account: Account) -> None:
    model = account.model()
    plain, serverless = account.endpoint(model), configure(account, model)
    with pytest.raises(ClientError, match="with instances cannot be updated to a serverless one"):
        account.sagemaker.update_endpoint(EndpointName=plain, EndpointConfigName=serverless)
    assert account.invoke(plain, b"abc") == b"ABC"
    account.delete(plain)


def test_bodies_and_answers_of_more_than_four_mebibytes_are_refused(account: Account, endpoint: str) -> None:
    with pytest.raises(ClientError, match=r"Request \S+ has oversize body\."):
        account.invoke(endpoint, b"x" * (SERVERLESS_BODY_BYTES + 1))
    assert len(account.invoke(endpoint, b"x" * SERVERLESS_BODY_BYTES)) == SERVERLESS_BODY_BYTES
    with pytest.raises(ClientError, match=f"larger than {SERVERLESS_BODY_BYTES} bytes"):
        account.invoke(endpoint, b"big:%d" % (SERVERLESS_BODY_BYTES + 1))


@pytest.mark.parametrize(
    ("config", "variant", "words"),
    [
        ({}, {"InstanceType": "ml.m5.large"}, "serverless, which excludes InstanceType"),
        (
            {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b/o"}}},
            {},
            "serverless, which excludes AsyncInferenceConfig",
        ),
        ({}, {"ServerlessConfig": {"MemorySizeInMB": 1500, "MaxConcurrency": 1}}, "must be a multiple of 1024"),
        ({}, {"ServerlessConfig": {"MemorySizeInMB": 8192, "MaxConcurrency": 1}}, "less than or equal to 6144"),
        (
            {},
            {"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1, "ProvisionedConcurrency": 2}},
            "larger than its MaxConcurrency",
        ),
    ],
)
def test_what_serverless_excludes_is_refused_by_name(
    account: Account, config: dict[str, Any], variant: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClientError, match=words):
        configure(account, account.model(), config=config, **variant)


def test_an_isolated_model_is_not_served_without_instances(account: Account) -> None:
    name = account.name("isolated")
    container = {"Image": "serve"}
    account.sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container, EnableNetworkIsolation=True
    )
    with pytest.raises(ClientError, match="serverless, which excludes EnableNetworkIsolation"):
        configure(account, name)
