"""All alarms of the cloud: looked at every minute, and acting.

An alarm of CloudWatch looks, at every full minute, at windows of its period that end there. Periods of less than a
minute are looked at by the minute. An alarm that cannot be computed here keeps its state, and the log says once why.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast

from moto.cloudwatch.models import Alarm, CloudWatchBackend, Dimension
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult

from tidegate.local_cloud.alarms.composite_rules import RuleError, read
from tidegate.local_cloud.alarms.evaluation import COMPARISONS, LOOKS_FURTHER, State, state_of
from tidegate.local_cloud.alarms.history import History, Of
from tidegate.local_cloud.clock import Clock
from tidegate.local_cloud.metrics.expressions import evaluate
from tidegate.local_cloud.metrics.moto_metrics import PutMetrics
from tidegate.local_cloud.metrics.store import MetricStore, Series, Tally

logger = logging.getLogger(__name__)

Json = dict[str, Any]
_LONGEST_REASON_CHARS = 1023
_SUBJECT_CHARS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Actions:
    """What an alarm may do. Each is called with the clock standing at the moment of the change."""

    publish: Callable[[str, str, str], None]
    """A topic's ARN, a subject and a message."""
    announce: Callable[[str, str, Json], None]
    """EventBridge: the detail-type, the alarm's ARN and the detail."""
    scale: Callable[[str, str, float | None, float | None], None]
    """A scaling policy's ARN, the alarm's name, its newest value (where there is one) and its threshold."""


@dataclass(slots=True)
class Alarms:
    """Evaluates and acts. ``own`` has this cloud's metrics, ``put`` what clients have put."""

    backend: CloudWatchBackend
    own: MetricStore
    put: PutMetrics
    clock: Clock
    actions: Actions
    account: str
    history: History = field(default_factory=History)
    _said: set[tuple[int, str]] = field(default_factory=set)

    def install(self) -> None:
        """Lets moto's alarms begin and change as the service's do. Calling it again only changes which act."""
        _seams[:] = [self]

    def evaluate_all(self) -> None:
        """Called at a full minute."""
        now = self.clock.now()
        self.put.refresh()
        alarms = list(self.backend.describe_alarms())
        for alarm in alarms:
            if alarm.rule is None:
                self._guarded(alarm, partial(self._evaluate, alarm, now))
        # Those that look at alarms come behind them.
        for alarm in self._composites(alarms):
            self._guarded(alarm, partial(self._evaluate_composite, alarm))

    def _composites(self, alarms: Iterable[Alarm]) -> list[Alarm]:
        """In an order in which each comes behind those that it looks at.

        One that looks at itself by way of others is left out: "the evaluation of composite alarms stops if CloudWatch
        detects a cycle in the evaluation path".
        """
        composites = {alarm.name: alarm for alarm in alarms if alarm.rule is not None}
        below: dict[str, list[str]] = {}
        for name, alarm in composites.items():
            try:
                children = [child.rpartition(":alarm:")[2] for child in read(str(alarm.rule)).names]
            except RuleError as error:
                self._say_once(alarm, str(error))
                children = []
            below[name] = [child for child in children if child in composites]
        ordered: list[Alarm] = []
        while ready := [name for name, children in below.items() if not any(child in below for child in children)]:
            ordered += [composites[name] for name in ready]
            for name in ready:
                del below[name]
        for name in below:
            self._say_once(composites[name], "its rule is in a circle with those of other alarms, so it stays as it is")
        return ordered

    def value_of(self, alarm: Alarm, now: datetime) -> float | None:
        """The newest value that an alarm compares; None where there is none."""
        return next((value for value in reversed(self._values(alarm, now)) if value is not None), None)

    def changed(self, alarm: Alarm, before: Json) -> None:
        """Acts on a new state; ``before`` is the state that it had."""
        if before["value"] == alarm.state_value:
            return
        after = state_detail(alarm)
        self.history.changed(_of(alarm), before, after, self.clock.now())
        detail = {
            "alarmName": alarm.name,
            "configuration": _configuration(alarm),
            "previousState": before,
            "state": after,
        }
        self._try(partial(self.actions.announce, "CloudWatch Alarm State Change", alarm.alarm_arn, detail))
        self._act(alarm, before)

    def _act(self, alarm: Alarm, before: Json | None) -> None:
        """Runs the actions of the present state; without ``before`` only those that go on while the state lasts."""
        if not alarm.actions_enabled:
            return
        for action in _actions_of(alarm):
            kind = action.split(":")[2] if action.count(":") >= 5 else ""
            if kind == "sns" and before is not None:
                self._carry_out(partial(self._publish, alarm, before, action), alarm, action)
            elif kind == "autoscaling" and before is not None:
                self._carry_out(partial(self._scale, alarm, action), alarm, action)
            elif kind == "autoscaling":
                self._try(partial(self._scale, alarm, action))
            elif before is not None and kind != "sns":
                self._say_once(alarm, f"its action {action} is recorded and does nothing here")

    def _publish(self, alarm: Alarm, before: Json, topic_arn: str) -> None:
        subject = f'{alarm.state_value}: "{alarm.name}" in {alarm.region_name}'
        self.actions.publish(topic_arn, subject[:_SUBJECT_CHARS], json.dumps(self._message(alarm, before)))

    def _scale(self, alarm: Alarm, policy_arn: str) -> None:
        value = self.value_of(alarm, self.clock.now()) if _comparable(alarm) else None
        self.actions.scale(policy_arn, alarm.name, value, alarm.threshold)

    def _evaluate(self, alarm: Alarm, now: datetime) -> None:
        if not _comparable(alarm):
            return
        if alarm.comparison_operator not in COMPARISONS:
            raise ValueError(f"the local cloud does not have the comparison {alarm.comparison_operator}")
        values = self._values(alarm, now)
        compare, words = COMPARISONS[alarm.comparison_operator]
        breaches = [None if value is None else compare(value, alarm.threshold) for value in values]
        periods = int(alarm.evaluation_periods)
        to_alarm = int(alarm.datapoints_to_alarm or periods)
        present = cast("State", alarm.state_value)
        state = state_of(
            breaches,
            periods=periods,
            to_alarm=to_alarm,
            missing=alarm.treat_missing_data or "missing",
            present=present,
        )
        if state != present:
            recent = [value for value in values if value is not None][-periods:]
            self._set(alarm, state, _reason(alarm, state, words, _Points(values, breaches, now)), recent, now)
        elif state == "ALARM":
            self._act(alarm, None)

    def _evaluate_composite(self, alarm: Alarm) -> None:
        states = {}
        for other in self.backend.describe_alarms():
            states[other.name] = states[other.alarm_arn] = other.state_value
        state: State = "ALARM" if read(str(alarm.rule)).holds(states) else "OK"
        if state != alarm.state_value:
            self._set(alarm, state, f"The rule {alarm.rule} is {'true' if state == 'ALARM' else 'false'}.", [], None)

    def _set(self, alarm: Alarm, state: State, reason: str, recent: list[float], now: datetime | None) -> None:
        data: Json = {"version": "1.0"}
        if now is not None:
            data |= {
                "queryDate": now.isoformat(),
                "statistic": alarm.statistic or alarm.extended_statistic,
                "period": alarm.period,
                "recentDatapoints": recent,
                "threshold": alarm.threshold,
            }
        logger.info("alarm %s is %s: %s", alarm.name, state, reason)
        self.backend.set_alarm_state(alarm.name, reason[:_LONGEST_REASON_CHARS], json.dumps(data), state)

    def _values(self, alarm: Alarm, now: datetime) -> list[float | None]:
        """The values that the alarm compares, the newest last."""
        count = int(alarm.evaluation_periods) + LOOKS_FURTHER
        if not alarm.metric_data_queries:
            series = Series.of(alarm.namespace, alarm.metric_name, _dimensions(alarm.dimensions))
            statistic = alarm.extended_statistic or alarm.statistic
            return self._windows(series, statistic, int(alarm.period), count, now)
        period_s = min(
            int(query.metric_stat.period) for query in alarm.metric_data_queries if query.metric_stat is not None
        )
        inputs: dict[str, list[float | None]] = {}
        results: dict[str, list[float | None]] = {}
        for query in alarm.metric_data_queries:
            if query.metric_stat is not None:
                stat = query.metric_stat
                series = Series.of(stat.metric.namespace, stat.metric.metric_name, _dimensions(stat.metric.dimensions))
                inputs[query.id] = self._windows(series, stat.stat, period_s, count, now)
        for query in alarm.metric_data_queries:
            if query.expression:
                results[query.id] = evaluate(query.expression, inputs | results, count, metrics=inputs)
        returned = [query.id for query in alarm.metric_data_queries if _is_returned(query)]
        return (inputs | results)[returned[-1] if returned else alarm.metric_data_queries[-1].id]

    def _windows(self, series: Series, statistic: str, period_s: int, count: int, now: datetime) -> list[float | None]:
        period = timedelta(seconds=max(60, period_s))
        stores = [store for store in (self.own, self.put.store) if series in store.series]
        if not stores:  # nobody emits it: the usual case, and to be passed over quickly in a long advance
            return [None] * count
        found: list[float | None] = []
        for back in range(count, 0, -1):
            tally = Tally()
            for store in stores:
                tally.merge(store.between(series, now - back * period, now - (back - 1) * period))
            found.append(tally.statistic(statistic))
        return found

    def _message(self, alarm: Alarm, before: Json) -> Json:
        """What a topic gets ("Notifying users on alarm changes")."""
        return {
            "AlarmName": alarm.name,
            "AlarmDescription": alarm.description,
            "AWSAccountId": self.account,
            "AlarmConfigurationUpdatedTimestamp": _stamp(alarm.configuration_updated_timestamp),
            "NewStateValue": alarm.state_value,
            "NewStateReason": alarm.state_reason,
            "StateChangeTime": _stamp(alarm.state_updated_timestamp),
            "Region": alarm.region_name,
            "AlarmArn": alarm.alarm_arn,
            "OldStateValue": before["value"],
            "OKActions": alarm.ok_actions,
            "AlarmActions": alarm.alarm_actions,
            "InsufficientDataActions": alarm.insufficient_data_actions,
            "Trigger": {
                "MetricName": alarm.metric_name,
                "Namespace": alarm.namespace,
                "Statistic": (alarm.statistic or "").upper() or None,
                "ExtendedStatistic": alarm.extended_statistic,
                "Dimensions": [{"name": each.name, "value": each.value} for each in alarm.dimensions],
                "Period": alarm.period,
                "EvaluationPeriods": alarm.evaluation_periods,
                "DatapointsToAlarm": alarm.datapoints_to_alarm,
                "ComparisonOperator": alarm.comparison_operator,
                "Threshold": alarm.threshold,
                "TreatMissingData": alarm.treat_missing_data,
            },
        }

    def _guarded(self, alarm: Alarm, work: Callable[[], None]) -> None:
        try:
            work()
        except (ValueError, RuleError) as error:
            self._say_once(alarm, str(error))

    def _try(self, act: Callable[[], None]) -> str | None:
        """An action that fails changes nothing of the alarm, as on AWS. Returns why it failed."""
        try:
            act()
        except Exception as error:
            logger.exception("an action of an alarm failed")
            return str(error)
        return None

    def _carry_out(self, act: Callable[[], None], alarm: Alarm, action: str) -> None:
        error = self._try(act)
        self.history.acted(_of(alarm), action, error, self.clock.now())

    def _say_once(self, alarm: Alarm, what: str) -> None:
        if (id(alarm), what) not in self._said:
            self._said.add((id(alarm), what))
            logger.warning("alarm %s: %s", alarm.name, what)


def state_detail(alarm: Alarm) -> Json:
    """A state as EventBridge tells it."""
    return {
        "value": alarm.state_value,
        "reason": alarm.state_reason,
        "reasonData": alarm.state_reason_data,
        "timestamp": _stamp(alarm.state_updated_timestamp),
    }


def _of(alarm: Alarm) -> Of:
    return alarm.name, "MetricAlarm" if alarm.rule is None else "CompositeAlarm"


_seams: list[Alarms] = []
_put_of_moto = CloudWatchBackend.put_metric_alarm
_set_of_moto = CloudWatchBackend.set_alarm_state
_delete_of_moto = CloudWatchBackend.delete_alarms


def _put(self: CloudWatchBackend, name: str, *arguments: Any, **named: Any) -> Alarm:
    """A new alarm has no data yet, and one that is put again keeps its state; moto's begins as OK each time."""
    before = self.alarms.get(name)
    alarm = _put_of_moto(self, name, *arguments, **named)
    if before is None:
        alarm.state_value = "INSUFFICIENT_DATA"
    else:
        for attribute in ("state_value", "state_reason", "state_reason_data", "state_updated_timestamp", "history"):
            setattr(alarm, attribute, getattr(before, attribute))
    _note(self, alarm, "Create" if before is None else "Update")
    return alarm


def _delete(self: CloudWatchBackend, alarm_names: list[str]) -> None:
    there = [self.alarms[name] for name in alarm_names if name in self.alarms]
    _delete_of_moto(self, alarm_names)
    for alarm in there:
        _note(self, alarm, "Delete")


def _note(backend: CloudWatchBackend, alarm: Alarm, what: str) -> None:
    for seam in _seams:
        if seam.backend is backend:
            seam.history.configured(_of(alarm), what, _configuration(alarm), seam.clock.now())


def _describe_history(self: CloudWatchResponse) -> ActionResult:
    seam = next((each for each in _seams if each.backend is self.cloudwatch_backend), None)
    return ActionResult(({"alarm_history_items": []}) if seam is None else seam.history.describe(self._get_params()))


def _set_state(self: CloudWatchBackend, alarm_name: str, reason: str, reason_data: str, state_value: str) -> None:
    """A state that is set, by whomever, acts."""
    alarm = self.alarms.get(alarm_name)
    before = state_detail(alarm) if alarm is not None else {}
    _set_of_moto(self, alarm_name, reason, reason_data, state_value)
    for seam in _seams:
        if alarm is not None and seam.backend is self:
            seam.changed(alarm, before)


CloudWatchBackend.put_metric_alarm = _put  # type: ignore[method-assign]
CloudWatchBackend.set_alarm_state = _set_state  # type: ignore[method-assign]
CloudWatchBackend.delete_alarms = _delete  # type: ignore[method-assign]
# moto does not have the operation.
setattr(CloudWatchResponse, "describe_alarm_history", _describe_history)  # noqa: B010
# moto's own method reads the rule of a composite alarm, but no operation leads to it.
setattr(CloudWatchResponse, "put_composite_alarm", CloudWatchResponse.put_metric_alarm)  # noqa: B010


def _comparable(alarm: Alarm) -> bool:
    """Whether it is an alarm on metrics; one on PromQL has neither a metric nor queries."""
    return alarm.threshold is not None and bool(alarm.metric_data_queries or alarm.metric_name)


def _dimensions(given: Iterable[Dimension]) -> dict[str, str]:
    return {str(each.name): str(each.value) for each in given}


def _is_returned(query: Any) -> bool:
    return str(query.return_data).lower() == "true"


def _actions_of(alarm: Alarm) -> Iterable[str]:
    match alarm.state_value:
        case "ALARM":
            return alarm.alarm_actions or []
        case "OK":
            return alarm.ok_actions
    return alarm.insufficient_data_actions


def _configuration(alarm: Alarm) -> Json:
    if alarm.rule is not None:
        return {"description": alarm.description, "alarmRule": alarm.rule}
    if not alarm.metric_data_queries:
        metrics: list[Json] = [
            {
                "id": "m1",
                "metricStat": {
                    "metric": {
                        "namespace": alarm.namespace,
                        "name": alarm.metric_name,
                        "dimensions": _dimensions(alarm.dimensions),
                    },
                    "period": alarm.period,
                    "stat": alarm.statistic or alarm.extended_statistic,
                },
                "returnData": True,
            }
        ]
    else:
        metrics = [
            {"id": query.id, "returnData": _is_returned(query)}
            | ({"expression": query.expression} if query.expression else {})
            for query in alarm.metric_data_queries
        ]
    return {"description": alarm.description, "metrics": metrics}


@dataclass(frozen=True, slots=True)
class _Points:
    """What an evaluation looked at, the newest last: values, whether each breaches, and the moment of the look."""

    values: list[float | None]
    breaches: list[bool | None]
    now: datetime


def _reason(alarm: Alarm, state: State, words: str, points: _Points) -> str:
    """The service's sentence ("Alarm events and EventBridge" has examples)."""
    periods = int(alarm.evaluation_periods)
    to_alarm = int(alarm.datapoints_to_alarm or periods)
    real = [place for place, breach in enumerate(points.breaches) if breach is not None][-periods:]
    unknown = periods - len(real)
    if state == "INSUFFICIENT_DATA":
        return f"Insufficient Data: {_counted(unknown, 'datapoint')} {_were(unknown)} unknown."
    if not real:
        treated = "Breaching" if alarm.treat_missing_data == "breaching" else "NonBreaching"
        return (
            f"Threshold Crossed: no datapoints were received for {_counted(periods, 'period')} and"
            f" {_counted(periods, 'missing datapoint')} {_were(periods)} treated as [{treated}]."
        )
    telling = [place for place in real if points.breaches[place] == (state == "ALARM")]
    width = timedelta(seconds=_period_s(alarm))
    said = ", ".join(
        f"{points.values[place]} ({points.now - (len(points.values) - place) * width:%d/%m/%y %H:%M:%S})"
        for place in telling
    )
    least = to_alarm if state == "ALARM" else periods - to_alarm + 1
    return (
        f"Threshold Crossed: {len(telling)} out of the last {_counted(len(real), 'datapoint')} [{said}]"
        f" {_were(len(telling))} {'' if state == 'ALARM' else 'not '}{words} the threshold ({alarm.threshold}) (minimum"
        f" {_counted(least, 'datapoint')} for {alarm.state_value} -> {state} transition)."
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _period_s(alarm: Alarm) -> int:
    """Of one window: at least a minute."""
    queries = [query.metric_stat.period for query in alarm.metric_data_queries if query.metric_stat is not None]
    return max(60, min((int(period) for period in queries), default=int(alarm.period or 60)))


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"
