"""What is watched is read from the stage: limits from the server's settings, variants with their GPUs, jobs by name."""

from __future__ import annotations

from typing import Any

import pytest

from tidegate.infra.configuration.stage import Stage
from tidegate.infra.observability import of_stage
from tidegate.infra.observability.watched import WatchedEndpoint, WatchedVariant
from tidegate.infra.stage.names import Names


def watched(hosting: dict[str, Any], **further: Any) -> WatchedEndpoint:
    table = {"name": "dev", "image": {"tag": "1.0"}, "hosting": hosting, "retention": {"keep_data": False}}
    return of_stage.endpoint(Stage.model_validate(table | further), Names(prefix="tidegate", stage="dev"))


@pytest.mark.parametrize(
    ("mode", "further", "deadline_s"),
    [
        ("realtime", {}, 60),
        ("realtime", {"server": {"timeout_s": 20}}, 20),
        ("realtime", {"environment": {"SAGEMAKER_MODEL_SERVER_TIMEOUT": "30"}}, 30),
        ("realtime", {"server": {"timeout_s": 900}}, 60),
        ("async", {"server": {"timeout_s": 900}}, 900),
        ("async", {"server": {"timeout_s": 7200}}, 3600),
    ],
)
def test_the_deadline_is_the_shorter_of_the_platforms_and_the_servers(
    mode: str, further: dict[str, Any], deadline_s: float
) -> None:
    assert watched({"mode": mode}, **further).deadline_s == deadline_s


def test_whether_models_come_and_go_is_what_the_container_is_told() -> None:
    hosting = {"mode": "realtime"}

    assert watched(hosting, model={"repository": "s3://bucket/models"}).repository
    assert watched(hosting, server={"model_repository": "/opt/ml/model"}).repository
    assert not watched(hosting).repository


def test_every_variant_is_watched_with_the_gpus_of_its_own_instances_and_a_shadow_is_not() -> None:
    variants = [
        {"name": "large", "weight": 1, "instance_type": "ml.g6.12xlarge"},
        {"name": "small", "weight": 1, "instance_type": "ml.m7i.large"},
    ]
    two = watched({"mode": "realtime", "variants": variants})
    shadowed = watched({"mode": "realtime", "shadow": {"name": "next"}})

    assert two.variants == (WatchedVariant(name="large", gpus=4), WatchedVariant(name="small", gpus=0))
    assert [variant.name for variant in shadowed.variants] == ["primary"]


def test_a_component_on_a_gpu_instance_that_asks_for_no_gpu_has_none_to_watch() -> None:
    copies = {"min_memory_mib": 1024}

    assert watched({"mode": "component", "copies": copies}).variants[0].gpus == 1
    assert watched({"mode": "component", "copies": copies | {"gpus": 0}}).variants[0].gpus == 0
    assert watched({"mode": "component", "copies": copies}).component == "tidegate-dev"


def test_serverless_endpoints_have_no_gpu_and_say_whether_capacity_is_kept_warm() -> None:
    assert watched({"mode": "serverless"}).variants == (WatchedVariant(name="primary", gpus=0),)
    assert not watched({"mode": "serverless"}).provisioned_concurrency
    assert watched({"mode": "serverless", "provisioned_concurrency": 2}).provisioned_concurrency
