"""What policies make of metrics: pure rules."""

from __future__ import annotations

import pytest

from tidegate.local_cloud.scaling.policies import allowed, stepped, tracked
from tidegate.local_cloud.scaling.tracking_alarms import alarms_of

VARIANT = "endpoint/e/variant/v"
STEPS = [
    {"MetricIntervalUpperBound": -10.0, "ScalingAdjustment": -2},
    {"MetricIntervalLowerBound": -10.0, "MetricIntervalUpperBound": 0.0, "ScalingAdjustment": -1},
    {"MetricIntervalLowerBound": 0.0, "MetricIntervalUpperBound": 10.0, "ScalingAdjustment": 1},
    {"MetricIntervalLowerBound": 10.0, "ScalingAdjustment": 3},
]


@pytest.mark.parametrize(
    ("capacity", "value", "target", "wanted"),
    [(2, 100, 50, 4), (2, 51, 50, 3), (2, 50, 50, 2), (4, 10, 50, 1), (4, 0, 50, 0), (3, 0.1 * 3, 0.1, 9)],
)
def test_target_tracking_goes_to_where_the_metric_is_at_its_target(
    capacity: int, value: float, target: float, wanted: int
) -> None:
    assert tracked(capacity, value=value, target=target) == wanted


@pytest.mark.parametrize(("breach", "wanted"), [(0, 6), (9.9, 6), (10, 8), (500, 8), (-1, 4), (-10, 3), (-11, 3)])
def test_a_step_is_chosen_by_how_far_the_threshold_is_passed(breach: float, wanted: int) -> None:
    assert stepped({"AdjustmentType": "ChangeInCapacity", "StepAdjustments": STEPS}, 5, breach=breach) == wanted


@pytest.mark.parametrize(
    ("config", "adjustment", "wanted"),
    [
        ({"AdjustmentType": "ExactCapacity"}, 7, 7),
        ({"AdjustmentType": "PercentChangeInCapacity"}, 50, 15),
        ({"AdjustmentType": "PercentChangeInCapacity"}, 5, 11),
        ({"AdjustmentType": "PercentChangeInCapacity"}, -5, 9),
        ({"AdjustmentType": "PercentChangeInCapacity", "MinAdjustmentMagnitude": 4}, 10, 14),
    ],
)
def test_an_adjustment_is_read_as_its_type_says(config: dict[str, object], adjustment: float, wanted: int) -> None:
    steps = [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": adjustment}]
    assert stepped({**config, "StepAdjustments": steps}, 10, breach=1) == wanted


@pytest.mark.parametrize(
    ("wanted", "capacity", "expected"), [(9, 2, 4), (3, 2, 3), (0, 2, 1), (9, 6, 6), (0, 0, 0), (2, 2, 2)]
)
def test_a_capacity_stays_within_its_bounds_and_is_never_driven_further_out(
    wanted: int, capacity: int, expected: int
) -> None:
    assert allowed(wanted, capacity=capacity, least=1, most=4) == expected


def test_a_target_tracking_policy_has_an_alarm_for_each_way() -> None:
    config = {
        "TargetValue": 50.0,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    }
    high, low = alarms_of(config, resource=VARIANT, policy_arn="arn:policy")
    assert (high["Threshold"], high["EvaluationPeriods"], high["ComparisonOperator"]) == (
        50.0,
        3,
        "GreaterThanThreshold",
    )
    assert (low["Threshold"], low["EvaluationPeriods"], low["ComparisonOperator"]) == (45.0, 15, "LessThanThreshold")
    assert high["Dimensions"] == [{"Name": "EndpointName", "Value": "e"}, {"Name": "VariantName", "Value": "v"}]
    assert len(alarms_of({**config, "DisableScaleIn": True}, resource=VARIANT, policy_arn="arn:policy")) == 1
