"""Schedules fire by the clock: rules of EventBridge, and EventBridge Scheduler's."""

from __future__ import annotations

import itertools
import json
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.local_cloud.conftest import await_true
from tests.local_cloud.time.conftest import ROLE, TimedAccount
from tidegate.local_cloud.cloud import CloudError


def schedule(account: TimedAccount, expression: str, target: dict[str, Any], **members: Any) -> str:
    name = account.name("schedule")
    account.cloud.client("scheduler").create_schedule(
        Name=name,
        ScheduleExpression=expression,
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"RoleArn": ROLE, **target},
        **members,
    )
    return name


def test_a_rule_with_a_rate_calls_its_targets_until_it_is_disabled(account: TimedAccount) -> None:
    name = account.name("rule")
    queue, queue_arn = account.queue()
    account.events.put_rule(Name=name, ScheduleExpression="rate(10 minutes)")
    constant, constant_arn = account.queue()
    targets = [{"Id": "event", "Arn": queue_arn}, {"Id": "constant", "Arn": constant_arn, "Input": '{"a": 1}'}]
    account.events.put_targets(Rule=name, Targets=targets)
    account.advance(minutes=61)
    events = account.messages(queue)
    assert [event["detail-type"] for event in events] == ["Scheduled Event"] * 6
    moments = sorted(datetime.fromisoformat(event["time"]) for event in events)
    assert {later - earlier for earlier, later in itertools.pairwise(moments)} == {timedelta(minutes=10)}
    assert account.messages(constant) == [{"a": 1}] * 6
    account.events.disable_rule(Name=name)
    account.advance(minutes=61)
    assert account.messages(queue) == []


@pytest.mark.parametrize("constant", [{}, {"Input": '{"a": 1}'}], ids=["event", "constant"])
@pytest.mark.parametrize(
    ("pattern", "hears"), [({}, 1), ({"EventPattern": json.dumps({"source": ["mine"]})}, 2)], ids=["alone", "pattern"]
)
def test_a_rule_hears_of_its_schedule_and_of_what_its_pattern_matches_and_of_nothing_else(
    account: TimedAccount, pattern: dict[str, Any], constant: dict[str, Any], hears: int
) -> None:
    name = account.name("rule")
    queue, queue_arn = account.queue()
    account.events.put_rule(Name=name, ScheduleExpression="rate(10 minutes)", **pattern)
    account.events.put_targets(Rule=name, Targets=[{"Id": "a", "Arn": queue_arn, **constant}])
    for source in ("mine", "another"):
        account.events.put_events(Entries=[{"Source": source, "DetailType": "d", "Detail": "{}"}])
    account.advance(minutes=11)
    account.events.remove_targets(Rule=name, Ids=["a"])
    account.events.delete_rule(Name=name)
    assert len(account.messages(queue)) == hears


def test_a_target_that_fails_keeps_no_other_from_its_event(account: TimedAccount) -> None:
    name = account.name("rule")
    queue, queue_arn = account.queue()
    account.events.put_rule(Name=name, ScheduleExpression="rate(1 minute)")
    nowhere = "arn:aws:states:us-east-1:123456789012:stateMachine:nowhere"
    targets = [{"Id": "a", "Arn": nowhere, "RoleArn": ROLE}, {"Id": "b", "Arn": queue_arn}]
    account.events.put_targets(Rule=name, Targets=targets)
    account.advance(minutes=3)
    account.events.remove_targets(Rule=name, Ids=["a", "b"])
    account.events.delete_rule(Name=name)
    assert len(account.messages(queue)) >= 2


def test_a_cron_schedule_gives_its_target_the_planned_time(account: TimedAccount) -> None:
    queue, queue_arn = account.queue()
    given = {"at": "<aws.scheduler.scheduled-time>", "by": "<aws.scheduler.schedule-arn>"}
    zone = "Asia/Tokyo"  # nine hours ahead, all the year
    name = schedule(
        account,
        "cron(0 3 * * ? *)",
        {"Arn": queue_arn, "Input": json.dumps(given)},
        ScheduleExpressionTimezone=zone,
    )
    account.advance(minutes=24 * 60)
    message, *_ = account.messages(queue)
    planned = datetime.fromisoformat(message["at"])
    assert (planned.hour, planned.minute) == (18, 0)
    assert message["by"].endswith(f"/default/{name}")
    account.cloud.client("scheduler").delete_schedule(Name=name)


def test_a_schedule_for_one_time_fires_once_and_goes_if_it_is_to(account: TimedAccount) -> None:
    queue, queue_arn = account.queue()
    scheduler = account.cloud.client("scheduler")
    moment = account.cloud.advance(0) + timedelta(minutes=30)
    name = schedule(
        account,
        f"at({moment:%Y-%m-%dT%H:%M:%S})",
        {"Arn": queue_arn, "Input": '"once"'},
        ActionAfterCompletion="DELETE",
    )
    account.advance(minutes=29)
    assert account.messages(queue) == []
    account.advance(minutes=120)
    assert account.messages(queue) == ["once"]
    assert name not in [each["Name"] for each in scheduler.list_schedules()["Schedules"]]


def test_a_universal_target_calls_any_operation_of_sagemaker(account: TimedAccount) -> None:
    group = account.name("group")
    name = schedule(
        account,
        "rate(5 minutes)",
        {
            "Arn": "arn:aws:scheduler:::aws-sdk:sagemaker:createModelPackageGroup",
            "Input": json.dumps({"ModelPackageGroupName": group}),
        },
    )
    account.advance(minutes=7)
    account.cloud.client("scheduler").delete_schedule(Name=name)
    described = account.sagemaker.describe_model_package_group(ModelPackageGroupName=group)
    assert described["ModelPackageGroupStatus"] == "Completed"


def test_a_state_machine_runs_for_each_time_it_is_due(account: TimedAccount) -> None:
    states = account.cloud.client("stepfunctions")
    definition = {"StartAt": "End", "States": {"End": {"Type": "Succeed"}}}
    machine = account.name("machine")
    arn = states.create_state_machine(name=machine, definition=json.dumps(definition), roleArn=ROLE)["stateMachineArn"]
    name = schedule(account, "rate(1 hour)", {"Arn": arn, "Input": '{"hour": "<aws.scheduler.scheduled-time>"}'})
    account.advance(minutes=4 * 60 + 2)
    account.cloud.client("scheduler").delete_schedule(Name=name)

    def ended() -> list[str]:
        found = states.list_executions(stateMachineArn=arn)["executions"]
        return [each["status"] for each in found]

    await_true(lambda: ended() == ["SUCCEEDED"] * 4, "all executions end")
    account.advance(minutes=1)
    assert account.sum_of("ExecutionsSucceeded", {"StateMachineArn": arn}, namespace="AWS/States") == 4


def test_what_a_target_refuses_goes_to_the_dead_letter_queue_and_is_counted(account: TimedAccount) -> None:
    group = account.name("group")
    account.cloud.client("scheduler").create_schedule_group(Name=group)
    queue, queue_arn = account.queue()
    name = schedule(
        account,
        "rate(5 minutes)",
        {
            "Arn": "arn:aws:states:us-east-1:123456789012:stateMachine:nowhere",
            "Input": '{"lost": true}',
            "DeadLetterConfig": {"Arn": queue_arn},
        },
        GroupName=group,
    )
    account.advance(minutes=7)
    account.cloud.client("scheduler").delete_schedule(Name=name, GroupName=group)
    assert account.messages(queue) == [{"lost": True}]
    assert account.sum_of("InvocationDroppedCount", {"ScheduleGroup": group}, namespace="AWS/Scheduler") == 1
    waiting = account.points(
        "ApproximateNumberOfMessagesVisible", {"QueueName": queue_arn.split(":")[-1]}, "Maximum", namespace="AWS/SQS"
    )
    assert max(point["Maximum"] for point in waiting) == 1


def test_a_schedule_is_due_only_between_its_start_and_its_end(account: TimedAccount) -> None:
    queue, queue_arn = account.queue()
    now = account.cloud.advance(0).replace(second=30)  # and not at a full minute, which is within both
    name = schedule(
        account,
        "cron(* * * * ? *)",
        {"Arn": queue_arn, "Input": "1"},
        StartDate=now + timedelta(minutes=10),
        EndDate=now + timedelta(minutes=20),
    )
    account.advance(minutes=60)
    account.cloud.client("scheduler").delete_schedule(Name=name)
    assert len(account.messages(queue)) == 10


def test_an_advance_with_more_deliveries_than_it_takes_is_refused_before_anything_fires(account: TimedAccount) -> None:
    queue, queue_arn = account.queue()
    name = schedule(account, "rate(1 minute)", {"Arn": queue_arn, "Input": "1"})
    with pytest.raises(CloudError, match="schedules are due"):
        account.advance(minutes=31 * 24 * 60)
    account.cloud.client("scheduler").delete_schedule(Name=name)
    assert len(account.messages(queue)) <= 1  # a minute may have begun by itself


def test_a_schedule_whose_time_has_passed_never_fires_and_others_do(account: TimedAccount) -> None:
    queue, queue_arn = account.queue()
    past = schedule(account, "at(2022-12-31T23:59:59)", {"Arn": queue_arn, "Input": "1"})
    whole = schedule(account, "rate(1 minute)", {"Arn": queue_arn, "Input": "2"})
    account.advance(minutes=3)
    for name in (past, whole):
        account.cloud.client("scheduler").delete_schedule(Name=name)
    assert set(account.messages(queue)) == {2}
