"""One endpoint's plain state: what it is, which changes it takes, and how it is described."""

from __future__ import annotations

import threading
from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime

from tidegate.local_cloud.sagemaker.fleet import Fleet, Plan, VariantPlan
from tidegate.local_cloud.sagemaker.state import Json


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """One endpoint's plain state."""

    name: str
    arn: str
    created: datetime
    modified: datetime
    status: str
    plan: Plan
    weights: dict[str, float]
    instance_counts: dict[str, int]  # as they are asked for
    current_counts: dict[str, int]  # of those that run
    failure_reason: str | None = None
    fleet: Fleet | None = None
    generation: int = 0
    worker: threading.Thread | None = None  # of the last change; it may still be stopping what that replaced


def refusal(status: str, change: str, kind: str) -> str | None:
    """Why ``change`` ("update" or "delete") is not accepted in ``status``; None when it is.

    The service moves an endpoint only from a resting status; of a Failed one DeleteEndpoint is all it accepts
    (DescribeEndpoint, EndpointStatus).
    """
    if status not in ("InService", "Failed"):
        return f"Cannot update in-progress {kind}"
    if change == "update" and status == "Failed":
        return f"Cannot update failed {kind}"
    return None


def adopt(endpoint: Endpoint, plan: Plan, kept: Set[str] = frozenset()) -> None:
    """Makes ``plan`` the endpoint's; ``kept`` as in :meth:`.endpoints.Endpoints.update`."""
    endpoint.plan = plan
    weights = endpoint.weights if "DesiredWeight" in kept else {}
    endpoint.weights = {variant.name: weights.get(variant.name, variant.weight) for variant in plan.variants}
    endpoint.instance_counts = counts_of(endpoint, plan, kept)


def counts_of(endpoint: Endpoint, plan: Plan, kept: Set[str] = frozenset()) -> dict[str, int]:
    """How many instances each variant of ``plan`` is to have."""
    counts = endpoint.instance_counts if "DesiredInstanceCount" in kept else {}
    return {variant.name: counts.get(variant.name, variant.instance_count) for variant in plan.variants} | {
        variant["VariantName"]: counts.get(variant["VariantName"], int(variant["InitialInstanceCount"]))
        for variant in plan.component_variants
    }


def described(endpoint: Endpoint) -> Json:
    """The members of DescribeEndpoint."""
    description = summary(endpoint) | {"EndpointConfigName": endpoint.plan.config_name}
    if endpoint.status != "Failed":
        description["ProductionVariants"] = [
            *(_variant_summary(endpoint, variant) for variant in endpoint.plan.variants),
            *(_component_variant_summary(endpoint, variant) for variant in endpoint.plan.component_variants),
        ]
    if endpoint.plan.async_config is not None:
        description["AsyncInferenceConfig"] = endpoint.plan.async_config
    if endpoint.plan.deployment_config is not None:
        description["LastDeploymentConfig"] = endpoint.plan.deployment_config
    if endpoint.failure_reason is not None:
        description["FailureReason"] = endpoint.failure_reason
    return description


def summary(endpoint: Endpoint) -> Json:
    """The members of ListEndpoints' summaries."""
    return {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
        "EndpointStatus": endpoint.status,
    }


def _component_variant_summary(endpoint: Endpoint, request: Json) -> Json:
    count = endpoint.instance_counts[request["VariantName"]]
    summary: Json = {
        "VariantName": request["VariantName"],
        "CurrentInstanceCount": count,
        "DesiredInstanceCount": count,
    }
    for member in ("ManagedInstanceScaling", "RoutingConfig"):
        if member in request:
            summary[member] = request[member]
    return summary | _pools(request, count)


def _pools(request: Json, count: int) -> Json:
    """The instances of each type of a variant that has several; here the first choice is always to be had."""
    if "InstancePools" not in request:
        return {}
    by_priority = sorted(request["InstancePools"], key=lambda pool: int(pool["Priority"]))
    return {
        "InstancePools": [
            {"InstanceType": pool["InstanceType"], "CurrentInstanceCount": 0 if place else count}
            for place, pool in enumerate(by_priority)
        ]
    }


def _variant_summary(endpoint: Endpoint, variant: VariantPlan) -> Json:
    summary: Json = {
        "VariantName": variant.name,
        "CurrentWeight": endpoint.weights[variant.name],
        "DesiredWeight": endpoint.weights[variant.name],
    }
    if variant.serverless is not None:
        summary |= {"CurrentServerlessConfig": variant.serverless, "DesiredServerlessConfig": variant.serverless}
    else:
        current = endpoint.current_counts.get(variant.name, 0)
        summary |= {"CurrentInstanceCount": current, "DesiredInstanceCount": endpoint.instance_counts[variant.name]}
        summary |= _pools(variant.request, current)
    images = [container["Image"] for container in variant.model.containers.values() if "Image" in container]
    if images:
        summary["DeployedImages"] = [
            {"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": variant.model.created}
            for image in images
        ]
    return summary
