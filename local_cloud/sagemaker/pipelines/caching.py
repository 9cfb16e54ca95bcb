"""When a step need not run again: the age up to which an earlier run counts, and what makes two runs the same.

Source: "Caching pipeline steps" in the developer guide
(https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-caching.html).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from tidegate.local_cloud.sagemaker.pipelines.execution import Execution, StepRun
from tidegate.local_cloud.sagemaker.state import Json

_DURATION = re.compile(
    r"P?(?:(?P<years>\d+)Y)?(?:(?P<months>\d+)M)?(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?)?",
    re.ASCII | re.IGNORECASE,
)
_DAYS = {"years": 365, "months": 30, "weeks": 7, "days": 1}


def duration(text: str) -> timedelta:
    """An ISO 8601 duration with the units that AWS takes, also without its P: 30d, T16m, 30dT5h, PT1H.

    Raises ValueError for another one. A year is 365 days here, and a month 30.
    """
    match = _DURATION.fullmatch(text)
    given = {unit: int(count) for unit, count in match.groupdict().items() if count} if match else {}
    if not given:
        raise ValueError(f"{text!r} is no duration such as 30d, T16m or PT1H")
    days = sum(count * _DAYS[unit] for unit, count in given.items() if unit in _DAYS)
    try:
        return timedelta(days=days, hours=given.get("hours", 0), minutes=given.get("minutes", 0))
    except OverflowError as error:
        raise ValueError(f"{text!r} is longer than a duration can be") from error


def cache_key(kind: str, attributes: Iterable[str], request: Json) -> str:
    """The same for two runs whose ``attributes`` (paths of the request) are the same."""
    chosen = {path: _at(request, path) for path in attributes}
    return hashlib.sha256(json.dumps([kind, chosen], sort_keys=True, default=str).encode()).hexdigest()


def _at(request: Any, path: str) -> Any:
    for part in path.split("."):
        request = request.get(part) if isinstance(request, dict) else None
    return request


def cached(
    executions: Iterable[Execution], *, step: str, key: str, oldest: datetime
) -> tuple[Execution, StepRun] | None:
    """The most recent successful run of the step with that key that ended no earlier than ``oldest``."""
    found = [
        (execution, run)
        for execution in executions
        if (run := execution.steps.get(step)) is not None
        and run.cache_key == key
        and run.status == "Succeeded"
        and run.was_run
        and run.ended is not None
        and run.ended >= oldest
    ]
    return max(found, key=lambda pair: pair[1].ended or oldest, default=None)
