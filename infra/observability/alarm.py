"""An alarm as a plain value: what it compares with what, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tidegate.infra.observability.metrics import MetricReference

FIVE_MINUTES_S = 300
Comparison = Literal["GreaterThanThreshold", "GreaterThanOrEqualToThreshold", "LessThanThreshold"]
Missing = Literal["notBreaching", "breaching"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricAlarm:
    """`kind` ends the alarm's name; `meaning` is what the message says, with what to look at.

    `expression` is CloudWatch's metric arithmetic over the keys of `inputs`; None where there is one input and it is
    compared as it is.
    """

    kind: str
    meaning: str
    inputs: Mapping[str, MetricReference]
    expression: str | None = None
    comparison: Comparison
    threshold: float
    # This many of the last `periods` must be over the threshold.
    breaching: int
    periods: int
    missing: Missing = "notBreaching"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesAlarm:
    """An alarm on the server's own series: every series that `promql` returns is one that is over the threshold."""

    kind: str
    meaning: str
    promql: str


Alarm = MetricAlarm | SeriesAlarm


def on_one(
    *,
    kind: str,
    meaning: str,
    metric: MetricReference,
    threshold: float,
    comparison: Comparison = "GreaterThanThreshold",
    breaching: int = 1,
    periods: int = 1,
    missing: Missing = "notBreaching",
) -> MetricAlarm:
    """An alarm on one series, which is compared as it is."""
    return MetricAlarm(
        kind=kind,
        meaning=meaning,
        inputs={"value": metric},
        comparison=comparison,
        threshold=threshold,
        breaching=breaching,
        periods=periods,
        missing=missing,
    )
