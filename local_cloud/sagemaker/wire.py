"""The wire formats: the control plane's JSON 1.1 and the error answers of both planes."""

from __future__ import annotations

import json
import re
import uuid
from datetime import datetime
from typing import Any

from tidegate.local_cloud.sagemaker.errors import ServiceError, validation_exception
from tidegate.local_cloud.sagemaker.http_messages import Request, Response
from tidegate.local_cloud.sagemaker.state import Json

_TARGET_PREFIX = "SageMaker."
_CREDENTIAL = re.compile(r"Credential=[^/]+/\d{8}/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request")


def operation_name(request: Request) -> str:
    """The operation that ``X-Amz-Target`` names."""
    target = request.headers.get("x-amz-target", "")
    if request.method != "POST" or not target.startswith(_TARGET_PREFIX):
        raise ServiceError(
            "UnknownOperationException",
            f"{request.method} {request.path} is no request to SageMaker: it needs the header X-Amz-Target.",
            status=404,
        )
    return target.removeprefix(_TARGET_PREFIX)


def read_json(request: Request) -> Json:
    try:
        document = json.loads(request.body or b"{}", parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ServiceError("SerializationException", f"The request is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ServiceError("SerializationException", "The request is not a JSON object.")
    return document


def check_region(request: Request, region: str) -> None:
    """Refuses a request that was signed for another region; one without a signature passes."""
    credential = _CREDENTIAL.search(request.headers.get("authorization", ""))
    if credential is not None and credential["region"] != region:
        raise validation_exception(
            f"This request was signed for the region {credential['region']}; the local cloud runs in {region}."
        )


def json_answer(members: Json) -> Response:
    return Response(
        status=200,
        headers={"Content-Type": "application/x-amz-json-1.1", "x-amzn-RequestId": str(uuid.uuid4())},
        body=json.dumps(members, default=_timestamp).encode(),
    )


def error_answer(error: ServiceError) -> Response:
    """``__type`` is what the JSON protocol reads, ``x-amzn-ErrorType`` the rest-json one; both want the message."""
    document: dict[str, Any] = {"__type": error.code, "message": error.message, "Message": error.message}
    return Response(
        status=error.status,
        headers={
            "Content-Type": "application/json",
            "x-amzn-ErrorType": error.code,
            "x-amzn-RequestId": str(uuid.uuid4()),
        },
        body=json.dumps(document | error.members).encode(),
    )


def _no_number(word: str) -> None:
    """Python's parser takes NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{word} is no JSON")


def _timestamp(value: Any) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"{type(value).__name__} has no JSON form")
