"""The server's own series, and the queries that read them: in CloudWatch, and wherever else PromQL is answered.

How SageMaker gets them into CloudWatch: a collector on the endpoint's host scrapes `/metrics` of the container
(EndpointConfig.MetricsConfig, `EnableDetailedObservability`) and puts the series into CloudWatch's store for
OpenTelemetry. That store answers PromQL only: the series are in no classic namespace, and `aws cloudwatch list-
metrics` does not show them.
Source: SageMaker developer guide, "Detailed observability for inference endpoints", which is about real-time
endpoints only; so are the three modes below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from tidegate.infra.observability.watched import Mode

SCRAPED: tuple[Mode, ...] = ("realtime", "component", "multi_model")


@dataclass(frozen=True, slots=True)
class Selector:
    """Which servers' series a query reads. Its text stands behind the name of a series."""

    matchers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{{{','.join(self.matchers)}}}"

    def narrowed(self, *matchers: str) -> Self:
        """The same, and these too."""
        return type(self)((*self.matchers, *matchers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """One line of a chart, or one for each value of the label that it is grouped by."""

    label: str
    promql: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Queries that share a chart."""

    title: str
    queries: tuple[Query, ...]
    unit: Literal["s", "bytes", "short"] = "short"
    """In Grafana's words; a chart of several units has `short`."""
    view: Literal["line"] = "line"


def of_requests(here: Selector) -> tuple[Chart, ...]:
    """What a server says of itself, in the order of the road of a request."""
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
            unit="s",
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
            unit="s",
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
                _query("replaced", restarts(here)),
            ),
        ),
        Chart(
            title="Memory of the largest process in bytes",
            unit="bytes",
            queries=(
                _query("GPU", f"max(tidegate_worker_gpu_bytes{here})"),
                _query("resident", f"max(tidegate_resident_bytes{here})"),
            ),
        ),
    )


def of_repository(here: Selector) -> tuple[Chart, ...]:
    """What one says of its repository, of models that come and go. These series have no model's name."""
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
            unit="s",
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
            unit="bytes",
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


def restarts(here: Selector) -> str:
    """How many workers were replaced in the last ten minutes, on all instances together."""
    return f"sum(increase(tidegate_worker_restarts_total{here}[10m]))"


def failed_loads(here: Selector) -> str:
    """How often a version of a repository did not load in the last ten minutes, on all instances together."""
    failed = here.narrowed('result="failed"')
    return f"sum(increase(tidegate_repository_loads_total{failed}[10m]))"


def of_endpoint(name: str) -> Selector:
    """By the label of SageMaker's collector. It has dots, so it is quoted; with underscores it would match nothing."""
    return Selector((f'"aws.sagemaker.endpoint.name"="{name}"',))


def quantile(q: float, histogram: str, here: Selector) -> str:
    """A quantile of the last five minutes.

    SageMaker's collector sends histograms whole, which PromQL reads under their bare name; AWS's examples also show the
    classic form with `_bucket`, which is Prometheus's own. Whichever is there answers.
    """
    whole = f"histogram_quantile({q:g}, sum(rate({histogram}{here}[5m])))"
    buckets = f"histogram_quantile({q:g}, sum by (le) (rate({histogram}_bucket{here}[5m])))"
    return f"{whole} or {buckets}"


def _query(label: str, promql: str) -> Query:
    return Query(label=label, promql=promql)
