"""Log groups are there, with a retention, before what writes to them; volumes hold the model packed and unpacked."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.conftest import SAMPLES, Synthesise, Synthesised
from tests.infra.hosted import change, host
from tidegate.infra.hosting import volumes

GROUP = "AWS::Logs::LogGroup"


def groups(stage: Synthesised) -> dict[str, int]:
    """Name and days of the log groups of the endpoint's stack."""
    return {one["LogGroupName"]: one["RetentionInDays"] for one in stage.properties("endpoint", GROUP).values()}


@pytest.mark.parametrize(
    ("sample", "served_by"),
    [
        ("realtime", ["AWS::SageMaker::Endpoint"]),
        ("async", ["AWS::SageMaker::Endpoint"]),
        ("serverless", ["AWS::SageMaker::Endpoint"]),
        ("multimodel", ["AWS::SageMaker::Endpoint"]),
        ("component", ["AWS::SageMaker::Endpoint", "AWS::SageMaker::InferenceComponent"]),
    ],
)
def test_the_log_groups_are_there_before_what_writes_to_them(
    sample: str, served_by: list[str], samples: dict[str, Synthesised]
) -> None:
    """Otherwise SageMaker makes them, and keeps every line for ever."""
    template = samples[sample].templates["endpoint"]
    made = template.find_resources(GROUP)

    assert f"/aws/sagemaker/Endpoints/tidegate-{sample}" in groups(samples[sample])
    for kind in served_by:
        (writer,) = template.find_resources(kind).values()
        assert set(made) <= set(writer["DependsOn"])


def test_a_component_has_a_group_of_its_own_beside_its_endpoint_s(samples: dict[str, Synthesised]) -> None:
    assert set(groups(samples["component"])) == {
        "/aws/sagemaker/Endpoints/tidegate-component",
        "/aws/sagemaker/InferenceComponents/tidegate-component",
    }


def test_log_groups_go_with_their_stack_also_where_data_is_kept(samples: dict[str, Synthesised]) -> None:
    """One that stayed would make the next deploy fail, as its name is given by SageMaker."""
    assert samples["realtime"].templates["endpoint"].find_resources(GROUP)
    for stage in samples.values():
        for group in stage.templates["endpoint"].find_resources(GROUP).values():
            assert group.get("DeletionPolicy", "Delete") == "Delete"


def test_a_stage_says_how_long_and_may_leave_them_to_sagemaker(synthesise: Synthesise) -> None:
    path = str(SAMPLES / "serverless.toml")
    long = synthesise(stage=path, changes={"retention": {"logs_days": 365, "transform_logs_days": 30}})
    none = synthesise(stage=path, changes={"retention": {"logs_days": False}})

    assert groups(long) == {"/aws/sagemaker/Endpoints/tidegate-serverless": 365, "/aws/sagemaker/TransformJobs": 30}
    assert groups(none) == {}


def test_the_group_that_all_jobs_of_the_account_share_is_made_only_where_a_stage_says_so(
    samples: dict[str, Synthesised], all_stages: dict[str, Synthesised]
) -> None:
    """The second stage that made it would fail, as its name is there."""
    makers = [name for name, stage in (samples | all_stages).items() if "/aws/sagemaker/TransformJobs" in groups(stage)]

    assert makers == ["private"]


@pytest.mark.parametrize(("size_gib", "volume"), [(0.1, 30), (3, 30), (5, 30), (5.1, 40), (40, 100), (246, 512)])
def test_a_volume_holds_the_model_packed_and_unpacked_and_some_packages(size_gib: float, volume: int) -> None:
    hosted = host({"mode": "realtime", "instance_type": "ml.m7i.large"}, size_gib=size_gib)

    assert [variant["VolumeSizeInGB"] for variant in hosted.variants] == [volume]
    assert volumes.derived_gb(size_gib) >= 2 * size_gib + 20


CPU: dict[str, dict[str, Any]] = {
    "realtime": {"instance_type": "ml.m7i.large", "shadow": None},
    "async": {"instance_type": "ml.c7i.large"},
    "component": {"instance_type": "ml.m7i.large", "copies": {"gpus": 0, "min_memory_mib": 1024}},
    "multi_model": {},
}


@pytest.mark.parametrize("mode", CPU)
def test_every_mode_with_instances_has_a_volume_by_the_model_or_by_the_stage_file(mode: str) -> None:
    derived = host(change(mode, **CPU[mode]), size_gib=10)
    said = host(change(mode, **CPU[mode], volume_gb=77), size_gib=10)
    unknown = host(change(mode, **CPU[mode]))

    assert [hosted.variants[0].get("VolumeSizeInGB") for hosted in (derived, said, unknown)] == [40, 77, None]


@pytest.mark.parametrize("instance_type", ["ml.g6.xlarge", "ml.m5d.large"])
def test_a_type_with_disks_of_its_own_gets_no_volume(instance_type: str) -> None:
    hosted = host({"mode": "realtime", "instance_type": instance_type}, size_gib=10)

    assert "VolumeSizeInGB" not in hosted.variants[0]
