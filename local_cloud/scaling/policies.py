"""What a scaling policy makes of a metric: pure rules.

Sources: "How target tracking scaling works" and "How step scaling works" in the Application Auto Scaling user guide
(https://docs.aws.amazon.com/autoscaling/application/userguide/). How far target tracking goes in one step is not
documented to the number; here it goes to the capacity at which the metric would be at its target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

Json = Mapping[str, Any]
DEFAULT_COOLDOWN_S = 300  # of SageMaker's targets


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """The last change of a target's capacity."""

    at: datetime
    before: int
    after: int
    cooldown_s: float

    @property
    def out(self) -> bool:
        return self.after > self.before

    def rests(self, now: datetime) -> bool:
        return now < self.at + timedelta(seconds=self.cooldown_s)


def tracked(capacity: int, *, value: float, target: float) -> int:
    """The capacity at which a metric for each instance would be at its target."""
    return math.ceil(capacity * value / target - 1e-9)


def stepped(config: Json, capacity: int, *, breach: float) -> int:
    """The capacity after the step adjustment that ``breach``, the metric less the alarm's threshold, falls into."""
    for step in config.get("StepAdjustments", []):
        low = float(step.get("MetricIntervalLowerBound", -math.inf))
        high = float(step.get("MetricIntervalUpperBound", math.inf))
        # The threshold itself belongs to the step above it, and in steps below zero to the one beneath.
        inside = low <= breach < high if breach >= 0 else low < breach <= high
        if inside:
            return _adjusted(config, capacity, float(step["ScalingAdjustment"]))
    return capacity


def _adjusted(config: Json, capacity: int, adjustment: float) -> int:
    match config.get("AdjustmentType"):
        case "ExactCapacity":
            return int(adjustment)
        case "PercentChangeInCapacity":
            change = capacity * adjustment / 100
            # Above 1 it is rounded down, and between 0 and 1 to 1; below zero the same.
            whole = math.floor(abs(change)) if abs(change) >= 1 else math.ceil(abs(change))
            whole = max(whole, int(config.get("MinAdjustmentMagnitude", 0)))
            return capacity + int(math.copysign(whole, adjustment))
    return capacity + int(adjustment)


def allowed(wanted: int, *, capacity: int, least: int, most: int) -> int:
    """Within the target's bounds; a capacity outside of them is not driven further out."""
    if wanted > capacity:
        return max(capacity, min(wanted, most))
    return min(capacity, max(wanted, least))
