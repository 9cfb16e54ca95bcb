"""Streams of the real server, through the local cloud, to the client: as they come, whole, and broken off."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import boto3
import psutil
import pytest

from tests.local_cloud.conftest import ROLE, await_true, model_archive
from tidegate.client import Endpoint, ModelError, Stream, StreamBroken
from tidegate.local_cloud import LocalCloud

BUCKET = "streams"
HANDLERS = """
import asyncio, json, os, pathlib

def model_fn(model_dir):
    return None

def input_fn(body, content_type):
    return json.loads(body)

async def tell(asked):
    # Each word waits until the test has made its file; "!" is an error, and the folder learns of the end.
    folder = pathlib.Path(asked["folder"])
    try:
        for number, word in enumerate(asked["words"]):
            while not (folder / str(number)).exists():
                await asyncio.sleep(0.01)
            if word == "!":
                raise ValueError("the model gave up")
            yield {"word": word, "pid": os.getpid()}
    finally:
        (folder / "closed").touch()

def predict_fn(asked, model):
    return tell(asked)

async def events(tokens):
    async for token in tokens:
        yield f"event: token\\ndata: {json.dumps(token, ensure_ascii=False)}\\n\\n"
    yield "data: [DONE]"

async def rows(tokens):
    async for token in tokens:
        yield json.dumps(token, ensure_ascii=False) + "\\n"

def output_fn(tokens, accept):
    if accept == "text/event-stream":
        return events(tokens), accept
    return rows(tokens), "application/jsonlines"
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    with LocalCloud(tmp_path_factory.mktemp("streams") / "state") as cloud:
        s3, sagemaker = cloud.client("s3"), cloud.client("sagemaker")
        s3.create_bucket(Bucket=BUCKET)
        s3.put_object(Bucket=BUCKET, Key="model.tar.gz", Body=model_archive({"code/inference.py": HANDLERS}))
        container = {
            "Image": "serve",
            "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz",
            "Environment": {"TIDEGATE_WORKERS": "1"},
        }
        sagemaker.create_model(ModelName="teller", ExecutionRoleArn=ROLE, PrimaryContainer=container)
        variant = {"VariantName": "v", "ModelName": "teller", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="teller", EndpointConfigName="c")
        await_true(
            lambda: sagemaker.describe_endpoint(EndpointName="teller")["EndpointStatus"] == "InService",
            "the endpoint is in service",
            timeout_s=200,
        )
        yield cloud
        for client in (s3, sagemaker):
            client.close()


@pytest.fixture
def endpoint(cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> Endpoint:
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    return Endpoint("teller", session=boto3.Session())


def ask(endpoint: Endpoint, folder: Path, *words: str, accept: str = "application/jsonlines") -> Stream:
    """The stream, once its first word was allowed to come."""
    allow(folder, 0)
    question = json.dumps({"folder": str(folder), "words": words}).encode()
    return endpoint.stream(question, content_type="application/json", accept=accept)


def allow(folder: Path, *numbers: int) -> None:
    for number in numbers:
        (folder / str(number)).touch()


def test_each_word_is_here_before_the_next_is_told(endpoint: Endpoint, tmp_path: Path) -> None:
    with ask(endpoint, tmp_path, "Once", "upon", "☃") as stream:
        assert stream.content_type == "application/jsonlines"
        told = stream.json_lines()
        for number, word in enumerate(["Once", "upon", "☃"], start=1):
            assert next(told)["word"] == word
            allow(tmp_path, number)
        assert list(told) == []


def test_events_come_whole_and_the_last_without_a_blank_line(endpoint: Endpoint, tmp_path: Path) -> None:
    words = [word * 3000 for word in ("é", "☃", "🙂")]
    allow(tmp_path, 1, 2)
    with ask(endpoint, tmp_path, *words, accept="text/event-stream") as stream:
        events = list(stream.events())
    assert [event.json()["word"] for event in events[:-1]] == words
    assert {event.event for event in events[:-1]} == {"token"}
    assert events[-1].data == "[DONE]"


def test_an_error_at_the_first_word_is_an_ordinary_one(endpoint: Endpoint, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        ask(endpoint, tmp_path, "!")
    assert caught.value.status == 500


def test_an_error_in_the_middle_breaks_the_stream_behind_what_was_whole(endpoint: Endpoint, tmp_path: Path) -> None:
    allow(tmp_path, 1)
    told = ask(endpoint, tmp_path, "Once", "upon", "!").json_lines()
    assert [next(told)["word"], next(told)["word"]] == ["Once", "upon"]
    allow(tmp_path, 2)
    with pytest.raises(StreamBroken) as caught:
        next(told)
    assert (caught.value.code, caught.value.rest) == ("ModelStreamError", b"")


def test_a_plain_call_collects_the_stream_and_gets_no_half_of_it(endpoint: Endpoint, tmp_path: Path) -> None:
    allow(tmp_path, 0, 1)
    question = {"folder": str(tmp_path), "words": ["Once", "upon"]}
    answer = endpoint.invoke(json.dumps(question).encode(), content_type="application/json")
    assert [json.loads(line)["word"] for line in answer.body.splitlines()] == ["Once", "upon"]
    question["words"] = ["Once", "!"]
    with pytest.raises(ModelError) as caught:
        endpoint.invoke(json.dumps(question).encode(), content_type="application/json")
    assert caught.value.status == 0


def test_a_reader_that_leaves_closes_the_generator(endpoint: Endpoint, tmp_path: Path) -> None:
    with ask(endpoint, tmp_path, "Once", "upon") as stream:
        assert next(stream.json_lines())["word"] == "Once"
        assert not (tmp_path / "closed").exists()
    await_true((tmp_path / "closed").exists, "the generator is closed")


def test_a_stream_that_is_dropped_is_left_at_once(endpoint: Endpoint, tmp_path: Path) -> None:
    gc.disable()
    try:
        assert next(ask(endpoint, tmp_path, "Once", "upon").json_lines())["word"] == "Once"
        await_true((tmp_path / "closed").exists, "the generator is closed")
    finally:
        gc.enable()


def test_streams_go_on_side_by_side_and_a_plain_request_among_them(endpoint: Endpoint, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        folder.mkdir()
    streams = [ask(endpoint, folder, "Once", "upon").json_lines() for folder in folders]
    assert [next(stream)["word"] for stream in streams] == ["Once"] * 3
    plain = tmp_path / "plain"
    plain.mkdir()
    allow(plain, 0)
    question = json.dumps({"folder": str(plain), "words": ["plain"]}).encode()
    assert b"plain" in endpoint.invoke(question, content_type="application/json").body
    for folder, stream in zip(reversed(folders), reversed(streams), strict=True):
        allow(folder, 1)
        assert [value["word"] for value in stream] == ["upon"]


def test_a_worker_that_dies_breaks_its_streams_and_the_endpoint_goes_on(endpoint: Endpoint, tmp_path: Path) -> None:
    told = ask(endpoint, tmp_path, "Once", "upon").json_lines()
    os.kill(next(told)["pid"], signal.SIGKILL)
    with pytest.raises(StreamBroken) as caught:
        next(told)
    assert caught.value.code == "ModelStreamError"
    allow(tmp_path, 1)
    assert [value["word"] for value in ask(endpoint, tmp_path, "Once", "more").json_lines()] == ["Once", "more"]


def test_a_container_that_dies_is_a_failure_of_the_platform(endpoint: Endpoint, tmp_path: Path) -> None:
    told = ask(endpoint, tmp_path, "Once", "upon").json_lines()
    worker = psutil.Process(next(told)["pid"])
    (server, *_) = [parent for parent in worker.parents() if "serve" in parent.cmdline()][-1:]
    server.kill()
    with pytest.raises(StreamBroken) as caught:
        next(told)
    assert caught.value.code == "InternalStreamFailure"

    def answers() -> bool:
        try:
            return next(ask(endpoint, tmp_path, "again").json_lines())["word"] == "again"
        except ModelError:
            return False

    await_true(answers, "the container is replaced", timeout_s=200)
