"""`context.metrics`: what user code counts and measures, with the names and arguments that TorchServe has for it.

Each value is one line of the log, at INFO under the logger `tidegate.metrics`, from which CloudWatch Logs makes a
metric by a filter on its JSON (`{ $.metric = "Tokens" }`). Nothing is summed up: every worker is a process of its own.
"""
# ruff: noqa: PLR0917 - user code passes these by position

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

log = logging.getLogger("tidegate.metrics")

COUNTER, GAUGE = "counter", "gauge"


class Metric:
    """A named value that is written again and again, with the same dimensions."""

    def __init__(self, metric_name: str, unit: str, dimension_names: Sequence[str], metric_type: Any) -> None:
        self.metric_name = metric_name
        self.unit = unit
        self.dimension_names = list(dimension_names)
        self.metric_type = metric_type

    def add_or_update(self, value: float, dimension_values: Sequence[Any] = (), request_id: str = "") -> None:
        """Write `value`. Raises `ValueError` where there is not one dimension value for each name."""
        if len(dimension_values) != len(self.dimension_names):
            raise ValueError(
                f"the metric {self.metric_name} has the dimensions {self.dimension_names}, "
                f"but was given the values {list(dimension_values)}"
            )
        dimensions = {name: str(each) for name, each in zip(self.dimension_names, dimension_values, strict=True)}
        _write(self.metric_name, value, self.unit, self.metric_type, dimensions, request_id)


class Metrics:
    """Writes values as they come. `idx` is the request's index, as everywhere in the context."""

    def __init__(self, request_id: Callable[[int | None], str]) -> None:
        self._request_id = request_id
        self._cached: dict[tuple[str, str], Metric] = {}

    def add_counter(self, metric_name: str, value: float, idx: int | None = None, dimensions: Any = None) -> None:
        """Count `value` more."""
        self.add_metric(metric_name, value, "count", idx, dimensions)

    def add_time(
        self,
        metric_name: str,
        value: float,
        idx: int | None = None,
        unit: str = "ms",
        dimensions: Any = None,
        metric_type: Any = GAUGE,
    ) -> None:
        """A duration, in `ms` or `s`."""
        self.add_metric(metric_name, value, unit, idx, dimensions, metric_type)

    def add_size(
        self,
        metric_name: str,
        value: float,
        idx: int | None = None,
        unit: str = "MB",
        dimensions: Any = None,
        metric_type: Any = GAUGE,
    ) -> None:
        """A size, in `MB`, `kB`, `GB` or `B`."""
        self.add_metric(metric_name, value, unit, idx, dimensions, metric_type)

    def add_percent(
        self,
        metric_name: str,
        value: float,
        idx: int | None = None,
        dimensions: Any = None,
        metric_type: Any = GAUGE,
    ) -> None:
        """A share, from 0 to 100."""
        self.add_metric(metric_name, value, "percent", idx, dimensions, metric_type)

    def add_error(self, metric_name: str, value: Any, dimensions: Any = None) -> None:
        """An error, whose value may be its text."""
        self.add_metric(metric_name, value, "", None, dimensions)

    def add_metric(
        self,
        metric_name: str,
        value: Any,
        unit: str,
        idx: int | None = None,
        dimensions: Any = None,
        metric_type: Any = COUNTER,
    ) -> None:
        """Any value. `dimensions` are objects with a `name` and a `value`, as TorchServe's own."""
        named = {str(each.name): str(each.value) for each in dimensions or ()}
        _write(metric_name, value, unit, metric_type, named, self._request_id(idx))

    def add_metric_to_cache(
        self, metric_name: str, unit: str, dimension_names: Sequence[str] = (), metric_type: Any = COUNTER
    ) -> Metric:
        """A metric to keep and to write with `add_or_update`."""
        metric = Metric(metric_name, unit, dimension_names, metric_type)
        self._cached[metric_name, _text(metric_type)] = metric
        return metric

    def get_metric(self, metric_name: str, metric_type: Any = COUNTER) -> Metric:
        """The metric that `add_metric_to_cache` made. Raises `KeyError`."""
        return self._cached[metric_name, _text(metric_type)]


def _write(name: str, value: Any, unit: str, kind: Any, dimensions: dict[str, str], request_id: str) -> None:
    log.info(
        "metric",
        extra={
            "metric": name,
            "value": value,
            "unit": unit,
            "type": _text(kind),
            "dimensions": dimensions,
            "request_id": request_id,
        },
    )


def _text(kind: Any) -> str:
    """A metric type, which may be a member of an enumeration."""
    return str(getattr(kind, "value", kind)).lower()
