"""What a transform job is asked for, before a service has seen it."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse

from tidegate.client import BatchJob


class _Nothing:
    def stream(self, **_: Any) -> list[bytes]:
        return [b'{"TransformJobArn": "arn:aws:sagemaker:eu-central-1:123456789012:transform-job/one"}']


@pytest.mark.parametrize(
    ("content_type", "given", "accept"),
    [
        ("text/csv; charset=utf-8", None, "text/csv; charset=utf-8"),
        ("application/jsonlines", None, "application/jsonlines"),
        ("application/json", None, "application/json"),
        ("application/x-npy", None, "application/x-npy"),
        ("image/jpeg", None, "*/*"),
        ("audio/wav", None, "*/*"),
        ("application/octet-stream", None, "*/*"),
        ("image/jpeg", "image/png", "image/png"),
    ],
)
def test_data_is_answered_in_its_own_type_and_anything_else_as_the_model_chooses(
    content_type: str, given: str | None, accept: str
) -> None:
    session = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="eu-central-1")
    asked: list[dict[str, Any]] = []

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        asked.append(json.loads(request.body))
        return AWSResponse(request.url, 200, {}, _Nothing())

    session.events.register("before-send.sagemaker.CreateTransformJob", answer)
    BatchJob.submit(
        model="m",
        input_location="s3://bucket/in/",
        output_location="s3://bucket/out/",
        content_type=content_type,
        accept=given,
        session=session,
    )

    assert [each["TransformOutput"]["Accept"] for each in asked] == [accept]
