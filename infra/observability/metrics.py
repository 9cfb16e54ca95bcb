"""Which CloudWatch metrics each hosting mode emits, and under which dimensions.

Sources: SageMaker developer guide, "SageMaker AI metrics in Amazon CloudWatch" and the pages on monitoring asynchronous
and serverless endpoints. Those two lists are exhaustive: an asynchronous endpoint has no `Invocations` and no
`OverheadLatency`, a serverless one no CPU and no disk. An alarm on a metric that is never emitted would stay silent for
ever, so `of` refuses to name one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tidegate.infra.observability.watched import Mode, WatchedEndpoint

REQUESTS = "AWS/SageMaker"
INSTANCES = "/aws/sagemaker/Endpoints"
COMPONENTS = "/aws/sagemaker/InferenceComponents"

Scope = Literal["variant", "endpoint", "component"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """Where a metric is found: its namespace, and what its dimensions name."""

    namespace: str
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricReference:
    """One series of CloudWatch with its statistic, such as `Sum` or `p99`, over periods of `period_s`."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    statistic: str
    period_s: int = 60


def _emitted(namespace: str, scope: Scope, *names: str) -> dict[str, Emitted]:
    return dict.fromkeys(names, Emitted(namespace=namespace, scope=scope))


_ANSWERS = ("Invocation4XXErrors", "Invocation5XXErrors", "ModelLatency")
_SYNCHRONOUS = (*_ANSWERS, "Invocations", "OverheadLatency")
_INSTANCE = ("CPUUtilization", "MemoryUtilization", "DiskUtilization")
_GPU = ("GPUUtilization", "GPUMemoryUtilization")

_INSTANCES = _emitted(REQUESTS, "variant", *_SYNCHRONOUS, "InvocationModelErrors", "InvocationsPerInstance") | _emitted(
    INSTANCES, "variant", *_INSTANCE
)
_EMITTED: Mapping[Mode, Mapping[str, Emitted]] = {
    "realtime": _INSTANCES | _emitted(REQUESTS, "variant", "ConcurrentRequestsPerModel"),
    # Without the number of requests at the same time, which AWS documents for one model per variant.
    "multi_model": _INSTANCES
    | _emitted(REQUESTS, "variant", "ModelCacheHit", "ModelLoadingWaitTime", "ModelLoadingTime", "ModelDownloadingTime")
    | _emitted(INSTANCES, "variant", "LoadedModelCount"),
    "async": _emitted(
        REQUESTS,
        "variant",
        *_ANSWERS,
        "InvocationFailures",
        "InvocationsProcessed",
        "ExpiredRequests",
        "TimeInBacklog",
        "TotalProcessingTime",
    )
    | _emitted(
        REQUESTS,
        "endpoint",
        "ApproximateBacklogSize",
        "ApproximateBacklogSizePerInstance",
        "ApproximateAgeOfOldestRequest",
        "HasBacklogWithoutCapacity",
    )
    | _emitted(INSTANCES, "variant", *_INSTANCE),
    "serverless": _emitted(
        REQUESTS, "variant", *_SYNCHRONOUS, "ModelSetupTime", "ServerlessConcurrentExecutionsUtilization"
    )
    | _emitted(INSTANCES, "variant", "MemoryUtilization"),
    # Utilisation per copy, already from 0 to 100 whatever the number of cores and GPUs.
    "component": _emitted(
        REQUESTS,
        "component",
        *_SYNCHRONOUS,
        "InvocationModelErrors",
        "InvocationsPerCopy",
        "ConcurrentRequestsPerCopy",
        "NoCapacityInvocationFailures",
    )
    | _emitted(COMPONENTS, "component", "CPUUtilizationNormalized", "MemoryUtilizationNormalized")
    | _emitted(INSTANCES, "variant", "DiskUtilization"),
}
_PROVISIONED = _emitted(
    REQUESTS,
    "variant",
    "ServerlessProvisionedConcurrencyUtilization",
    "ServerlessProvisionedConcurrencySpilloverInvocations",
)
_COMPONENT_GPU = _emitted(COMPONENTS, "component", "GPUUtilizationNormalized", "GPUMemoryUtilizationNormalized")


def emitted(endpoint: WatchedEndpoint) -> Mapping[str, Emitted]:
    """Every metric that `endpoint` emits, by its name."""
    found = dict(_EMITTED[endpoint.mode])
    if any(variant.gpus for variant in endpoint.variants):
        found |= _COMPONENT_GPU if endpoint.mode == "component" else _emitted(INSTANCES, "variant", *_GPU)
    if endpoint.provisioned_concurrency:
        found |= _PROVISIONED
    return found


def of(
    endpoint: WatchedEndpoint, name: str, statistic: str, *, variant: str | None = None, period_s: int = 60
) -> MetricReference:
    """The series of `name`; `variant` says of which variant, where the metric belongs to one (default: the first).

    Raises `LookupError` for a metric that the endpoint's mode does not emit.
    """
    where = emitted(endpoint).get(name)
    if where is None:
        raise LookupError(f"an endpoint in mode {endpoint.mode} emits no {name}")
    if where.scope == "component":
        if endpoint.component is None:
            raise LookupError(f"{name} belongs to an inference component, and {endpoint.name} names none")
        dimensions = {"InferenceComponentName": endpoint.component}
    elif where.scope == "endpoint":
        dimensions = {"EndpointName": endpoint.name}
    else:
        dimensions = {"EndpointName": endpoint.name, "VariantName": variant or endpoint.variants[0].name}
    return MetricReference(
        namespace=where.namespace, name=name, dimensions=dimensions, statistic=statistic, period_s=period_s
    )
