"""What SageMaker tells CloudWatch of requests to endpoints and inference components.

A request costs one lock and a few additions: it is counted under the container that it went to, and only when somebody
reads metrics, or a minute of the clock is over, does a count become the series that AWS documents.
Sources: "SageMaker AI metrics in Amazon CloudWatch" and "Auto-rollback configuration and monitoring" in the developer
guide (https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from tidegate.local_cloud.clock import Clock
from tidegate.local_cloud.metrics.store import MINUTE_S, MetricStore, Series, Tally, minute_of
from tidegate.local_cloud.sagemaker.errors import ServiceError

NAMESPACE = "AWS/SageMaker"
MICROSECONDS = ("ModelLatency", "OverheadLatency", "FirstChunkLatency", "FirstChunkModelLatency",
                "FirstChunkOverheadLatency", "ModelLoadingWaitTime", "ModelLoadingTime", "ModelDownloadingTime",
                "ModelUnloadingTime")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose metrics: a variant as it is configured, or an inference component (then only its name counts)."""

    endpoint: str
    variant: str
    config: str
    component: str | None = None

    @property
    def dimensions(self) -> list[Mapping[str, str]]:
        """All sets of dimensions under which they are published."""
        if self.component is not None:
            return [{"InferenceComponentName": self.component}]
        variant = {"EndpointName": self.endpoint, "VariantName": self.variant}
        # With the configuration a new fleet is told from the old one that it replaces.
        return [variant, variant | {"EndpointConfigName": self.config}]


@dataclass(slots=True)
class Observation:
    """One request, while it runs. Moments are those of :func:`time.perf_counter`."""

    began: float = field(default_factory=time.perf_counter)
    asked_at: float | None = None
    first_at: float | None = None
    answered_at: float | None = None
    status: int = 200
    broke_off: bool = False

    def ask(self) -> None:
        """Before the container is asked."""
        self.asked_at = time.perf_counter()

    def answered(self) -> None:
        """Behind the container's answer, where that is not the end of the request."""
        self.answered_at = time.perf_counter()

    @property
    def model_s(self) -> float | None:
        """How long the container has taken so far; None where it was not asked."""
        if self.asked_at is None:
            return None
        return (self.answered_at or time.perf_counter()) - self.asked_at

    def first_chunk(self) -> None:
        if self.first_at is None:
            self.first_at = time.perf_counter()

    def failed(self, error: ServiceError) -> bool:
        """Whether it is a failure of the model, and not a refusal of the service before it."""
        if error.code == "ModelError":
            self.status = int(error.members.get("OriginalStatusCode", 0))
            return True
        return False


class InvocationMetrics:
    """The counts of all requests. ``store`` gets them; see :meth:`flush`."""

    def __init__(self, store: MetricStore, clock: Clock) -> None:
        self.store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._minute = minute_of(clock.now())
        self._counts: dict[Subject, dict[str, Tally]] = {}
        self._running: dict[Subject, int] = {}
        store.units.update(dict.fromkeys(MICROSECONDS, "Microseconds"))

    @contextmanager
    def observe(self, subject: Subject, seen: Observation, *, instances: int) -> Iterator[None]:
        """Around a request that goes to a container, of which there are ``instances`` (or copies)."""
        self._begin(subject, instances)
        counts = True
        try:
            yield
        except ServiceError as error:
            counts = seen.failed(error)
            raise
        except BaseException:
            counts = False
            raise
        finally:
            self._end(subject, seen, counts=counts)

    def add(self, subject: Subject, name: str, value: float) -> None:
        with self._lock:
            _add(self._counts.setdefault(subject, {}), name, value)

    def flush(self) -> None:
        """What was counted becomes metrics of the minute in which it was counted."""
        with self._lock:
            counts, self._counts = self._counts, {}
            moment = datetime.fromtimestamp(self._minute * MINUTE_S, self._clock.now().tzinfo)
            self._minute = minute_of(self._clock.now())
        for subject, tallies in counts.items():
            for name, tally in tallies.items():
                for dimensions in subject.dimensions:
                    self.store.merge(Series.of(NAMESPACE, name, dimensions), moment, tally)

    def _begin(self, subject: Subject, instances: int) -> None:
        each = max(instances, 1)
        component = subject.component is not None
        with self._lock:
            running = self._running[subject] = self._running.get(subject, 0) + 1
            tallies = self._counts.setdefault(subject, {})
            _add(tallies, "Invocations", 1.0)
            _add(tallies, "InvocationsPerCopy" if component else "InvocationsPerInstance", 1.0 / each)
            _add(tallies, "ConcurrentRequestsPerCopy" if component else "ConcurrentRequestsPerModel", running / each)

    def _end(self, subject: Subject, seen: Observation, *, counts: bool) -> None:
        now = time.perf_counter()
        with self._lock:
            self._running[subject] -= 1
            if not self._running[subject]:
                del self._running[subject]
            if not counts:
                return
            tallies = self._counts.setdefault(subject, {})
            for name, failed in (
                ("Invocation4XXErrors", 400 <= seen.status < 500),
                ("Invocation5XXErrors", seen.status >= 500),
                ("InvocationModelErrors", not 200 <= seen.status < 300),
            ):
                _add(tallies, name, float(failed))
            model_s = seen.model_s or 0.0
            if seen.asked_at is not None:
                _add(tallies, "ModelLatency", model_s * 1e6)
            _add(tallies, "OverheadLatency", max(0.0, now - seen.began - model_s) * 1e6)
            if seen.first_at is not None and seen.asked_at is not None:
                _add(tallies, "MidStreamErrors", float(seen.broke_off))
                _add(tallies, "FirstChunkLatency", (seen.first_at - seen.began) * 1e6)
                _add(tallies, "FirstChunkModelLatency", (seen.first_at - seen.asked_at) * 1e6)
                _add(tallies, "FirstChunkOverheadLatency", (seen.asked_at - seen.began) * 1e6)


def _add(tallies: dict[str, Tally], name: str, value: float) -> None:
    tally = tallies.get(name)
    if tally is None:
        tally = tallies[name] = Tally()
    tally.add(value)
