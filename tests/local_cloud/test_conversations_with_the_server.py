"""A conversation with the real server, through the local cloud: an ordinary WebSocket client at the endpoint's path."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.local_cloud.conftest import Account, await_true, model_archive
from tidegate.local_cloud import LocalCloud

HANDLERS = """
import json, os

def model_fn(model_dir):
    return 2

def input_fn(body, content_type):
    return json.loads(body)

def predict_fn(number, factor):
    return number * factor

def stream_fn(incoming, context):
    yield json.dumps({"path": context.path, "query": context.query, "pid": os.getpid()})
    for message in incoming:
        if message == "fail":
            raise ValueError("the model gave up")
        yield message * context.model
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with LocalCloud(tmp_path_factory.mktemp("conversations") / "state") as cloud:
        account = Account(cloud)
        yield account
        for client in (account.s3, account.sagemaker, account.runtime, account.cloudformation):
            client.close()


@pytest.fixture(scope="module")
def endpoint(real: Account) -> Iterator[str]:
    data = real.put("talks.tar.gz", model_archive({"code/inference.py": HANDLERS}))
    name = real.endpoint(real.model(data=data, TIDEGATE_WORKERS="1"))
    yield name
    real.delete(name)


def talk(real: Account, endpoint: str, query: str = "", **headers: str) -> ClientConnection:
    url = real.cloud.environment["AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME"].replace("http:", "ws:")
    address = f"{url}/endpoints/{endpoint}/invocations-bidirectional-stream{query}"
    return connect(address, additional_headers=headers, proxy=None, open_timeout=60)


def first(conversation: ClientConnection) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(conversation.recv(timeout=60))
    return found


def closing_code(conversation: ClientConnection) -> int | None:
    """The code of the close frame, once all has been read; None where the connection was just lost."""
    try:
        while True:
            conversation.recv(timeout=60)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else None


def test_text_and_binary_go_both_ways_beside_plain_requests(real: Account, endpoint: str) -> None:
    with talk(real, endpoint) as conversation:
        assert first(conversation)["path"].strip("/") == "invocations-bidirectional-stream"
        conversation.send("aé")
        assert conversation.recv(timeout=60) == "aéaé"
        conversation.send(b"\x00\xff")
        assert conversation.recv(timeout=60) == b"\x00\xff\x00\xff"
        assert real.invoke(endpoint, b"21", ContentType="application/json") == b"42"
        conversation.send(["a message ", "in ", "frames"])
        assert conversation.recv(timeout=60) == "a message in frames" * 2


def test_path_and_query_reach_the_script(real: Account, endpoint: str) -> None:
    headers = {
        "X-Amzn-SageMaker-Model-Invocation-Path": "v1/realtime",
        "X-Amzn-SageMaker-Model-Query-String": "voice=alloy&rate=16%20k",
    }
    with talk(real, endpoint, **headers) as conversation:
        seen = first(conversation)
        assert (seen["path"].strip("/"), seen["query"]) == ("v1/realtime", "voice=alloy&rate=16%20k")
    with talk(real, endpoint, "?voice=echo") as conversation:
        assert first(conversation)["query"] == "voice=echo"


def test_the_scripts_error_is_told_and_closes(real: Account, endpoint: str) -> None:
    with talk(real, endpoint) as conversation:
        first(conversation)
        conversation.send("fail")
        assert "ModelStreamError" in json.loads(conversation.recv(timeout=60))
        assert closing_code(conversation) == 1011


def test_a_worker_that_dies_closes_with_a_reason_and_the_endpoint_goes_on(real: Account, endpoint: str) -> None:
    with talk(real, endpoint) as conversation:
        psutil.Process(first(conversation)["pid"]).kill()
        assert closing_code(conversation) == 1011

    def talks() -> bool:
        try:
            with talk(real, endpoint) as conversation:
                return "pid" in first(conversation)
        except (InvalidStatus, ConnectionClosed):
            return False

    await_true(talks, "the worker is replaced", timeout_s=200)


def test_a_script_without_stream_fn_refuses_before_the_upgrade(real: Account) -> None:
    script = HANDLERS.partition("def stream_fn")[0]
    name = real.endpoint(real.model(data=real.put("silent.tar.gz", model_archive({"code/inference.py": script}))))
    with pytest.raises(InvalidStatus) as caught, talk(real, name):
        pass
    assert caught.value.response.status_code == 424
    refused = json.loads(caught.value.response.body or b"")
    assert refused["OriginalStatusCode"] == 404
    assert "stream_fn" in refused["OriginalMessage"]
    real.delete(name)


def test_a_deleted_endpoint_ends_its_conversations(real: Account) -> None:
    data = real.put("talks.tar.gz", model_archive({"code/inference.py": HANDLERS}))
    name = real.endpoint(real.model(data=data, TIDEGATE_WORKERS="1"))
    with talk(real, name) as conversation:
        first(conversation)
        real.sagemaker.delete_endpoint(EndpointName=name)
        assert closing_code(conversation) == 1001, "the server says goodbye before it ends"
    await_true(lambda: name not in real.endpoints(), "the endpoint goes", timeout_s=200)
