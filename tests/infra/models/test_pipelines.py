"""A model of several containers, the stage's own among them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.conftest import SAMPLES, Synthesise, Synthesised

MODEL = "AWS::SageMaker::Model"
CLEANER = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/team/cleaner:3"


@pytest.fixture
def pipeline(samples: dict[str, Synthesised]) -> Synthesised:
    return samples["pipeline"]


@pytest.fixture(scope="module")
def direct(synthesise: Synthesise) -> Synthesised:
    """The same containers, each asked by its name; a transform job could ask none of them."""
    changes: dict[str, Any] = {"model": {"invocation": "direct"}, "batch": None, "hosting": {"monitor": None}}
    return synthesise(stage=str(SAMPLES / "pipeline.toml"), changes=changes)


def statements(stage: Synthesised, role: str) -> dict[str, dict[str, Any]]:
    """What the role whose logical name begins so may do, by statement."""
    roles = stage.properties("endpoint", "AWS::IAM::Role")
    (found,) = (one for name, one in roles.items() if name.startswith(role))
    return {one["Sid"]: one for policy in found["Policies"] for one in policy["PolicyDocument"]["Statement"]}


def test_the_containers_stand_in_the_order_of_the_file_with_the_stage_s_own_in_its_place(
    pipeline: Synthesised,
) -> None:
    model = pipeline.only("endpoint", MODEL)
    clean, predict, explain = model["Containers"]

    assert "PrimaryContainer" not in model
    assert model["InferenceExecutionConfig"] == {"Mode": "Serial"}
    assert clean == {"ContainerHostname": "clean", "Image": CLEANER, "Environment": {"LOG_LEVEL": "info"}}
    assert predict["ContainerHostname"] == "predict"
    assert predict["ModelDataUrl"] == "s3://some-bucket/models/7/model.tar.gz"
    assert "TIDEGATE_MAX_BODY_BYTES" in predict["Environment"]
    # Another archive in the stage's own image.
    assert explain["ContainerHostname"] == "explain-it"
    assert explain["Image"] == predict["Image"]
    assert explain["ModelDataUrl"] == "s3://some-bucket/explainers/2/model.tar.gz"
    assert "Environment" not in explain


def test_the_role_may_fetch_what_each_container_runs(pipeline: Synthesised) -> None:
    may = statements(pipeline, "ExecutionRole")

    assert "team/cleaner" in str(may["PullImage"]["Resource"])
    assert "tidegate-pipeline" in str(may["PullImage"]["Resource"])
    assert "some-bucket/explainers/2/model.tar.gz" in str(may["ReadForExplainIt"]["Resource"])
    assert "ReadForClean" not in may


def test_a_transform_job_runs_the_whole_pipeline(pipeline: Synthesised) -> None:
    name = pipeline.only("endpoint", MODEL)["ModelName"]
    kept = pipeline.properties("endpoint", "AWS::SSM::Parameter").values()

    assert [one["Value"] for one in kept if one["Name"].endswith("/model-name")] == [name]


def test_asked_by_name_each_container_stands_alone_and_no_job_is_told_of_the_model(direct: Synthesised) -> None:
    model = direct.only("endpoint", MODEL)

    assert model["InferenceExecutionConfig"] == {"Mode": "Direct"}
    assert [one["ContainerHostname"] for one in model["Containers"]] == ["clean", "predict", "explain-it"]
    kept = direct.properties("endpoint", "AWS::SSM::Parameter").values()
    assert not [one for one in kept if one["Name"].endswith("/model-name")]


def test_another_way_of_asking_is_another_model(pipeline: Synthesised, direct: Synthesised) -> None:
    before, after = (stage.only("endpoint", MODEL)["ModelName"] for stage in (pipeline, direct))

    assert before != after
