"""One endpoint's plain state: what it is, which changes it takes, and how it is described."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime

from tidegate.local_cloud.sagemaker import data_capture
from tidegate.local_cloud.sagemaker.fleet import Fleet, Plan, VariantPlan
from tidegate.local_cloud.sagemaker.state import Json

_DESCRIBED = ("ManagedInstanceScaling", "RoutingConfig")  # what a summary has of a variant as it was given


@dataclass(slots=True, kw_only=True)
class Pending:
    """A deployment under way, as DescribeEndpoint tells of it. ``status`` is that of ProductionVariantStatus."""

    plan: Plan
    counts: dict[str, int]
    started: datetime
    since: datetime
    status: str = "Creating"
    current: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """One endpoint's plain state.

    During a deployment ``new_fleet`` answers too: ``shares`` says which part of each variant's traffic is its own.
    """

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
    pending: Pending | None = None
    last_deployment_config: Json | None = None
    shares: dict[str, float] = field(default_factory=dict)
    fleet: Fleet | None = None
    new_fleet: Fleet | None = None
    generation: int = 0
    worker: threading.Thread | None = None  # of the last change; it may still be stopping what that replaced


def refusal(status: str, change: str, kind: str) -> str | None:
    """Why ``change`` ("update" or "delete") is not accepted in ``status``; None when it is.

    The service moves an endpoint only from a resting status; of a Failed one DeleteEndpoint is all it accepts
    (DescribeEndpoint, EndpointStatus).
    """
    if status not in ("InService", "Failed", "UpdateRollbackFailed"):
        return f"Cannot update in-progress {kind}"
    if change == "update" and status == "Failed":
        return f"Cannot update failed {kind}"
    return None


def adopt(endpoint: Endpoint, plan: Plan, kept: Set[str] = frozenset()) -> None:
    """Makes ``plan`` the endpoint's; ``kept`` as in :meth:`.endpoints.Endpoints.update`."""
    endpoint.plan = plan
    weights = endpoint.weights if "DesiredWeight" in kept else {}
    endpoint.weights = {variant.name: weights.get(variant.name, variant.weight) for variant in plan.all_variants}
    endpoint.instance_counts = counts_of(endpoint, plan, kept)


def counts_of(endpoint: Endpoint, plan: Plan, kept: Set[str] = frozenset()) -> dict[str, int]:
    """How many instances each variant of ``plan`` is to have."""
    counts = endpoint.instance_counts if "DesiredInstanceCount" in kept else {}
    names_of_components = {variant["VariantName"] for variant in plan.component_variants}
    if endpoint.fleet is not None:
        # An update tries its models: one that was scaled to none starts as many as at first.
        counts = {name: count for name, count in counts.items() if count or name in names_of_components}
    return {variant.name: counts.get(variant.name, variant.instance_count) for variant in plan.all_variants} | {
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
        if endpoint.plan.shadow is not None:
            description["ShadowProductionVariants"] = [_variant_summary(endpoint, endpoint.plan.shadow)]
    if endpoint.plan.capture_config is not None:
        description["DataCaptureConfig"] = data_capture.summary(endpoint.plan.capture_config)
    if endpoint.plan.async_config is not None:
        description["AsyncInferenceConfig"] = endpoint.plan.async_config
    if endpoint.last_deployment_config is not None:
        description["LastDeploymentConfig"] = endpoint.last_deployment_config
    if endpoint.pending is not None:
        description["PendingDeploymentSummary"] = _pending_summary(endpoint.pending, endpoint.shares)
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
    summary |= {member: request[member] for member in _DESCRIBED if member in request}
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


def _pending_summary(pending: Pending, shares: Mapping[str, float]) -> Json:
    def of_variant(variant: VariantPlan) -> Json:
        status = {
            "Status": pending.status,
            "StatusMessage": f"{shares.get(variant.name, 0.0):.0%} of the traffic",
            "StartTime": pending.since,
        }
        summary = _summary_of(
            variant,
            weight=variant.weight,
            current=pending.current.get(variant.name, 0),
            desired=pending.counts[variant.name],
        )
        instance_type = {"InstanceType": variant.request["InstanceType"]} if "InstanceType" in variant.request else {}
        return summary | instance_type | {"VariantStatus": [status]}

    shadow = pending.plan.shadow
    return {
        "EndpointConfigName": pending.plan.config_name,
        "StartTime": pending.started,
        **({} if shadow is None else {"ShadowProductionVariants": [of_variant(shadow)]}),
        "ProductionVariants": [of_variant(variant) for variant in pending.plan.variants]
        + [
            {"VariantName": variant["VariantName"], "DesiredInstanceCount": pending.counts[variant["VariantName"]]}
            for variant in pending.plan.component_variants
        ],
    }


def _variant_summary(endpoint: Endpoint, variant: VariantPlan) -> Json:
    return _summary_of(
        variant,
        weight=endpoint.weights[variant.name],
        current=endpoint.current_counts.get(variant.name, 0),
        desired=endpoint.instance_counts[variant.name],
    )


def _summary_of(variant: VariantPlan, *, weight: float, current: int, desired: int) -> Json:
    summary: Json = {"VariantName": variant.name, "CurrentWeight": weight, "DesiredWeight": weight}
    if variant.serverless is not None:
        summary |= {"CurrentServerlessConfig": variant.serverless, "DesiredServerlessConfig": variant.serverless}
    else:
        summary |= {"CurrentInstanceCount": current, "DesiredInstanceCount": desired}
        summary |= _pools(variant.request, current)
        summary |= {name: variant.request[name] for name in _DESCRIBED if name in variant.request}
    images = [container["Image"] for container in variant.model.containers.values() if "Image" in container]
    if images:
        summary["DeployedImages"] = [
            {"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": variant.model.created}
            for image in images
        ]
    return summary
