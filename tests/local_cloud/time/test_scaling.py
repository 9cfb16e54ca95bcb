"""Application Auto Scaling acts on instances and copies, within bounds, by the clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.local_cloud.conftest import BUCKET, await_true
from tests.local_cloud.time.conftest import TimedAccount

INSTANCES = "sagemaker:variant:DesiredInstanceCount"
COPIES = "sagemaker:inference-component:DesiredCopyCount"


def register(
    account: TimedAccount, resource: str, least: int, most: int, *, dimension: str = INSTANCES
) -> dict[str, str]:
    target = {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": dimension}
    account.scaling.register_scalable_target(**target, MinCapacity=least, MaxCapacity=most)
    return target


def track(account: TimedAccount, target: dict[str, str], value: float, **members: Any) -> dict[str, Any]:
    kind = "SageMakerVariantInvocationsPerInstance"
    config = {"TargetValue": value, "PredefinedMetricSpecification": {"PredefinedMetricType": kind}, **members}
    answer: dict[str, Any] = account.scaling.put_scaling_policy(
        **target,
        PolicyName=account.name("track"),
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=config,
    )
    return answer


def invoke(account: TimedAccount, endpoint: str, times: int) -> None:
    for _ in range(times):
        account.invoke(endpoint, b"echo:1")


def test_target_tracking_adds_instances_under_load_up_to_the_most_there_may_be(account: TimedAccount) -> None:
    endpoint = account.endpoint(account.model())
    target = register(account, f"endpoint/{endpoint}/variant/variant-0", 1, 2)
    policy = track(account, target, 2.0, ScaleOutCooldown=60)
    assert sorted(alarm["AlarmName"].split("-")[-6] for alarm in policy["Alarms"]) == ["AlarmHigh", "AlarmLow"]
    begin = end = account.cloud.advance(0)
    while account.instances(endpoint) == 1:
        invoke(account, endpoint, 20)
        end = account.advance(minutes=1)
        assert end - begin < timedelta(hours=1)
    assert end - begin >= timedelta(minutes=2)  # three minutes in a row make the alarm
    invoke(account, endpoint, 20)
    account.advance(minutes=1)
    assert account.instances(endpoint) == 2  # ten times as much asks for twenty
    (activity, *_) = account.scaling.describe_scaling_activities(**target)["ScalingActivities"]
    assert (activity["StatusCode"], activity["Description"]) == ("Successful", "Setting desired instance count to 2.")
    assert "AlarmHigh" in activity["Cause"]
    described = account.settled(endpoint)["ProductionVariants"][0]
    assert described["CurrentInstanceCount"] == 2
    account.scaling.deregister_scalable_target(**target)
    names = [alarm["AlarmName"] for alarm in policy["Alarms"]]
    assert account.cloudwatch.describe_alarms(AlarmNames=names)["MetricAlarms"] == []
    account.delete(endpoint)


def test_target_tracking_takes_instances_away_after_a_quarter_of_an_hour_of_little_load(account: TimedAccount) -> None:
    endpoint = account.endpoint(account.model(), InitialInstanceCount=2)
    target = register(account, f"endpoint/{endpoint}/variant/variant-0", 1, 2)
    track(account, target, 100.0)
    begin = end = account.cloud.advance(0)
    while account.instances(endpoint) == 2:
        invoke(account, endpoint, 1)
        end = account.advance(minutes=1)
        assert end - begin < timedelta(hours=2)
    assert end - begin >= timedelta(minutes=14)
    account.scaling.deregister_scalable_target(**target)
    account.delete(endpoint)


def test_a_policy_that_is_put_again_keeps_its_name_in_alarms_and_its_two_alarms(account: TimedAccount) -> None:
    endpoint = account.endpoint(account.model())
    target = register(account, f"endpoint/{endpoint}/variant/variant-0", 1, 2)
    kind = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}

    def put(value: float) -> dict[str, Any]:
        answer: dict[str, Any] = account.scaling.put_scaling_policy(
            **target,
            PolicyName="one",
            PolicyType="TargetTrackingScaling",
            TargetTrackingScalingPolicyConfiguration={"TargetValue": value, "PredefinedMetricSpecification": kind},
        )
        return answer

    first, second = put(10.0), put(20.0)
    assert first["PolicyARN"] == second["PolicyARN"]
    found = account.cloudwatch.describe_alarms(AlarmNamePrefix=f"TargetTracking-{target['ResourceId']}")["MetricAlarms"]
    assert sorted(alarm["Threshold"] for alarm in found) == [18.0, 20.0]
    account.scaling.deregister_scalable_target(**target)
    account.delete(endpoint)


def test_a_scheduled_action_moves_the_bounds_and_brings_the_target_within_them(account: TimedAccount) -> None:
    endpoint = account.endpoint(account.model())
    target = register(account, f"endpoint/{endpoint}/variant/variant-0", 1, 2)
    for name, expression, bounds in (
        ("day", "cron(0 8 * * ? *)", {"MinCapacity": 2, "MaxCapacity": 2}),
        ("night", "cron(0 20 * * ? *)", {"MinCapacity": 1, "MaxCapacity": 1}),
    ):
        account.scaling.put_scheduled_action(
            **target, ScheduledActionName=name, Schedule=expression, ScalableTargetAction=bounds
        )
    seen = []
    for _ in range(2):
        now = account.cloud.advance(0)
        minutes_of_day = now.hour * 60 + now.minute
        goal = 8 * 60 if not 8 * 60 <= minutes_of_day < 20 * 60 else 20 * 60
        account.advance(minutes=(goal - minutes_of_day) % (24 * 60) + 2)
        seen.append((goal, account.instances(endpoint)))
    assert sorted(seen) == [(8 * 60, 2), (20 * 60, 1)]
    account.scaling.deregister_scalable_target(**target)
    account.delete(endpoint)


def test_an_asynchronous_endpoint_goes_to_none_without_work_and_wakes_for_it(account: TimedAccount) -> None:
    endpoint = account.asynchronous()
    target = register(account, f"endpoint/{endpoint}/variant/only", 0, 1)
    metric = {
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Namespace": "AWS/SageMaker",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
        "Statistic": "Average",
    }
    account.scaling.put_scaling_policy(
        **target,
        PolicyName="track",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={"TargetValue": 5.0, "CustomizedMetricSpecification": metric},
    )
    wake = account.scaling.put_scaling_policy(
        **target,
        PolicyName="wake",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "Cooldown": 300,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )["PolicyARN"]
    account.alarm(
        account.name("wake"),
        Namespace="AWS/SageMaker",
        MetricName="HasBacklogWithoutCapacity",
        Dimensions=[{"Name": "EndpointName", "Value": endpoint}],
        Statistic="Average",
        TreatMissingData="notBreaching",
        AlarmActions=[wake],
    )
    account.advance(minutes=20)
    assert account.instances(endpoint) == 0
    location = account.runtime.invoke_endpoint_async(EndpointName=endpoint, Body=b"echo:1")["OutputLocation"]
    key = location.removeprefix(f"s3://{BUCKET}/")
    account.advance(minutes=1)
    assert account.instances(endpoint) == 1
    await_true(lambda: bool(account.keys(key)), "the request that woke it is answered")
    account.scaling.deregister_scalable_target(**target)
    account.delete(endpoint)


def test_a_component_wakes_from_no_copies_and_goes_back_to_none(account: TimedAccount) -> None:
    config, endpoint, component = account.name("config"), account.name("endpoint"), account.name("component")
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=config,
        ExecutionRoleArn="arn:aws:iam::123456789012:role/service",
        ProductionVariants=[{"VariantName": "v", "InstanceType": "ml.g6.xlarge", "InitialInstanceCount": 1}],
    )
    account.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    account.settled(endpoint)
    account.sagemaker.create_inference_component(
        InferenceComponentName=component,
        EndpointName=endpoint,
        VariantName="v",
        Specification={
            "ModelName": account.model(),
            "ComputeResourceRequirements": {"MinMemoryRequiredInMb": 128},
        },
        RuntimeConfig={"CopyCount": 0},
    )
    target = register(account, f"inference-component/{component}", 0, 1, dimension=COPIES)
    kind = {"PredefinedMetricType": "SageMakerInferenceComponentInvocationsPerCopy"}
    account.scaling.put_scaling_policy(
        **target,
        PolicyName="track",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={"TargetValue": 5.0, "PredefinedMetricSpecification": kind},
    )
    wake = account.scaling.put_scaling_policy(
        **target,
        PolicyName="wake",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )["PolicyARN"]
    account.alarm(
        account.name("wake"),
        Namespace="AWS/SageMaker",
        MetricName="NoCapacityInvocationFailures",
        Dimensions=[{"Name": "InferenceComponentName", "Value": component}],
        AlarmActions=[wake],
        TreatMissingData="notBreaching",
    )
    with pytest.raises(account.runtime.exceptions.ClientError, match="has no capacity"):
        account.invoke(endpoint, b"echo:1", InferenceComponentName=component)

    def copies() -> int:
        described = account.sagemaker.describe_inference_component(InferenceComponentName=component)
        count: int = described["RuntimeConfig"]["CurrentCopyCount"]
        return count

    account.advance(minutes=1)
    await_true(lambda: copies() == 1, "the first copy comes")
    account.invoke(endpoint, b"echo:1", InferenceComponentName=component)
    account.advance(minutes=25)
    await_true(lambda: copies() == 0, "the last copy goes")
    account.scaling.deregister_scalable_target(**target)
    account.sagemaker.delete_inference_component(InferenceComponentName=component)
