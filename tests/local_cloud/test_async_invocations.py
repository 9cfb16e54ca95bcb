"""InvokeEndpointAsync: inputs and answers in S3, a queue, notifications."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.conftest import BUCKET, Account, await_true


def asynchronous(account: Account, model: str, **output: Any) -> str:
    """An endpoint in service that takes only asynchronous requests."""
    name = account.name("later")
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {"VariantName": "v", "ModelName": model, "InstanceType": "ml.g6.xlarge", "InitialInstanceCount": 1}
        ],
        AsyncInferenceConfig={
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": 2},
            "OutputConfig": {
                "S3OutputPath": f"s3://{BUCKET}/{name}/out/",
                "S3FailurePath": f"s3://{BUCKET}/{name}/failed",
                **output,
            },
        },
    )
    account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    assert account.settled(name)["EndpointStatus"] == "InService"
    return name


@pytest.fixture(scope="module")
def endpoint(account: Account) -> Iterator[str]:
    name = asynchronous(account, account.model())
    yield name
    account.delete(name)


def submit(account: Account, endpoint: str, body: bytes, **options: Any) -> dict[str, Any]:
    """The answer to a request whose input is uploaded first."""
    location = account.put(f"{endpoint}/in/{account.name('input')}", body)
    answer: dict[str, Any] = account.runtime.invoke_endpoint_async(
        EndpointName=endpoint, InputLocation=location, **options
    )
    return answer


def content(account: Account, location: str) -> bytes:
    """An object, once it is there."""
    key = location.removeprefix(f"s3://{BUCKET}/")
    await_true(lambda: key in account.keys(key), f"{location} comes")
    return account.get(key)


def test_a_request_is_accepted_and_its_answer_becomes_an_object(account: Account, endpoint: str) -> None:
    answer = submit(account, endpoint, b"abc", InferenceId="mine")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["InferenceId"] == "mine"
    assert answer["OutputLocation"].startswith(f"s3://{BUCKET}/{endpoint}/out/")
    assert content(account, answer["OutputLocation"]) == b"ABC"


def test_the_container_sees_an_ordinary_request(account: Account, endpoint: str) -> None:
    answer = submit(account, endpoint, b"headers:", ContentType="text/csv", Accept="text/plain", CustomAttributes="x=1")
    headers = json.loads(content(account, answer["OutputLocation"]))
    assert (headers["content-type"], headers["accept"]) == ("text/csv", "text/plain")
    assert headers["x-amzn-sagemaker-custom-attributes"] == "x=1"


@pytest.mark.parametrize(
    ("stored", "asked", "seen"),
    [
        ({"ContentType": "application/x-npy"}, {}, "application/x-npy"),
        ({"ContentType": "application/x-npy"}, {"ContentType": "text/csv"}, "text/csv"),
        ({}, {}, None),
    ],
)
def test_where_the_request_names_no_content_type_that_of_the_object_counts(
    account: Account, endpoint: str, stored: dict[str, str], asked: dict[str, str], seen: str | None
) -> None:
    key = f"{endpoint}/in/{account.name('typed')}"
    account.s3.put_object(Bucket=BUCKET, Key=key, Body=b"headers:", **stored)
    answer = account.runtime.invoke_endpoint_async(EndpointName=endpoint, InputLocation=f"s3://{BUCKET}/{key}", **asked)
    assert json.loads(content(account, answer["OutputLocation"])).get("content-type") == seen


@pytest.mark.parametrize("name", ["é.csv", "Å…☃.csv", "日本 語.csv", "a+b%20c.csv"])
def test_the_name_of_an_input_may_hold_any_letters(account: Account, endpoint: str, name: str) -> None:
    location = account.put(f"{endpoint}/in/{name}", b"abc")
    answer = account.runtime.invoke_endpoint_async(EndpointName=endpoint, InputLocation=location)
    assert content(account, answer["OutputLocation"]) == b"ABC"


@pytest.mark.parametrize("folder", ["résultats", "結果"])
def test_the_place_of_answers_may_hold_letters_beyond_ascii(account: Account, folder: str) -> None:
    name = asynchronous(account, account.model(), S3OutputPath=f"s3://{BUCKET}/{folder}/")
    location = account.runtime.invoke_endpoint_async(EndpointName=name, Body=b"abc")["OutputLocation"]
    if folder == "結果":
        location = location.encode("latin-1").decode()  # boto3 reads every header as Latin-1
    assert location.startswith(f"s3://{BUCKET}/{folder}/")
    assert content(account, location) == b"ABC"
    account.delete(name)


def test_an_input_may_stand_in_the_request_and_an_answer_have_a_name(account: Account, endpoint: str) -> None:
    answer = account.runtime.invoke_endpoint_async(
        EndpointName=endpoint, Body=b"inline", S3OutputPathExtension="today/noon", Filename="mine.txt"
    )
    assert answer["OutputLocation"] == f"s3://{BUCKET}/{endpoint}/out/today/noon/mine.txt"
    assert content(account, answer["OutputLocation"]) == b"INLINE"
    with pytest.raises(ClientError, match="exactly one of InputLocation and Body"):
        account.runtime.invoke_endpoint_async(EndpointName=endpoint)
    with pytest.raises(ClientError, match="exactly one of InputLocation and Body"):
        account.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"a", InputLocation=f"s3://{BUCKET}/a")
    with pytest.raises(ClientError, match="has 128001 bytes, and InvokeEndpointAsync takes 128000"):
        account.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"a" * 128_001)


def test_many_requests_are_all_answered(account: Account, endpoint: str) -> None:
    answers = [submit(account, endpoint, f"n{number}".encode()) for number in range(12)]
    found = [content(account, answer["OutputLocation"]) for answer in answers]
    assert found == [f"N{number}".encode() for number in range(12)]


def test_what_the_container_refuses_becomes_a_failure_object(account: Account, endpoint: str) -> None:
    answer = submit(account, endpoint, b"status:400")
    assert b"Received client error (400)" in content(account, answer["FailureLocation"])
    assert b'"refused with 400"' in content(account, answer["FailureLocation"])
    assert account.keys(answer["OutputLocation"].removeprefix(f"s3://{BUCKET}/")) == []


def test_an_input_that_is_not_there_becomes_a_failure_object(account: Account, endpoint: str) -> None:
    answer = account.runtime.invoke_endpoint_async(EndpointName=endpoint, InputLocation=f"s3://{BUCKET}/nothing")
    assert b"s3://test-bucket/nothing cannot be read" in content(account, answer["FailureLocation"])


def test_topics_are_told_what_came_of_a_request(account: Account) -> None:
    sns, sqs = account.cloud.client("sns"), account.cloud.client("sqs")
    topic = sns.create_topic(Name=account.name("told"))["TopicArn"]
    queue = sqs.create_queue(QueueName=account.name("told"))["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})
    told = {"SuccessTopic": topic, "ErrorTopic": topic, "IncludeInferenceResponseIn": ["SUCCESS_NOTIFICATION_TOPIC"]}
    endpoint = asynchronous(account, account.model(), NotificationConfig=told)
    good, bad = submit(account, endpoint, b"abc"), submit(account, endpoint, b"status:500")
    messages: dict[str, Any] = {}

    def both() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            read = json.loads(message["Body"])
            messages[read["inferenceId"]] = read
        return len(messages) == 2

    await_true(both, "both are told")
    success, failure = messages[good["InferenceId"]], messages[bad["InferenceId"]]
    assert success["invocationStatus"] == "Completed"
    assert success["responseParameters"]["outputLocation"] == good["OutputLocation"]
    assert success["responseParameters"]["payload"] == "ABC"
    assert failure["invocationStatus"] == "Failed"
    assert "server error (500)" in failure["failureReason"]
    account.delete(endpoint)
    for client in (sns, sqs):
        client.close()


def test_requests_of_one_kind_are_refused_by_endpoints_of_the_other(account: Account, endpoint: str) -> None:
    with pytest.raises(ClientError, match="takes only InvokeEndpointAsync"):
        account.invoke(endpoint, b"abc")
    plain = account.endpoint(account.model())
    with pytest.raises(ClientError, match="is not asynchronous"):
        submit(account, plain, b"abc")
    account.delete(plain)


def test_an_update_does_not_take_the_queue_away(account: Account, endpoint: str) -> None:
    plain = account.config(account.model())
    with pytest.raises(ClientError, match="AsyncInferenceConfig parameter cannot be removed from this endpoint"):
        account.sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=plain)
    assert account.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] == "InService"


def test_a_number_out_of_range_is_refused_with_its_bounds(account: Account, endpoint: str) -> None:
    with pytest.raises(ClientError, match="value less than or equal to 3600"):
        submit(account, endpoint, b"abc", InvocationTimeoutSeconds=4000)


def test_the_configuration_is_described(account: Account, endpoint: str) -> None:
    described = account.sagemaker.describe_endpoint(EndpointName=endpoint)["AsyncInferenceConfig"]
    assert described["ClientConfig"] == {"MaxConcurrentInvocationsPerInstance": 2}
