"""A canary of our own stage that an alarm sends back, by the real `cdk` command, with the rights of its roles."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.end_to_end.conftest import CLOCK_STANDS
from tests.end_to_end.deploying import Deployer, archive, inventory, invoke
from tests.infra.conftest import ROOT
from tests.polling import until

pytestmark = pytest.mark.timeout(1200)  # the whole story is the fixture of the first test

STAGE = Path(__file__).parent.relative_to(ROOT) / "stages" / "rollout.toml"
NAME = "tidegate-rollout"


@dataclass
class Watcher:
    """Asks during a roll-out until both versions have answered, then lets the roll-out's alarm go off."""

    products: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._sagemaker, self._cloudwatch = boto3.client("sagemaker"), boto3.client("cloudwatch")

    def __enter__(self) -> Watcher:
        CLOCK_STANDS.set()  # or the canary has baked before a busy machine has asked both versions
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._watch()
        finally:
            CLOCK_STANDS.clear()

    def _watch(self) -> None:
        tried = False
        while not self._over.is_set():
            described = self._sagemaker.describe_endpoint(EndpointName=NAME)
            baking = self._stage(described) == "Baking"
            if tried and not baking:
                return  # it is on its way back, or there already
            try:
                self.products.append(invoke(NAME, 10)["product"])
            except Exception as error:
                self.failures.append(repr(error))
            if baking and len(set(self.products)) == 2:
                tried = True
                alarms = described["LastDeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
                self._cloudwatch.set_alarm_state(
                    AlarmName=alarms[0]["AlarmName"], StateValue="ALARM", StateReason="a test says so"
                )

    def _stage(self, described: dict[str, Any]) -> str:
        if "PendingDeploymentSummary" not in described:
            return ""
        (variant,) = described["PendingDeploymentSummary"]["ProductionVariants"]
        self.stages.append(variant["VariantStatus"][0]["StatusMessage"])
        return str(variant["VariantStatus"][0]["Status"])


@dataclass
class Story:
    """What was seen, in the order of the story."""

    instances: int
    before: dict[str, Any]
    watcher: Watcher
    deploy_said: str
    after: dict[str, Any]
    served: float
    captured: list[dict[str, Any]]
    destroyed: dict[str, list[str]]


@pytest.fixture(scope="module")
def cloud(enforcing_cloud: dict[str, str]) -> dict[str, str]:
    return enforcing_cloud


@pytest.fixture(scope="module")
def story(cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Story:
    directory = tmp_path_factory.mktemp("rollout")
    deployer = Deployer(cloud, directory, stage=str(STAGE))
    sagemaker, s3 = boto3.client("sagemaker"), boto3.client("s3")
    deployer.deploy("storage")
    deployer.deploy("--all", "-c", f"model_data_url={deployer.upload(archive(directory, weight=2))}")
    before = dict(sagemaker.describe_endpoint(EndpointName=NAME))
    second = f"model_data_url={deployer.upload(archive(directory, weight=3))}"
    with Watcher() as watcher:
        deploy_said = deployer.deploy("--all", "-c", second, exit_code=1)
    after, served = dict(sagemaker.describe_endpoint(EndpointName=NAME)), invoke(NAME, 10)["product"]
    bucket = deployer.output("storage", "BucketName")

    def captures() -> list[dict[str, Any]] | None:
        """All of them: each request was answered, and none comes any more."""
        found = s3.list_objects_v2(Bucket=bucket, Prefix="capture").get("Contents", [])
        bodies = [s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in found]
        lines = [json.loads(line) for body in bodies for line in body.splitlines()]
        return lines if len(lines) == len(watcher.products) + 1 else None

    captured = until(captures, "what was asked is captured", timeout_s=300, pause_s=0.5)
    boto3.resource("s3").Bucket(bucket).object_versions.delete()
    deployer.run("destroy", "--all", "--force", *deployer.synthesised())
    return Story(
        instances=before["ProductionVariants"][0]["CurrentInstanceCount"],
        before=before,
        watcher=watcher,
        deploy_said=deploy_said,
        after=after,
        served=served,
        captured=captured,
        destroyed=inventory("rollout"),
    )


def test_both_versions_answer_while_the_canary_is_watched_and_no_request_fails(story: Story) -> None:
    assert story.instances == 2
    assert set(story.watcher.products) == {20, 30}
    assert "50% of the traffic" in story.watcher.stages
    assert story.watcher.failures == []


def test_the_alarm_sends_the_new_version_back_and_the_deploy_says_so(story: Story) -> None:
    assert "so the deployment was rolled back" in story.deploy_said
    assert story.after["EndpointStatus"] == "InService"
    assert story.after["EndpointConfigName"] == story.before["EndpointConfigName"]
    assert story.served == 20


def test_what_was_asked_and_answered_lies_in_the_stage_s_bucket(story: Story) -> None:
    """Written in the role of the model, whose rights the cloud enforces."""
    data = story.captured[0]["captureData"]
    assert (data["endpointInput"]["data"], data["endpointInput"]["encoding"]) == ("10", "JSON")
    assert json.loads(data["endpointOutput"]["data"])["product"] in {20, 30}


def test_nothing_is_left(story: Story) -> None:
    assert story.destroyed == {kind: [] for kind in story.destroyed}
