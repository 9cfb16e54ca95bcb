"""The server's own series in CloudWatch: how SageMaker gets them there, and the queries that read them.

A collector on the endpoint's host scrapes `/metrics` of the container (EndpointConfig.MetricsConfig,
`EnableDetailedObservability`) and puts the series into CloudWatch's store for OpenTelemetry. That store answers PromQL
only: the series are in no classic namespace, and `aws cloudwatch list-metrics` does not show them.
Source: SageMaker developer guide, "Detailed observability for inference endpoints", which is about real-time endpoints
only; so are the three modes below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tidegate.infra.observability.watched import Mode

SCRAPED: tuple[Mode, ...] = ("realtime", "component", "multi_model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One line of a chart."""

    label: str
    promql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Queries that share a chart."""

    title: str
    queries: tuple[Query, ...]
    view: Literal["line"] = "line"


def charts(endpoint_name: str, *, repository: bool = True) -> tuple[Chart, ...]:
    """What the server of `endpoint_name` says of itself, in the order of the road of a request.

    `repository` says whether it has one, of models that come and go.
    """
    here = selector(endpoint_name)
    return (*_of_requests(endpoint_name, here), *(_of_repository(here) if repository else ()))


def _of_requests(endpoint_name: str, here: str) -> tuple[Chart, ...]:
    return (
        Chart(
            title="Answers per second, by status",
            queries=(_query("status", f"sum by (status) (rate(tidegate_responses_total{here}[5m]))"),),
        ),
        Chart(
            title="Refused per second, by reason; tried again, given up by their clients",
            queries=(
                _query("refused", f"sum by (reason) (rate(tidegate_shed_total{here}[5m]))"),
                _query("tried again", f"sum(rate(tidegate_retries_total{here}[5m]))"),
                _query("given up by their clients", f"sum(rate(tidegate_requests_abandoned_total{here}[5m]))"),
            ),
        ),
        Chart(
            title="Streams: open; chunks, and broken off by reason, per second",
            queries=(
                _query("open", f"sum(tidegate_streams_open{here})"),
                _query("chunks", f"sum(rate(tidegate_stream_chunks_total{here}[5m]))"),
                _query("broken off", f"sum by (reason) (rate(tidegate_streams_broken_total{here}[5m]))"),
            ),
        ),
        Chart(
            title="p99 in seconds: first chunk of a stream",
            queries=(_query("first chunk", quantile(0.99, "tidegate_stream_first_chunk_seconds", here)),),
        ),
        Chart(
            title="Conversations: open; frames, and closed by code, per second",
            queries=(
                _query("open", f"sum(tidegate_conversations_open{here})"),
                _query("frames", f"sum(rate(tidegate_conversation_frames_total{here}[5m]))"),
                _query("closed", f"sum by (code) (rate(tidegate_conversations_closed_total{here}[5m]))"),
            ),
        ),
        Chart(
            title="p99 in seconds: queue, input_fn, predict_fn, output_fn",
            queries=tuple(
                _query(label, quantile(0.99, f"tidegate_{name}_seconds", here))
                for label, name in (
                    ("queue", "queue"),
                    ("input_fn", "decode"),
                    ("predict_fn", "predict"),
                    ("output_fn", "encode"),
                )
            ),
        ),
        Chart(
            title="Requests per predict_fn call",
            queries=tuple(_query(f"p{int(q * 100)}", quantile(q, "tidegate_batch_size", here)) for q in (0.5, 0.99)),
        ),
        Chart(
            title="Joined calls, proofs and refusals of joining per second",
            queries=(_query("result", f"sum by (result) (rate(tidegate_batch_joins_total{here}[5m]))"),),
        ),
        Chart(
            title="Batch size and wait that were found, and requests per second that the search took",
            queries=(
                _query("size", f"max(tidegate_batch_limit{here})"),
                _query("seconds", f"max(tidegate_batch_wait_seconds{here})"),
                _query("search", f"sum(rate(tidegate_batch_search_requests_total{here}[5m]))"),
            ),
        ),
        Chart(
            title="Requests that wait, and that are with a worker",
            queries=(
                _query("waiting", f"sum(tidegate_waiting{here})"),
                _query("with a worker", f"sum(tidegate_in_flight{here})"),
            ),
        ),
        Chart(
            title="Workers, and how many were replaced in ten minutes",
            queries=(
                _query("workers", f"sum(tidegate_workers{here})"),
                _query("replaced", restarts(endpoint_name)),
            ),
        ),
        Chart(
            title="Memory of the largest process in bytes",
            queries=(
                _query("GPU", f"max(tidegate_worker_gpu_bytes{here})"),
                _query("resident", f"max(tidegate_resident_bytes{here})"),
            ),
        ),
    )


def _of_repository(here: str) -> tuple[Chart, ...]:
    return (
        Chart(
            title="Repository: requests that found their model loaded, or had to wait, per second; that wait",
            queries=(
                _query("result", f"sum by (result) (rate(tidegate_repository_requests_total{here}[5m]))"),
                _query("waiting", f"sum(tidegate_repository_waiting{here})"),
            ),
        ),
        Chart(
            title="Repository: loads, fetches and switches of versions in ten minutes",
            queries=(
                _query("loads", f"sum by (result) (increase(tidegate_repository_loads_total{here}[10m]))"),
                _query("fetches", f"sum by (result) (increase(tidegate_repository_fetches_total{here}[10m]))"),
                _query("switches", f"sum(increase(tidegate_repository_switches_total{here}[10m]))"),
            ),
        ),
        Chart(
            title="Repository: evictions per second, and how long the median had not been used, in seconds",
            queries=(
                _query("evicted from", f"sum by (where) (rate(tidegate_repository_evictions_total{here}[5m]))"),
                _query("unused for", quantile(0.5, "tidegate_repository_idle_at_eviction_seconds", here)),
            ),
        ),
        Chart(
            title="Repository: p50 and p99 of a load in seconds",
            queries=tuple(
                _query(f"p{int(q * 100)}", quantile(q, "tidegate_repository_load_seconds", here)) for q in (0.5, 0.99)
            ),
        ),
        Chart(
            title="Repository: models known, on the disk, in memory",
            queries=(_query("models", f"sum by (where) (tidegate_repository_models{here})"),),
        ),
        Chart(
            title="Repository: bytes of models on the disk, in memory",
            queries=(_query("bytes", f"sum by (where) (tidegate_repository_bytes{here})"),),
        ),
        Chart(
            title="Repository: listings that failed, and processes that died, in ten minutes",
            queries=(
                _query("failed", f"sum(increase(tidegate_repository_listing_failures_total{here}[10m]))"),
                _query("died", f"sum(increase(tidegate_repository_process_restarts_total{here}[10m]))"),
            ),
        ),
    )


def restarts(endpoint_name: str) -> str:
    """How many workers were replaced in the last ten minutes, on all instances together."""
    return f"sum(increase(tidegate_worker_restarts_total{selector(endpoint_name)}[10m]))"


def failed_loads(endpoint_name: str) -> str:
    """How often a version of a repository did not load in the last ten minutes, on all instances together."""
    return f"sum(increase(tidegate_repository_loads_total{selector(endpoint_name, result='failed')}[10m]))"


def selector(endpoint_name: str, **labels: str) -> str:
    """The label of SageMaker's collector. It has dots, so it stands in quotes; with underscores it matches nothing."""
    further = "".join(f',{name}="{value}"' for name, value in labels.items())
    return f'{{"aws.sagemaker.endpoint.name"="{endpoint_name}"{further}}}'


def quantile(q: float, histogram: str, matching: str) -> str:
    """A quantile of the last five minutes.

    The collector sends histograms whole, which PromQL reads under their bare name; AWS's examples also show the
    classic form with `_bucket`. Whichever is there answers.
    """
    whole = f"histogram_quantile({q:g}, sum(rate({histogram}{matching}[5m])))"
    buckets = f"histogram_quantile({q:g}, sum by (le) (rate({histogram}_bucket{matching}[5m])))"
    return f"{whole} or {buckets}"


def _query(label: str, promql: str) -> Query:
    return Query(label=label, promql=promql)
