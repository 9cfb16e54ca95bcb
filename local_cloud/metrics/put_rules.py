"""What CloudWatch refuses of PutMetricData beyond botocore's model.

Source: PutMetricData in the API reference
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html); the sentences are the
service's own where people have reported them (docs/local-cloud/errors.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate.local_cloud.clock import Clock
from tidegate.local_cloud.request_gate import Refusal

Json = dict[str, Any]
_RESERVED = "AWS/"
_MOST_METRICS = 1000
_OLDEST, _NEWEST = timedelta(weeks=2), timedelta(hours=2)
_CODE = "InvalidParameterValue"


@dataclass(frozen=True, slots=True)
class PutRules:
    """Checks what clients put, by the cloud's clock."""

    clock: Clock

    def __call__(self, operation: str, request: Json) -> None:
        """Raises :class:`.Refusal`."""
        if operation != "PutMetricData":
            return
        if request["Namespace"].startswith(_RESERVED):
            raise Refusal(f"The value {_RESERVED} for parameter Namespace is invalid.", code=_CODE)
        data = list(_data(request))
        if len(data) > _MOST_METRICS:
            raise Refusal(f"The collection MetricData must not have a size greater than {_MOST_METRICS}.", code=_CODE)
        now = self.clock.now()
        sentences = [
            f"The parameter {where}.Timestamp must specify a time {limit}."
            for where, datum in data
            if (limit := _broken_limit(datum.get("Timestamp"), now)) is not None
        ]
        if sentences:
            raise Refusal("\n".join(sentences), code=_CODE)


def _data(request: Json) -> Iterator[tuple[str, Json]]:
    """Each metric of a request with its place there."""
    for number, datum in enumerate(request.get("MetricData") or [], start=1):
        yield f"MetricData.member.{number}", datum
    for place, group in enumerate(request.get("EntityMetricData") or [], start=1):
        for number, datum in enumerate(group.get("MetricData") or [], start=1):
            yield f"EntityMetricData.member.{place}.MetricData.member.{number}", datum


def _broken_limit(timestamp: Any, now: datetime) -> str | None:
    """What a time is not; clients may leave it out, or write it as seconds since 1970."""
    if timestamp is None:
        return None
    moment = timestamp if isinstance(timestamp, datetime) else datetime.fromtimestamp(float(timestamp), UTC)
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    if moment < now - _OLDEST:
        return "within the past two weeks"
    return "no more than two hours in the future" if moment > now + _NEWEST else None
