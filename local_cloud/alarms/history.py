"""What happened to alarms: DescribeAlarmHistory, which moto does not have.

Summaries and data are those of the examples in the CLI reference of ``describe-alarm-history``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tidegate.local_cloud.request_gate import Refusal

Json = dict[str, Any]
Of = tuple[str, str]
"""An alarm's name, and its kind: MetricAlarm or CompositeAlarm."""
KEPT = timedelta(days=30)  # "CloudWatch preserves alarm history for 30 days"
_MOST_ITEMS = 20_000
_PAGE = 100


@dataclass(slots=True)
class History:
    """``items`` is its state, in plain values, oldest first; those of an alarm that is deleted stay."""

    items: list[Json] = field(default_factory=list)

    def configured(self, of: Of, what: str, configuration: Json, moment: datetime) -> None:
        """``what`` is ``Create``, ``Update`` or ``Delete``."""
        past = {"Create": "created", "Update": "updated", "Delete": "deleted"}[what]
        data = {"version": "1.0", "type": what, f"{past}Alarm": configuration}
        self._add(of, moment, "ConfigurationUpdate", f'Alarm "{of[0]}" {past}', data)

    def changed(self, of: Of, before: Json, after: Json, moment: datetime) -> None:
        """A new state; both as EventBridge tells of them."""
        data = {"version": "1.0", "oldState": _state(before), "newState": _state(after)}
        summary = f"Alarm updated from {before['value']} to {after['value']}"
        self._add(of, moment, "StateUpdate", summary, data)

    def acted(self, of: Of, action: str, error: str | None, moment: datetime) -> None:
        """An action was carried out, or failed with ``error``."""
        data = {"actionState": "Succeeded" if error is None else "Failed", "notificationResource": action}
        summary = f"Successfully executed action {action}" if error is None else f"Failed to execute action {action}"
        self._add(of, moment, "Action", summary, data | ({} if error is None else {"error": error}))

    def forget_before(self, moment: datetime) -> None:
        """Drops what is older."""
        kept = [item for item in self.items if item["timestamp"] >= moment]
        self.items[:] = kept

    def describe(self, request: Json) -> Json:
        """The answer to DescribeAlarmHistory. Raises :class:`.Refusal` for a token that no answer gave."""
        kinds = request.get("AlarmTypes") or ["MetricAlarm"]  # "If you omit this, only metric alarms are returned."
        wanted = {"alarm_name": request.get("AlarmName"), "history_item_type": request.get("HistoryItemType")}
        begin, end = request.get("StartDate"), request.get("EndDate")
        found = [
            item
            for item in self.items
            if item["alarm_type"] in kinds
            and all(value in (None, item[name]) for name, value in wanted.items())
            and (begin is None or item["timestamp"] >= _aware(begin))
            and (end is None or item["timestamp"] <= _aware(end))
        ]
        if request.get("ScanBy") != "TimestampAscending":
            found.reverse()
        token = request.get("NextToken")
        if token is not None and not (token.isascii() and token.isdecimal()):
            raise Refusal("The value for parameter NextToken is not valid.", code="InvalidNextToken")
        start = int(token or 0)
        stop = start + int(request.get("MaxRecords") or _PAGE)
        return {"alarm_history_items": found[start:stop]} | ({"next_token": str(stop)} if stop < len(found) else {})

    def _add(self, of: Of, moment: datetime, item_type: str, summary: str, data: Json) -> None:
        self.items.append(
            {
                "alarm_name": of[0],
                "alarm_type": of[1],
                "timestamp": moment,
                "history_item_type": item_type,
                "history_summary": summary,
                "history_data": json.dumps(data),
            }
        )
        if len(self.items) > _MOST_ITEMS:
            del self.items[:-_MOST_ITEMS]


def _state(detail: Json) -> Json:
    return {
        "stateValue": detail["value"],
        "stateReason": detail["reason"],
        "stateReasonData": json.loads(detail["reasonData"] or "{}"),
    }


def _aware(moment: datetime) -> datetime:
    """Requests are read without a time zone, in UTC."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
