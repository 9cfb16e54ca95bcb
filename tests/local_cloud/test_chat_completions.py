"""The OpenAI-compatible path of an endpoint, between a container that the test holds and a plain HTTP client."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import boto3
import pytest

from tests.local_cloud.conftest import await_true
from tests.local_cloud.toy_container import Stage, running_sagemaker
from tidegate.client.bearer_token import bearer_token
from tidegate.local_cloud.sagemaker.bearer_token import check_bearer_token
from tidegate.local_cloud.sagemaker.errors import ServiceError

PATH = "/endpoints/toy/openai/v1/chat/completions"


def token(region: str = "us-east-1", lifetime_s: int = 43_200) -> str:
    session = boto3.Session(aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret", region_name=region)
    return bearer_token(session, lifetime_s=lifetime_s)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with running_sagemaker(tmp_path_factory.mktemp("chat")) as stage:
        yield stage


@pytest.fixture
def connection(stage: Stage) -> Iterator[http.client.HTTPConnection]:
    url = urlsplit(stage.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    yield connection
    connection.close()


def ask(connection: http.client.HTTPConnection, path: str = PATH, **headers: str) -> None:
    given = {"Authorization": f"Bearer {token()}", "Content-Type": "application/json", **headers}
    connection.request("POST", path, body=b'{"messages": []}', headers=given)


def test_the_container_gets_its_own_path_and_no_token(stage: Stage, connection: http.client.HTTPConnection) -> None:
    ask(connection, Accept="application/json", **{"X-Stranger": "1"})
    exchange = stage.container.next()
    assert (exchange.method, exchange.path, exchange.body) == ("POST", "/v1/chat/completions", b'{"messages": []}')
    assert exchange.headers.keys() - {"host", "content-length"} == {"content-type", "accept"}
    exchange.begin("application/json")
    exchange.chunk(b'{"id": 1}')
    exchange.end()
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Type"], answer.read()) == (200, "application/json", b'{"id": 1}')


def test_a_stream_is_passed_on_as_it_comes(stage: Stage, connection: http.client.HTTPConnection) -> None:
    ask(connection)
    exchange = stage.container.next()
    exchange.begin("text/event-stream")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    for word in (b"data: one\n\n", b"data: [DONE]\n\n"):
        exchange.chunk(word)
        assert answer.read1() == word
    exchange.end()
    assert answer.read() == b""


def test_a_stream_that_breaks_off_has_no_end(stage: Stage, connection: http.client.HTTPConnection) -> None:
    ask(connection)
    exchange = stage.container.next()
    exchange.begin("text/event-stream")
    exchange.chunk(b"data: one\n\n")
    answer = connection.getresponse()
    assert answer.read1() == b"data: one\n\n"
    exchange.break_off()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()


@pytest.mark.parametrize("status", [400, 404, 429, 500])
def test_an_error_of_the_container_is_passed_on_as_it_is(
    stage: Stage, connection: http.client.HTTPConnection, status: int
) -> None:
    ask(connection)
    stage.container.next().answer(b'{"error": {}}', status=status)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (status, b'{"error": {}}')


def test_a_container_that_does_not_answer_is_a_model_error(
    stage: Stage, connection: http.client.HTTPConnection
) -> None:
    ask(connection)
    stage.container.next().break_off()
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)["__type"]) == (424, "ModelError")


def test_a_caller_that_leaves_closes_the_stream(stage: Stage, connection: http.client.HTTPConnection) -> None:
    ask(connection)
    exchange = stage.container.next()
    exchange.begin("text/event-stream")
    connection.getresponse().close()
    connection.close()
    await_true(exchange.caller_is_gone, "the container learns of it")
    exchange.break_off()


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        ("/endpoints/toy/openai/v1/models", {}, 404, "and nothing else below /openai"),
        ("/endpoints/nobody/openai/v1/chat/completions", {}, 400, "Endpoint nobody of account 123456789012 not found"),
        (
            "/endpoints/toy/inference-components/a/openai/v1/chat/completions",
            {},
            400,
            "has no inference components, so a request must not name one",
        ),
        (PATH, {"Authorization": "Bearer sk-openai"}, 403, "has no bearer token of SageMaker's"),
        (PATH, {"Authorization": f"Bearer {token('eu-west-1')}"}, 403, "was made for the region eu-west-1"),
    ],
)
def test_what_the_service_refuses_is_told_in_a_sentence(
    connection: http.client.HTTPConnection, path: str, headers: dict[str, str], status: int, words: str
) -> None:
    ask(connection, path, **headers)
    answer = connection.getresponse()
    assert answer.status == status
    assert words in json.load(answer)["message"]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("", "has no bearer token"),
        ("Basic abc", "has no bearer token"),
        ("Bearer sagemaker-api-key-%", "cannot be read"),
        (
            "Bearer sagemaker-api-key-" + base64.b64encode(b"sagemaker.amazonaws.com/?Action=x").decode(),
            "cannot be read",
        ),
        (f"Bearer {token(lifetime_s=60)}", "expired at"),
    ],
)
def test_only_a_token_that_counts_now_is_taken(header: str, words: str) -> None:
    with pytest.raises(ServiceError, match=words):
        check_bearer_token(header, region="us-east-1", at=datetime.now(UTC) + timedelta(seconds=3600))


def test_a_token_for_another_action_or_for_too_long_is_refused() -> None:
    made = base64.b64decode(token().removeprefix("sagemaker-api-key-")).decode()
    for changed, words in (
        (made.replace("CallWithBearerToken", "ListModels"), "was made for ListModels of sagemaker"),
        (made.replace("%2Fsagemaker%2F", "%2Fs3%2F"), "was made for CallWithBearerToken of s3"),
        (made.replace("X-Amz-Expires=43200", "X-Amz-Expires=43201"), "12 hours at most"),
    ):
        assert changed != made
        header = f"Bearer sagemaker-api-key-{base64.b64encode(changed.encode()).decode()}"
        with pytest.raises(ServiceError, match=words):
            check_bearer_token(header, region="us-east-1", at=datetime.now(UTC))
    check_bearer_token(f"Bearer {token()}", region="us-east-1", at=datetime.now(UTC))


@pytest.mark.parametrize("lifetime_s", [0, 43_201])
def test_a_token_cannot_be_made_for_longer_than_it_may_count(lifetime_s: int) -> None:
    with pytest.raises(ValueError, match="a token counts for 1 to 43200 s"):
        token(lifetime_s=lifetime_s)
