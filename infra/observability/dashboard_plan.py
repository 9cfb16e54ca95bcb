"""What the dashboard shows: graphs by name, of which each mode keeps those whose metrics it emits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tidegate.infra.observability import metrics, series
from tidegate.infra.observability.metrics import MetricReference
from tidegate.infra.observability.series import Chart
from tidegate.infra.observability.watched import WatchedEndpoint, WatchedVariant, WatchedWorkflows


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a graph."""

    label: str
    metric: MetricReference


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Lines that share a graph. `unit` is written on the axis."""

    title: str
    unit: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading with one sentence, and what stands below it."""

    heading: str
    text: str
    graphs: tuple[Graph | Chart, ...]


# Title, unit, and which metrics by which statistics. In the order in which one looks: is there traffic, does it fail,
# is it slow, where is the time, does it wait, and is the hardware full.
_GRAPHS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("Requests per minute", "requests", (("Invocations", "Sum"), ("InvocationsProcessed", "Sum"))),
    (
        "Errors per minute",
        "requests",
        (
            ("Invocation5XXErrors", "Sum"),
            ("Invocation4XXErrors", "Sum"),
            ("InvocationModelErrors", "Sum"),
            ("InvocationFailures", "Sum"),
            ("ExpiredRequests", "Sum"),
            ("NoCapacityInvocationFailures", "Sum"),
        ),
    ),
    ("In the container (ModelLatency)", "microseconds", (("ModelLatency", "p50"), ("ModelLatency", "p99"))),
    (
        "Outside the container (OverheadLatency)",
        "microseconds",
        (("OverheadLatency", "p50"), ("OverheadLatency", "p99"), ("OverheadLatency", "Average")),
    ),
    ("In the queue (TimeInBacklog)", "microseconds", (("TimeInBacklog", "Average"), ("TimeInBacklog", "Maximum"))),
    ("Cold starts (ModelSetupTime)", "microseconds", (("ModelSetupTime", "Average"), ("ModelSetupTime", "Maximum"))),
    (
        "Requests per minute and instance or copy",
        "requests",
        (("InvocationsPerInstance", "Sum"), ("InvocationsPerCopy", "Sum")),
    ),
    (
        "Requests at the same time",
        "requests",
        (("ConcurrentRequestsPerModel", "Maximum"), ("ConcurrentRequestsPerCopy", "Maximum")),
    ),
    (
        "Concurrency in use",
        "fraction",
        (
            ("ServerlessConcurrentExecutionsUtilization", "Maximum"),
            ("ServerlessProvisionedConcurrencyUtilization", "Maximum"),
        ),
    ),
    (
        "Beyond the provisioned concurrency, per minute",
        "requests",
        (("ServerlessProvisionedConcurrencySpilloverInvocations", "Sum"),),
    ),
    (
        "Backlog",
        "requests",
        (
            ("ApproximateBacklogSize", "Maximum"),
            ("ApproximateBacklogSizePerInstance", "Maximum"),
            ("HasBacklogWithoutCapacity", "Maximum"),
        ),
    ),
    ("Age of the oldest request", "seconds", (("ApproximateAgeOfOldestRequest", "Maximum"),)),
    ("Instances", "instances", (("CPUUtilization", "SampleCount"),)),
    ("Models loaded, per instance", "models", (("LoadedModelCount", "Average"),)),
    ("Requests whose model was loaded", "fraction", (("ModelCacheHit", "Average"),)),
    (
        "Loading a model",
        "microseconds",
        (("ModelDownloadingTime", "Average"), ("ModelLoadingTime", "Average"), ("ModelLoadingWaitTime", "Maximum")),
    ),
    ("GPU in use (100 for each GPU)", "percent", (("GPUUtilization", "Average"), ("GPUMemoryUtilization", "Maximum"))),
    (
        "GPU in use, per copy",
        "percent",
        (("GPUUtilizationNormalized", "Average"), ("GPUMemoryUtilizationNormalized", "Maximum")),
    ),
    ("CPU in use (100 for each core)", "percent", (("CPUUtilization", "Average"),)),
    ("CPU in use, per copy", "percent", (("CPUUtilizationNormalized", "Average"),)),
    (
        "Memory and disk in use",
        "percent",
        (("MemoryUtilization", "Maximum"), ("MemoryUtilizationNormalized", "Maximum"), ("DiskUtilization", "Maximum")),
    ),
)


def sections(
    endpoint: WatchedEndpoint, workflows: WatchedWorkflows, *, with_series: bool = True
) -> tuple[Section, ...]:
    """The endpoint as AWS sees it, the server as it sees itself, and the jobs; what there is none of is left out."""
    found = [
        Section(
            heading=f"Endpoint {endpoint.name}, {endpoint.mode}",
            text="As SageMaker sees it. One line for each variant.",
            graphs=tuple(_graphs(endpoint)),
        )
    ]
    if with_series and endpoint.mode in series.SCRAPED:
        here = series.of_endpoint(endpoint.name)
        found.append(
            Section(
                heading="Server",
                text="What the server says at /metrics. Empty until OTel enrichment is on: docs/observability.md.",
                graphs=(*series.of_requests(here), *(series.of_repository(here) if endpoint.repository else ())),
            )
        )
    if graphs := tuple(_jobs(workflows)):
        found.append(Section(heading="Jobs", text="Batch and roll-outs.", graphs=graphs))
    return tuple(found)


def _graphs(endpoint: WatchedEndpoint) -> Iterator[Graph]:
    there = metrics.emitted(endpoint)
    for title, unit, wanted in _GRAPHS:
        lines = tuple(
            _line(endpoint, variant, name, statistic)
            for name, statistic in wanted
            if name in there
            # What belongs to the endpoint or to a component is the same whatever the variant.
            for variant in (endpoint.variants if there[name].scope == "variant" else endpoint.variants[:1])
        )
        if lines:
            yield Graph(title=title, unit=unit, lines=lines)


def _line(endpoint: WatchedEndpoint, variant: WatchedVariant, name: str, statistic: str) -> Line:
    label = f"{name} {statistic}"
    if len(endpoint.variants) > 1 and metrics.emitted(endpoint)[name].scope == "variant":
        label = f"{variant.name}: {label}"
    return Line(label=label, metric=metrics.of(endpoint, name, statistic, variant=variant.name))


def _jobs(workflows: WatchedWorkflows) -> Iterator[Graph]:
    for machine in workflows.state_machines:
        yield Graph(
            title=f"Executions of {machine.name}",
            unit="executions",
            lines=tuple(
                Line(
                    label=name.removeprefix("Executions").lower(),
                    metric=MetricReference(
                        namespace="AWS/States",
                        name=name,
                        dimensions={"StateMachineArn": machine.arn},
                        statistic="Sum",
                        period_s=300,
                    ),
                )
                for name in ("ExecutionsStarted", "ExecutionsSucceeded", "ExecutionsFailed", "ExecutionsTimedOut")
            ),
        )
    if workflows.dead_letter_queues:
        yield Graph(
            title="Not delivered",
            unit="events",
            lines=tuple(
                Line(
                    label=queue,
                    metric=MetricReference(
                        namespace="AWS/SQS",
                        name="ApproximateNumberOfMessagesVisible",
                        dimensions={"QueueName": queue},
                        statistic="Maximum",
                        period_s=300,
                    ),
                )
                for queue in workflows.dead_letter_queues
            ),
        )
