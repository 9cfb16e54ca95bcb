"""Which alarms an endpoint has, and why: pure rules from its mode and the thresholds to plain values."""

from __future__ import annotations

from collections.abc import Iterator

from tidegate.infra.configuration.operations import Alarms as Thresholds
from tidegate.infra.observability import metrics, series
from tidegate.infra.observability.alarm import FIVE_MINUTES_S, Alarm, MetricAlarm, SeriesAlarm, on_one
from tidegate.infra.observability.metrics import MetricReference
from tidegate.infra.observability.watched import WatchedEndpoint, WatchedVariant
from tidegate.infra.validation.sentences import counted


def of_endpoint(endpoint: WatchedEndpoint, thresholds: Thresholds) -> tuple[Alarm, ...]:
    """Every alarm that the endpoint's mode can raise."""
    return (
        *(alarm for variant in _owners(endpoint) for alarm in _of_variant(endpoint, variant, thresholds)),
        *_of_queue(endpoint, thresholds),
        *_of_workers(endpoint, thresholds),
    )


def _owners(endpoint: WatchedEndpoint) -> tuple[WatchedVariant, ...]:
    # A component's metrics carry its name and no variant's.
    return endpoint.variants[:1] if endpoint.mode == "component" else endpoint.variants


def _of_variant(endpoint: WatchedEndpoint, variant: WatchedVariant, thresholds: Thresholds) -> Iterator[Alarm]:
    several = len(_owners(endpoint)) > 1
    of_which = f" of variant {variant.name}" if several else ""
    suffix = f"-{variant.name}" if several else ""
    there = metrics.emitted(endpoint)

    def series_of(name: str, statistic: str) -> MetricReference:
        return metrics.of(endpoint, name, statistic, variant=variant.name)

    yield from _of_answers(endpoint, variant, thresholds, suffix, of_which)
    p99_ms = _latency_limit_ms(endpoint, thresholds)
    if p99_ms is not None:
        yield on_one(
            kind=f"latency{suffix}",
            meaning=f"One answer in a hundred{of_which} takes longer than {p99_ms:g} ms in the container.",
            metric=series_of("ModelLatency", "p99"),
            threshold=p99_ms * 1000,
            breaching=3,
            periods=5,
        )
    # A serverless endpoint's overhead holds its cold starts, which are no fault.
    if thresholds.overhead_average_ms is not None and "OverheadLatency" in there and endpoint.mode != "serverless":
        yield on_one(
            kind=f"overhead{suffix}",
            meaning=f"Requests{of_which} spend more than {thresholds.overhead_average_ms} ms outside the container.",
            metric=series_of("OverheadLatency", "Average"),
            threshold=thresholds.overhead_average_ms * 1000,
            breaching=3,
            periods=5,
        )
    yield from _of_hardware(endpoint, variant, thresholds, suffix, of_which)
    minutes = thresholds.no_capacity_minutes
    if minutes is not None and endpoint.mode in {"realtime", "multi_model"}:
        yield on_one(
            kind=f"no-instance{suffix}",
            # Each instance sends this metric once a minute.
            meaning=f"No instance{of_which} has reported for {counted(minutes, 'minute')}: none is up.",
            metric=series_of("CPUUtilization", "SampleCount"),
            comparison="LessThanThreshold",
            threshold=1,
            breaching=minutes,
            periods=minutes,
            missing="breaching",
        )


def _of_hardware(
    endpoint: WatchedEndpoint, variant: WatchedVariant, thresholds: Thresholds, suffix: str, of_which: str
) -> Iterator[Alarm]:
    there = metrics.emitted(endpoint)
    # AWS counts 100 for each GPU, but for the metrics that it calls normalized.
    for kind, name, percent, full in (
        ("gpu-memory", "GPUMemoryUtilization", thresholds.gpu_memory_percent, variant.gpus),
        ("gpu-memory", "GPUMemoryUtilizationNormalized", thresholds.gpu_memory_percent, 1),
        ("memory", "MemoryUtilization", thresholds.memory_percent, 1),
        ("memory", "MemoryUtilizationNormalized", thresholds.memory_percent, 1),
        ("disk", "DiskUtilization", thresholds.disk_percent, 1),
    ):
        # Of two variants one may have GPUs and the other none.
        if percent is not None and name in there and full:
            yield on_one(
                kind=f"{kind}{suffix}",
                meaning=f"The {kind.replace('gpu-', 'GPU ')} of an instance{of_which} is more than {percent:g} % full.",
                metric=metrics.of(endpoint, name, "Maximum", variant=variant.name, period_s=FIVE_MINUTES_S),
                threshold=percent * full,
                breaching=3,
                periods=3,
            )


def _of_answers(
    endpoint: WatchedEndpoint, variant: WatchedVariant, thresholds: Thresholds, suffix: str, of_which: str
) -> Iterator[Alarm]:
    there = metrics.emitted(endpoint)

    def sum_of(name: str) -> MetricReference:
        return metrics.of(endpoint, name, "Sum", variant=variant.name, period_s=FIVE_MINUTES_S)

    if "Invocations" not in there:
        if thresholds.failed_invocations is not None:
            yield on_one(
                kind=f"failures{suffix}",
                meaning=f"Invocations{of_which} failed; the reasons lie below the endpoint's failure prefix in S3.",
                metric=sum_of("InvocationFailures"),
                comparison="GreaterThanOrEqualToThreshold",
                threshold=thresholds.failed_invocations,
            )
        return
    inputs = {"requests": sum_of("Invocations"), "errors": sum_of("Invocation5XXErrors")}
    failed = "errors"
    if "InvocationModelErrors" in there:
        # Counts requests without any answer too: time-outs and broken connections. And those with a 4xx.
        inputs |= {"unanswered": sum_of("InvocationModelErrors"), "refused": sum_of("Invocation4XXErrors")}
        failed = "IF(unanswered - refused > errors, unanswered - refused, errors)"
    enough = thresholds.errors_min_requests
    for kind, what, percent, numerator, used in (
        ("errors-5xx", "fail", thresholds.errors_5xx_percent, failed, inputs),
        (
            "errors-4xx",
            "are refused with a 4xx",
            thresholds.errors_4xx_percent,
            "refused",
            {"requests": sum_of("Invocations"), "refused": sum_of("Invocation4XXErrors")},
        ),
    ):
        if percent is not None:
            yield MetricAlarm(
                kind=f"{kind}{suffix}",
                meaning=f"More than {percent:g} % of the requests{of_which} {what}; the endpoint's log says why.",
                inputs=used,
                expression=f"IF(requests >= {enough}, 100 * ({numerator}) / requests, 0)",
                comparison="GreaterThanThreshold",
                threshold=percent,
                breaching=1,
                periods=1,
            )


def _of_queue(endpoint: WatchedEndpoint, thresholds: Thresholds) -> Iterator[Alarm]:
    there = metrics.emitted(endpoint)
    minutes = thresholds.no_capacity_minutes
    windows = max(1, -(-minutes // 5)) if minutes is not None else 0
    if minutes is not None and "HasBacklogWithoutCapacity" in there:
        yield on_one(
            kind="no-instance",
            meaning=f"Requests have waited for {counted(minutes, 'minute')}, and no instance came up; look at the "
            "endpoint's log.",
            metric=metrics.of(endpoint, "HasBacklogWithoutCapacity", "Minimum"),
            comparison="GreaterThanOrEqualToThreshold",
            threshold=1,
            breaching=minutes,
            periods=minutes,
        )
    if minutes is not None and "NoCapacityInvocationFailures" in there:
        yield on_one(
            kind="no-copy",
            meaning=f"Requests have been refused for {counted(minutes, 'minute')}, because no copy of the model is up.",
            # Clients come now and then, so a minute without a refusal says nothing.
            metric=metrics.of(endpoint, "NoCapacityInvocationFailures", "Sum", period_s=FIVE_MINUTES_S),
            comparison="GreaterThanOrEqualToThreshold",
            threshold=1,
            breaching=windows,
            periods=windows,
        )
    for kind, meaning, name, limit in (
        (
            "backlog-age",
            "The oldest request has waited for more than {} s.",
            "ApproximateAgeOfOldestRequest",
            thresholds.backlog_age_s,
        ),
        ("backlog", "More than {} requests wait.", "ApproximateBacklogSize", thresholds.backlog),
    ):
        if limit is not None and name in there:
            yield on_one(
                kind=kind,
                meaning=meaning.format(limit),
                metric=metrics.of(endpoint, name, "Maximum"),
                threshold=limit,
                breaching=3,
                periods=5,
            )
    percent = thresholds.concurrency_percent
    if percent is not None and "ServerlessConcurrentExecutionsUtilization" in there:
        yield on_one(
            kind="concurrency",
            meaning=f"More than {percent:g} % of max_concurrency is in use; what comes beyond it is throttled.",
            # A fraction, in spite of its name.
            metric=metrics.of(endpoint, "ServerlessConcurrentExecutionsUtilization", "Maximum"),
            threshold=percent / 100,
            breaching=3,
            periods=5,
        )


def _of_workers(endpoint: WatchedEndpoint, thresholds: Thresholds) -> Iterator[Alarm]:
    limit = thresholds.worker_restarts
    if limit is not None and endpoint.mode in series.SCRAPED:
        yield SeriesAlarm(
            kind="worker-restarts",
            meaning=f"At least {limit} workers were replaced within ten minutes; the endpoint's log says why.",
            promql=f"{series.restarts(series.of_endpoint(endpoint.name))} >= {limit}",
        )
    limit = thresholds.failed_loads
    if limit is not None and endpoint.repository and endpoint.mode in series.SCRAPED:
        yield SeriesAlarm(
            kind="failed-loads",
            meaning=f"Versions of the repository failed to load at least {limit} times within ten minutes; those "
            "before them go on serving, and the endpoint's log says why.",
            promql=f"{series.failed_loads(series.of_endpoint(endpoint.name))} >= {limit}",
        )


def _latency_limit_ms(endpoint: WatchedEndpoint, thresholds: Thresholds) -> float | None:
    if thresholds.model_p99_ms is not None:
        return thresholds.model_p99_ms
    if thresholds.model_p99_percent_of_deadline is None:
        return None
    return endpoint.deadline_s * 1000 * thresholds.model_p99_percent_of_deadline / 100
