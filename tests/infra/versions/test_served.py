"""`tidegate served`: an endpoint that went back is found out, whatever its stack says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from tests.infra.state_machines import ACCOUNT, REGION
from tidegate.infra.versions import served, served_command

OUTPUTS = {"EndpointConfigName": "config-2", "ModelName": "model-2"}
STAGE = f"""
region = "{REGION}"
account = "{ACCOUNT}"
image = {{ tag = "1" }}
hosting = {{ mode = "realtime" }}
retention = {{ keep_data = false }}
"""


def endpoint(**changes: str) -> dict[str, Any]:
    """What DescribeEndpoint says of one that serves what its stack names."""
    said = {"EndpointName": "tidegate-dev", "EndpointStatus": "InService", "EndpointConfigName": "config-2"}
    return said | changes


def component(model: str) -> dict[str, Any]:
    """The same of DescribeInferenceComponent."""
    return {
        "InferenceComponentName": "tidegate-dev",
        "InferenceComponentStatus": "InService",
        "Specification": {"ModelName": model},
    }


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        (endpoint(), None),
        (
            endpoint(EndpointConfigName="config-1", FailureReason="An alarm went off."),
            "endpoint tidegate-dev serves config-1, and its stack names config-2: it was rolled back "
            "(An alarm went off); deploy or approve another version, and then this one again",
        ),
        (
            endpoint(EndpointStatus="Updating", EndpointConfigName="config-1"),
            "endpoint tidegate-dev is Updating; wait for it, or see its log",
        ),
        (
            endpoint(EndpointStatus="Failed", FailureReason="no instances"),
            "endpoint tidegate-dev is Failed (no instances); wait for it, or see its log",
        ),
        (
            endpoint(EndpointStatus="UpdateRollbackFailed"),
            "endpoint tidegate-dev is UpdateRollbackFailed; wait for it, or see its log",
        ),
    ],
)
def test_an_endpoint_is_compared_with_what_its_stack_names(description: dict[str, Any], sentence: str | None) -> None:
    assert served.of_endpoint(description, OUTPUTS).divergence == sentence


def test_a_component_is_compared_by_its_model() -> None:
    assert served.of_component(component("model-2"), OUTPUTS).divergence is None
    assert "serves model-1, and its stack names model-2" in str(
        served.of_component(component("model-1"), OUTPUTS).divergence
    )


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run the command for dev in an account of its own: status, standard output, standard error."""
    path = tmp_path / "dev.toml"

    def run(*words: str, more: str = "") -> tuple[int, str, str]:
        path.write_text(STAGE + more)
        status = served_command.main(["--stage", str(path), *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    with mock_aws():
        yield run


def deploy(config: str, *, name: str = "EndpointConfigName") -> None:
    """A stack with that output, and an endpoint that serves config-2."""
    sagemaker = boto3.client("sagemaker", REGION)
    role = f"arn:aws:iam::{ACCOUNT}:role/role"
    sagemaker.create_model(ModelName="model", ExecutionRoleArn=role, PrimaryContainer={"Image": "host/name:1"})
    variant = {"VariantName": "primary", "ModelName": "model", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName="config-2", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="tidegate-dev", EndpointConfigName="config-2")
    template = {"Resources": {"T": {"Type": "AWS::SNS::Topic"}}, "Outputs": {name: {"Value": config}}}
    boto3.client("cloudformation", REGION).create_stack(
        StackName="tidegate-dev-endpoint", TemplateBody=json.dumps(template)
    )


def test_what_is_served_is_told(run: Callable[..., tuple[int, str, str]]) -> None:
    deploy("config-2")

    assert run() == (0, "endpoint tidegate-dev is InService and serves config-2\n", "")


def test_an_endpoint_that_went_back_is_exit_code_1(run: Callable[..., tuple[int, str, str]]) -> None:
    deploy("config-3")
    status, out, err = run()

    assert (status, out) == (1, "")
    assert err.startswith("tidegate: error: endpoint tidegate-dev serves config-2, and its stack names config-3: ")
    assert err.count("\n") == 1


def test_a_stack_that_waits_for_its_first_approval_says_so(run: Callable[..., tuple[int, str, str]]) -> None:
    deploy("bucket", name="BucketName")

    assert run()[2] == ("tidegate: error: stack tidegate-dev-endpoint has no endpoint yet; approve a package first.\n")


def test_a_stage_that_is_not_deployed_is_one_sentence(run: Callable[..., tuple[int, str, str]]) -> None:
    status, _, err = run()

    assert status == 1
    assert err.startswith("tidegate: error: stack tidegate-dev-endpoint: AWS says")


def test_before_the_first_approval_there_is_nothing_that_could_have_gone_back(
    run: Callable[..., tuple[int, str, str]],
) -> None:
    deploy("bucket", name="BucketName")

    said = "nothing of tidegate-dev was approved yet, so there is no endpoint\n"
    assert run(more='model = { group = "tidegate-dev" }\n') == (0, said, "")


def test_an_endpoint_that_is_being_changed_is_waited_for(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As scaling changes one, right after a deploy."""
    statuses = iter(["Updating", "Updating", "InService", "InService"])
    waits: list[float] = []
    monkeypatch.setattr(
        served, "look", lambda _: (served.of_endpoint(endpoint(EndpointStatus=next(statuses)), OUTPUTS),)
    )
    monkeypatch.setattr(served_command.time, "sleep", waits.append)

    assert run("--wait-s", "600")[0] == 0
    assert len(waits) == 2


@pytest.mark.parametrize("given", ["-5", "0", "nan", "1e400"])
def test_a_time_that_cannot_be_waited_is_no_argument(
    given: str, run: Callable[..., tuple[int, str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(f"--wait-s={given}")

    assert ended.value.code == 2
    assert f"argument --wait-s: '{given}' is not a number of seconds above 0" in capsys.readouterr().err


def test_without_patience_an_endpoint_that_is_being_changed_is_told(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    moving = (served.of_endpoint(endpoint(EndpointStatus="Updating"), OUTPUTS),)
    monkeypatch.setattr(served, "look", lambda _: moving)

    assert run()[2] == "tidegate: error: endpoint tidegate-dev is Updating; wait for it, or see its log.\n"
