"""The two alarms that Application Auto Scaling makes for a target tracking policy, as on AWS.

Names, periods and counts are those that PutScalingPolicy answers with on AWS; ten-second periods of the metrics with a
high resolution are minutes here.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]
HIGH, LOW = "AlarmHigh", "AlarmLow"
_NAMESPACE = "AWS/SageMaker"
_LOW_SHARE = 0.9
_PERIODS_HIGH, _PERIODS_LOW = 3, 15

INSTANCES = "sagemaker:variant:DesiredInstanceCount"
PROVISIONED = "sagemaker:variant:DesiredProvisionedConcurrency"
COPIES = "sagemaker:inference-component:DesiredCopyCount"
# Predefined metric to (dimension, metric, statistic). Source: "Define a scaling policy" in the SageMaker guide.
PREDEFINED = {
    "SageMakerVariantInvocationsPerInstance": (INSTANCES, "InvocationsPerInstance", "Sum"),
    "SageMakerVariantConcurrentRequestsPerModelHighResolution": (INSTANCES, "ConcurrentRequestsPerModel", "Maximum"),
    "SageMakerVariantProvisionedConcurrencyUtilization": (
        PROVISIONED,
        "ServerlessProvisionedConcurrencyUtilization",
        "Maximum",
    ),
    "SageMakerInferenceComponentInvocationsPerCopy": (COPIES, "InvocationsPerCopy", "Sum"),
    "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution": (
        COPIES,
        "ConcurrentRequestsPerCopy",
        "Maximum",
    ),
}


def alarms_of(config: Mapping[str, Any], *, resource: str, policy_arn: str) -> list[Json]:
    """The PutMetricAlarm requests of a policy on ``resource``, whose configuration has been checked."""
    target = float(config["TargetValue"])
    requests = []
    for kind, comparison, threshold, periods in (
        (HIGH, "GreaterThanThreshold", target, _PERIODS_HIGH),
        (LOW, "LessThanThreshold", target * _LOW_SHARE, _PERIODS_LOW),
    ):
        if kind == LOW and config.get("DisableScaleIn"):
            continue
        requests.append(
            {
                "AlarmName": f"TargetTracking-{resource}-{kind}-{uuid.uuid4()}",
                "AlarmDescription": f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy_arn}.",
                "AlarmActions": [policy_arn],
                "ComparisonOperator": comparison,
                "Threshold": threshold,
                "EvaluationPeriods": periods,
                **_metric(config, resource),
            }
        )
    return requests


def _metric(config: Mapping[str, Any], resource: str) -> Json:
    custom = config.get("CustomizedMetricSpecification")
    if custom is not None and custom.get("Metrics"):
        return {"Metrics": [_query(query) for query in custom["Metrics"]]}
    if custom is not None:
        return {
            "Namespace": custom["Namespace"],
            "MetricName": custom["MetricName"],
            "Dimensions": custom.get("Dimensions", []),
            "Statistic": custom["Statistic"],
            "Period": 60,
        }
    _, name, statistic = PREDEFINED[config["PredefinedMetricSpecification"]["PredefinedMetricType"]]
    return {
        "Namespace": _NAMESPACE,
        "MetricName": name,
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions_of(resource).items()],
        "Statistic": statistic,
        "Period": 60,
    }


def _query(query: Mapping[str, Any]) -> Json:
    given = {key: value for key, value in query.items() if value is not None}
    if "MetricStat" in given:
        given["MetricStat"] = {**given["MetricStat"], "Period": 60}
    return given


def dimensions_of(resource: str) -> dict[str, str]:
    """``endpoint/NAME/variant/NAME`` or ``inference-component/NAME`` as CloudWatch's dimensions."""
    kind, name, *rest = resource.split("/")
    if kind == "endpoint":
        return {"EndpointName": name, "VariantName": rest[-1]}
    return {"InferenceComponentName": name}
