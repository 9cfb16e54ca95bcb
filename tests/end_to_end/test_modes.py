"""The other hosting modes that the local cloud carries, each from its stage file by the real `cdk` command line.

Each mode lives once: deploy, bytes through boto3, the same deploy again, `cdk diff` of a new model, its deploy, bytes
again, destroy. What no local cloud shows: instances, their scaling, and the roll-out by parts (docs/local-cloud.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from tests.end_to_end.deploying import HANDLERS, Deployer, answered, archive, inventory, invoke
from tests.infra.conftest import ROOT
from tidegate.infra.stage.names import ASYNC_INPUT_PREFIX

STAGES = Path(__file__).parent.relative_to(ROOT) / "stages"
ARCHIVES = "tidegate-archives"


# What comes behind a model in a pipeline.
PLUS_ONE = HANDLERS.replace("json.loads(request_body)", 'json.loads(request_body)["product"]').replace(
    "data * model", "1 + data * model"
)


def ask_at_once(endpoint: str, number: float) -> float:
    return float(invoke(endpoint, number)["product"])


def ask_later(endpoint: str, number: float) -> float:
    """By an input object, below the prefix that the role may read, and by waiting for the output object."""
    s3, sagemaker = boto3.client("s3"), boto3.client("sagemaker")
    config = sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    answers = sagemaker.describe_endpoint_config(EndpointConfigName=config)["AsyncInferenceConfig"]["OutputConfig"]
    bucket = answers["S3OutputPath"].removeprefix("s3://").partition("/")[0]
    key = f"{ASYNC_INPUT_PREFIX}number.json"
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(number))
    answer = boto3.client("sagemaker-runtime").invoke_endpoint_async(
        EndpointName=endpoint, ContentType="application/json", InputLocation=f"s3://{bucket}/{key}"
    )
    return float(answered(answer)["product"])


def ask_one_of_many(endpoint: str, number: float) -> float:
    """The product of what two models answer: the second is fetched and loaded by its first request."""
    runtime = boto3.client("sagemaker-runtime")
    product = 1.0
    for target in ("times-2.tar.gz", "times-3.tar.gz"):
        answer = runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType="application/json", TargetModel=target, Body=json.dumps(number)
        )
        product *= json.loads(answer["Body"].read())["product"]
    return product


def ask_component(endpoint: str, number: float) -> float:
    """The one component of the endpoint."""
    (component,) = boto3.client("sagemaker").list_inference_components(EndpointNameEquals=endpoint)[
        "InferenceComponents"
    ]
    answer = boto3.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=endpoint,
        InferenceComponentName=component["InferenceComponentName"],
        ContentType="application/json",
        Body=json.dumps(number),
    )
    return float(json.loads(answer["Body"].read())["product"])


@dataclass(frozen=True)
class Mode:
    """How a mode is deployed, deployed anew and asked. The first model doubles, the second triples."""

    ask: Callable[[str, float], float]
    first: tuple[str, ...]
    second: tuple[str, ...]
    answers: tuple[float, float]  # to 7: before and after the update


def at(weight: int) -> tuple[str, ...]:
    return "-c", f"model_data_url=s3://{ARCHIVES}/models/times-{weight}.tar.gz"


MODES = {
    "async": Mode(ask=ask_later, first=at(2), second=at(3), answers=(14, 21)),
    "serverless": Mode(ask=ask_at_once, first=at(2), second=at(3), answers=(14, 21)),
    "component": Mode(ask=ask_component, first=at(2), second=at(3), answers=(14, 21)),
    # The second container adds one to what the first one answers.
    "pipeline": Mode(ask=ask_at_once, first=at(2), second=at(3), answers=(15, 22)),
    # A new model of a multi-model endpoint is a new archive and no deployment; what changes here is the image.
    "many": Mode(ask=ask_one_of_many, first=(), second=("-c", "image_tag=another"), answers=(14 * 21, 14 * 21)),
}


@dataclass
class Life:
    """What was seen, in the order of the story."""

    name: str
    mode: Mode
    created: dict[str, list[str]]
    endpoint: dict[str, Any]
    variant: dict[str, Any]
    first: float
    refused: str
    redeploy_said: str
    untouched: bool
    diff_said: str
    updated: dict[str, list[str]]
    second: float
    destroyed: dict[str, list[str]]


@pytest.fixture(scope="module")
def cloud(enforcing_cloud: dict[str, str]) -> dict[str, str]:
    """A cloud in which the rights of roles count."""
    return enforcing_cloud


@pytest.fixture(scope="module")
def archives(cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Both archives in a bucket that no stack owns, and below the prefix of the multi-model stage."""
    s3, directory = boto3.client("s3"), tmp_path_factory.mktemp("archives")
    s3.create_bucket(Bucket=ARCHIVES)
    plus_one = archive(directory, weight=1, handlers=PLUS_ONE)
    s3.upload_file(str(plus_one), ARCHIVES, "models/plus-one.tar.gz")
    for weight in (2, 3):
        path = archive(directory, weight=weight)
        for prefix in ("models", "many"):
            s3.upload_file(str(path), ARCHIVES, f"{prefix}/{path.name}")


@pytest.fixture(scope="module", params=MODES)
def life(
    request: pytest.FixtureRequest, archives: None, cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Life:
    name, mode = request.param, MODES[request.param]
    deployer = Deployer(cloud, tmp_path_factory.mktemp(name), stage=str(STAGES / f"{name}.toml"))
    sagemaker = boto3.client("sagemaker")

    deployer.deploy("--all", *mode.first)
    endpoint = deployer.output("endpoint", "EndpointName")
    created, described = inventory(name), sagemaker.describe_endpoint(EndpointName=endpoint)
    config = sagemaker.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    (variant,) = config["ProductionVariants"]
    first = mode.ask(endpoint, 7)
    try:
        invoke(endpoint, 7)
        refused = ""
    except ClientError as error:
        refused = str(error)

    redeploy_said = deployer.deploy("--all", *mode.first)
    untouched = sagemaker.describe_endpoint(EndpointName=endpoint)["LastModifiedTime"] == described["LastModifiedTime"]

    diff_said = deployer.run("diff", *mode.second)
    deployer.deploy("--all", *deployer.synthesised())
    updated, second = inventory(name), mode.ask(endpoint, 7)

    # First what fills the buckets: an endpoint captures what it is asked until it is gone.
    deployer.run("destroy", "endpoint", "--exclusively", "--force", *deployer.synthesised())
    for bucket in created["buckets"]:
        boto3.resource("s3").Bucket(bucket).object_versions.delete()
    deployer.run("destroy", "--all", "--force", *deployer.synthesised())
    return Life(
        name=name,
        mode=mode,
        created=created,
        endpoint=dict(described),
        variant=variant,
        first=first,
        refused=refused,
        redeploy_said=redeploy_said,
        untouched=untouched,
        diff_said=diff_said,
        updated=updated,
        second=second,
        destroyed=inventory(name),
    )


def test_a_deploy_brings_the_endpoint_into_service_and_it_answers(life: Life) -> None:
    assert life.endpoint["EndpointStatus"] == "InService"
    assert life.first == life.mode.answers[0]


def test_a_plain_request_is_refused_where_the_mode_has_its_own(life: Life) -> None:
    expected = {
        "async": "takes only InvokeEndpointAsync",
        "serverless": "",
        "component": "Inference Component Name header is required",
        "pipeline": "",
        "many": "a request needs TargetModel",
    }
    assert expected[life.name] in life.refused
    assert bool(life.refused) == bool(expected[life.name])


def test_the_same_deploy_again_changes_nothing(life: Life) -> None:
    assert life.redeploy_said.count("(no changes)") == len(life.created["stacks"])
    assert life.untouched


def test_a_diff_names_what_a_new_model_replaces(life: Life) -> None:
    assert "AWS::SageMaker::Model" in life.diff_said
    assert "Number of stacks with differences: 1" in life.diff_said


def test_the_update_reaches_the_endpoint_in_place(life: Life) -> None:
    assert life.second == life.mode.answers[1]
    assert life.updated["endpoints"] == life.created["endpoints"]
    assert life.updated["models"] != life.created["models"]
    assert len(life.updated["models"]) == len(life.created["models"])


def test_what_scales_the_endpoint_is_there(life: Life) -> None:
    expected = {"async": True, "serverless": False, "component": True, "pipeline": True, "many": True}
    assert bool(life.created["targets"]) == bool(life.created["policies"]) == expected[life.name]


def test_where_instances_would_come_from_is_recorded(life: Life) -> None:
    """The local cloud has no instances; what it was told of them is described back."""
    pools = {"async": ["ml.g6e.2xlarge", "ml.g6.4xlarge"], "component": ["ml.g6.xlarge", "ml.g5.xlarge"]}
    wanted = pools.get(life.name, [])
    assert [pool["InstanceType"] for pool in life.variant.get("InstancePools", [])] == wanted
    (described,) = life.endpoint["ProductionVariants"]
    assert [pool["InstanceType"] for pool in described.get("InstancePools", [])] == wanted
    assert ("CapacityReservationConfig" in life.variant) == (life.name == "pipeline")


def test_a_destroy_leaves_nothing(life: Life) -> None:
    assert life.destroyed == {kind: [] for kind in life.created}
