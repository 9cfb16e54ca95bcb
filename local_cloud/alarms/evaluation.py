"""Which state an alarm's values mean. Pure rules.

Source: "Alarm evaluation" and "Configuring how CloudWatch alarms treat missing data" in the CloudWatch user guide
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html), whose tables the tests
repeat. How much further back than its evaluation periods an alarm looks is not documented; the guide's example has two.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]
LOOKS_FURTHER = 2

COMPARISONS: Mapping[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}


def state_of(breaches: Sequence[bool | None], *, periods: int, to_alarm: int, missing: str, present: State) -> State:
    """The state after an evaluation.

    ``breaches``: for each period that is looked at, the newest last, whether its value breaches the threshold; None
    where there is no value. ``to_alarm`` of ``periods`` make an alarm.
    """
    real = [breach for breach in breaches if breach is not None]
    if len(real) >= periods:
        return "ALARM" if sum(real[-periods:]) >= to_alarm else "OK"
    if missing in ("breaching", "notBreaching"):
        filled = (periods - len(real)) * (missing == "breaching")
        return "ALARM" if sum(real) + filled >= to_alarm else "OK"
    if not real:
        return present if missing == "ignore" else "INSUFFICIENT_DATA"
    if sum(real) >= to_alarm:
        return "ALARM"
    if len(real) - sum(real) > periods - to_alarm:
        return "OK"
    if missing == "ignore":
        return present
    return "ALARM" if _old_enough(breaches, to_alarm) else ("OK" if not all(real) else present)


def _old_enough(breaches: Sequence[bool | None], to_alarm: int) -> bool:
    """Whether a breach is as old as the alarm is long, and nothing since says otherwise."""
    newest_first = list(reversed(breaches))
    oldest = max((age for age, breach in enumerate(newest_first, start=1) if breach), default=0)
    return oldest >= to_alarm and all(breach is not False for breach in newest_first[:oldest])
