"""What the server counts: plain arithmetic on the road of a request. `prometheus_text` writes it down."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tidegate.inference.protocol import Done

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
KEPT = 100
"""Models that have gone and are told of at `/metrics` all the same."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


Abandoned = Literal["waiting", "computing"]
"""Where a request was when its client left: not with a worker yet, or with one, whose answer goes nowhere."""


class Histogram:
    """How often a value fell below each of `bounds`."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, how many were not above it), as Prometheus has it."""
        rows, so_far = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            so_far += count
            rows.append(("+Inf" if bound == float("inf") else f"{bound:g}", float(so_far)))
        return rows


def _seconds() -> Histogram:
    return Histogram(SECONDS)


@dataclass(slots=True, kw_only=True)
class StreamMetrics:
    """What is counted of the responses whose length nobody knew when they began."""

    open: int = 0
    first_chunk_s: Histogram = field(default_factory=_seconds)
    """From the end of a request's body to the first chunk on its way to the client."""
    chunks: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    """By the code of the error, `reader_left` or `reader_too_slow`."""

    def opened(self, first_chunk_s: float) -> None:
        """Count a stream whose first chunk took so long."""
        self.open += 1
        self.first_chunk_s.observe(first_chunk_s)

    def closed(self, broken_by: str = "") -> None:
        """Count the end of a stream, and what broke it off."""
        self.open -= 1
        if broken_by:
            self.broken[broken_by] += 1


@dataclass(slots=True, kw_only=True)
class ModelMetrics:
    """What is counted for one model."""

    responses: Counter[int] = field(default_factory=Counter)
    queue_s: Histogram = field(default_factory=_seconds)
    decode_s: Histogram = field(default_factory=_seconds)
    predict_s: Histogram = field(default_factory=_seconds)
    encode_s: Histogram = field(default_factory=_seconds)
    batch_size: Histogram = field(default_factory=lambda: Histogram(SIZES))
    retries: int = 0
    worker_restarts: int = 0
    shed: Counter[str] = field(default_factory=Counter)
    abandoned: Counter[Abandoned] = field(default_factory=Counter)
    streams: StreamMetrics = field(default_factory=StreamMetrics)
    conversations_open: int = 0
    conversations_closed: Counter[int] = field(default_factory=Counter)
    """By the code of the Close, whichever side sent it; 1006 where there was none."""
    conversation_frames: Counter[str] = field(default_factory=lambda: Counter(received=0, sent=0))
    search_paid: int = 0
    """Requests in batches of a size that was only tried, or held back for one."""
    joins: Counter[str] = field(default_factory=lambda: Counter(joined=0, proved=0, refused=0))

    def count_batch(self, done: Done) -> None:
        """Count the times and the predictions of a batch, and what came of joining."""
        self.decode_s.observe(done.decode_s)
        self.predict_s.observe(done.predict_s)
        self.encode_s.observe(done.encode_s)
        for size in done.sizes:
            self.batch_size.observe(size)
        if done.joined or done.proved or done.refused:
            for result in self.joins:
                self.joins[result] += getattr(done, result)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelGauges:
    """What is true of one model at the moment of the scrape. `workers` maps pids to GPUs and bytes of them.

    `batch_limit` and `batch_wait_s` are there where the size of batches is found on live traffic.
    """

    metrics: ModelMetrics
    waiting: int
    computing: int
    workers: Mapping[int, Mapping[int, int]]
    batch_limit: int | None = None
    batch_wait_s: float | None = None

    def with_another(self, other: ModelGauges) -> ModelGauges:
        """Two revisions of one model together; they count in the same place."""
        return ModelGauges(
            metrics=self.metrics,
            waiting=self.waiting + other.waiting,
            computing=self.computing + other.computing,
            workers={**self.workers, **other.workers},
            batch_limit=self.batch_limit if other.batch_limit is None else other.batch_limit,
            batch_wait_s=self.batch_wait_s if other.batch_wait_s is None else other.batch_wait_s,
        )


class MetricsByModel:
    """What is counted by the names of the models that are here, and of the last `KEPT` that have gone.

    So a counter does not begin anew when a model's revision changes, and is seen by whoever reads once a minute; and
    ten thousand models that come and go are not ten thousand names.
    """

    def __init__(self) -> None:
        self._here: dict[str, ModelMetrics] = {}
        self._gone: dict[str, ModelMetrics] = {}

    def of(self, name: str) -> ModelMetrics:
        """Where to count for a model that is here from now on."""
        found = self._here.get(name) or self._gone.pop(name, None) or ModelMetrics()
        return self._here.setdefault(name, found)

    def leave(self, name: str) -> None:
        """The last of a name has gone."""
        if (metrics := self._here.pop(name, None)) is not None:
            self._gone[name] = metrics
        if len(self._gone) > KEPT:
            del self._gone[next(iter(self._gone))]

    def gone(self) -> Iterator[tuple[str, ModelMetrics]]:
        """Those that are not here any more."""
        yield from self._gone.items()
