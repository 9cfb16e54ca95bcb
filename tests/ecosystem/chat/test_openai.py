"""The `openai` package, unmodified, against an endpoint of the local cloud.

Behind it is a container that chats and cuts its events anywhere, or the real server with a script that has `chat_fn`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.ecosystem.chat.chat_container import ANSWER
from tests.ecosystem.environments import REPOSITORY, python_of
from tests.local_cloud.conftest import ROLE, await_true, model_archive
from tidegate.local_cloud import LocalCloud
from tidegate.local_cloud.sagemaker.bearer_token import check_bearer_token

HERE = Path(__file__).parent


SCRIPT = f"""
ANSWER = {ANSWER!r}

class Refused(Exception):
    status_code = 400

def model_fn(model_dir):
    return ANSWER

def chat_fn(request, model):
    asked = request["messages"][-1]["content"]
    if asked == "refuse":
        raise Refused("I will not.")
    for number, word in enumerate(model):
        if asked == "break off" and number == 2:
            raise ValueError("the model gave up")
        yield word
"""


@pytest.fixture(scope="module", params=["a container that chats", "the real server"])
def cloud(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    command = (sys.executable, str(HERE / "chat_container.py")) if request.param != "the real server" else None
    with LocalCloud(tmp_path_factory.mktemp("chat") / "state", container_command=command) as cloud:
        s3, sagemaker = cloud.client("s3"), cloud.client("sagemaker")
        s3.create_bucket(Bucket="chat")
        s3.put_object(Bucket="chat", Key="model.tar.gz", Body=model_archive({"code/inference.py": SCRIPT}))
        container = {"Image": "chat", "ModelDataUrl": "s3://chat/model.tar.gz"}
        sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="chat", EndpointConfigName="c")
        await_true(
            lambda: sagemaker.describe_endpoint(EndpointName="chat")["EndpointStatus"] == "InService",
            "it is in service",
            timeout_s=90,
        )
        yield cloud
        for client in (s3, sagemaker):
            client.close()


@pytest.fixture(scope="module")
def found(cloud: LocalCloud) -> dict[str, Any]:
    """What ask.py saw."""
    python = python_of("openai", sees_ours=True)
    environment = {**os.environ, **cloud.environment, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [str(python), "-P", str(HERE / "ask.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_an_answer_comes_whole_and_in_parts(found: dict[str, Any]) -> None:
    assert found["whole"] == "".join(ANSWER)
    assert found["streamed"] == ANSWER


def test_the_containers_refusal_is_openais_own_error(found: dict[str, Any]) -> None:
    status, body = found["refused"]
    assert status == 400
    assert "I will not" in body["message"]


def test_a_stream_that_breaks_off_does_not_look_whole(found: dict[str, Any]) -> None:
    assert found["broken"] == [ANSWER[:2], "APIConnectionError"]


def test_a_key_of_openais_and_another_route_are_refused(found: dict[str, Any]) -> None:
    assert "has no bearer token of SageMaker's" in found["denied"]
    assert "and nothing else below /openai" in found["other routes"]


def test_the_token_of_the_sagemaker_sdk_is_taken(cloud: LocalCloud) -> None:
    script = "from sagemaker.core.token_generator import generate_token; print(generate_token())"
    done = subprocess.run(
        [str(python_of("v3")), "-P", "-c", script],
        env={**os.environ, **cloud.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    token = done.stdout.split()[-1]
    check_bearer_token(f"Bearer {token}", region=cloud.environment["AWS_REGION"], at=datetime.now(UTC))
