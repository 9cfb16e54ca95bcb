"""What CloudWatch refuses of alarms beyond botocore's model.

Sources: PutMetricAlarm, PutCompositeAlarm and DeleteAlarms in the API reference; the sentences are the service's own
where people have reported them (docs/local-cloud/errors.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moto.cloudwatch.models import CloudWatchBackend

from tidegate.local_cloud.alarms.composite_rules import RuleError, read
from tidegate.local_cloud.request_gate import Refusal

Json = dict[str, Any]
_DAY_S, _WEEK_S, _HOUR_S = 86_400, 604_800, 3600
_MOST_QUERIES = 10
_MOST_TAGS = 50
_ACTIONS = ("AlarmActions", "OKActions", "InsufficientDataActions")
_VENDORS = frozenset({"aiops", "automate", "autoscaling", "lambda", "sns", "ssm", "ssm-incidents", "swf"})
_COMPOSITE_VENDORS = frozenset({"aiops", "lambda", "sns", "ssm", "ssm-incidents"})
_MISSING = ("breaching", "notBreaching", "ignore", "missing")
_BANDS = frozenset({"LessThanLowerOrGreaterThanUpperThreshold", "LessThanLowerThreshold", "GreaterThanUpperThreshold"})
_OF_ONE_METRIC = ("Namespace", "MetricName", "Dimensions", "Period", "Unit", "Statistic", "ExtendedStatistic")
_SUPPRESSORS = ("ActionsSuppressor", "ActionsSuppressorWaitPeriod", "ActionsSuppressorExtensionPeriod")
_ID = re.compile(r"[a-z][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class AlarmRules:
    """Checks requests about alarms."""

    backend: CloudWatchBackend
    region: str

    def __call__(self, operation: str, request: Json) -> None:
        """Raises :class:`.Refusal`."""
        match operation:
            case "PutMetricAlarm":
                self._check_metric_alarm(request)
            case "PutCompositeAlarm":
                self._check_composite(request)
            case "SetAlarmState":
                self._check_state(request)
            case "DeleteAlarms":
                self._check_deletion(request["AlarmNames"])

    def _check_metric_alarm(self, request: Json) -> None:
        queries = request.get("Metrics") or []
        if "EvaluationCriteria" in request:  # PromQL, which is recorded
            self._check_actions(request, _VENDORS)
            return
        if queries:
            for member in _OF_ONE_METRIC:
                if request.get(member):
                    raise Refusal(f"{member} cannot be specified together with Metrics.")
            _check_queries(queries, request.get("ThresholdMetricId"))
        else:
            _check_one_metric(request)
        _check_evaluation(request, queries)
        self._check_actions(request, _VENDORS)

    def _check_composite(self, request: Json) -> None:
        name = request["AlarmName"]
        try:
            rule = read(request["AlarmRule"])
        except RuleError as error:
            raise Refusal(str(error)) from error
        children = [child.rpartition(":alarm:")[2] for child in rule.names]
        if name in children:
            raise Refusal("A composite alarm cannot have a child relation with itself via its AlarmRule")
        strangers = [child for child in children if child not in self.backend.alarms]
        if strangers:
            raise Refusal(
                f"Could not save the composite alarm as alarms [{', '.join(strangers)}] in the alarm rule do not exist"
            )
        for member in _SUPPRESSORS:
            if request.get(member) is not None:
                raise Refusal(f"The local cloud does not have {member} of composite alarms.")
        self._check_actions(request, _COMPOSITE_VENDORS)

    def _check_state(self, request: Json) -> None:
        name = request["AlarmName"]
        if name not in self.backend.alarms:
            raise Refusal(f"There is no alarm with the name {name}.", code="ResourceNotFound")
        try:
            json.loads(request.get("StateReasonData") or "{}")
        except ValueError as error:
            raise Refusal("StateReasonData is not JSON.", code="InvalidFormat") from error

    def _check_deletion(self, names: list[str]) -> None:
        there = [self.backend.alarms[name] for name in names if name in self.backend.alarms]
        if sum(alarm.rule is not None for alarm in there) > 1:
            raise Refusal("At most one composite alarm can be deleted in one operation.")
        gone = {alarm.name for alarm in there}
        depended_on = set()
        for alarm in list(self.backend.alarms.values()):
            if alarm.rule is not None and alarm.name not in gone:
                depended_on |= gone & {child.rpartition(":alarm:")[2] for child in _children(alarm.rule)}
        if depended_on:
            them = "it" if len(depended_on) == 1 else "them"
            raise Refusal(
                f"Cannot delete {','.join(sorted(depended_on))} as there are composite alarm(s) depending on {them}."
            )

    def _check_actions(self, request: Json, vendors: frozenset[str]) -> None:
        for member in _ACTIONS:
            for action in request.get(member) or []:
                parts = action.split(":", 5)
                if len(parts) != 6 or parts[0] != "arn" or not parts[5]:
                    raise Refusal(f"Invalid arn syntax: {action}")
                if parts[2] not in vendors:
                    raise Refusal(f"Unsupported AWS vendor {parts[2]}")
                if parts[3] not in ("", self.region):
                    raise Refusal(f"Invalid region {parts[3]} specified. Only {self.region} is supported.")
        keys = [tag["Key"] for tag in request.get("Tags") or []]
        if len(keys) > _MOST_TAGS:
            raise Refusal(f"An alarm has at most {_MOST_TAGS} tags, and this one has {len(keys)}.")


def _children(rule: str) -> Iterator[str]:
    try:
        yield from read(rule).names
    except RuleError:  # one that was kept from before rules were checked
        return


def _check_one_metric(request: Json) -> None:
    for member in ("MetricName", "Namespace", "Period"):
        if request.get(member) is None:
            raise Refusal(f"{member} must be specified for an alarm on one metric.")
    if ("Statistic" in request) == ("ExtendedStatistic" in request):
        raise Refusal("Exactly one of Statistic and ExtendedStatistic must be specified.")
    _check_period(request["Period"])
    low_counts = request.get("EvaluateLowSampleCountPercentile")
    if low_counts is not None and "Statistic" in request:
        statistic = request["Statistic"]
        raise Refusal(f"Option evaluateLowSampleCountPercentile can not be applied with statistic {statistic}.")
    if _repeats([dimension["Name"] for dimension in request.get("Dimensions") or []]):
        raise Refusal("A dimension is named twice.")


def _check_period(period_s: int) -> None:
    if period_s not in (10, 20, 30) and period_s % 60:
        raise Refusal("Period must be 10, 20, 30 or a multiple of 60")


def _check_queries(queries: list[Json], band: str | None) -> None:
    """The rules of MetricDataQuery for alarms; ``band`` is the Id of the thresholds' query, beside what is watched."""
    metrics = [query["MetricStat"] for query in queries if "MetricStat" in query]
    if len(metrics) > _MOST_QUERIES:
        raise Refusal(f"Too many metrics in alarm, maximum is {_MOST_QUERIES}")
    if len(queries) - len(metrics) > _MOST_QUERIES:
        raise Refusal(f"Too many expressions in alarm, maximum is {_MOST_QUERIES}")
    for query in queries:
        check_query(query)
    if _repeats([query["Id"] for query in queries]):
        raise Refusal("The values for parameter Id in MetricDataQueries must be unique.")
    for metric in metrics:
        _check_period(metric["Period"])
    watched = sum(bool(query.get("ReturnData", True)) for query in queries if query["Id"] != band)
    if watched > 1 or (watched == 0 and band is None):
        raise Refusal("Exactly one element of the metrics list should return data.")


def check_query(query: Json) -> None:
    """What a MetricDataQuery must be, in alarms and in GetMetricData. Raises :class:`.Refusal`."""
    if _ID.fullmatch(query["Id"]) is None:
        raise Refusal(
            f"The value {query['Id']} for parameter Id is not valid: it must begin with a lowercase letter and have"
            " letters, numbers and _ only."
        )
    if ("MetricStat" in query) == ("Expression" in query):
        raise Refusal(f"The query {query['Id']} must have exactly one of MetricStat and Expression.")


def _check_evaluation(request: Json, queries: list[Json]) -> None:
    comparison, band = request.get("ComparisonOperator"), request.get("ThresholdMetricId")
    if comparison is None:
        raise Refusal("ComparisonOperator must be specified for an alarm on metrics.")
    if comparison in _BANDS:
        if band is None:
            raise Refusal(f"{comparison} needs ThresholdMetricId.")
        if "Threshold" in request:
            raise Refusal("Threshold cannot be specified together with ThresholdMetricId.")
    elif "Threshold" not in request:
        raise Refusal("PutMetricAlarm request should have valid Threshold parameter")
    if "EvaluationPeriods" not in request:
        raise Refusal("EvaluationPeriods must be specified for an alarm on metrics.")
    periods = request["EvaluationPeriods"]
    if request.get("DatapointsToAlarm", 1) > periods:
        raise Refusal("DatapointsToAlarm must be less than or equal to EvaluationPeriods")
    missing = request.get("TreatMissingData")
    if missing is not None and missing not in _MISSING:
        raise Refusal(
            f"Option {missing} is not supported. Supported options for parameter TreatMissingData are breaching,"
            " notBreaching, ignore and missing."
        )
    low_counts = request.get("EvaluateLowSampleCountPercentile")
    if low_counts is not None and low_counts not in ("evaluate", "ignore"):
        raise Refusal(
            f"Option {low_counts} is not supported. Supported options for parameter EvaluateLowSampleCountPercentile"
            " are evaluate and ignore."
        )
    period_s = request.get("Period") or max(
        [query["MetricStat"]["Period"] for query in queries if "MetricStat" in query]
        + [query["Period"] for query in queries if "Period" in query],
        default=60,
    )
    if period_s < _HOUR_S and period_s * periods > _DAY_S:
        raise Refusal(
            f"Metrics cannot be checked across more than a day (EvaluationPeriods * Period must be <= {_DAY_S}) for"
            f" alarms using period < {_HOUR_S}"
        )
    if period_s * periods > _WEEK_S:
        raise Refusal(
            f"Metrics cannot be checked across more than a week (EvaluationPeriods * Period must be <= {_WEEK_S}) for"
            f" alarms using period >= {_HOUR_S}"
        )


def _repeats(names: list[str]) -> bool:
    return len(set(names)) < len(names)
