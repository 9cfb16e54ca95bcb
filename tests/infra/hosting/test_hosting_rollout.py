"""How traffic moves to a new version, and what sends it back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.infra.hosted import ALARM, COMPONENT, CONFIG, ENDPOINT, FULL, NAME, Hosted, change, host
from tidegate.infra.configuration.value import ConfigurationError

pytestmark = pytest.mark.usefixtures("node_on_path")

TOPIC = "arn:aws:sns:eu-central-1:123456789012:alarms"


def rolled_out(**rollout: Any) -> Hosted:
    return host({"mode": "realtime", "instance_count": 2, "rollout": rollout})


def blue_green(hosted: Hosted) -> dict[str, Any]:
    policy: dict[str, Any] = hosted.only(ENDPOINT)["DeploymentConfig"]["BlueGreenUpdatePolicy"]
    return policy


def alarm_names(deployment_config: dict[str, Any]) -> set[str]:
    return {alarm["AlarmName"] for alarm in deployment_config["AutoRollbackConfiguration"]["Alarms"]}


def test_a_canary_moves_a_part_waits_moves_the_rest_and_waits_again() -> None:
    policy = blue_green(rolled_out(strategy="canary", percent=25, wait_s=300, bake_s=200))

    assert policy["TrafficRoutingConfiguration"] == {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 25},
        "WaitIntervalInSeconds": 300,
    }
    assert policy["TerminationWaitInSeconds"] == 200
    assert policy["MaximumExecutionTimeoutInSeconds"] == 2 * 300 + 200 + 600 + 600 + 1800


def test_a_linear_roll_out_moves_equal_parts() -> None:
    policy = blue_green(rolled_out(strategy="linear", percent=30, wait_s=100, bake_s=0))

    assert policy["TrafficRoutingConfiguration"] == {
        "Type": "LINEAR",
        "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 30},
        "WaitIntervalInSeconds": 100,
    }
    # 30, 60, 90 and 100 percent, with a wait after each.
    assert policy["MaximumExecutionTimeoutInSeconds"] == 4 * 100 + 600 + 600 + 1800


def test_all_at_once_keeps_the_old_fleet_for_a_while() -> None:
    policy = blue_green(rolled_out(strategy="all_at_once", bake_s=120))

    assert policy["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"
    assert policy["TerminationWaitInSeconds"] == 120


@pytest.mark.parametrize("mode", ["realtime", "async", "multi_model"])
def test_a_rolling_update_replaces_the_instances_of_one_variant_batch_by_batch(mode: str) -> None:
    instance_type = {"instance_type": "ml.m7i.large"} if mode == "multi_model" else {}
    rollout = {"strategy": "rolling", "percent": 40, "wait_s": 200, "rollback_percent": 50}
    hosted = host({"mode": mode, "instance_count": 4, "rollout": rollout} | instance_type)

    config = hosted.only(ENDPOINT)["DeploymentConfig"]
    assert config["RollingUpdatePolicy"] == {
        "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 40},
        "WaitIntervalInSeconds": 200,
        "RollbackMaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        # Three batches, each with its start and its wait, and the time to get instances.
        "MaximumExecutionTimeoutInSeconds": 3 * (200 + 600 + 600) + 1800,
    }
    assert "BlueGreenUpdatePolicy" not in config
    assert f"{NAME}-rollback-5xx" in alarm_names(config)
    assert hosted.warnings == ""


def test_a_rolling_update_goes_back_at_once_unless_that_is_to_take_batches_too() -> None:
    policy = rolled_out(strategy="rolling").only(ENDPOINT)["DeploymentConfig"]["RollingUpdatePolicy"]

    assert "RollbackMaximumBatchSize" not in policy
    assert policy["MaximumBatchSize"]["Value"] == 50


def capacity(hosting: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Type, what may serve, and what an update starts beside it."""
    from pydantic import TypeAdapter

    from tidegate.infra.configuration.hosting import Hosting
    from tidegate.infra.hosting.update_capacity import needed

    found = needed(TypeAdapter(Hosting).validate_python(hosting))
    assert [one.total for one in found] == [one.serving + one.beside for one in found]
    return [(one.instance_type, one.serving, one.beside) for one in found]


@pytest.mark.parametrize(
    ("hosting", "needed"),
    [
        ({"mode": "realtime", "instance_count": 3}, [("ml.g6.xlarge", 3, 3)]),
        ({"mode": "realtime", "rollout": {"strategy": "canary"}}, [("ml.g6.xlarge", 1, 1)]),
        ({"mode": "async", "scaling": {"max_instances": 5}}, [("ml.g6.xlarge", 5, 5)]),
        (
            {"mode": "realtime", "instance_count": 5, "rollout": {"strategy": "rolling", "percent": 30}},
            [("ml.g6.xlarge", 5, 2)],
        ),
        (
            {"mode": "realtime", "instance_count": 2, "shadow": {"instance_type": "ml.m7i.large", "instance_count": 3}},
            [("ml.g6.xlarge", 2, 2), ("ml.m7i.large", 3, 3)],
        ),
        (
            {"mode": "realtime", "variants": [{"name": "a", "weight": 1}, {"name": "b", "weight": 1}]},
            [("ml.g6.xlarge", 2, 2)],
        ),
        ({"mode": "component", "copies": {"min_memory_mib": 1024}}, [("ml.g6.xlarge", 2, 0)]),
        ({"mode": "multi_model", "instance_count": 2}, [("ml.m7i.xlarge", 2, 2)]),
        ({"mode": "serverless"}, []),
    ],
)
def test_an_update_needs_as_many_instances_again_and_a_rolling_one_a_batch(
    hosting: dict[str, Any], needed: list[tuple[str, int, int]]
) -> None:
    assert capacity(hosting) == needed


def test_a_roll_out_longer_than_sagemaker_gives_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"hosting\.rollout waits 39600 s"):
        rolled_out(strategy="linear", percent=10, wait_s=3600, bake_s=3600)


@pytest.mark.parametrize(
    "hosting",
    [
        {"instance_count": 1},
        {"instance_count": 3, "scaling": {"max_instances": 4}},
        {"variants": [{"name": "a", "weight": 1, "instance_count": 5}, {"name": "b", "weight": 1}]},
    ],
    ids=["one", "scaled in to one", "one of a variant"],
)
def test_a_fleet_that_may_be_of_one_instance_moves_all_at_once_and_says_so(hosting: dict[str, Any]) -> None:
    hosted = host({"mode": "realtime", "rollout": {"strategy": "canary", "bake_s": 77}} | hosting)

    assert blue_green(hosted)["TrafficRoutingConfiguration"]["Type"] == "ALL_AT_ONCE"
    assert blue_green(hosted)["TerminationWaitInSeconds"] == 77
    assert alarm_names(hosted.only(ENDPOINT)["DeploymentConfig"]) == {
        f"{NAME}-rollback-5xx",
        f"{NAME}-rollback-gpu-memory",
    }
    assert "hosting.rollout.strategy='canary'" in hosted.warnings


def test_two_instances_make_a_canary_without_a_warning() -> None:
    assert rolled_out(strategy="canary").warnings == ""


@pytest.mark.parametrize("mode", ["realtime", "async", "multi_model"])
def test_the_alarms_of_a_roll_out_exist_before_the_endpoint_moves(mode: str) -> None:
    hosted = host(change(mode, scaling=None))

    names = alarm_names(hosted.only(ENDPOINT)["DeploymentConfig"])
    assert names == {alarm["AlarmName"] for alarm in hosted.all(ALARM).values()}
    assert f"{NAME}-rollback-5xx" in names
    assert hosted.comes_after(ENDPOINT, ALARM)


def test_errors_and_latency_are_those_of_the_new_fleet_alone() -> None:
    """A version that answers with errors must not stand in the way of the one that mends it."""
    hosted = host(FULL["realtime"])
    fleet = {
        "EndpointName": NAME,
        "VariantName": "primary",
        "EndpointConfigName": hosted.only(CONFIG)["EndpointConfigName"],
    }

    for ending in ("-5xx", "-latency"):
        alarm = hosted.alarm(ending)
        assert {one["Name"]: one["Value"] for one in alarm["Dimensions"]} == fleet
        assert alarm["Namespace"] == "AWS/SageMaker"
        assert alarm["TreatMissingData"] == "notBreaching"
        assert alarm["ComparisonOperator"] == "GreaterThanThreshold"


def test_thresholds_are_in_the_units_of_their_metrics() -> None:
    rollback = {"max_5xx_percent": 2.5, "max_p99_ms": 40, "max_gpu_memory_percent": 80}
    hosted = host(
        {
            "mode": "realtime",
            "instance_type": "ml.g6.12xlarge",
            "instance_count": 2,
            "rollout": {"strategy": "canary", "rollback": rollback},
        }
    )
    errors, latency, memory = (hosted.alarm(ending) for ending in ("-5xx", "-latency", "-gpu-memory"))

    # The average of 0 and 1, microseconds, and percent of one GPU summed over four.
    assert (errors["MetricName"], errors["Statistic"], errors["Threshold"]) == ("Invocation5XXErrors", "Average", 0.025)
    assert (latency["MetricName"], latency["ExtendedStatistic"], latency["Threshold"]) == (
        "ModelLatency",
        "p99",
        40_000,
    )
    assert (memory["Namespace"], memory["MetricName"]) == ("/aws/sagemaker/Endpoints", "GPUMemoryUtilization")
    assert (memory["Statistic"], memory["Threshold"]) == ("Maximum", 320)
    assert "EndpointConfigName" not in {one["Name"] for one in memory["Dimensions"]}


def test_a_cpu_type_has_no_alarm_on_gpu_memory() -> None:
    hosted = host(
        {
            "mode": "realtime",
            "instance_type": "ml.m7i.large",
            "instance_count": 2,
            "rollout": {"strategy": "canary", "rollback": {"max_p99_ms": 100}},
        }
    )

    assert alarm_names(hosted.only(ENDPOINT)["DeploymentConfig"]) == {
        f"{NAME}-rollback-5xx",
        f"{NAME}-rollback-latency",
    }


def test_several_variants_share_the_alarms_and_the_worst_of_them_counts() -> None:
    """SageMaker takes ten alarms for a roll-out, which may have ten variants."""
    variants = [{"name": f"v{number}", "weight": 1, "instance_count": 2} for number in range(9)]
    variants.append({"name": "big", "weight": 1, "instance_count": 2, "instance_type": "ml.g6.48xlarge"})
    hosted = host(
        {
            "mode": "realtime",
            "variants": variants,
            "rollout": {"strategy": "linear", "rollback": {"max_p99_ms": 100}},
        }
    )

    assert len(alarm_names(hosted.only(ENDPOINT)["DeploymentConfig"])) == 3
    memory = hosted.alarm("-gpu-memory")
    *series, worst = memory["Metrics"]
    assert [one["MetricStat"]["Metric"]["Dimensions"][1]["Value"] for one in series] == [
        one["name"] for one in variants
    ]
    assert not any(one["ReturnData"] for one in series)
    assert worst["ReturnData"] is True
    assert worst["Expression"].startswith("MAX([FILL(m0, 0) / 1, ")
    assert worst["Expression"].endswith("FILL(m9, 0) / 8])")
    assert memory["Threshold"] == 95


def test_without_rollback_nothing_looks_on() -> None:
    hosted = rolled_out(strategy="canary", rollback=False)

    assert "AutoRollbackConfiguration" not in hosted.only(ENDPOINT)["DeploymentConfig"]
    assert hosted.all(ALARM) == {}
    assert hosted.endpoint.rollback_alarm_arns == ()


def test_a_rollback_is_told_to_the_operators_topic() -> None:
    hosted = host(FULL["realtime"], alarm_topic_arn=TOPIC)

    assert {tuple(one.get("AlarmActions", [])) for one in hosted.all(ALARM).values()} == {(TOPIC,)}


def test_the_role_can_be_told_exactly_which_alarms_it_must_describe() -> None:
    hosted = host(FULL["realtime"])

    assert {arn.rpartition(":alarm:")[2] for arn in hosted.endpoint.rollback_alarm_arns} == (
        alarm_names(hosted.only(ENDPOINT)["DeploymentConfig"])
    )


def test_a_component_is_replaced_copy_by_copy_and_watched_by_its_own_metrics() -> None:
    hosted = host(change("component", rollout={"percent": 25, "wait_s": 60}))

    config = hosted.only(COMPONENT)["DeploymentConfig"]
    assert config["RollingUpdatePolicy"] == {
        "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
        "WaitIntervalInSeconds": 60,
        # Four waits, four starts of which one also downloads, and the time to get instances.
        "MaximumExecutionTimeoutInSeconds": 4 * 60 + 4 * 600 + 600 + 1800,
    }
    assert alarm_names(config) == {f"{NAME}-rollback-5xx", f"{NAME}-rollback-gpu-memory"}
    assert hosted.alarm("-5xx")["Dimensions"] == [{"Name": "InferenceComponentName", "Value": NAME}]
    memory = hosted.alarm("-gpu-memory")
    assert (memory["Namespace"], memory["MetricName"], memory["Threshold"]) == (
        "/aws/sagemaker/InferenceComponents",
        "GPUMemoryUtilizationNormalized",
        95,
    )
    assert "DeploymentConfig" not in hosted.only(ENDPOINT)


def test_a_serverless_endpoint_has_no_guardrails() -> None:
    hosted = host(FULL["serverless"])

    assert "DeploymentConfig" not in hosted.only(ENDPOINT)
    assert hosted.all(ALARM) == {}
