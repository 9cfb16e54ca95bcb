"""What EventBridge, its Scheduler, Application Auto Scaling and CloudWatch refuse is refused, by code and sentence."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore import xform_name
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.local_cloud.time.conftest import ROLE, TimedAccount

INSTANCES = "sagemaker:variant:DesiredInstanceCount"
COPIES = "sagemaker:inference-component:DesiredCopyCount"
QUEUE = "arn:aws:sqs:us-east-1:123456789012:somewhere"
MACHINE = "arn:aws:states:us-east-1:123456789012:stateMachine:somewhere"
UNIVERSAL = "arn:aws:scheduler:::aws-sdk"
PLAIN = {"parameter_validation": False, "retries": {"total_max_attempts": 1}}


class Clients:
    """Clients that send whatever they are given."""

    def __init__(self, account: TimedAccount) -> None:
        self.account = account
        self.scheduler, self.events, self.scaling, self.cloudwatch = (
            account.cloud.client(service, config=Config(**PLAIN))
            for service in ("scheduler", "events", "application-autoscaling", "cloudwatch")
        )

    def close(self) -> None:
        for client in (self.scheduler, self.events, self.scaling, self.cloudwatch):
            client.close()


@pytest.fixture(scope="module")
def clients(account: TimedAccount) -> Iterator[Clients]:
    clients = Clients(account)
    yield clients
    clients.close()


def refusal(operation: Any, **members: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        operation(**members)
    error = caught.value.response["Error"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] < 500, error
    return error["Code"], error["Message"]


def schedule(**members: Any) -> dict[str, Any]:
    """A request to CreateSchedule that is accepted, but for ``members``; of None there is none."""
    request = {
        "Name": "accepted",
        "ScheduleExpression": "rate(1 hour)",
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {"Arn": QUEUE, "RoleArn": ROLE},
        **members,
    }
    return {name: value for name, value in request.items() if value is not None}


def test_a_schedule_whose_expression_means_nothing_is_refused(clients: Clients) -> None:
    for expression in (
        "rate(0 minutes)", "rate( 10 minutes )", " rate(10 minutes)", "rate(10 minutess)", "rate(10 weeks)", "rate(10)",
        "cron(0 0 * * * *)", "cron(71 8 1 * ? *)", "cron(0 dummy ? * MON-FRI *)", "cron(0 0 99W * ? *)", "cron()",
        "at(2021-12-31)", "at(2021-12-31T23:59:59Z)", "at(2027-02-30T00:00:00)", "every day",
    ):  # fmt: skip
        for act in (clients.scheduler.create_schedule, clients.scheduler.update_schedule):
            assert refusal(act, **schedule(ScheduleExpression=expression)) == (
                "ValidationException",
                f"Invalid Schedule Expression {expression}.",
            )


def test_expressions_that_the_scheduler_takes_are_taken(clients: Clients) -> None:
    for expression in (
        "rate(1 minutes)", "rate(2 minute)", "at(2022-12-31T23:59:59)", "cron(0-15/1 8-8 ? * 2,3,4,5,6,7 *)",
        "cron(30-30 13-13 ? * 2,4,6 *)", "rate(999999999 days)",
    ):  # fmt: skip
        name = clients.account.name("schedule")
        clients.scheduler.create_schedule(**schedule(Name=name, ScheduleExpression=expression, State="DISABLED"))
        clients.scheduler.delete_schedule(Name=name)


def test_an_updated_schedule_has_all_that_the_update_says(clients: Clients) -> None:
    name = clients.account.name("schedule")
    clients.scheduler.create_schedule(**schedule(Name=name))
    for members in ({"ActionAfterCompletion": "DELETE"}, {"ScheduleExpression": "at(2022-12-31T23:59:59)"}):
        clients.scheduler.update_schedule(**schedule(Name=name, **members))
        found = clients.scheduler.get_schedule(Name=name)
        assert found.get("ActionAfterCompletion") == members.get("ActionAfterCompletion")
        assert found["ScheduleExpression"] == members.get("ScheduleExpression", "rate(1 hour)")
    clients.scheduler.delete_schedule(Name=name)


def test_a_schedule_that_is_put_otherwise_than_aws_takes_it_is_refused(clients: Clients) -> None:
    now = clients.account.cloud.advance(0)
    for members, sentence in (
        ({"Name": "nö"}, "Value 'nö' at 'name' failed to satisfy constraint: Member must satisfy regular expression"),
        ({"Name": "n" * 65}, "Member must have length less than or equal to 64"),
        ({"ScheduleExpressionTimezone": "Europe/Nowhere"}, "Invalid Schedule Expression Timezone Europe/Nowhere."),
        ({"ScheduleExpressionTimezone": "Europe"}, "Invalid Schedule Expression Timezone Europe."),
        ({"State": "SLEEPING"}, "Member must satisfy enum value set: [ENABLED, DISABLED]"),
        ({"FlexibleTimeWindow": {"Mode": "FLEXIBLE"}}, "MaximumWindowInMinutes must be provided when"),
        (
            {"FlexibleTimeWindow": {"Mode": "OFF", "MaximumWindowInMinutes": 5}},
            "MaximumWindowInMinutes must not be provided when",
        ),
        ({"FlexibleTimeWindow": None}, "Value null at 'flexibleTimeWindow'"),
        (
            {"StartDate": now + timedelta(days=2), "EndDate": now + timedelta(days=1)},
            "The StartDate you specify must come before the EndDate.",
        ),
        ({"StartDate": now - timedelta(days=1)}, "The StartDate you specify cannot be earlier than 5 minutes ago."),
        ({"Target": {"Arn": QUEUE}}, "Value null at 'target.roleArn'"),
        ({"Target": {"Arn": QUEUE, "RoleArn": "me"}}, "Value 'me' at 'target.roleArn'"),
    ):
        code, message = refusal(clients.scheduler.create_schedule, **schedule(**members))
        assert code == "ValidationException"
        assert sentence in message
    code, message = refusal(clients.scheduler.create_schedule, **schedule(GroupName="nowhere"))
    assert (code, message) == ("ResourceNotFoundException", "Schedule group nowhere does not exist.")


def test_a_target_that_the_scheduler_cannot_have_is_refused(clients: Clients) -> None:
    for target, sentence in (
        ({"Arn": f"{UNIVERSAL}:sagemaker:frobnicate"}, "frobnicate API is not supported."),
        ({"Arn": f"{UNIVERSAL}:sagemaker:describeModel"}, "describeModel API is not supported."),
        ({"Arn": f"{UNIVERSAL}:sqs:getQueueUrl"}, "getQueueUrl API is not supported."),
        ({"Arn": f"{UNIVERSAL}:teapot:brew"}, "teapot is not a supported service for a target."),
        ({"Arn": f"{UNIVERSAL}:sqs:sendMessage", "Input": None}, "You must provide an input to set this target"),
        ({"Arn": f"{UNIVERSAL}:sqs:sendMessage", "Input": "{"}, "JSON syntax error in input for the target."),
        ({"Arn": MACHINE, "Input": "not JSON"}, "JSON syntax error in input for the target."),
        ({"Arn": "arn:aws:scheduler:us-east-1:1:aws-sdk:sqs:sendMessage"}, "scheduler is not a supported service"),
        ({"Arn": "arn:aws:dynamodb:us-east-1:1:table/t"}, "dynamodb is not a supported service for a target."),
        ({"Arn": QUEUE.replace("us-east-1", "eu-west-1")}, "does not match the current region us-east-1."),
        ({"Arn": QUEUE, "KinesisParameters": {"PartitionKey": "a"}}, "Parameters KinesisParameters not supported"),
        ({"Arn": "somewhere"}, "Provided Arn is not in correct format."),
    ):
        given = {"RoleArn": ROLE, "Input": "{}", **target}
        wanted = {name: value for name, value in given.items() if value is not None}
        code, message = refusal(clients.scheduler.create_schedule, **schedule(Target=wanted))
        assert code == "ValidationException"
        assert sentence in message


def test_a_target_that_nothing_is_delivered_to_is_recorded_and_the_log_says_so(clients: Clients) -> None:
    name = clients.account.name("schedule")
    function = "arn:aws:lambda:us-east-1:123456789012:function:f"
    clients.scheduler.create_schedule(**schedule(Name=name, Target={"Arn": function, "RoleArn": ROLE}))
    clients.scheduler.delete_schedule(Name=name)
    log = (clients.account.cloud.directory / "supervisor.log").read_text(encoding="utf-8")
    assert f"schedule {name}: its target {function} is recorded, and nothing is delivered to it" in log


def test_a_schedule_group_is_made_once_and_the_default_one_stays(clients: Clients) -> None:
    name = clients.account.name("group")
    clients.scheduler.create_schedule_group(Name=name)
    assert refusal(clients.scheduler.create_schedule_group, Name=name)[0] == "ConflictException"
    clients.scheduler.delete_schedule_group(Name=name)
    assert refusal(clients.scheduler.delete_schedule_group, Name=name)[0] == "ResourceNotFoundException"
    for act in (clients.scheduler.create_schedule_group, clients.scheduler.delete_schedule_group):
        assert refusal(act, Name="default")[1] == "This operation cannot be performed on schedule group default."


def test_a_rule_that_eventbridge_does_not_take_is_refused(clients: Clients) -> None:
    for expression in (
        "rate(1 minutes)", "rate(5 minute)", "rate(0 minutes)", "at(2030-01-01T00:00:00)", "cron(0 0 * * * *)",
        "cron(0/5, 9-18, ?, *, MON-FRI, *)", "cron(15 12 ? * -1 *)",
    ):  # fmt: skip
        assert refusal(clients.events.put_rule, Name="r", ScheduleExpression=expression) == (
            "ValidationException",
            "Parameter ScheduleExpression is not valid.",
        )
    for pattern, reason in (
        ({"source": [{"begins": "a"}]}, "Unrecognized match type begins"),
        ({"source": []}, "Empty arrays are not allowed"),
        ({"source": "a"}, "'source' must be an object or an array"),
        ({"source": [{"exists": "yes"}]}, "exists match pattern must be either true or false."),
        ([], "Filter is not an object"),
    ):
        code, message = refusal(clients.events.put_rule, Name="r", EventPattern=json.dumps(pattern))
        assert (code, message) == ("InvalidEventPatternException", f"Event pattern is not valid. Reason: {reason}")
    assert refusal(clients.events.put_rule, Name="r", EventPattern="{")[0] == "InvalidEventPatternException"
    assert "at 'name'" in refusal(clients.events.put_rule, Name="a b", ScheduleExpression="rate(1 day)")[1]
    assert "at 'state'" in refusal(clients.events.put_rule, Name="r", State="ON", ScheduleExpression="rate(1 day)")[1]
    assert refusal(clients.events.test_event_pattern, EventPattern="{}", Event="{}")[0] == "UnknownOperationException"
    long = json.dumps({"source": ["a" * 2048]})
    assert refusal(clients.events.put_rule, Name="r", EventPattern=long)[0] == "LimitExceededException"


def test_targets_that_a_rule_cannot_have_are_refused(clients: Clients) -> None:
    name = clients.account.name("rule")
    clients.events.put_rule(Name=name, EventPattern=json.dumps({"source": [name]}))

    def put(*targets: dict[str, Any]) -> tuple[str, str]:
        return refusal(clients.events.put_targets, Rule=name, Targets=list(targets))

    for target, sentence in (
        ({"Arn": "somewhere"}, "Parameter somewhere is not valid. Reason: Provided Arn is not in correct format."),
        ({"Arn": MACHINE}, f"RoleArn is required for target {MACHINE}."),
        ({"Arn": QUEUE, "Input": "word"}, "JSON syntax error in input for target one."),
        ({"Arn": QUEUE, "Input": "1", "InputPath": "$.a"}, "Only one of Input, InputPath, or InputTransformer"),
        ({"Arn": QUEUE, "KinesisParameters": {"PartitionKeyPath": "$"}}, "KinesisParameters not supported for"),
        ({"Arn": QUEUE, "Id": "a b"}, "at 'targets.1.member.id'"),
    ):  # fmt: skip
        code, message = put({"Id": "one", **target})
        assert code == "ValidationException"
        assert sentence in message
    twice = [{"Id": "one", "Arn": QUEUE}] * 2
    assert put(*twice)[1] == "More than one target with Id 'one' is provided."
    code, message = put(*({"Id": str(number), "Arn": QUEUE} for number in range(6)))
    assert (code, message) == ("LimitExceededException", "The requested resource exceeds the maximum number allowed.")
    clients.events.delete_rule(Name=name)


@pytest.fixture(scope="module")
def target(clients: Clients) -> Iterator[dict[str, str]]:
    account = clients.account
    endpoint = account.endpoint(account.model())
    resource = f"endpoint/{endpoint}/variant/variant-0"
    target = {"ServiceNamespace": "sagemaker", "ResourceId": resource, "ScalableDimension": INSTANCES}
    clients.scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=2)
    yield target
    clients.scaling.deregister_scalable_target(**target)
    account.delete(endpoint)


def test_a_scalable_target_must_be_there_and_have_bounds_that_make_sense(
    clients: Clients, target: dict[str, str]
) -> None:
    endpoint = target["ResourceId"].split("/")[1]
    for members, sentence in (
        ({"ResourceId": "endpoint/none/variant/all"}, 'Could not find endpoint "'),
        ({"ResourceId": f"endpoint/{endpoint}/variant/nope"}, 'Could not find variant "nope" for endpoint "'),
        (
            {"ResourceId": "inference-component/none", "ScalableDimension": COPIES},
            "none",
        ),
        ({"ResourceId": f"endpoint/{endpoint}"}, "Unsupported service namespace, resource type or scalable dimension"),
        ({"MinCapacity": 3, "MaxCapacity": 1}, "Maximum capacity cannot be less than minimum capacity"),
        ({"MinCapacity": 3}, "Maximum capacity cannot be less than minimum capacity"),
        ({"MinCapacity": -1}, "Minimum capacity cannot be less than 0"),
        ({"ScalableDimension": "sagemaker:variant:Colour"}, "at 'scalableDimension' failed to satisfy constraint"),
        ({"ServiceNamespace": "nobody"}, "at 'serviceNamespace' failed to satisfy constraint"),
    ):  # fmt: skip
        given = {**target, "MaxCapacity": 2, "MinCapacity": 1, **members}
        if members == {"MinCapacity": 3}:
            del given["MaxCapacity"]  # what it has already counts
        code, message = refusal(clients.scaling.register_scalable_target, **given)
        assert code == "ValidationException"
        assert sentence in message
    clients.scaling.register_scalable_target(**target, MinCapacity=0)  # RegisterScalableTarget: variants may go to 0
    clients.scaling.register_scalable_target(**target, MinCapacity=1)


def tracking(**members: Any) -> dict[str, Any]:
    kind = {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"}
    given = {"TargetValue": 5.0, "PredefinedMetricSpecification": kind, **members}
    return {
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {name: value for name, value in given.items() if value is not None},
    }


def steps(*intervals: tuple[float | None, float | None], **members: Any) -> dict[str, Any]:
    adjustments = [
        {"ScalingAdjustment": 1}
        | ({} if low is None else {"MetricIntervalLowerBound": low})
        | ({} if high is None else {"MetricIntervalUpperBound": high})
        for low, high in intervals
    ]
    config = {"AdjustmentType": "ChangeInCapacity", "StepAdjustments": adjustments, **members}
    return {
        "PolicyType": "StepScaling",
        "StepScalingPolicyConfiguration": {name: value for name, value in config.items() if value is not None},
    }


def test_a_policy_that_could_never_act_is_refused(clients: Clients, target: dict[str, str]) -> None:
    other = {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"}
    half = {"MetricName": "m", "Namespace": "Own"}
    for policy, sentence in (
        (tracking(TargetValue=0.0), "TargetValue is 0; it must be greater than 0"),
        (tracking(TargetValue=-5.0), "TargetValue is -5; it must be greater than 0"),
        (
            tracking(PredefinedMetricSpecification=other),
            f"Scalable dimension {INSTANCES} only supports the following predefined metric types:"
            " SageMakerVariantInvocationsPerInstance, SageMakerVariantConcurrentRequestsPerModelHighResolution",
        ),
        (tracking(PredefinedMetricSpecification=None), "or CustomizedMetricSpecification must be set"),
        (
            tracking(PredefinedMetricSpecification=None, CustomizedMetricSpecification=half),
            "The customized metric specification is not valid.",
        ),
        (tracking(ScaleInCooldown=-1), "ScaleInCooldown is -1; it can't be negative"),
        (steps((0, None), AdjustmentType=None), "Adjustment type must be specified"),
        (steps((0, None), AdjustmentType="Some"), "at 'stepScalingPolicyConfiguration.adjustmentType'"),
        (steps(), "At least one step adjustment must be specified"),
        (steps((0, 10), (5, None)), "Step adjustment intervals can't overlap"),
        (steps((0, 10), (20, None)), "Step adjustment intervals can't have a gap"),
        (steps((0, 10)), "There must be a step adjustment with an unspecified upper bound"),
        (steps((-10, 0), (0, None)), "There must be a step adjustment with an unspecified lower bound"),
        (steps((10, 0)), "must be less than its upper bound"),
        ({"PolicyType": "StepScaling"}, "StepScaling policy configuration must be specified"),
        ({"PolicyType": "PredictiveScaling"}, "does not have policies of the type PredictiveScaling"),
    ):  # fmt: skip
        code, message = refusal(clients.scaling.put_scaling_policy, **target, PolicyName="p", **policy)
        assert code == "ValidationException"
        assert sentence in message
    elsewhere = {**target, "ResourceId": "endpoint/none/variant/all"}
    code, message = refusal(clients.scaling.put_scaling_policy, **elsewhere, PolicyName="p", **tracking())
    assert code == "ObjectNotFoundException"
    assert message.startswith(
        "No scalable target registered for service namespace: sagemaker, resource ID: endpoint/none"
    )
    assert clients.scaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=target["ResourceId"])[
        "ScalingPolicies"
    ] == []  # fmt: skip


def test_a_scheduled_action_that_could_never_act_is_refused(clients: Clients, target: dict[str, str]) -> None:
    now = clients.account.cloud.advance(0)
    bounds = {"MinCapacity": 1, "MaxCapacity": 2}
    for members, sentence in (
        ({"Schedule": "cron(99 * * * ? *)"}, "Invalid schedule expression"),
        ({"Schedule": "rate(0 minutes)"}, "Invalid schedule expression"),
        ({"Schedule": "0 8 1 * ? *"}, "Invalid schedule expression"),
        ({"Schedule": None}, "Schedule must be set"),
        ({"Timezone": "Mars/Phobos"}, "Invalid timezone Mars/Phobos"),
        ({"ScalableTargetAction": None}, "ScalableTargetAction must be set"),
        ({"ScalableTargetAction": {}}, "At least one of minimum capacity and maximum capacity should be provided"),
        (
            {"ScalableTargetAction": {"MinCapacity": 3, "MaxCapacity": 1}},
            "Maximum capacity cannot be less than minimum capacity",
        ),
        ({"StartTime": now + timedelta(days=1), "EndTime": now}, "StartTime must be before EndTime"),
        ({"ScheduledActionName": "a|b"}, "at 'scheduledActionName' failed to satisfy constraint"),
    ):
        given = {"ScheduledActionName": "a", "Schedule": "rate(1 day)", "ScalableTargetAction": bounds, **members}
        wanted = {name: value for name, value in given.items() if value is not None}
        code, message = refusal(clients.scaling.put_scheduled_action, **target, **wanted)
        assert code == "ValidationException"
        assert sentence in message
    gone = refusal(clients.scaling.delete_scheduled_action, **target, ScheduledActionName="a")
    assert gone[0] == "ObjectNotFoundException"


def alarm(**members: Any) -> dict[str, Any]:
    """A request to PutMetricAlarm that is accepted, but for ``members``; of None there is none."""
    request = {
        "AlarmName": "refused",
        "Namespace": "Own",
        "MetricName": "m",
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanThreshold",
        **members,
    }
    return {name: value for name, value in request.items() if value is not None}


def query(name: str, **members: Any) -> dict[str, Any]:
    metric = {"Metric": {"Namespace": "Own", "MetricName": "m"}, "Period": 60, "Stat": "Sum"}
    return {"Id": name, "MetricStat": metric, **members}


def test_an_alarm_that_cloudwatch_does_not_take_is_refused(clients: Clients) -> None:
    nothing = dict.fromkeys(("Namespace", "MetricName", "Statistic", "Period"))
    for members, sentence in (
        ({"Period": 7}, "Period must be 10, 20, 30 or a multiple of 60"),
        ({"Period": None}, "Period must be specified"),
        ({"ComparisonOperator": "Bigger"}, "Value 'Bigger' at 'comparisonOperator' failed to satisfy constraint"),
        ({"TreatMissingData": "whatever"}, "Option whatever is not supported. Supported options for parameter TreatM"),
        ({"DatapointsToAlarm": 5}, "DatapointsToAlarm must be less than or equal to EvaluationPeriods"),
        ({"Statistic": "Median"}, "Value 'Median' at 'statistic'"),
        ({"ExtendedStatistic": "p90"}, "Exactly one of Statistic and ExtendedStatistic"),
        ({"Statistic": None}, "Exactly one of Statistic and ExtendedStatistic"),
        (
            {"EvaluationPeriods": 1000, "Period": 3600},
            "Metrics cannot be checked across more than a week (EvaluationPeriods * Period must be <= 604800)",
        ),
        (
            {"EvaluationPeriods": 2000},
            "Metrics cannot be checked across more than a day (EvaluationPeriods * Period must be <= 86400)",
        ),
        ({"AlarmActions": ["nonsense"]}, "Invalid arn syntax: nonsense"),
        ({"OKActions": [QUEUE]}, "Unsupported AWS vendor sqs"),
        (
            {"AlarmActions": ["arn:aws:sns:eu-west-1:123456789012:t"]},
            "Invalid region eu-west-1 specified. Only us-east-1 is supported.",
        ),
        ({"AlarmName": "n" * 300}, "Member must have length less than or equal to 255"),
        ({"EvaluationPeriods": 0}, "Member must have value greater than or equal to 1"),
        ({"Threshold": None}, "PutMetricAlarm request should have valid Threshold parameter"),
        (
            {"EvaluateLowSampleCountPercentile": "ignore"},
            "Option evaluateLowSampleCountPercentile can not be applied with statistic Sum.",
        ),
        ({"Metrics": [query("m")]}, "Namespace cannot be specified together with Metrics."),
        ({**nothing, "Metrics": [query("m"), query("n")]}, "Exactly one element of the metrics list should return"),
        ({**nothing, "Metrics": [query("M")]}, "The value M for parameter Id is not valid"),
        ({**nothing, "Metrics": [query("m", Expression="m")]}, "exactly one of MetricStat and Expression"),
        ({"Tags": [{"Key": f"k{number}", "Value": "v"} for number in range(51)]}, "at most 50 tags"),
    ):  # fmt: skip
        code, message = refusal(clients.cloudwatch.put_metric_alarm, **alarm(**members))
        assert code == "ValidationError"
        assert sentence in message
    assert clients.cloudwatch.describe_alarms(AlarmNamePrefix="refused")["MetricAlarms"] == []


def test_a_composite_alarm_whose_rule_cannot_be_is_refused(clients: Clients) -> None:
    child, name = clients.account.name("alarm"), clients.account.name("composite")
    clients.account.alarm(child)
    put = clients.cloudwatch.put_composite_alarm
    for rule, sentence in (
        (f"ALARM({child}) AND", "Error in AlarmRule [Unsupported token '' at char"),
        ("()", "Error in AlarmRule [Unsupported token ')' at char 1]"),
        ("ALARM(gone)", "Could not save the composite alarm as alarms [gone] in the alarm rule do not exist"),
        (f"ALARM({name})", "A composite alarm cannot have a child relation with itself via its AlarmRule"),
        (f"AT_LEAST(2, ALARM, ({child}))", "AT_LEAST asks for 2 of 1 alarms"),
    ):
        code, message = refusal(put, AlarmName=name, AlarmRule=rule)
        assert code == "ValidationError"
        assert sentence in message
    suppressed = refusal(
        put, AlarmName=name, AlarmRule="TRUE", ActionsSuppressor=child,
        ActionsSuppressorWaitPeriod=1, ActionsSuppressorExtensionPeriod=1,
    )  # fmt: skip
    assert suppressed[1] == "The local cloud does not have ActionsSuppressor of composite alarms."
    put(AlarmName=name, AlarmRule=f"AT_LEAST(1, NOT ALARM, ({child}, {child}))")
    assert refusal(clients.cloudwatch.delete_alarms, AlarmNames=[child]) == (
        "ValidationError",
        f"Cannot delete {child} as there are composite alarm(s) depending on it.",
    )
    clients.cloudwatch.delete_alarms(AlarmNames=[name, child])
    code, message = refusal(clients.cloudwatch.set_alarm_state, AlarmName=name, StateValue="OK", StateReason="gone")
    assert (code, message) == ("ResourceNotFound", f"There is no alarm with the name {name}.")


def test_metrics_that_cannot_be_read_are_refused_by_name(clients: Clients) -> None:
    now = clients.account.cloud.advance(0)
    times = {"StartTime": now - timedelta(hours=1), "EndTime": now}

    def data(*queries: dict[str, Any]) -> str:
        return refusal(clients.cloudwatch.get_metric_data, MetricDataQueries=list(queries), **times)[1]

    stat = query("m")["MetricStat"]
    assert "does not have the statistic tm90" in data({"Id": "m", "MetricStat": {**stat, "Stat": "tm90"}})
    assert "must be 1, 5, 10, 20, 30 or a multiple of 60, and is 7" in data(
        {"Id": "m", "MetricStat": {**stat, "Period": 7}}
    )
    for expression, sentence in (
        ("ANOMALY_DETECTION_BAND(m)", "does not have ANOMALY_DETECTION_BAND with 1 arguments in metric math"),
        ("m + n", "names n, and there is no metric with that Id"),
        ("m +", "Error in expression 'e': an expression ends before it is complete"),
        ("m $ 2", "cannot read ' $ 2' in the expression 'm $ 2'"),
        ("e + 1", "name one another in a circle"),
        ("SELECT AVG(x) FROM Own", "does not have SELECT in GetMetricData"),
        ("SEARCH('{Own}', 'Sum', 60)", "does not have SEARCH in GetMetricData"),
    ):
        assert sentence in data(query("m"), {"Id": "e", "Expression": expression})
    assert "not unique" in data(query("m"), query("m"))
    assert "must return data" in data(query("m", ReturnData=False))
    ages = {"StartTime": now.replace(year=1), "EndTime": now.replace(year=9999)}
    assert (
        "at most 1,000,000 periods at once"
        in refusal(clients.cloudwatch.get_metric_data, MetricDataQueries=[query("m")], **ages)[1]
    )
    series = {"Namespace": "Own", "MetricName": "m", "Period": 60, **times}
    read = clients.cloudwatch.get_metric_statistics
    assert refusal(read, **series)[0] == "InvalidParameterCombination"
    assert "at 'statistics.1.member'" in refusal(read, **series, Statistics=["Median"])[1]
    assert "does not have the statistic tm90" in refusal(read, **series, ExtendedStatistics=["tm90"])[1]
    days = {**series, "StartTime": now - timedelta(days=2), "Statistics": ["Sum"]}
    assert refusal(read, **days)[1].startswith("You have requested up to 2,880 datapoints, which exceeds the limit of")


def test_metrics_that_cloudwatch_does_not_take_are_refused_and_none_of_them_is_kept(clients: Clients) -> None:
    now, name = clients.account.cloud.advance(0), clients.account.name("put")
    put = clients.cloudwatch.put_metric_data

    def datum(**members: Any) -> dict[str, Any]:
        return {"MetricName": name, "Value": 1.0, **members}

    def refused(data: list[dict[str, Any]], **members: Any) -> str:
        code, message = refusal(put, **{"Namespace": "Own", "MetricData": data, **members})
        assert code == "InvalidParameterValue"
        return message

    late, early = datum(Timestamp=now - timedelta(days=14, minutes=1)), datum(Timestamp=now + timedelta(hours=3))
    assert refused([datum()], Namespace="AWS/SageMaker") == "The value AWS/ for parameter Namespace is invalid."
    many = "The collection MetricData must not have a size greater than 1000."
    assert refused([datum()] * 1001) == many
    assert refused([datum()] * 1000, EntityMetricData=[{"MetricData": [datum()]}]) == many
    assert refused([datum(), late, early]).splitlines() == [
        "The parameter MetricData.member.2.Timestamp must specify a time within the past two weeks.",
        "The parameter MetricData.member.3.Timestamp must specify a time no more than two hours in the future.",
    ]
    assert clients.account.sum_of(name, {}, namespace="Own") == 0
    within = [datum(Timestamp=now - timedelta(days=13)), datum(Timestamp=now + timedelta(hours=1)), datum()]
    put(Namespace="Own/AWS/", MetricData=within)
    put(Namespace="Own", MetricData=[datum()] * 1000)
    assert clients.account.sum_of(name, {}, namespace="Own") == 1000


def test_every_operation_is_held_against_its_model_and_none_ends_in_an_error_of_the_server(clients: Clients) -> None:
    for client in (clients.scheduler, clients.events, clients.scaling, clients.cloudwatch):
        model = client.meta.service_model
        for operation in model.operation_names:
            shape = model.operation_model(operation).input_shape
            required = [] if shape is None else shape.required_members
            if any(shape.members[name].serialization.get("location") == "uri" for name in required):
                continue  # there is no address without it
            call = getattr(client, xform_name(operation))
            if not required:
                try:
                    answer = call()
                except ClientError as error:
                    answer = error.response
                assert answer["ResponseMetadata"]["HTTPStatusCode"] < 500, (operation, answer)
                continue
            code, message = refusal(call)
            assert code in ("ValidationException", "ValidationError"), (operation, code, message)
            for name in required:
                assert f"Value null at '{name[0].lower()}{name[1:]}'" in message, operation


def signed(service: str) -> dict[str, str]:
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/{service}/aws4_request"}


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("/local/clock", {"Content-Type": "application/json"}, b"{}"),
        ("/", {"Authorization": "nonsense", "Content-Type": "application/x-amz-json-1.1"}, b"{"),
        (
            "/",
            {**signed("monitoring"), "Content-Type": "application/x-www-form-urlencoded"},
            b"Action=PutMetricAlarm&Version=2010-08-01&AlarmName=a&Period=x",
        ),
        ("/", {**signed("monitoring"), "Content-Type": "application/x-www-form-urlencoded"}, b"Action=Frobnicate"),
        (
            "/",
            {**signed("events"), "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AWSEvents.PutRule"},
            b"[1]",
        ),
    ],
)
def test_whatever_moto_fails_in_is_answered_in_the_protocol_and_with_no_page(
    account: TimedAccount, path: str, headers: dict[str, str], body: bytes
) -> None:
    url = account.cloud.environment["AWS_ENDPOINT_URL"] + path
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - an address of this cloud
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(request, timeout=300)
    with caught.value as answer:
        kind, text = answer.headers["Content-Type"], answer.read().decode()
    assert ("xml" in kind, "json" in kind) == ("form" in headers["Content-Type"], "json" in headers["Content-Type"])
    assert "<html" not in text.lower()
    assert "essage" in text
