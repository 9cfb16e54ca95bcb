"""An archive that was replaced under its key: the deploy changes nothing, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.infra.conftest import Synthesise
from tests.infra.stacks.test_endpoint import MODEL

REGION = "eu-central-1"
BUCKET = "team-models"
KEY = "mine/model.tar.gz"
ARCHIVE = f"s3://{BUCKET}/{KEY}"
ROLE = "arn:aws:iam::123456789012:role/serving"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The S3 of an account that the CDK's command line has found credentials for."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("CDK_DEFAULT_ACCOUNT", "123456789012")
    monkeypatch.setenv("CDK_DEFAULT_REGION", REGION)
    with mock_aws():
        yield boto3.client("s3", region_name=REGION)


def warnings(synthesise: Synthesise) -> str:
    return synthesise(stage="dev", model_data_url=ARCHIVE).report


def upload(s3: Any, *, versioned: bool = True) -> str:
    """The first archive, in a bucket of the team's own; returns its ETag."""
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    if versioned:
        s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return str(s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"first")["ETag"]).strip('"')


def deploy(synthesise: Synthesise) -> Any:
    """Make the model that the stack would make; returns when that was."""
    name = synthesise(stage="dev", model_data_url=ARCHIVE).only("endpoint", MODEL)["ModelName"]
    sagemaker = boto3.client("sagemaker", region_name=REGION)
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"ModelDataUrl": ARCHIVE})
    return sagemaker.describe_model(ModelName=name)["CreationTime"]


def replace(s3: Any, body: bytes, made: Any) -> str:
    """Upload once S3's clock, which has whole seconds, is past the model's making; returns the ETag."""
    while True:
        s3.put_object(Bucket=BUCKET, Key="clock")
        if s3.head_object(Bucket=BUCKET, Key="clock")["LastModified"] > made:
            return str(s3.put_object(Bucket=BUCKET, Key=KEY, Body=body)["ETag"]).strip('"')


def test_another_archive_under_a_deployed_key_is_a_warning_with_both_etags(
    account: Any, synthesise: Synthesise
) -> None:
    first = upload(account)
    made = deploy(synthesise)
    assert "was replaced" not in warnings(synthesise)

    second = replace(account, b"second", made)
    said = warnings(synthesise)
    assert f"{ARCHIVE} was replaced after tidegate-dev-" in said
    assert first in said
    assert second in said
    assert "upload it under a key of its own" in said


def test_the_same_archive_uploaded_again_is_none(account: Any, synthesise: Synthesise) -> None:
    upload(account)
    replace(account, b"first", deploy(synthesise))

    assert "was replaced" not in warnings(synthesise)


def test_a_bucket_without_versions_tells_by_the_time(account: Any, synthesise: Synthesise) -> None:
    upload(account, versioned=False)
    replace(account, b"second", deploy(synthesise))

    assert "was made of it (it is of 20" in warnings(synthesise)


def test_what_is_deployed_for_the_first_time_is_none(account: Any, synthesise: Synthesise) -> None:
    upload(account)

    assert "was replaced" not in warnings(synthesise)


def test_without_an_account_nothing_is_asked(
    account: Any, synthesise: Synthesise, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(account)
    replace(account, b"second", deploy(synthesise))
    monkeypatch.delenv("CDK_DEFAULT_ACCOUNT")

    assert "was replaced" not in warnings(synthesise)
