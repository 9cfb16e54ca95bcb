"""The text that Prometheus reads at `/metrics`.

SageMaker scrapes this path of its endpoints every minute (EndpointConfig.MetricsConfig).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from tidegate.inference.frontend.metrics import Histogram, ModelGauges
from tidegate.inference.frontend.repository.repository_metrics import RepositoryGauges

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Collector:
    def __init__(self, models: Mapping[str, ModelGauges], repository: RepositoryGauges | None) -> None:
        self._models = models
        self._repository = repository

    def collect(self) -> Iterator[Metric]:
        models = self._models
        if self._repository is not None:
            yield from _of_repository(self._repository)
        yield from _counters(models)
        for name, text, attribute in (
            ("queue_seconds", "From a request's arrival in the queue to its way to a worker", "queue_s"),
            ("decode_seconds", "input_fn of a whole batch", "decode_s"),
            ("predict_seconds", "predict_fn of a whole batch", "predict_s"),
            ("encode_seconds", "output_fn of a whole batch", "encode_s"),
            ("batch_size", "Requests that shared a predict_fn call", "batch_size"),
        ):
            family = HistogramMetricFamily(f"tidegate_{name}", text, labels=["model"])
            for model, gauges in models.items():
                histogram: Histogram = getattr(gauges.metrics, attribute)
                family.add_metric([model], histogram.buckets(), histogram.total)
            yield family
        first_chunk = HistogramMetricFamily(
            "tidegate_stream_first_chunk_seconds",
            "From a whole request to the first chunk of its stream",
            labels=["model"],
        )
        for model, gauges in models.items():
            seconds = gauges.metrics.streams.first_chunk_s
            first_chunk.add_metric([model], seconds.buckets(), seconds.total)
        yield first_chunk
        yield _gauge("streams_open", "Streams on their way", ((m, g.metrics.streams.open) for m, g in models.items()))
        yield _gauge("waiting", "Requests that no worker has yet", ((m, g.waiting) for m, g in models.items()))
        yield _gauge("in_flight", "Requests that are with a worker", ((m, g.computing) for m, g in models.items()))
        yield _gauge("workers", "Workers that have the model loaded", ((m, len(g.workers)) for m, g in models.items()))
        limits = _known(models, "batch_limit")
        yield _gauge("batch_limit", "Requests that share a call at most, as found on live traffic", limits)
        waits = _known(models, "batch_wait_s")
        yield _gauge("batch_wait_seconds", "How long a batch may wait for more, as found on live traffic", waits)
        open_ = ((model, gauges.metrics.conversations_open) for model, gauges in models.items())
        yield _gauge("conversations_open", "WebSockets that are open", open_)
        gpu_bytes = GaugeMetricFamily(
            "tidegate_worker_gpu_bytes", "What a worker holds of a GPU", labels=["model", "pid", "gpu"]
        )
        resident = GaugeMetricFamily("tidegate_resident_bytes", "Resident memory of a process", labels=["model", "pid"])
        resident.add_metric(["", str(os.getpid())], resident_bytes(os.getpid()))
        for model, gauges in models.items():
            for pid, held in gauges.workers.items():
                for gpu, used in held.items():
                    gpu_bytes.add_metric([model, str(pid), str(gpu)], used)
                if not held:
                    gpu_bytes.add_metric([model, str(pid)], 0)
                resident.add_metric([model, str(pid)], resident_bytes(pid))
        yield from (gpu_bytes, resident)


def _counters(models: Mapping[str, ModelGauges]) -> Iterator[Metric]:
    responses = CounterMetricFamily("tidegate_responses", "Answers to invocations", labels=["model", "status"])
    shed = CounterMetricFamily("tidegate_shed", "Requests that were not admitted", labels=["model", "reason"])
    abandoned = CounterMetricFamily(
        "tidegate_requests_abandoned", "Requests whose client left before the answer", labels=["model", "state"]
    )
    retries = CounterMetricFamily("tidegate_retries", "Requests tried again, alone", labels=["model"])
    restarts = CounterMetricFamily("tidegate_worker_restarts", "Workers that had to be replaced", labels=["model"])
    joins = CounterMetricFamily(
        "tidegate_batch_joins",
        "Batches that shared a predict_fn call (joined), that were the same joined and one by one (proved), or not",
        labels=["model", "result"],
    )
    search = CounterMetricFamily(
        "tidegate_batch_search_requests", "Requests in batches of a size that was only tried", labels=["model"]
    )
    chunks = CounterMetricFamily("tidegate_stream_chunks", "Chunks of streams sent", labels=["model"])
    broken = CounterMetricFamily(
        "tidegate_streams_broken", "Streams that ended before their end", labels=["model", "reason"]
    )
    conversations = CounterMetricFamily(
        "tidegate_conversations_closed", "WebSockets by the code of their Close", labels=["model", "code"]
    )
    frames = CounterMetricFamily(
        "tidegate_conversation_frames", "Data frames of WebSockets", labels=["model", "direction"]
    )
    for model, gauges in models.items():
        for code, count in gauges.metrics.conversations_closed.items():
            conversations.add_metric([model, str(code)], count)
        for direction, count in gauges.metrics.conversation_frames.items():
            frames.add_metric([model, direction], count)
        search.add_metric([model], gauges.metrics.search_paid)
        chunks.add_metric([model], gauges.metrics.streams.chunks)
        for reason, count in gauges.metrics.streams.broken.items():
            broken.add_metric([model, reason], count)
        for result, count in gauges.metrics.joins.items():
            joins.add_metric([model, result], count)
        for status, count in gauges.metrics.responses.items():
            responses.add_metric([model, str(status)], count)
        for reason, count in gauges.metrics.shed.items():
            shed.add_metric([model, reason], count)
        for state, count in gauges.metrics.abandoned.items():
            abandoned.add_metric([model, state], count)
        retries.add_metric([model], gauges.metrics.retries)
        restarts.add_metric([model], gauges.metrics.worker_restarts)
    yield from (responses, shed, abandoned, retries, restarts, joins, search, chunks, broken, conversations, frames)


def _of_repository(repository: RepositoryGauges) -> Iterator[Metric]:
    """No series has a model's name: there may be thousands."""
    counts, metrics = repository.counts, repository.metrics
    for name, text, label, values in (
        ("requests", "Requests that found their model loaded, or waited for it", "result",
         {"hit": counts.hits, "miss": counts.misses}),
        ("loads", "Loads of models into memory", "result",
         {"loaded": counts.loads, "failed": counts.load_failures}),
        ("fetches", "Models brought to the disk", "result",
         {"fetched": counts.fetches, "failed": counts.fetch_failures}),
        ("evictions", "Models that made room for others", "where",
         {"memory": counts.evictions, "disk": counts.disk_evictions}),
    ):  # fmt: skip
        family = CounterMetricFamily(f"tidegate_repository_{name}", text, labels=[label])
        for value, number in values.items():
            family.add_metric([value], number)
        yield family
    for name, text, number in (
        ("switches", "Versions that took over from another one while requests went on", counts.switches),
        ("listing_failures", "Listings that failed, and changed nothing", metrics.listing_failures),
        ("process_restarts", "Times that the repository's process died", metrics.process_restarts),
    ):
        counter = CounterMetricFamily(f"tidegate_repository_{name}", text)
        counter.add_metric([], number)
        yield counter
    for name, text, histogram in (
        ("load_seconds", "From the disk to a model that has passed its check", metrics.load_s),
        ("idle_at_eviction_seconds", "How long an evicted model had not been used", metrics.idle_at_eviction_s),
    ):
        seconds = HistogramMetricFamily(f"tidegate_repository_{name}", text)
        seconds.add_metric([], histogram.buckets(), histogram.total)
        yield seconds
    waiting = GaugeMetricFamily("tidegate_repository_waiting", "Requests that wait for their model to be loaded")
    waiting.add_metric([], repository.waiting)
    yield waiting
    for name, text, gauges in (
        ("bytes", "What models take, loading and leaving ones among them",
         {"memory": repository.memory_bytes, "disk": repository.disk_bytes}),
        ("models", "Models known, on the disk, in memory",
         {"known": repository.known, "disk": repository.on_disk, "memory": repository.in_memory}),
    ):  # fmt: skip
        gauge = GaugeMetricFamily(f"tidegate_repository_{name}", text, labels=["where"])
        for value, number in gauges.items():
            gauge.add_metric([value], number)
        yield gauge


def _known(models: Mapping[str, ModelGauges], attribute: str) -> Iterator[tuple[str, float]]:
    values = ((model, getattr(gauges, attribute)) for model, gauges in models.items())
    return ((model, value) for model, value in values if value is not None)


def _gauge(name: str, text: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(f"tidegate_{name}", text, labels=["model"])
    for model, value in values:
        family.add_metric([model], value)
    return family


def resident_bytes(pid: int) -> int:
    """The resident memory of a process, 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def render(models: Mapping[str, ModelGauges], repository: RepositoryGauges | None = None) -> bytes:
    """The Prometheus text of all models, and of their repository where there is one."""
    registry = CollectorRegistry()
    registry.register(_Collector(models, repository))
    return generate_latest(registry)
