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

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Collector:
    def __init__(self, models: Mapping[str, ModelGauges]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        models = self._models
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
        open_ = ((model, gauges.metrics.conversations_open) for model, gauges in models.items())
        yield _gauge("conversations_open", "WebSockets that are open", open_)
        gpu_bytes = GaugeMetricFamily("tidegate_worker_gpu_bytes", "GPU memory of a worker", labels=["model", "pid"])
        resident = GaugeMetricFamily("tidegate_resident_bytes", "Resident memory of a process", labels=["model", "pid"])
        resident.add_metric(["", str(os.getpid())], resident_bytes(os.getpid()))
        for model, gauges in models.items():
            for pid, used in gauges.workers.items():
                gpu_bytes.add_metric([model, str(pid)], used)
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
    yield from (responses, shed, abandoned, retries, restarts, joins, chunks, broken, conversations, frames)


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


def render(models: Mapping[str, ModelGauges]) -> bytes:
    """The Prometheus text of all models."""
    registry = CollectorRegistry()
    registry.register(_Collector(models))
    return generate_latest(registry)
