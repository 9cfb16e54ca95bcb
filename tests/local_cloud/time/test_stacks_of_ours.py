"""Alarms, scaling and schedules as this project's own constructs write them, deployed here and advanced.

Servers are the stand-in, and the model of each template gets its archive and its image; all else is as synthesised.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.infra.hosted import BUCKET as INFRA_BUCKET
from tests.infra.hosted import NAME, host
from tests.local_cloud.conftest import BUCKET, await_true
from tests.local_cloud.time.conftest import TimedAccount

CONTAINER = {"Image": "image", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}


def runnable(resources: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The resources of a template, whose model can be run."""
    made = copy.deepcopy(resources)
    for resource in made.values():
        if resource["Type"] == "AWS::SageMaker::Model":
            resource["Properties"]["PrimaryContainer"] = CONTAINER
    return made


@contextmanager
def deployed(account: TimedAccount, resources: dict[str, dict[str, Any]]) -> Iterator[None]:
    """A stack of these resources, for a while."""
    name = account.name("stack")
    with suppress(ClientError):
        account.s3.create_bucket(Bucket=INFRA_BUCKET)
    stacks = account.cloudformation
    stacks.create_stack(StackName=name, TemplateBody=json.dumps({"Resources": runnable(resources)}))

    def status() -> str:
        found: str = stacks.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
        return found

    await_true(lambda: not status().endswith("IN_PROGRESS"), "the stack settles")
    assert status() == "CREATE_COMPLETE", stacks.describe_stack_events(StackName=name)["StackEvents"]
    try:
        yield
    finally:
        stacks.delete_stack(StackName=name)
        stacks.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig={"Delay": 1})


def test_an_asynchronous_endpoint_of_ours_goes_to_none_and_wakes(account: TimedAccount) -> None:
    hosted = host({"mode": "async", "scaling": {"max_instances": 2}})
    with deployed(account, hosted.resources):
        account.advance(minutes=60)
        assert account.instances(NAME) == 0
        location = account.runtime.invoke_endpoint_async(EndpointName=NAME, Body=b"echo:1")["OutputLocation"]
        bucket, _, key = location.removeprefix("s3://").partition("/")
        account.advance(minutes=2)
        assert account.instances(NAME) >= 1
        await_true(
            lambda: bool(account.s3.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents")), "the answer is there"
        )


def test_a_component_of_ours_wakes_from_no_copies(account: TimedAccount) -> None:
    hosted = host(
        {
            "mode": "component",
            "instance_type": "ml.m7i.large",
            "copies": {"min_memory_mib": 1024},
            "scaling": {"min_copies": 0, "max_copies": 1},
        }
    )
    with deployed(account, hosted.resources):
        (component,) = account.sagemaker.list_inference_components()["InferenceComponents"]
        name = component["InferenceComponentName"]

        def copies() -> int:
            described = account.sagemaker.describe_inference_component(InferenceComponentName=name)
            count: int = described["RuntimeConfig"]["CurrentCopyCount"]
            return count

        account.advance(minutes=60)
        await_true(lambda: copies() == 0, "the last copy goes")
        with pytest.raises(ClientError, match="has no capacity"):
            account.invoke(NAME, b"echo:1", InferenceComponentName=name)
        account.advance(minutes=2)
        await_true(lambda: copies() == 1, "a copy comes")
        account.invoke(NAME, b"echo:1", InferenceComponentName=name)


def test_instances_of_ours_come_and_go_by_the_clock(account: TimedAccount) -> None:
    by_day = {"name": "day", "when": "cron(0 8 * * ? *)", "timezone": "UTC", "min_instances": 2, "max_instances": 2}
    by_night = {
        "name": "night",
        "when": "cron(0 20 * * ? *)",
        "timezone": "UTC",
        "min_instances": 1,
        "max_instances": 1,
    }
    scaling = {"min_instances": 1, "max_instances": 2, "schedule": [by_day, by_night]}
    hosted = host({"mode": "realtime", "instance_type": "ml.m7i.large", "scaling": scaling})
    with deployed(account, hosted.resources):
        seen = {}
        for _ in range(2):
            now = account.cloud.advance(0)
            minutes = now.hour * 60 + now.minute
            goal = 8 if not 8 * 60 <= minutes < 20 * 60 else 20
            account.advance(minutes=(goal * 60 - minutes) % (24 * 60) + 2)
            seen[goal] = account.instances(NAME)
        assert seen == {8: 2, 20: 1}


def test_the_alarms_of_ours_tell_of_an_endpoint_that_fails_and_of_one_without_instances(account: TimedAccount) -> None:
    import aws_cdk as cdk
    from aws_cdk.assertions import Template

    from tidegate.infra.configuration.operations import Alarms as Thresholds
    from tidegate.infra.observability.alarms import Alarms
    from tidegate.infra.observability.endpoint_alarms import of_endpoint
    from tidegate.infra.observability.watched import WatchedEndpoint, WatchedVariant

    topic, queue = account.topic()
    hosted = host({"mode": "realtime", "instance_type": "ml.m7i.large"})
    variant = hosted.variants[0]["VariantName"]
    watched = WatchedEndpoint(
        name=NAME, mode="realtime", variants=(WatchedVariant(name=variant, gpus=0),), deadline_s=60
    )
    alarm_stack = cdk.Stack(cdk.App(), "alarms")
    Alarms(alarm_stack, "Alarms", plan=of_endpoint(watched, Thresholds()), prefix="watch", topic_arn=topic)
    alarms = {
        name: one
        for name, one in Template.from_stack(alarm_stack).to_json()["Resources"].items()
        if "EvaluationCriteria" not in one["Properties"]  # PromQL is not looked at here
    }
    with deployed(account, alarms):
        with deployed(account, hosted.resources):
            for _ in range(3):
                account.invoke(NAME, b"echo:1")
            account.advance(minutes=30)
            states = {
                each["AlarmName"]: each["StateValue"]
                for each in account.cloudwatch.describe_alarms(AlarmNamePrefix="watch-")["MetricAlarms"]
            }
            assert set(states.values()) == {"OK"}, states
            account.messages(queue)
            for _ in range(40):
                with pytest.raises(ClientError, match="500"):
                    account.invoke(NAME, b"status:500")
            account.advance(minutes=1)
            assert account.state("watch-errors-5xx") == "ALARM"
            account.advance(minutes=30)
            assert account.state("watch-errors-5xx") == "OK"
        account.advance(minutes=30)
        assert account.state("watch-no-instance") == "ALARM"
        told = [json.loads(message["Message"]) for message in account.messages(queue)]
        changes = [(each["AlarmName"], each["NewStateValue"]) for each in told]
        assert changes[:2] == [("watch-errors-5xx", "ALARM"), ("watch-errors-5xx", "OK")]
        assert ("watch-no-instance", "ALARM") in changes
        assert told[-1]["AlarmDescription"].endswith("none is up.")


def test_a_schedule_of_ours_starts_one_job_for_each_day_of_its_time_zone(account: TimedAccount) -> None:
    import aws_cdk as cdk
    from aws_cdk.assertions import Template

    from tidegate.infra.batch.intake import definition
    from tidegate.infra.batch.schedule import ScheduleTrigger
    from tidegate.infra.workflows.event_trigger import Undelivered
    from tidegate.infra.workflows.state_machine import StateMachine
    from tidegate.infra.workflows.states import machine, succeed

    stack = cdk.Stack(cdk.App(), "nightly")
    jobs = StateMachine(
        stack,
        "Jobs",
        name="nightly-jobs",
        definition=machine("In the place of a job", {"End": succeed()}, timeout_s=60),
        values={},
        log_retention_days=7,
    )
    intake = StateMachine(
        stack,
        "Intake",
        name="nightly-intake",
        definition=definition(scheduled_input="inputs/{date}/"),
        values={"Bucket": BUCKET, "JobMachine": jobs.arn},
        log_retention_days=7,
    )
    ScheduleTrigger(
        stack,
        "Schedule",
        name="nightly",
        expression="cron(0 3 * * ? *)",
        timezone="Asia/Tokyo",
        machine=intake,
        undelivered=Undelivered(stack, "Undelivered", name="nightly-undelivered"),
    )
    states = account.cloud.client("stepfunctions")
    with deployed(account, Template.from_stack(stack).to_json()["Resources"]):
        machines = {each["name"]: each["stateMachineArn"] for each in states.list_state_machines()["stateMachines"]}

        def executions() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = states.list_executions(stateMachineArn=machines["nightly-jobs"])["executions"]
            return found

        account.advance(minutes=3 * 24 * 60)
        await_true(lambda: [each["status"] for each in executions()][:3] == ["SUCCEEDED"] * 3, "three jobs end")
        days = sorted(each["name"] for each in executions())
        assert len(days) == len(set(days)) >= 3  # a fourth where its time came between the deploy and the advance
        assert all("T180000Z" in name for name in days), days  # three o'clock in Tokyo
        given = json.loads(states.describe_execution(executionArn=executions()[0]["executionArn"])["input"])
        assert f"s3://{BUCKET}/inputs/" in json.dumps(given)
