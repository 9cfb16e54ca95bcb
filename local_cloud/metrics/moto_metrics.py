"""CloudWatch of moto sees this cloud's own metrics, and this cloud sees what clients have put into moto.

moto asks every subclass of its ``CloudWatchMetricProvider`` for metrics whenever some are read, so nothing of ours is
ever put there: ListMetrics and :mod:`.reading` answer from the store, up to the present second.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, ClassVar

from moto.cloudwatch.models import CloudWatchBackend, MetricAggregatedDatum, MetricDatum
from moto.core.common_models import CloudWatchMetricProvider

from tidegate.local_cloud.metrics.store import MetricStore, Series, Tally


class _OwnMetrics(CloudWatchMetricProvider):
    """Shows a store to moto. moto calls it by its class, so the store is the class's too."""

    store: ClassVar[MetricStore | None] = None
    refresh: ClassVar[Callable[[], None]] = staticmethod(lambda: None)

    @staticmethod
    def get_cloudwatch_metrics(account_id: str, region: str) -> list[MetricAggregatedDatum]:
        del account_id, region
        store = _OwnMetrics.store
        _OwnMetrics.refresh()
        return [] if store is None else [_datum(store, *each) for each in store.everything()]


class _Datum(MetricAggregatedDatum):
    """One of ours, with all that is known of it."""

    tally: Tally


def add_to(tally: Tally, datum: Any) -> None:
    """Adds what moto has of a datum, or this cloud."""
    if isinstance(datum, _Datum):
        tally.merge(datum.tally)
    elif isinstance(datum, MetricDatum):
        tally.add(datum.value)
    elif isinstance(datum, MetricAggregatedDatum):
        tally.merge(Tally(count=datum.sample_count, total=datum.sum, least=datum.min, most=datum.max))


def show(store: MetricStore, refresh: Callable[[], None]) -> None:
    """Lets this process's moto answer with what is in ``store`` once ``refresh`` has been called."""
    _OwnMetrics.store, _OwnMetrics.refresh = store, staticmethod(refresh)


def _datum(store: MetricStore, series: Series, moment: datetime, tally: Tally) -> MetricAggregatedDatum:
    datum = _Datum(
        namespace=series.namespace,
        name=series.name,
        min_stat=tally.least,
        max_stat=tally.most,
        sample_count=tally.count,
        sum_stat=tally.total,
        dimensions=[{"Name": name, "Value": value} for name, value in series.dimensions],
        timestamp=moment.replace(tzinfo=None),  # as all of moto's are
        unit=store.units.get(series.name, "None"),
    )
    datum.tally = tally
    return datum


class PutMetrics:
    """What clients have put (PutMetricData), by series and minute; each datum is read once."""

    def __init__(self, backend: CloudWatchBackend) -> None:
        self._backend = backend
        self._read = 0
        self.store = MetricStore()

    def refresh(self) -> None:
        """Takes in what is new."""
        data = self._backend.metric_data
        if len(data) < self._read:  # moto was reset
            self._read, self.store = 0, MetricStore()
        for datum in data[self._read :]:
            self._take(datum)
            self._read += 1

    def _take(self, datum: Any) -> None:
        dimensions = {each.name: each.value for each in datum.dimensions}
        series = Series.of(datum.namespace, datum.name, dimensions)
        moment = datum.timestamp if datum.timestamp.tzinfo is not None else datum.timestamp.replace(tzinfo=UTC)
        tally = Tally()
        add_to(tally, datum)
        self.store.merge(series, moment, tally)
