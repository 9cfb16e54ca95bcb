"""Alarms change their state from metrics by the clock, and act."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local_cloud.time.conftest import TimedAccount


def test_an_alarm_begins_without_data_goes_on_and_off_and_tells_its_topic(account: TimedAccount) -> None:
    name = account.name("alarm")
    topic, queue = account.topic()
    account.alarm(
        name, AlarmDescription="Too many", AlarmActions=[topic], OKActions=[topic], TreatMissingData="notBreaching"
    )
    assert account.state(name) == "INSUFFICIENT_DATA"
    account.advance(minutes=1)
    assert account.state(name) == "OK"
    account.measure(name, 3)
    account.advance(minutes=1)
    assert account.state(name) == "ALARM"
    account.advance(minutes=5)
    assert account.state(name) == "OK"
    told = [json.loads(message["Message"]) for message in account.messages(queue)]
    assert [(each["OldStateValue"], each["NewStateValue"]) for each in told] == [
        ("INSUFFICIENT_DATA", "OK"),
        ("OK", "ALARM"),
        ("ALARM", "OK"),
    ]
    assert told[1]["AlarmName"] == name
    assert told[1]["Trigger"]["Threshold"] == 1.0
    (alarm,) = account.cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    account.alarm(name, AlarmDescription="Another text")
    (again,) = account.cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert again["StateValue"] == alarm["StateValue"]


def test_as_many_periods_must_breach_as_the_alarm_says(account: TimedAccount) -> None:
    name = account.name("alarm")
    account.alarm(name, EvaluationPeriods=3, DatapointsToAlarm=2, TreatMissingData="notBreaching")
    states = []
    for value in (5, 0, 5, 0, 0):
        account.measure(name, value)
        account.advance(minutes=1)
        states.append(account.state(name))
    assert states == ["OK", "OK", "ALARM", "OK", "OK"]


@pytest.mark.parametrize(
    ("treatment", "expected"),
    [("missing", "INSUFFICIENT_DATA"), ("breaching", "ALARM"), ("notBreaching", "OK"), ("ignore", "OK")],
)
def test_missing_data_are_treated_as_the_alarm_says(account: TimedAccount, treatment: str, expected: str) -> None:
    name = account.name("alarm")
    account.alarm(name, TreatMissingData=treatment)
    account.measure(name, 0)
    account.advance(minutes=1)
    assert account.state(name) == "OK"
    account.advance(minutes=10)
    assert account.state(name) == expected


def test_an_alarm_on_errors_of_an_endpoint_is_raised_by_an_endpoint_that_fails(account: TimedAccount) -> None:
    endpoint = account.endpoint(account.model())
    name = account.name("errors")
    dimensions = [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "variant-0"}]

    def of(metric: str) -> dict[str, Any]:
        named = {"Namespace": "AWS/SageMaker", "MetricName": metric, "Dimensions": dimensions}
        return {"Metric": named, "Period": 300, "Stat": "Sum"}

    account.cloudwatch.put_metric_alarm(
        AlarmName=name,
        Metrics=[
            {"Id": "requests", "MetricStat": of("Invocations"), "ReturnData": False},
            {"Id": "errors", "MetricStat": of("Invocation5XXErrors"), "ReturnData": False},
            {"Id": "result", "Expression": "IF(requests >= 4, 100 * errors / requests, 0)", "ReturnData": True},
        ],
        EvaluationPeriods=1,
        Threshold=40,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
    )
    account.advance(minutes=1)
    assert account.state(name) == "OK"
    for body in (b"echo:1", b"echo:2", b"status:500", b"status:500"):
        with suppress(ClientError):
            account.invoke(endpoint, body)
    account.advance(minutes=1)
    assert account.state(name) == "ALARM"
    account.advance(minutes=30)
    assert account.state(name) == "OK"
    account.delete(endpoint)


def test_a_percentile_of_the_latency_is_watched(account: TimedAccount) -> None:
    endpoint = account.endpoint(account.model())
    name = account.name("latency")
    account.cloudwatch.put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SageMaker",
        MetricName="ModelLatency",
        Dimensions=[{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": "variant-0"}],
        ExtendedStatistic="p99",
        Period=60,
        EvaluationPeriods=1,
        Threshold=1.0,
        ComparisonOperator="GreaterThanThreshold",
        TreatMissingData="notBreaching",
    )
    account.invoke(endpoint, b"echo:1")
    account.advance(minutes=1)
    assert account.state(name) == "ALARM"
    account.delete(endpoint)


def test_eventbridge_hears_of_every_change(account: TimedAccount) -> None:
    name, rule = account.name("alarm"), account.name("rule")
    queue, queue_arn = account.queue()
    pattern = {"source": ["aws.cloudwatch"], "detail": {"alarmName": [name]}}
    account.events.put_rule(Name=rule, EventPattern=json.dumps(pattern))
    account.events.put_targets(Rule=rule, Targets=[{"Id": "queue", "Arn": queue_arn}])
    account.alarm(name, TreatMissingData="breaching")
    account.advance(minutes=1)
    (event,) = account.messages(queue)
    assert event["detail-type"] == "CloudWatch Alarm State Change"
    assert event["detail"]["previousState"]["value"] == "INSUFFICIENT_DATA"
    assert event["detail"]["state"]["value"] == "ALARM"
    assert event["detail"]["configuration"]["metrics"][0]["metricStat"]["metric"]["name"] == name


def test_a_state_that_a_caller_sets_acts_and_lasts_until_the_next_evaluation(account: TimedAccount) -> None:
    name = account.name("alarm")
    topic, queue = account.topic()
    account.alarm(name, AlarmActions=[topic], TreatMissingData="notBreaching")
    account.advance(minutes=1)
    account.cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="an exercise")
    assert len(account.messages(queue)) == 1
    account.advance(minutes=1)
    assert account.state(name) == "OK"


def test_a_composite_alarm_follows_its_alarms_and_switched_off_actions_rest(account: TimedAccount) -> None:
    first, second, both = account.name("alarm"), account.name("alarm"), account.name("composite")
    topic, queue = account.topic()
    for name in (first, second):
        account.alarm(name, TreatMissingData="notBreaching")
    account.cloudwatch.put_composite_alarm(
        AlarmName=both, AlarmRule=f'ALARM("{first}") AND NOT ALARM("{second}")', AlarmActions=[topic]
    )
    account.measure(first, 1)
    account.advance(minutes=1)
    assert account.state(both) == "ALARM"
    assert len(account.messages(queue)) == 1
    account.measure(second, 1)
    account.advance(minutes=1)
    assert account.state(both) == "OK"
    account.cloudwatch.disable_alarm_actions(AlarmNames=[both])
    account.advance(minutes=5)
    account.measure(first, 1)
    account.advance(minutes=1)
    assert account.state(both) == "ALARM"
    assert account.messages(queue) == []


def test_an_alarm_that_cannot_be_computed_keeps_its_state_and_the_log_says_why(account: TimedAccount) -> None:
    name = account.name("alarm")
    account.cloudwatch.put_metric_alarm(
        AlarmName=name,
        Metrics=with_a_band(name, {"ReturnData": False}, {"ReturnData": True}),
        EvaluationPeriods=1,
        Threshold=1,
        ComparisonOperator="GreaterThanThreshold",
    )
    account.measure(name, 1)
    account.advance(minutes=3)
    assert account.state(name) == "INSUFFICIENT_DATA"
    log = (account.cloud.directory / "supervisor.log").read_text(encoding="utf-8")
    assert log.count(f"alarm {name}: the local cloud does not have ANOMALY_DETECTION_BAND") == 1


def with_a_band(name: str, metric: dict[str, Any], band: dict[str, Any]) -> list[dict[str, Any]]:
    """The queries of an alarm on what is unusual; ``metric`` and ``band`` say which of the two returns data."""
    stat = {"Metric": {"Namespace": "Own", "MetricName": name}, "Period": 60, "Stat": "Sum"}
    return [
        {"Id": "m", "MetricStat": stat, **metric},
        {"Id": "band", "Expression": "ANOMALY_DETECTION_BAND(m, 2)", **band},
    ]


@pytest.mark.parametrize("band", [{}, {"ReturnData": True}], ids=["as documented", "as consoles write it"])
@pytest.mark.parametrize("metric", [{"ReturnData": True}, {}], ids=["said", "by default"])
def test_an_alarm_on_what_is_unusual_is_kept_as_it_is(
    account: TimedAccount, metric: dict[str, Any], band: dict[str, Any]
) -> None:
    name = account.name("alarm")
    account.cloudwatch.put_metric_alarm(
        AlarmName=name,
        Metrics=with_a_band(name, metric, band),
        EvaluationPeriods=1,
        ThresholdMetricId="band",
        ComparisonOperator="LessThanLowerOrGreaterThanUpperThreshold",
        AlarmActions=["arn:aws:aiops:us-east-1:123456789012:investigation-group/g"],
    )
    account.measure(name, 1)
    account.advance(minutes=3)
    assert account.state(name) == "INSUFFICIENT_DATA"


def test_the_history_of_an_alarm_tells_of_its_making_its_states_and_its_actions(account: TimedAccount) -> None:
    name, (topic, _) = account.name("alarm"), account.topic()
    account.alarm(name, AlarmActions=[topic], TreatMissingData="ignore")
    account.measure(name, 2)
    account.advance(minutes=10)
    account.cloudwatch.set_alarm_state(AlarmName=name, StateValue="OK", StateReason="an exercise")
    account.cloudwatch.delete_alarms(AlarmNames=[name])

    def history(**members: Any) -> list[dict[str, Any]]:
        pages = account.cloudwatch.get_paginator("describe_alarm_history").paginate(AlarmName=name, **members)
        return [item for page in pages for item in page["AlarmHistoryItems"]]

    items = history(ScanBy="TimestampAscending", MaxRecords=2)
    assert [(item["HistoryItemType"], item["HistorySummary"]) for item in items] == [
        ("ConfigurationUpdate", f'Alarm "{name}" created'),
        ("StateUpdate", "Alarm updated from INSUFFICIENT_DATA to ALARM"),
        ("Action", f"Successfully executed action {topic}"),
        ("StateUpdate", "Alarm updated from ALARM to OK"),
        ("ConfigurationUpdate", f'Alarm "{name}" deleted'),
    ]
    assert history() == items[::-1]
    cleared, raised = (json.loads(item["HistoryData"])["newState"] for item in history(HistoryItemType="StateUpdate"))
    assert re.fullmatch(
        r"Threshold Crossed: 1 out of the last 1 datapoint \[2\.0 \(\d\d/\d\d/\d\d \d\d:\d\d:00\)\] was greater than or"
        r" equal to the threshold \(1\.0\) \(minimum 1 datapoint for INSUFFICIENT_DATA -> ALARM transition\)\.",
        raised["stateReason"],
    )
    assert cleared["stateReason"] == "an exercise"
    assert history(StartDate=account.cloud.advance(0) + timedelta(minutes=1)) == []
    assert history(AlarmTypes=["CompositeAlarm"]) == []


def test_composite_alarms_in_a_circle_stay_as_they_are_and_one_above_another_follows_at_once(
    account: TimedAccount,
) -> None:
    metric, low, high = account.name("alarm"), account.name("composite"), account.name("composite")
    put = account.cloudwatch.put_composite_alarm
    account.alarm(metric, TreatMissingData="ignore")
    put(AlarmName=low, AlarmRule=f"ALARM({metric})")
    put(AlarmName=high, AlarmRule=f"ALARM({low})")
    account.measure(metric, 1)
    account.advance(minutes=1)
    assert account.state(high) == "ALARM"
    put(AlarmName=low, AlarmRule=f"ALARM({metric}) OR ALARM({high})")
    account.advance(minutes=5)
    account.cloudwatch.set_alarm_state(AlarmName=metric, StateValue="OK", StateReason="an exercise")
    account.advance(minutes=1)
    assert (account.state(metric), account.state(low), account.state(high)) == ("OK", "ALARM", "ALARM")
    with pytest.raises(ClientError, match="as there are composite alarm"):
        account.cloudwatch.delete_alarms(AlarmNames=[high])
    put(AlarmName=low, AlarmRule="FALSE")
    account.advance(minutes=1)
    assert account.state(high) == "OK"
    for name in (high, low, metric):
        account.cloudwatch.delete_alarms(AlarmNames=[name])
