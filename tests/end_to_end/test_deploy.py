"""The life of an endpoint, by the real `cdk` command line and plain boto3, on the local cloud with the real server.

`life` lives it once and notes what a user would see; each test reads one thing in the notes.
The cloud enforces the rights of roles, so that one which a stack forgets fails here. What the local cloud does not do,
and these tests therefore do not show: a caller's own rights are not enforced, no image is pulled, no instance of the
named type exists.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import Any

import boto3
import psutil
import pytest

from tests.end_to_end.deploying import Deployer, archive, inventory, invoke
from tests.polling import until

pytestmark = pytest.mark.timeout(1200)  # the whole life is the fixture of the first test


def transform(deployer: Deployer, numbers: list[float]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A batch transform job over `numbers` by the deployed model: its description and its results."""
    bucket, s3, sagemaker = deployer.output("storage", "BucketName"), boto3.client("s3"), boto3.client("sagemaker")
    lines = "".join(f"{json.dumps(number)}\n" for number in numbers)
    s3.put_object(Bucket=bucket, Key="batch/input/numbers.jsonl", Body=lines.encode())
    sagemaker.create_transform_job(
        TransformJobName="numbers",
        ModelName=deployer.output("endpoint", "ModelName"),
        BatchStrategy="SingleRecord",
        TransformInput={
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{bucket}/batch/input/"}},
            "ContentType": "application/json",
            "SplitType": "Line",
        },
        TransformOutput={"S3OutputPath": f"s3://{bucket}/batch/output/", "AssembleWith": "Line"},
        TransformResources={"InstanceType": "ml.g6.xlarge", "InstanceCount": 1},
    )

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = sagemaker.describe_transform_job(TransformJobName="numbers")
        return found if found["TransformJobStatus"] != "InProgress" else None

    job = until(ended, "the job ends", timeout_s=400, pause_s=0.2)
    assert job["TransformJobStatus"] == "Completed", job
    out = s3.get_object(Bucket=bucket, Key="batch/output/numbers.jsonl.out")["Body"].read()
    return job, [json.loads(line) for line in out.splitlines()]


class Traffic:
    """Invokes without a pause from another thread and notes each answer."""

    def __init__(self, endpoint: str) -> None:
        self.products: list[float] = []
        self.failures: list[str] = []
        self._endpoint = endpoint
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.products.append(invoke(self._endpoint, 10)["product"])
            except Exception as error:
                self.failures.append(repr(error))

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture(scope="module")
def cloud(enforcing_cloud: dict[str, str]) -> dict[str, str]:
    """A cloud in which the rights of roles count."""
    return enforcing_cloud


@dataclass
class Life:
    """What was seen, in the order of the story."""

    created: dict[str, list[str]]
    endpoint: dict[str, Any]
    first: dict[str, Any]
    transformed: list[dict[str, Any]]
    job: dict[str, Any]
    redeploy_said: str
    redeployed: dict[str, list[str]]
    after_redeploy: dict[str, Any]
    untouched: bool
    traffic: Traffic
    updated: dict[str, list[str]]
    second: dict[str, Any]
    failure_said: str
    after_failure: dict[str, list[str]]
    third: dict[str, Any]
    kept: str
    destroyed: dict[str, list[str]]
    left_running: list[int]


@pytest.fixture(scope="module")
def life(cloud: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Life:
    directory = tmp_path_factory.mktemp("deploy")
    deployer = Deployer(cloud, directory)
    sagemaker = boto3.client("sagemaker")

    def describe() -> dict[str, Any]:
        return dict(sagemaker.describe_endpoint(EndpointName=deployer.output("endpoint", "EndpointName")))

    deployer.deploy("storage")
    model = f"model_data_url={deployer.upload(archive(directory, weight=2))}"
    deployer.deploy("--all", "-c", model)
    name = deployer.output("endpoint", "EndpointName")
    created, endpoint, first = inventory("local"), describe(), invoke(name, 21)
    job, transformed = transform(deployer, [1, 2, 3])

    redeploy_said = deployer.deploy("--all")
    redeployed, after_redeploy = inventory("local"), invoke(name, 21)
    untouched = describe()["LastModifiedTime"] == endpoint["LastModifiedTime"]

    with Traffic(name) as traffic:
        deployer.deploy("--all", "-c", f"model_data_url={deployer.upload(archive(directory, weight=3))}")
    updated, second = inventory("local"), invoke(name, 21)

    broken = archive(directory, weight=4, handlers="def model_fn(model_dir) return None")
    failure_said = deployer.deploy("--all", "-c", f"model_data_url={deployer.upload(broken)}", exit_code=1)
    after_failure, third = inventory("local"), invoke(name, 21)
    kept = boto3.client("ssm").get_parameter(Name="/tidegate/local/model-archive")["Parameter"]["Value"]

    boto3.resource("s3").Bucket(deployer.output("storage", "BucketName")).object_versions.delete()
    deployer.run("destroy", "--all", "--force", *deployer.synthesised())
    return Life(
        created=created,
        endpoint=endpoint,
        first=first,
        transformed=transformed,
        job=job,
        redeploy_said=redeploy_said,
        redeployed=redeployed,
        after_redeploy=after_redeploy,
        untouched=untouched,
        traffic=traffic,
        updated=updated,
        second=second,
        failure_said=failure_said,
        after_failure=after_failure,
        third=third,
        kept=kept,
        destroyed=inventory("local"),
        left_running=[pid for pid in (first["process"], second["process"]) if psutil.pid_exists(pid)],
    )


def test_a_deploy_makes_one_model_one_configuration_and_one_endpoint_in_service(life: Life) -> None:
    assert life.created["endpoints"] == ["tidegate-local"]
    assert (len(life.created["models"]), len(life.created["configs"])) == (1, 1)
    assert life.endpoint["EndpointStatus"] == "InService"
    assert life.endpoint["EndpointConfigName"] == life.created["configs"][0]


def test_the_endpoint_answers_with_the_model_of_the_archive(life: Life) -> None:
    assert life.first["product"] == 42


def test_a_transform_job_runs_the_deployed_model_by_its_name(life: Life) -> None:
    assert life.job["ModelName"] == life.created["models"][0]
    assert [result["product"] for result in life.transformed] == [2, 4, 6]


def test_a_second_deploy_that_names_no_archive_changes_nothing(life: Life) -> None:
    """It goes on with the one that was deployed, and not with models/model.tar.gz, which is not even there."""
    assert life.redeploy_said.count("(no changes)") == 3
    assert life.redeployed == life.created
    assert life.untouched
    assert life.after_redeploy["product"] == life.first["product"]
    assert life.after_redeploy["server"] == life.first["server"], "another server answers"


def test_a_new_archive_updates_the_endpoint_in_place(life: Life) -> None:
    assert life.second["product"] == 63
    assert life.updated["endpoints"] == life.created["endpoints"]


def test_what_the_new_archive_replaced_is_removed(life: Life) -> None:
    assert (len(life.updated["models"]), len(life.updated["configs"])) == (1, 1)
    assert life.updated["models"] != life.created["models"]
    assert life.updated["configs"] != life.created["configs"]


def test_no_request_fails_during_the_update(life: Life) -> None:
    assert life.traffic.failures == []
    assert set(life.traffic.products) == {20, 30}
    assert life.traffic.products == sorted(life.traffic.products), "the old model answered after the new one"


def test_a_model_that_cannot_be_loaded_fails_the_deploy_with_its_reason(life: Life) -> None:
    assert "SyntaxError" in life.failure_said


def test_a_model_that_cannot_be_loaded_leaves_the_old_one_serving(life: Life) -> None:
    assert life.third["product"] == life.second["product"]
    assert life.third["server"] == life.second["server"], "another server answers"
    assert life.after_failure == life.updated
    assert life.kept.endswith("/models/times-3.tar.gz"), "a later deploy goes on with what is served"


def test_a_destroy_leaves_nothing(life: Life) -> None:
    assert life.destroyed == {kind: [] for kind in life.created}
    assert life.left_running == []
