"""Instances that are hard to get: several types in turn, a reservation, a cache for further copies."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.hosted import ALARM, COMPONENT, CONFIG, POLICY, change, host
from tests.infra.hosting.test_hosting_modes import rejected

pytestmark = pytest.mark.usefixtures("node_on_path")

TYPES = ("ml.g6e.2xlarge", "ml.g6.4xlarge", "ml.g5.2xlarge")
PLAN = "arn:aws:sagemaker:eu-central-1:123456789012:training-plan/ours"


def pooled(mode: str, *types: str, **keys: Any) -> dict[str, Any]:
    """The full table of a mode with several types."""
    return change(mode, instance_type=None, instance_pools=[{"instance_type": name} for name in types or TYPES], **keys)


@pytest.mark.parametrize("mode", ["realtime", "async", "component"])
def test_types_are_tried_in_the_order_of_the_file(mode: str) -> None:
    hosted = host(pooled(mode, provision_timeout_s=900))

    variant = hosted.variants[0]
    assert variant["InstancePools"] == [
        {"InstanceType": name, "Priority": priority} for priority, name in enumerate(TYPES, start=1)
    ]
    assert "InstanceType" not in variant
    assert variant["VariantInstanceProvisionTimeoutInSeconds"] == 900
    assert variant["InferenceAmiVersion"] == "al2023-ami-sagemaker-inference-gpu-4-1"
    config = hosted.only(CONFIG)
    if mode == "async":  # topics are references until the deploy
        config = config | {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://bucket/"}}}
    assert rejected("CreateEndpointConfig", config) == ""


def test_another_type_behind_the_first_is_another_configuration() -> None:
    names = {
        host(pooled("realtime", *types)).only(CONFIG)["EndpointConfigName"]
        for types in (TYPES, TYPES[:2], (TYPES[1], TYPES[0]))
    }

    assert len(names) == 3


def test_a_variant_and_a_shadow_of_one_type_stand_beside_pools() -> None:
    own = [{"name": "a", "weight": 1}, {"name": "b", "weight": 1, "instance_type": "ml.g6.12xlarge"}]
    hosted = host(pooled("realtime", shadow=None, variants=own))

    assert [("InstancePools" in one, one.get("InstanceType")) for one in hosted.variants] == [
        (True, None),
        (False, "ml.g6.12xlarge"),
    ]
    (shadow,) = host(pooled("realtime")).only(CONFIG)["ShadowProductionVariants"]
    assert shadow["InstanceType"] == "ml.m7i.large"


def test_the_alarm_on_gpu_memory_counts_the_gpus_that_all_types_have() -> None:
    hosted = host(pooled("realtime", "ml.g6.12xlarge", "ml.g5.12xlarge", shadow=None))

    memory = hosted.alarm("rollback-gpu-memory")
    assert memory["Threshold"] == 4 * 95
    assert {one["AlarmName"] for one in hosted.all(ALARM).values()} >= {memory["AlarmName"]}


def test_pools_on_cpu_types_have_a_volume_by_the_model_and_a_key() -> None:
    key = "arn:aws:kms:eu-central-1:123456789012:key/0a1b2c3d-0000-4000-8000-000000000000"
    hosted = host(pooled("realtime", "ml.m8g.xlarge", "ml.c8g.2xlarge", shadow=None), size_gib=10, key_arn=key)

    (variant,) = hosted.variants
    assert variant["VolumeSizeInGB"] == 40
    assert "InferenceAmiVersion" not in variant
    assert hosted.only(CONFIG)["KmsKeyId"] == key


def test_instances_come_from_the_reservation_and_from_nowhere_else() -> None:
    hosted = host(change("realtime", shadow=None, instance_type="ml.p5.48xlarge", capacity_reservation=PLAN))

    (variant,) = hosted.variants
    assert variant["CapacityReservationConfig"] == {
        "CapacityReservationPreference": "capacity-reservations-only",
        "MlReservationArn": PLAN,
    }
    assert rejected("CreateEndpointConfig", hosted.only(CONFIG)) == ""


@pytest.mark.parametrize("mode", ["async", "component", "multi_model"])
def test_every_mode_with_instances_can_have_a_reservation(mode: str) -> None:
    (variant,) = host(change(mode, capacity_reservation=PLAN)).variants

    assert variant["CapacityReservationConfig"]["MlReservationArn"] == PLAN


@pytest.mark.parametrize(("cache", "written"), [(True, {"EnableCaching": True}), (False, {"EnableCaching": False})])
def test_instances_keep_model_and_image_for_further_copies_where_the_file_says_so(cache: bool, written: Any) -> None:
    component = host(change("component", data_cache=cache)).only(COMPONENT)

    assert component["Specification"]["DataCacheConfig"] == written
    created = {name: value for name, value in component.items() if name != "DeploymentConfig"}
    assert rejected("CreateInferenceComponent", created) == ""


def test_without_a_word_nothing_of_this_is_asked_for() -> None:
    for mode in ("realtime", "async", "component", "multi_model"):
        hosted = host(change(mode))
        (variant, *_) = hosted.variants
        assert not {"InstancePools", "VariantInstanceProvisionTimeoutInSeconds", "CapacityReservationConfig"} & set(
            variant
        )
        assert all("DataCacheConfig" not in one["Specification"] for one in hosted.all(COMPONENT).values())


def test_scaling_follows_the_average_of_all_types() -> None:
    """A policy of the variant as a whole, as without pools."""
    alone, several = (host(table).all(POLICY) for table in (change("realtime"), pooled("realtime")))

    assert alone == several
