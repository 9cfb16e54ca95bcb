"""A cloud that is killed while all kinds of things are under way in it, and is up again: they go on, or are named.

One cloud and one kill for the whole module. What is under way cannot end by itself: it waits for a gate that is opened
after the restart, for a clock that nobody sets ahead, or for a server that was stopped.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.local_cloud import pipelines, training
from tests.local_cloud.conftest import BUCKET, STAND_IN, await_true, model_archive
from tests.local_cloud.test_deployments import (
    await_baking,
    blue_green,
    current_counts,
    instances,
    percent,
    rolling,
    update,
)
from tests.local_cloud.test_inference_components import VARIANT, Component, specification
from tests.local_cloud.test_stacks import named, serving
from tests.local_cloud.test_tuning_jobs import start as start_tuning
from tests.local_cloud.time.conftest import ROLE, TimedAccount
from tests.local_cloud.time.test_scaling import COPIES, register
from tidegate.local_cloud import LocalCloud
from tidegate.local_cloud.processes import belonging, process_birth

pytestmark = pytest.mark.timeout(1800)  # each wait has its own limit

SERVICES = ("sagemaker", "states", "scheduler", "events")
MACHINE = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 86_400, "End": True}}}
Json = dict[str, Any]


def resource(kind: str, depends_on: str | None = None, **properties: Any) -> Json:
    return {"Type": f"AWS::{kind}", "Properties": properties} | ({"DependsOn": depends_on} if depends_on else {})


def ref(name: str) -> Json:
    return {"Ref": name}


OF_ALL_SERVICES = {
    "Vpc": resource("EC2::VPC", CidrBlock="10.0.0.0/16"),
    "Subnet": resource("EC2::Subnet", VpcId=ref("Vpc"), CidrBlock="10.0.0.0/24"),
    "Group": resource("EC2::SecurityGroup", GroupDescription="g", VpcId=ref("Vpc")),
    "Api": resource("ApiGateway::RestApi", Name="kept"),
    "Get": resource(
        "ApiGateway::Method",
        RestApiId=ref("Api"),
        ResourceId={"Fn::GetAtt": ["Api", "RootResourceId"]},
        HttpMethod="GET",
        AuthorizationType="NONE",
        Integration={"Type": "MOCK"},
    ),
    "Deployment": resource("ApiGateway::Deployment", "Get", RestApiId=ref("Api")),
    "Stage": resource("ApiGateway::Stage", RestApiId=ref("Api"), DeploymentId=ref("Deployment"), StageName="s"),
    "WorkGroup": resource("Athena::WorkGroup", Name="kept"),
    "Database": resource("Glue::Database", CatalogId=ref("AWS::AccountId"), DatabaseInput={"Name": "kept"}),
    "Table": resource(
        "Glue::Table", "Database", CatalogId=ref("AWS::AccountId"), DatabaseName="kept", TableInput={"Name": "t"}
    ),
    "Budget": resource(
        "Budgets::Budget",
        Budget={
            "BudgetName": "kept",
            "BudgetType": "COST",
            "TimeUnit": "MONTHLY",
            "BudgetLimit": {"Amount": 1, "Unit": "USD"},
        },
    ),
    "Dashboard": resource("CloudWatch::Dashboard", DashboardName="kept", DashboardBody="{}"),
    "Repository": resource("ECR::Repository", RepositoryName="kept"),
    "Key": resource("KMS::Key", KeyPolicy={"Version": "2012-10-17", "Statement": []}),
    "Logs": resource("Logs::LogGroup", LogGroupName="/kept"),
    "Parameter": resource("SSM::Parameter", Name="/kept", Type="String", Value="v"),
}
"""A resource of each service that the stacks of this project use, and that no other test of restarts has."""


def role(account: TimedAccount, name: str, actions: list[str]) -> str:
    """A role that services may take on, and that may do ``actions``."""
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    allowed = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    iam = account.cloud.client("iam")
    trusted = [trust | {"Principal": {"Service": f"{service}.amazonaws.com"}} for service in SERVICES]
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": trusted}))
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document)
    arn: str = iam.get_role(RoleName=name)["Role"]["Arn"]
    return arn


@dataclass
class Midst:
    """What was under way, by its names, and what was so at the kill. ``account`` is that after the restart."""

    account: TimedAccount
    gate: Path
    names: dict[str, str] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    counted: float = 0.0

    @property
    def remarks(self) -> list[str]:
        record = self.account.cloud.record()
        assert record is not None
        return list(record.remarks)

    def named(self, *words: str) -> bool:
        """Whether `up` has said something in which all these words are."""
        return any(all(word in remark for word in words) for remark in self.remarks)

    def waiting(self) -> str:
        """A script that does not end before the gate is open."""
        return f"import pathlib, time\nwhile not pathlib.Path({str(self.gate)!r}).exists():\n    time.sleep(0.05)\n"


def fleets(midst: Midst) -> None:
    """A canary that bakes, and a rolling update with one of two batches to come."""
    account, names = midst.account, midst.names
    names["canary"] = account.endpoint(account.model(STAND_IN_PREFIX="old "))
    names["rolled"] = account.endpoint(account.model(STAND_IN_PREFIX="old "), InitialInstanceCount=2)
    canary = blue_green("CANARY", wait_s=3600, CanarySize=percent(50))
    update(account, names["canary"], "new ", canary)
    update(account, names["rolled"], "new ", rolling(instances(1), wait_s=3600), count=2)
    await_baking(account, names["canary"], "50%")
    await_baking(account, names["rolled"], "50%")
    assert current_counts(account, names["rolled"]) == (2, 1)


def components(midst: Midst) -> None:
    """A component with an adapter, and a target that scales its copies, with a policy and actions to come."""
    account, names = midst.account, midst.names
    names["shared"] = account.name("shared")
    account.sagemaker.create_endpoint_config(
        EndpointConfigName=names["shared"], ExecutionRoleArn=ROLE, ProductionVariants=[VARIANT]
    )
    account.sagemaker.create_endpoint(EndpointName=names["shared"], EndpointConfigName=names["shared"])
    assert account.settled(names["shared"])["EndpointStatus"] == "InService"
    base = Component(account, names["shared"])
    names["base"] = base.name
    assert base.create(specification(STAND_IN_PREFIX="base "))["InferenceComponentStatus"] == "InService"
    names["adapter"] = adapter(midst)
    await_true(lambda: status_of(account, names["adapter"]) == "InService", "the adapter is in service")
    resource = f"inference-component/{base.name}"
    target = register(account, resource, 1, 2, dimension=COPIES)
    account.scaling.put_scaling_policy(
        **target,
        PolicyName="kept",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 100.0,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerInferenceComponentInvocationsPerCopy",
            },
        },
    )
    account.scaling.put_scheduled_action(
        **target, ScheduledActionName="kept", Schedule="rate(5 hours)", ScalableTargetAction={"MinCapacity": 2}
    )


def adapter(midst: Midst) -> str:
    account = midst.account
    archive = account.put(f"{account.name('adapters')}/adapter.tar.gz", model_archive({"word": "oui"}))
    name = account.name("adapter")
    account.sagemaker.create_inference_component(
        InferenceComponentName=name,
        EndpointName=midst.names["shared"],
        Specification={
            "BaseInferenceComponentName": midst.names["base"],
            "Container": {"ArtifactUrl": archive},
        },
    )
    return name


def status_of(account: TimedAccount, component: str) -> str:
    found: str = account.sagemaker.describe_inference_component(InferenceComponentName=component)[
        "InferenceComponentStatus"
    ]
    return found


def executions(midst: Midst) -> None:
    """One within its second step, and one that has begun one of two steps: the other waits for its turn."""
    account, names = midst.account, midst.names
    first = pipelines.process(account, "first", "")
    second = pipelines.process(account, "second", midst.waiting(), DependsOn=["first"])
    names["within"] = pipelines.start(account, pipelines.create(account, pipelines.definition(first, second)))
    both = [pipelines.process(account, name, midst.waiting()) for name in ("one", "other")]
    one_by_one = pipelines.create(
        account, pipelines.definition(*both), ParallelismConfiguration={"MaxParallelExecutionSteps": 1}
    )
    names["queued"] = pipelines.start(account, one_by_one)

    def are_there() -> bool:
        within, queued = (pipelines.statuses(pipelines.steps_of(account, names[name])) for name in ("within", "queued"))
        return within == {"first": "Succeeded", "second": "Executing"} and list(queued.values()) == ["Executing"]

    await_true(are_there, "the pipelines are in their midst", timeout_s=training.LIMIT_S)


def watchers(midst: Midst) -> None:
    """Alarms with their states, a queue with messages, a topic, a rule of events, a state machine that waits."""
    account, names = midst.account, midst.names
    names["topic"], names["queue"] = account.topic()
    names["alarm"], names["composite"] = account.name("alarm"), account.name("composite")
    account.alarm(names["alarm"], TreatMissingData="ignore", AlarmActions=[names["topic"]])
    account.measure(names["alarm"], 5)
    account.cloudwatch.put_composite_alarm(AlarmName=names["composite"], AlarmRule=f"ALARM({names['alarm']})")
    names["events"], events_arn = account.queue()
    account.events.put_rule(Name="kept", EventPattern=json.dumps({"source": ["own"]}))
    account.events.put_targets(Rule="kept", Targets=[{"Id": "1", "Arn": events_arn}])
    states = account.cloud.client("stepfunctions")
    names["machine"] = states.create_state_machine(name="kept", definition=json.dumps(MACHINE), roleArn=ROLE)[
        "stateMachineArn"
    ]
    names["execution"] = states.start_execution(stateMachineArn=names["machine"], input='{"a": 1}')["executionArn"]


def stacks(midst: Midst) -> None:
    """Stacks in creation, in an update, in a roll-back and in deletion; each waits for a server."""
    account, names = midst.account, midst.names

    def status(stack: str) -> str:
        try:
            found: str = account.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
        except account.cloudformation.exceptions.ClientError:  # a slow machine has ended the server meanwhile
            return "DELETE_COMPLETE"
        return found

    for kind in ("updated", "deleted", "rolled-back", "created", "of all services"):
        names[f"stack {kind}"] = account.name(f"stack-{kind}".replace(" ", "-"))
    gate = {"STAND_IN_ENDS_ONCE_THERE_IS": str(midst.gate)}
    coming = json.dumps(serving("second ", STAND_IN_PING=str(midst.gate)))
    failing = serving("first ", **gate)
    failing["Resources"]["Failing"] = {
        "Type": "AWS::SageMaker::Endpoint",
        "DependsOn": "Endpoint",
        "Properties": {"EndpointConfigName": "there-is-none-of-this-name"},
    }
    call = account.cloudformation
    # At once: each call waits some seconds for the end of what it begins.
    with ThreadPoolExecutor(4) as pool:
        made = (
            pool.submit(call.create_stack, StackName=names[f"stack {kind}"], TemplateBody=json.dumps(template))
            for kind, template in (
                ("updated", serving("first ")),
                ("deleted", serving("first ", **gate)),
                ("of all services", {"Resources": OF_ALL_SERVICES}),
            )
        )
        assert [each.result() for each in list(made)]
        for kind in ("updated", "deleted", "of all services"):
            await_true(lambda kind=kind: status(names[f"stack {kind}"]) == "CREATE_COMPLETE", kind)  # type: ignore[misc]
        begun = [
            pool.submit(call.update_stack, StackName=names["stack updated"], TemplateBody=coming),
            pool.submit(call.create_stack, StackName=names["stack created"], TemplateBody=coming),
            pool.submit(call.create_stack, StackName=names["stack rolled-back"], TemplateBody=json.dumps(failing)),
            pool.submit(call.delete_stack, StackName=names["stack deleted"]),
        ]
        assert [each.result() for each in begun]
    for kind in ("updated", "created", "deleted", "rolled-back"):
        word = {"rolled-back": "ROLLBACK"}.get(kind, kind.upper().removesuffix("D"))
        await_true(lambda kind=kind, word=word: status(names[f"stack {kind}"]).startswith(word), kind)  # type: ignore[misc]


def descriptions(midst: Midst) -> Json:
    """What must be the same after a restart, without what tells of the request."""
    account, names = midst.account, midst.names
    alarms = [names["alarm"], names["composite"]]
    calls = {
        "target": (account.scaling.describe_scalable_targets, {"ServiceNamespace": "sagemaker"}),
        "policies": (account.scaling.describe_scaling_policies, {"ServiceNamespace": "sagemaker"}),
        "actions": (account.scaling.describe_scheduled_actions, {"ServiceNamespace": "sagemaker"}),
        "alarms": (
            account.cloudwatch.describe_alarms,
            {"AlarmNames": alarms, "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]},
        ),
        "history": (account.cloudwatch.describe_alarm_history, {"AlarmName": names["alarm"]}),
        "rule": (account.events.describe_rule, {"Name": "kept"}),
        "machine": (
            account.cloud.client("stepfunctions").describe_state_machine,
            {"stateMachineArn": names["machine"]},
        ),
        "resources": (
            account.cloudformation.describe_stack_resources,
            {"StackName": names["stack of all services"]},
        ),
        "schedule": (account.cloud.client("scheduler").get_schedule, {"Name": "kept"}),
    }
    found = {what: call(**members) for what, (call, members) in calls.items()}
    for answer in found.values():
        answer.pop("ResponseMetadata", None)
    return found


def stop_servers(midst: Midst) -> None:
    """From now on no process does anything, so that a request, an adapter and the stop of a pipeline stay under way."""
    account, names = midst.account, midst.names
    names["async"] = account.asynchronous()
    account.put("question", b"hello")
    for entry in (account.cloud.directory / "containers").iterdir():
        for process in belonging(int(entry.name)):
            with suppress(psutil.NoSuchProcess):
                process.suspend()
    account.sagemaker.stop_pipeline_execution(PipelineExecutionArn=names["queued"], ClientRequestToken="s" * 32)
    answer = account.runtime.invoke_endpoint_async(EndpointName=names["async"], InputLocation=f"s3://{BUCKET}/question")
    names["answer"] = answer["OutputLocation"].removeprefix(f"s3://{BUCKET}/")
    names["coming adapter"] = adapter(midst)


def on_time(midst: Midst) -> None:
    """A schedule that is due in some seconds: while the cloud is down, if the machine is quick enough."""
    account, names = midst.account, midst.names
    names["due"], arn = account.queue()
    now = account.to_full_minute()
    due = (now + timedelta(seconds=60)).strftime("%Y-%m-%dT%H:%M:%S")
    account.cloud.client("scheduler").create_schedule(
        Name="kept",
        ScheduleExpression=f"at({due})",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": arn, "RoleArn": ROLE, "Input": '{"due": true}'},
    )
    account.cloud.advance(55)


def kill(cloud: LocalCloud) -> None:
    """Ends the supervisor at once; its servers run on, without anybody who minds them."""
    record = cloud.record()
    assert record is not None
    os.kill(record.process_id, signal.SIGKILL)
    await_true(lambda: process_birth(record.process_id) != record.birth, "the supervisor is gone")


@pytest.fixture(scope="module")
def midst(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Midst]:
    directory = tmp_path_factory.mktemp("midst")
    cloud = LocalCloud(directory / "state", container_command=STAND_IN, keep=True, enforce_iam=True)
    cloud.up()
    try:
        midst = Midst(TimedAccount(cloud), directory / "gate")
        account, names = midst.account, midst.names
        assert role(account, "service", ["*"]) == ROLE
        names["poor"] = role(account, "poor", ["s3:ListBucket"])
        names["tuning"] = start_tuning(account, {}, script=midst.waiting())
        watchers(midst)
        fleets(midst)
        components(midst)
        executions(midst)
        await_true(lambda: bool(trials(midst)), "the tuning job has its first training job")
        account.invoke(names["canary"], b"counted")
        account.to_full_minute()
        stacks(midst)
        stop_servers(midst)
        on_time(midst)
        midst.before = descriptions(midst) | {"now": account.cloud.advance(0)}
        kill(cloud)
        cloud.up()
        midst.gate.touch()
        midst.account = TimedAccount(cloud)
        midst.counted = invocations(midst)
        midst.after = descriptions(midst)
        yield midst
    finally:
        cloud.down(delete=True)


def invocations(midst: Midst) -> float:
    """How often the endpoint with the canary was called, as CloudWatch has it."""
    dimensions = {"EndpointName": midst.names["canary"], "VariantName": "variant-0"}
    return midst.account.sum_of("Invocations", dimensions)


def trials(midst: Midst) -> list[Json]:
    found: list[Json] = midst.account.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName=midst.names["tuning"]
    )["TrainingJobSummaries"]
    return found


def test_updates_under_way_are_given_up_and_what_served_before_serves(midst: Midst) -> None:
    account = midst.account
    for name, instances_of in (("canary", 1), ("rolled", 2)):
        endpoint = midst.names[name]
        described = account.settled(endpoint)
        assert described["EndpointStatus"] == "InService"
        assert described["FailureReason"] == "The local cloud ended while this was under way. The update was given up."
        assert "PendingDeploymentSummary" not in described
        (variant,) = described["ProductionVariants"]
        assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (instances_of, instances_of)
        assert {account.invoke(endpoint, b"x") for _ in range(6)} == {b"old X"}
        assert midst.named(endpoint, "what served before serves again")
        update(account, endpoint, "next ", blue_green("ALL_AT_ONCE"), count=instances_of)
        assert account.settled(endpoint)["EndpointStatus"] == "InService"
        assert account.invoke(endpoint, b"x") == b"next X"


def test_a_component_serves_again_with_its_adapter_and_one_that_was_being_brought_has_failed(midst: Midst) -> None:
    account, names = midst.account, midst.names
    await_true(lambda: status_of(account, names["base"]) == "InService", "the component serves again")
    for component, answer in ((names["base"], b"base X"), (names["adapter"], b"oui x")):
        assert account.invoke(names["shared"], b"x", InferenceComponentName=component) == answer
    coming = account.sagemaker.describe_inference_component(InferenceComponentName=names["coming adapter"])
    assert (coming["InferenceComponentStatus"], coming["FailureReason"]) == (
        "Failed",
        "The local cloud ended while this was under way.",
    )
    assert midst.named(names["coming adapter"])
    account.sagemaker.delete_inference_component(InferenceComponentName=names["coming adapter"])


def test_a_tuning_job_and_its_training_job_have_failed(midst: Midst) -> None:
    account, name = midst.account, midst.names["tuning"]
    described = account.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
    assert described["HyperParameterTuningJobStatus"] == "Failed"
    assert described["FailureReason"] == "The local cloud ended while this was under way."
    (trial,) = trials(midst)
    assert trial["TrainingJobStatus"] == "Failed"
    counts = described["TrainingJobStatusCounters"]
    assert (counts["InProgress"], counts["RetryableError"] + counts["NonRetryableError"]) == (0, 1)
    assert midst.named("tuning job", name)
    assert midst.named("training job", trial["TrainingJobName"])


def test_a_pipeline_execution_has_failed_or_stopped_in_its_step_and_goes_on_from_there_when_it_is_retried(
    midst: Midst,
) -> None:
    account = midst.account
    cut_off = "The local cloud ended while this was under way."
    ends: dict[str, tuple[str, str | None, list[str]]] = {
        "within": ("Failed", cut_off, ["Succeeded", "Failed"]),
        "queued": ("Stopped", None, ["Stopped"]),
    }
    assert midst.named(midst.names["within"], "can be retried")
    for kind, (status, reason, statuses) in ends.items():
        execution = midst.names[kind]
        described = pipelines.described(account, execution)
        assert (described["PipelineExecutionStatus"], described.get("FailureReason")) == (status, reason)
        found = pipelines.steps_of(account, execution)
        assert list(pipelines.statuses(found).values()) == statuses
        first = pipelines.job_name(found["first"], "ProcessingJob") if kind == "within" else None
        account.sagemaker.retry_pipeline_execution(PipelineExecutionArn=execution, ClientRequestToken="r" * 32 + kind)
        end = pipelines.ended(account, execution)
        found = pipelines.steps_of(account, execution)
        assert end["PipelineExecutionStatus"] == "Succeeded", (end, found)
        if first is not None:
            assert pipelines.job_name(found["first"], "ProcessingJob") == first, "a step that had ended is not repeated"


def test_stacks_that_were_being_changed_have_failed_or_are_done_and_can_be_deleted(midst: Midst) -> None:
    account = midst.account
    ended = {
        "created": {"CREATE_FAILED"},
        "updated": {"UPDATE_FAILED"},
        # On a machine that is slow enough their server has ended before the kill.
        "rolled-back": {"ROLLBACK_FAILED", "ROLLBACK_COMPLETE"},
        "deleted": {"DELETE_FAILED"},
    }
    described = {stack["StackName"]: stack for stack in account.cloudformation.describe_stacks()["Stacks"]}
    for kind, statuses in ended.items():
        name = midst.names[f"stack {kind}"]
        if name not in described:
            assert kind == "deleted"
            continue
        assert described[name]["StackStatus"] in statuses
        if described[name]["StackStatus"].endswith("_FAILED"):
            assert midst.named(f"stack {name} was being changed", "delete it and deploy again")
            (event, *_) = account.cloudformation.describe_stack_events(StackName=name)["StackEvents"]
            assert "The local cloud ended while this was under way" in event["ResourceStatusReason"]
            assert described[name]["StackStatusReason"] == event["ResourceStatusReason"]
        account.cloudformation.delete_stack(StackName=name)
    for kind in ended:
        name = midst.names[f"stack {kind}"]
        waiter = account.cloudformation.get_waiter("stack_delete_complete")
        waiter.wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    left = [name for kind in ("models", "configs", "endpoints") for name in named(account, kind, "stack-")]
    assert left == [], "what a stack had made goes with it, also what its template does not have yet or any more"


def test_resources_of_all_services_are_there_and_can_be_deleted(midst: Midst) -> None:
    account, name = midst.account, midst.names["stack of all services"]
    assert not midst.named("was not kept")
    (stack,) = account.cloudformation.describe_stacks(StackName=name)["Stacks"]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert len(midst.before["resources"]["StackResources"]) == len(OF_ALL_SERVICES)
    account.cloudformation.delete_stack(StackName=name)
    waiter = account.cloudformation.get_waiter("stack_delete_complete")
    waiter.wait(StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 300})


def test_an_execution_of_a_state_machine_that_waited_has_failed_and_the_next_one_begins(midst: Midst) -> None:
    states, names = midst.account.cloud.client("stepfunctions"), midst.names
    described = states.describe_execution(executionArn=names["execution"])
    assert (described["status"], described["error"]) == ("FAILED", "LocalCloud.Ended")
    assert json.loads(described["input"]) == {"a": 1}
    assert midst.named("execution", "of kept was running")
    history = states.get_execution_history(executionArn=names["execution"])["events"]
    assert history[0]["type"] == "ExecutionStarted"
    assert history[-1]["type"] == "ExecutionFailed"
    again = states.start_execution(stateMachineArn=names["machine"])["executionArn"]
    assert states.describe_execution(executionArn=again)["status"] == "RUNNING"
    states.stop_execution(executionArn=again)


def test_alarms_rules_targets_policies_and_the_clock_are_as_they_were(midst: Midst) -> None:
    assert midst.before["now"] <= midst.account.cloud.advance(0)
    assert midst.before["alarms"]["MetricAlarms"][0]["StateValue"] == "ALARM"
    assert midst.before["alarms"]["CompositeAlarms"][0]["StateValue"] == "ALARM"
    assert midst.before["history"]["AlarmHistoryItems"]
    assert midst.after == {name: value for name, value in midst.before.items() if name != "now"}


def test_metrics_are_there_up_to_the_last_full_minute(midst: Midst) -> None:
    assert midst.counted == 1


def test_messages_wait_and_topics_and_rules_still_reach_their_queues(midst: Midst) -> None:
    account, names = midst.account, midst.names
    told = [json.loads(message["Message"]) for message in account.messages(names["queue"])]
    assert [(each["AlarmName"], each["NewStateValue"]) for each in told] == [(names["alarm"], "ALARM")]
    account.sns.publish(TopicArn=names["topic"], Message="again")
    assert [message["Message"] for message in account.messages(names["queue"])] == ["again"]
    account.events.put_events(Entries=[{"Source": "own", "DetailType": "t", "Detail": '{"n": 1}'}])
    assert [message["detail"] for message in account.messages(names["events"])] == [{"n": 1}]


def test_an_asynchronous_request_in_the_queue_has_its_answer(midst: Midst) -> None:
    account, names = midst.account, midst.names
    account.settled(names["async"])
    await_true(lambda: bool(account.keys(names["answer"])), "the asynchronous request has its answer")
    assert account.get(names["answer"]) == b"HELLO"


def test_what_fell_due_meanwhile_happens_at_the_next_full_minute(midst: Midst) -> None:
    account = midst.account
    account.advance(minutes=2)
    delivered = account.messages(midst.names["due"])
    # Once, or once more where it was delivered just before the kill.
    assert delivered in ([{"due": True}], [{"due": True}] * 2)
    account.advance(minutes=2)
    assert account.messages(midst.names["due"]) == []


def test_rights_are_checked_as_before(midst: Midst) -> None:
    account = midst.account
    model = account.name("model")
    container = {"Image": "serve", "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    account.sagemaker.create_model(ModelName=model, ExecutionRoleArn=midst.names["poor"], PrimaryContainer=container)
    endpoint = account.name("endpoint")
    account.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=account.config(model))
    described = account.settled(endpoint)
    assert described["EndpointStatus"] == "Failed"
    assert "role/poor" in described["FailureReason"] or "assumed-role/poor" in described["FailureReason"]
    assert "s3:GetObject" in described["FailureReason"]
