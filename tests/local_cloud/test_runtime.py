"""The runtime through plain boto3: headers, errors, limits and streams as behind the real service."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from tests.local_cloud.conftest import Account, await_true

ACCOUNT = "123456789012"


@pytest.fixture(scope="module")
def endpoint(account: Account) -> Iterator[str]:
    name = account.endpoint(account.model())
    yield name
    account.delete(name)


def error(account: Account, endpoint: str, body: bytes = b"a", **options: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        account.runtime.invoke_endpoint(EndpointName=endpoint, Body=body, **options)
    return dict(caught.value.response)


def test_only_the_headers_that_sagemaker_forwards_reach_the_container(account: Account, endpoint: str) -> None:
    def sneak(request: Any, **_: Any) -> None:
        request.headers["X-Stranger"] = "1"
        request.headers["Accept-Language"] = "de"

    account.runtime.meta.events.register("before-sign.sagemaker-runtime.InvokeEndpoint", sneak)
    try:
        seen = json.loads(
            account.invoke(
                endpoint,
                b"headers:",
                ContentType="text/plain",
                Accept="application/json",
                CustomAttributes="trace=7",
                InferenceId="i-1",
                SessionId="NEW_SESSION",
            )
        )
    finally:
        account.runtime.meta.events.unregister("before-sign.sagemaker-runtime.InvokeEndpoint", sneak)
    assert seen.pop("host").startswith("127.0.0.1:")
    assert seen == {
        "content-length": "8",
        "content-type": "text/plain",
        "accept": "application/json",
        "x-amzn-sagemaker-custom-attributes": "trace=7",
        "x-amzn-sagemaker-inference-id": "i-1",
        "x-amzn-sagemaker-session-id": "NEW_SESSION",
    }


def test_without_content_type_and_accept_the_container_sees_none(account: Account, endpoint: str) -> None:
    assert set(json.loads(account.invoke(endpoint, b"headers:"))) == {"host", "content-length"}


def test_only_the_headers_that_sagemaker_returns_come_back(account: Account, endpoint: str) -> None:
    answer = account.runtime.invoke_endpoint(EndpointName=endpoint, Body=b"headers:", Accept="text/plain")
    assert answer["ContentType"] == "text/plain"
    assert answer["InvokedProductionVariant"] == "variant-0"
    assert answer["CustomAttributes"] == "from the model"
    assert answer["NewSessionId"].startswith("s1; Expires=")
    assert "x-private" not in answer["ResponseMetadata"]["HTTPHeaders"]


@pytest.mark.parametrize(("status", "kind"), [(400, "client"), (415, "client"), (500, "server"), (507, "server")])
def test_an_error_of_the_container_is_a_model_error_with_its_status(
    account: Account, endpoint: str, status: int, kind: str
) -> None:
    response = error(account, endpoint, b"status:%d" % status)
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == status
    assert response["OriginalMessage"] == f"refused with {status}"
    assert response["Error"]["Message"].startswith(
        f'Received {kind} error ({status}) from primary with message "refused with {status}". See file://'
    )
    assert response["LogStreamArn"].endswith(f":log-group:/aws/sagemaker/Endpoints/{endpoint}")


def test_a_container_that_hangs_up_is_a_model_error_with_status_0(account: Account, endpoint: str) -> None:
    response = error(account, endpoint, b"hang up:")
    assert (response["Error"]["Code"], response["OriginalStatusCode"]) == ("ModelError", 0)
    assert "could not get a response from the primary endpoint" in response["OriginalMessage"]


def test_an_endpoint_that_does_not_exist_is_a_validation_error(account: Account) -> None:
    response = error(account, "nobody")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert response["Error"] == {
        "Code": "ValidationError",
        "Message": f"Endpoint nobody of account {ACCOUNT} not found.",
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"TargetVariant": "nobody"}, "Variant nobody of endpoint"),
        ({"TargetModel": "a.tar.gz"}, "is not a multi-model endpoint"),
        ({"InferenceComponentName": "a"}, "has no inference components"),
        ({"InferenceId": "i" * 65}, "Value 'iiiii"),
    ],
)
def test_what_the_endpoint_cannot_do_is_a_validation_error(
    account: Account, endpoint: str, options: dict[str, str], words: str
) -> None:
    response = error(account, endpoint, **options)
    assert response["Error"]["Code"] == "ValidationError"
    assert words in response["Error"]["Message"]


def test_a_body_of_25_megabytes_passes_and_a_larger_one_does_not(account: Account, endpoint: str) -> None:
    limit = 25 * 1024 * 1024
    assert account.invoke(endpoint, b"a" * limit) == b"A" * limit
    once = Config(retries={"total_max_attempts": 1})
    with pytest.raises(ClientError) as caught:
        account.cloud.client("sagemaker-runtime", config=once).invoke_endpoint(
            EndpointName=endpoint, Body=b"a" * (limit + 1)
        )
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert "HTTP content length exceeded 26214400 bytes" in str(caught.value)


def test_an_answer_beyond_25_megabytes_is_a_model_error(account: Account, endpoint: str) -> None:
    response = error(account, endpoint, b"big:26214401")
    assert response["OriginalStatusCode"] == 0
    assert "larger than 26214400 bytes" in response["OriginalMessage"]


def test_a_stream_arrives_part_by_part(account: Account, endpoint: str) -> None:
    answer = account.runtime.invoke_endpoint_with_response_stream(
        EndpointName=endpoint, Body=b"stream:one,two,three", Accept="text/plain"
    )
    assert answer["ContentType"] == "text/plain"
    assert answer["InvokedProductionVariant"] == "variant-0"
    assert b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]) == b"onetwothree"


def test_a_stream_that_breaks_off_ends_with_a_model_stream_error(account: Account, endpoint: str) -> None:
    answer = account.runtime.invoke_endpoint_with_response_stream(EndpointName=endpoint, Body=b"stream:one,break")
    events = iter(answer["Body"])
    assert next(events)["PayloadPart"]["Bytes"] == b"one"
    with closing(answer["Body"]), pytest.raises(EventStreamError, match="ModelStreamError"):
        list(events)
    assert account.invoke(endpoint, b"a") == b"A", "the endpoint goes on"


def test_an_error_before_the_stream_is_a_model_error(account: Account, endpoint: str) -> None:
    with pytest.raises(ClientError) as caught:
        account.runtime.invoke_endpoint_with_response_stream(EndpointName=endpoint, Body=b"status:400")
    assert caught.value.response["OriginalStatusCode"] == 400


def test_an_invocation_without_stream_collects_the_parts(account: Account, endpoint: str) -> None:
    assert account.invoke(endpoint, b"stream:one,two") == b"onetwo"


def test_an_asynchronous_invocation_is_refused(account: Account, endpoint: str) -> None:
    with pytest.raises(ClientError, match="is not asynchronous") as caught:
        account.runtime.invoke_endpoint_async(EndpointName=endpoint, InputLocation="s3://b/k")
    assert caught.value.response["Error"]["Code"] == "ValidationError"


@pytest.mark.parametrize(
    ("action", "body", "first"),
    [
        ("invocations", b"until gone:", b""),
        ("invocations-response-stream", b"until gone:", b""),
        ("invocations-response-stream", b"until gone:word", b"word"),
    ],
)
def test_a_container_is_hung_up_on_once_the_caller_has_hung_up(
    account: Account, action: str, body: bytes, first: bytes
) -> None:
    name = account.endpoint(account.model())
    (log,) = (account.cloud.logs / "endpoints" / name).glob("*.log")
    url = urlsplit(account.runtime.meta.endpoint_url)
    with socket.create_connection((url.hostname, url.port)) as caller:
        head = f"POST /endpoints/{name}/{action} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n"
        caller.sendall(head.encode() + body)
        await_true(lambda: "computing" in log.read_text(), "the container computes")
        received = b""
        while first not in received:
            received += caller.recv(4096)
        assert "gone" not in log.read_text()
    await_true(lambda: "the caller is gone" in log.read_text(), "the container learns of it")
    assert account.invoke(name, b"still here") == b"STILL HERE"
    account.delete(name)


def test_a_caller_that_sends_its_next_request_early_has_not_hung_up(account: Account, endpoint: str) -> None:
    url = urlsplit(account.runtime.meta.endpoint_url)
    request = f"POST /endpoints/{endpoint}/invocations HTTP/1.1\r\nHost: here\r\nContent-Length: 1\r\n\r\na".encode()
    with socket.create_connection((url.hostname, url.port)) as caller:
        caller.sendall(request * 3)
        received = b""
        while received.count(b"200 OK") < 3 or not received.endswith(b"A"):
            received += caller.recv(4096)
    assert received.count(b"\r\n\r\nA") == 3
