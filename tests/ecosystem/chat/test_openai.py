"""The `openai` package, unmodified, against an endpoint of the local cloud; behind it a container that chats."""

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
from tests.local_cloud.conftest import ROLE, await_true
from tidegate.local_cloud import LocalCloud
from tidegate.local_cloud.sagemaker.bearer_token import check_bearer_token

pytestmark = pytest.mark.timeout(900)  # the environment is made first
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCloud]:
    command = (sys.executable, str(HERE / "chat_container.py"))
    with LocalCloud(tmp_path_factory.mktemp("chat") / "state", container_command=command) as cloud:
        sagemaker = cloud.client("sagemaker")
        sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "chat"})
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        sagemaker.create_endpoint(EndpointName="chat", EndpointConfigName="c")
        await_true(
            lambda: sagemaker.describe_endpoint(EndpointName="chat")["EndpointStatus"] == "InService",
            "it is in service",
        )
        yield cloud
        sagemaker.close()


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
    assert found["refused"] == [400, {"message": "I will not.", "type": "bad_request"}]


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
