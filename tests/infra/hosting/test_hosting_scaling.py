"""When instances and copies come and go."""

from __future__ import annotations

import pytest

from tests.infra.hosted import ALARM, COMPONENT, ENDPOINT, FULL, NAME, POLICY, TARGET, change, host

pytestmark = pytest.mark.usefixtures("node_on_path")


@pytest.mark.parametrize("instance_type", ["ml.g6.xlarge", "ml.m7i.large"])
def test_instances_follow_the_requests_in_work_with_separate_cool_downs(instance_type: str) -> None:
    scaling = {
        "min_instances": 2,
        "max_instances": 7,
        "concurrent_requests": 3.5,
        "scale_out_cooldown_s": 20,
        "scale_in_cooldown_s": 900,
    }
    hosted = host({"mode": "realtime", "instance_type": instance_type, "instance_count": 2, "scaling": scaling})

    assert hosted.only(TARGET) == {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{NAME}/variant/primary",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "MinCapacity": 2,
        "MaxCapacity": 7,
    }
    assert hosted.policy("TargetTrackingScaling") == {
        "PredefinedMetricSpecification": {
            "PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"
        },
        "TargetValue": 3.5,
        "ScaleOutCooldown": 20,
        "ScaleInCooldown": 900,
    }


def test_each_variant_scales_by_itself_and_the_shadow_does_not() -> None:
    variants = [{"name": "a", "weight": 1}, {"name": "b", "weight": 1}]
    several = host({"mode": "realtime", "variants": variants, "scaling": {"max_instances": 2}})

    assert {one["ResourceId"] for one in several.all(TARGET).values()} == {
        f"endpoint/{NAME}/variant/a",
        f"endpoint/{NAME}/variant/b",
    }
    assert host(FULL["realtime"]).only(TARGET)["ResourceId"] == f"endpoint/{NAME}/variant/primary"


@pytest.mark.parametrize("mode", ["realtime", "async", "multi_model"])
def test_a_target_is_made_after_its_endpoint_and_so_deleted_before_it(mode: str) -> None:
    hosted = host(FULL[mode])

    assert hosted.comes_after(TARGET, ENDPOINT)
    (target_id,) = hosted.all(TARGET)
    assert all(policy["ScalingTargetId"] == {"Ref": target_id} for policy in hosted.all(POLICY).values())


def test_another_instance_type_leaves_the_target_where_it_is() -> None:
    """A target that was replaced under its physical name would be deleted after it was made."""
    before, after = host(FULL["realtime"]), host(change("realtime", instance_type="ml.g6e.xlarge"))

    assert before.all(TARGET) == after.all(TARGET)
    assert before.all(POLICY) == after.all(POLICY)


def test_without_scaling_the_instances_stay_as_they_are_and_only_the_targets_go() -> None:
    """The first of the two deploys that another instance type of a scaled endpoint takes."""
    before, after = host(FULL["realtime"]), host(change("realtime", scaling=None))

    assert before.endpoint.config_name == after.endpoint.config_name
    gone = before.resources.keys() - after.resources.keys()
    assert {before.resources[name]["Type"] for name in gone} == {TARGET, POLICY}


@pytest.mark.parametrize("mode", ["realtime", "multi_model"])
def test_an_update_keeps_the_count_of_the_moment_and_takes_the_weights_of_the_stage_file(mode: str) -> None:
    endpoint = host(FULL[mode]).only(ENDPOINT)

    assert endpoint["RetainAllVariantProperties"] is True
    assert endpoint["ExcludeRetainedVariantProperties"] == [{"VariantPropertyType": "DesiredWeight"}]


def test_an_update_without_scaling_takes_the_count_of_the_stage_file() -> None:
    assert "RetainAllVariantProperties" not in host(change("realtime", scaling=None)).only(ENDPOINT)


def test_an_asynchronous_endpoint_follows_its_queue_down_to_no_instance() -> None:
    hosted = host(change("async", scaling={"max_instances": 3, "backlog": 8}))

    assert (hosted.only(TARGET)["MinCapacity"], hosted.only(TARGET)["MaxCapacity"]) == (0, 3)
    tracked = hosted.policy("TargetTrackingScaling")
    assert tracked["CustomizedMetricSpecification"] == {
        "Namespace": "AWS/SageMaker",
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Dimensions": [{"Name": "EndpointName", "Value": NAME}],
        "Statistic": "Average",
    }
    assert tracked["TargetValue"] == 8


def test_the_first_request_that_waits_starts_an_instance_and_no_second_one_before_it_is_up() -> None:
    hosted = host(FULL["async"], size_gib=40)

    wake = hosted.policy("StepScaling")
    assert wake["AdjustmentType"] == "ChangeInCapacity"
    assert wake["StepAdjustments"] == [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}]
    # Downloading and starting a model of 40 GiB.
    assert wake["Cooldown"] == 1440 + 960
    alarm = hosted.alarm("-wake")
    assert alarm["MetricName"] == "HasBacklogWithoutCapacity"
    assert alarm["Dimensions"] == [{"Name": "EndpointName", "Value": NAME}]
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")
    (policy_id,) = (name for name, one in hosted.all(POLICY).items() if one["PolicyType"] == "StepScaling")
    assert alarm["AlarmActions"] == [{"Ref": policy_id}]


def test_an_endpoint_that_may_have_no_instance_starts_a_new_version_all_the_same() -> None:
    """Keeping a count of 0 would replace the old version by one that nobody has seen start."""
    hosted = host(FULL["async"])

    assert "RetainAllVariantProperties" not in hosted.only(ENDPOINT)
    assert hosted.variants[0]["InitialInstanceCount"] == 1


def test_an_asynchronous_endpoint_with_a_minimum_needs_no_waking_and_keeps_its_count() -> None:
    hosted = host(change("async", scaling={"min_instances": 1, "max_instances": 3}, rollout=None))

    assert {one["PolicyType"] for one in hosted.all(POLICY).values()} == {"TargetTrackingScaling"}
    assert hosted.all(ALARM) == {}
    assert hosted.only(ENDPOINT)["RetainAllVariantProperties"] is True


def test_copies_of_a_component_go_down_to_none_and_come_back_when_one_is_missed() -> None:
    hosted = host(FULL["component"])

    assert hosted.only(TARGET) == {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"inference-component/{NAME}",
        "ScalableDimension": "sagemaker:inference-component:DesiredCopyCount",
        "MinCapacity": 0,
        "MaxCapacity": 4,
    }
    assert hosted.comes_after(TARGET, COMPONENT)
    assert hosted.policy("TargetTrackingScaling")["PredefinedMetricSpecification"] == {
        "PredefinedMetricType": "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
    }
    assert hosted.policy("StepScaling")["Cooldown"] == 1200
    alarm = hosted.alarm("-wake")
    assert alarm["MetricName"] == "NoCapacityInvocationFailures"
    assert alarm["Dimensions"] == [{"Name": "InferenceComponentName", "Value": NAME}]
    # The metric only comes with a failure; without one the alarm must be ready to ring again.
    assert alarm["TreatMissingData"] == "notBreaching"


def test_a_component_with_a_minimum_of_copies_needs_no_waking() -> None:
    hosted = host(change("component", scaling={"min_copies": 1, "max_copies": 4}, rollout=None))

    assert {one["PolicyType"] for one in hosted.all(POLICY).values()} == {"TargetTrackingScaling"}


def test_a_multi_model_endpoint_follows_invocations_per_minute() -> None:
    tracked = host(FULL["multi_model"]).policy("TargetTrackingScaling")

    assert tracked["PredefinedMetricSpecification"] == {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    }
    assert tracked["TargetValue"] == 600


def test_every_metric_is_one_that_application_auto_scaling_knows() -> None:
    import botocore.session

    service = botocore.session.get_session().get_service_model("application-autoscaling")
    known = set(service.shape_for("MetricType").enum)
    used = {
        one["TargetTrackingScalingPolicyConfiguration"]["PredefinedMetricSpecification"]["PredefinedMetricType"]
        for mode in ("realtime", "component", "multi_model")
        for one in host(FULL[mode]).all(POLICY).values()
        if one["PolicyType"] == "TargetTrackingScaling"
    }

    assert len(used) == 3
    assert used <= known
