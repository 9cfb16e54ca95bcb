"""The machine that rolls a package out, executed as it stands in the template."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.infra.promotion.conftest import GROUP
from tests.infra.state_machines import ACCOUNT, REGION, Execution, Machines, Refusal, Scripted, interpreter
from tests.infra.templates import Synthesised

STACK = "tidegate-dev-endpoint"
STACK_ID = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/1b2c"


def package(version: int) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/{GROUP}/{version}"


def approval(version: int) -> dict[str, Any]:
    """An event as SageMaker sends it. Source: SageMaker guide, model package state change."""
    return {
        "version": "0",
        "id": "844e2571-85d4-695f-b930-0153b71dcb42",
        "detail-type": "SageMaker Model Package State Change",
        "source": "aws.sagemaker",
        "account": ACCOUNT,
        "time": "2026-11-21T10:00:00Z",
        "region": REGION,
        "resources": [package(version)],
        "detail": {
            "ModelPackageName": f"{GROUP}/{version}",
            "ModelPackageGroupName": GROUP,
            "ModelPackageVersion": version,
            "ModelPackageArn": package(version),
            "ModelPackageStatus": "Completed",
            "ModelApprovalStatus": "Approved",
        },
    }


@dataclass
class StackOfCloudFormation:
    """A stack that behaves as CloudFormation's do: one update at a time, which takes a few looks and may be undone."""

    parameters: dict[str, str]
    status: str = "CREATE_COMPLETE"
    # Of the versions whose update fails, what the first failed resource says.
    failing: dict[str, str] = field(default_factory=dict)
    # Those that CloudFormation calls done, although the endpoint went back to what it served before.
    going_back: set[str] = field(default_factory=set)
    # What the endpoint serves.
    config: str = "config-1"
    endpoint_status: str = "InService"
    updates: list[dict[str, Any]] = field(default_factory=list)
    # Called at every look, with the number of looks so far.
    at_look: Callable[[int], None] = lambda _: None
    looks: int = 0
    looks_left: int = 0

    def describe(self, _: dict[str, Any]) -> dict[str, Any]:
        self.looks += 1
        self.at_look(self.looks)
        if self.status.endswith("_IN_PROGRESS"):
            self.looks_left -= 1
            if self.looks_left <= 0:
                self._end()
            elif self._wanted in self.failing:
                self.status = "UPDATE_ROLLBACK_IN_PROGRESS"
        return {
            "Stacks": [
                {
                    "StackName": STACK,
                    "StackStatus": self.status,
                    "Parameters": [
                        {"ParameterKey": key, "ParameterValue": value} for key, value in self.parameters.items()
                    ],
                    "Outputs": [
                        {"OutputKey": "EndpointConfigName", "OutputValue": self._named()},
                        {"OutputKey": "ModelName", "OutputValue": self._named().replace("config", "model")},
                    ],
                }
            ]
        }

    def _named(self) -> str:
        return f"config-{self.parameters.get('ModelPackageArn', '').rpartition('/')[2]}"

    def _end(self) -> None:
        if self._wanted in self.failing:
            self.status = "UPDATE_ROLLBACK_COMPLETE"
            return
        self.parameters["ModelPackageArn"] = self._wanted
        self.status = "UPDATE_COMPLETE"
        if self._wanted not in self.going_back:
            self.config = self._named()

    @property
    def _wanted(self) -> str:
        (given,) = (one for one in self.updates[-1]["Parameters"] if one["ParameterKey"] == "ModelPackageArn")
        return str(given["ParameterValue"])

    def update(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.status.endswith("_IN_PROGRESS"):
            raise Refusal("ValidationError", f"Stack:{STACK_ID} is in {self.status} state and can not be updated.")
        self.updates.append(request)
        if self._wanted == self.parameters.get("ModelPackageArn"):
            self.updates.pop()
            raise Refusal("ValidationError", "No updates are to be performed.")
        self.status, self.looks_left = "UPDATE_IN_PROGRESS", 3
        return {"StackId": STACK_ID}

    def describe_resources(self, _: dict[str, Any]) -> dict[str, Any]:
        """What failed is to be seen as long as the stack goes back."""

        def resource(logical_id: str, minute: int, status: str, **further: str) -> dict[str, Any]:
            names = {"LogicalResourceId": logical_id, "ResourceType": "AWS::X::Y", "ResourceStatus": status}
            return names | {"Timestamp": f"2026-11-21T10:0{minute}:00Z"} | further

        cancelled = {"ResourceStatusReason": "Resource update cancelled"}
        return {
            "StackResources": [
                resource("Alarm", 1, "UPDATE_FAILED", **cancelled),
                resource("Later", 3, "CREATE_FAILED", ResourceStatusReason="it needs the endpoint"),
                resource("Endpoint", 2, "UPDATE_FAILED", ResourceStatusReason=self.failing[self._wanted]),
                resource("Role", 0, "CREATE_COMPLETE"),
            ]
        }

    def describe_endpoint(self, _: dict[str, Any]) -> dict[str, Any]:
        return {
            "EndpointName": "tidegate-dev",
            "EndpointStatus": self.endpoint_status,
            "EndpointConfigName": self.config,
            **({"FailureReason": "alarm 5xx"} if self.going_back else {}),
        }


@dataclass
class Promotion:
    """The promotion machine of a stage, its registry and its endpoint's stack."""

    machines: Machines
    arn: str
    stack: StackOfCloudFormation
    # Approval and the moment of the last change of each version.
    registry: dict[int, tuple[str, str]]
    cloudformation: Scripted
    sagemaker: Scripted

    def approve(self, version: int) -> Execution:
        return self.machines.run(self.arn, {"package": package(version)})

    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """Subject and content of everything that was published."""
        from moto.sns.models import sns_backends

        (topic,) = sns_backends[ACCOUNT][REGION].topics.values()
        return [(subject, json.loads(message)) for _, message, subject, *_ in topic.sent_notifications]


@pytest.fixture
def promotion(promotion_stack: Synthesised) -> Iterator[Promotion]:
    registry = {1: ("Approved", "2026-11-21T10:00:00Z"), 2: ("Approved", "2026-11-21T11:00:00Z")}

    def describe_package(request: dict[str, Any]) -> dict[str, Any]:
        version = int(request["ModelPackageName"].rpartition("/")[2])
        if version not in registry:
            raise Refusal("ValidationException", f"ModelPackage {request['ModelPackageName']} does not exist.")
        status, changed = registry[version]
        return {"ModelApprovalStatus": status, "CreationTime": "2026-11-01T00:00:00Z", "LastModifiedTime": changed}

    stack = StackOfCloudFormation(
        {"BootstrapVersion": "/cdk-bootstrap/hnb659fds/version", "ModelPackageArn": package(1)}
    )
    cloudformation = Scripted(
        {
            "DescribeStacks": stack.describe,
            "UpdateStack": stack.update,
            "DescribeStackResources": stack.describe_resources,
        }
    )
    sagemaker = Scripted({"DescribeModelPackage": describe_package, "DescribeEndpoint": stack.describe_endpoint})
    with interpreter(sagemaker=sagemaker, cloudformation=cloudformation) as machines:
        topic = machines.client("sns").create_topic(Name="tidegate-dev-promotion")["TopicArn"]
        name = "tidegate-dev-promotion"
        arn = machines.create(name, promotion_stack.definition(name, topic=topic))
        yield Promotion(
            machines=machines,
            arn=arn,
            stack=stack,
            registry=registry,
            cloudformation=cloudformation,
            sagemaker=sagemaker,
        )


def test_an_approved_package_becomes_the_one_parameter_of_an_otherwise_unchanged_stack(promotion: Promotion) -> None:
    ended = promotion.approve(2)

    assert ended.status == "SUCCEEDED"
    (update,) = promotion.stack.updates
    token = update.pop("ClientRequestToken")
    assert token[0].isalnum()
    assert update == {
        "StackName": STACK,
        "UsePreviousTemplate": True,
        "Parameters": [
            {"ParameterKey": "ModelPackageArn", "ParameterValue": package(2)},
            {"ParameterKey": "BootstrapVersion", "UsePreviousValue": True},
        ],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
    }
    assert promotion.stack.parameters["ModelPackageArn"] == package(2)
    ((subject, message),) = promotion.messages()
    assert subject == f"RolledOut: {GROUP}/2"
    assert message["execution"].endswith(f":{ended.name}")
    assert message | {"execution": ""} == {
        "package": package(2),
        "outcome": "RolledOut",
        "reason": None,
        "previous_package": package(1),
        "stack": STACK,
        "execution": "",
    }


def test_the_first_package_of_a_stage_is_rolled_out_too(promotion: Promotion) -> None:
    promotion.stack.parameters["ModelPackageArn"] = ""

    assert promotion.approve(1).status == "SUCCEEDED"
    assert promotion.stack.parameters["ModelPackageArn"] == package(1)
    assert promotion.messages()[0][1]["previous_package"] is None


def test_every_other_parameter_keeps_its_value_however_many_there_are(promotion: Promotion) -> None:
    promotion.stack.parameters |= {"KeyArn": "/tidegate/dev/key-arn", "Subnet": "/tidegate/dev/subnet"}
    promotion.approve(2)

    (update,) = promotion.stack.updates
    kept = {one["ParameterKey"] for one in update["Parameters"] if one.get("UsePreviousValue")}
    assert kept == {"BootstrapVersion", "KeyArn", "Subnet"}


def test_a_stack_with_no_other_parameter_is_updated_as_well(promotion: Promotion) -> None:
    del promotion.stack.parameters["BootstrapVersion"]

    assert promotion.approve(2).status == "SUCCEEDED"
    assert promotion.stack.updates[0]["Parameters"] == [
        {"ParameterKey": "ModelPackageArn", "ParameterValue": package(2)}
    ]


def test_a_package_that_fails_its_canary_is_rolled_back_and_the_first_cause_is_told(promotion: Promotion) -> None:
    promotion.stack.failing[package(2)] = 'The alarm "tidegate-dev-5xx" went off'
    ended = promotion.approve(2)

    assert (ended.status, ended.error) == ("FAILED", "NotRolledOut")
    assert ended.cause == 'RolledBack: Endpoint: The alarm "tidegate-dev-5xx" went off'
    assert promotion.stack.parameters["ModelPackageArn"] == package(1)
    ((subject, message),) = promotion.messages()
    assert subject == f"RolledBack: {GROUP}/2"
    assert (message["outcome"], message["previous_package"]) == ("RolledBack", package(1))


def test_a_cause_that_was_not_seen_in_time_is_found_in_the_stack_s_events(promotion: Promotion) -> None:
    """CloudFormation forgets it when the stack is back, which may be sooner than the machine looks."""
    promotion.stack.failing[package(2)] = "no such image"
    update = promotion.stack.update

    def update_and_go_back(request: dict[str, Any]) -> dict[str, Any]:
        answer = update(request)
        promotion.stack.status = "UPDATE_ROLLBACK_COMPLETE"
        return answer

    promotion.cloudformation.answers["UpdateStack"] = update_and_go_back
    ended = promotion.approve(2)

    assert ended.cause is not None
    assert ended.cause.startswith("RolledBack: the stack was back before its cause was seen")
    assert f"describe-stack-events --stack-name {STACK}" in ended.cause


def test_an_approval_that_was_taken_back_rolls_nothing_out(promotion: Promotion) -> None:
    promotion.registry[2] = ("Rejected", "2026-11-21T11:00:01Z")

    assert promotion.approve(2).status == "SUCCEEDED"
    assert not promotion.stack.updates
    assert not promotion.messages()


def test_an_approval_during_an_update_waits_for_its_end(promotion: Promotion) -> None:
    """The stack is being updated by somebody; the roll-out begins when it is done."""
    promotion.registry[3] = ("Approved", "2026-11-21T12:00:00Z")
    promotion.stack.update(
        {"Parameters": [{"ParameterKey": "ModelPackageArn", "ParameterValue": package(2)}], "ClientRequestToken": "x"}
    )

    assert promotion.approve(3).status == "SUCCEEDED"
    assert promotion.stack.parameters["ModelPackageArn"] == package(3)
    assert promotion.messages()[0][1]["previous_package"] == package(2)


def test_two_approvals_at_once_are_rolled_out_one_after_the_other_and_the_later_one_stays(promotion: Promotion) -> None:
    promotion.registry[3] = ("Approved", "2026-11-21T12:00:00Z")
    started = [promotion.machines.start(promotion.arn, {"package": package(version)}) for version in (3, 2)]
    ended = [promotion.machines.end_of(execution) for execution in started]

    assert [one.status for one in ended] == ["SUCCEEDED", "SUCCEEDED"]
    assert promotion.stack.parameters["ModelPackageArn"] == package(3)


def test_an_update_that_begins_between_look_and_update_is_waited_for(promotion: Promotion) -> None:
    promotion.registry[3] = ("Approved", "2026-11-21T12:00:00Z")
    update = promotion.stack.update
    other = {
        "Parameters": [{"ParameterKey": "ModelPackageArn", "ParameterValue": package(2)}],
        "ClientRequestToken": "x",
    }
    first = [other]

    def update_after_somebody(request: dict[str, Any]) -> dict[str, Any]:
        if first:
            update(first.pop())
        return update(request)

    promotion.cloudformation.answers["UpdateStack"] = update_after_somebody
    assert promotion.approve(3).status == "SUCCEEDED"
    assert promotion.stack.parameters["ModelPackageArn"] == package(3)
    assert len(promotion.cloudformation.of("UpdateStack")) == 2


def test_an_older_approval_does_not_replace_a_later_one(promotion: Promotion) -> None:
    promotion.stack.parameters["ModelPackageArn"] = package(2)

    assert promotion.approve(1).status == "SUCCEEDED"
    assert not promotion.stack.updates


def test_an_older_version_that_is_approved_again_is_rolled_out(promotion: Promotion) -> None:
    """The way back: what counts is when a version was approved, not its number."""
    promotion.stack.parameters["ModelPackageArn"] = package(2)
    promotion.registry[1] = ("Approved", "2026-11-21T12:00:00Z")

    assert promotion.approve(1).status == "SUCCEEDED"
    assert promotion.stack.parameters["ModelPackageArn"] == package(1)


@pytest.mark.parametrize("state", ["rejected", "deleted"])
def test_a_running_version_that_was_rejected_or_deleted_stands_in_nobody_s_way(
    state: str, promotion: Promotion
) -> None:
    promotion.stack.parameters["ModelPackageArn"] = package(2)
    if state == "deleted":
        del promotion.registry[2]
    else:
        promotion.registry[2] = ("Rejected", "2026-11-21T13:00:00Z")

    assert promotion.approve(1).status == "SUCCEEDED"
    assert promotion.stack.parameters["ModelPackageArn"] == package(1)


def test_an_event_that_is_delivered_again_changes_nothing(promotion: Promotion) -> None:
    ended = [promotion.approve(2), promotion.approve(2)]

    assert [one.status for one in ended] == ["SUCCEEDED", "SUCCEEDED"]
    assert len(promotion.stack.updates) == 1
    assert len(promotion.messages()) == 1


def test_two_deliveries_that_race_are_one_update(promotion: Promotion) -> None:
    """The second meets "No updates are to be performed", which is no failure."""

    def nothing_new(_: dict[str, Any]) -> dict[str, Any]:
        raise Refusal("ValidationError", "No updates are to be performed.")

    promotion.cloudformation.answers["UpdateStack"] = nothing_new
    assert promotion.approve(2).status == "SUCCEEDED"
    assert not promotion.messages()


def test_the_outcome_is_that_of_this_update_even_when_another_followed_at_once(promotion: Promotion) -> None:
    """The machine looks once a minute; by then the stack may be in the state of somebody's next update."""
    promotion.stack.failing[package(2)] = "no"
    end = promotion.stack._end

    def end_and_go_on() -> None:
        end()
        promotion.stack.status = "UPDATE_COMPLETE"

    promotion.stack._end = end_and_go_on  # type: ignore[method-assign]
    promotion.approve(2)

    assert [subject for subject, _ in promotion.messages()] == [f"RolledBack: {GROUP}/2"]


@pytest.mark.parametrize("status", ["UPDATE_ROLLBACK_FAILED", "ROLLBACK_COMPLETE", "DELETE_FAILED"])
def test_a_stack_that_cannot_be_updated_is_told_and_left_alone(status: str, promotion: Promotion) -> None:
    promotion.stack.status = status
    ended = promotion.approve(2)

    assert ended.cause == f"NotRolledOut: the stack {STACK} is in state {status} and cannot be updated"
    assert not promotion.stack.updates
    assert [subject for subject, _ in promotion.messages()] == [f"NotRolledOut: {GROUP}/2"]


def test_a_stage_whose_model_is_not_a_group_says_so(promotion: Promotion) -> None:
    del promotion.stack.parameters["ModelPackageArn"]
    ended = promotion.approve(2)

    assert ended.cause is not None
    assert "has no parameter ModelPackageArn" in ended.cause
    assert not promotion.stack.updates


def test_a_refusal_of_cloudformation_is_told_in_its_own_words(promotion: Promotion) -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise Refusal("AccessDenied", "User: machine is not authorized", status=403)

    promotion.cloudformation.answers["UpdateStack"] = refuse
    ended = promotion.approve(2)

    assert ended.status == "FAILED"
    assert "is not authorized" in promotion.messages()[0][1]["reason"]
    assert len(promotion.cloudformation.of("UpdateStack")) == 1


def test_a_package_that_another_update_replaced_unseen_is_not_called_rolled_out(promotion: Promotion) -> None:
    end = promotion.stack._end

    def end_and_be_replaced() -> None:
        end()
        promotion.stack.parameters["ModelPackageArn"] = package(3)

    promotion.stack._end = end_and_be_replaced  # type: ignore[method-assign]
    ended = promotion.approve(2)

    assert ended.status == "FAILED"
    assert ended.cause is not None
    assert ended.cause.startswith("NotRolledOut: another update of the stack followed")
    assert ended.cause.endswith(package(3))


def test_an_endpoint_that_went_back_although_the_stack_says_done_is_no_success(promotion: Promotion) -> None:
    """SageMaker returns to InService with the old configuration; CloudFormation may take that for the end."""
    promotion.stack.going_back.add(package(2))
    ended = promotion.approve(2)

    assert promotion.stack.status == "UPDATE_COMPLETE"
    assert (ended.status, ended.error) == ("FAILED", "NotRolledOut")
    ((subject, message),) = promotion.messages()
    assert subject == f"RolledBack: {GROUP}/2"
    assert message["reason"] == (
        f"the stack {STACK} names config-2, and tidegate-dev serves config-1 (alarm 5xx); approve another version, and "
        "then this one again"
    )


def test_an_approval_of_what_the_stack_names_already_is_no_success_where_the_endpoint_serves_another(
    promotion: Promotion,
) -> None:
    """Neither an event that is delivered again nor a second approval hides that the endpoint went back."""
    promotion.stack.going_back.add(package(2))
    promotion.approve(2)

    assert promotion.approve(2).status == "FAILED"
    assert [subject for subject, _ in promotion.messages()] == [f"RolledBack: {GROUP}/2"] * 2
    assert len(promotion.stack.updates) == 1


def test_the_way_out_that_the_message_names_is_one(promotion: Promotion) -> None:
    promotion.stack.going_back.add(package(2))
    promotion.approve(2)
    promotion.stack.going_back.clear()
    promotion.registry |= {1: ("Approved", "2026-11-21T12:00:00Z")}
    promotion.approve(1)
    promotion.registry |= {2: ("Approved", "2026-11-21T13:00:00Z")}

    assert promotion.approve(2).status == "SUCCEEDED"
    assert promotion.stack.config == "config-2"


def test_an_endpoint_that_is_still_moving_is_waited_for(promotion: Promotion) -> None:
    """It may be scaled at the moment when the stack is done."""
    promotion.stack.endpoint_status = "Updating"
    moving = iter(["Updating", "Updating", "InService"])

    def describe(request: dict[str, Any]) -> dict[str, Any]:
        promotion.stack.endpoint_status = next(moving)
        return promotion.stack.describe_endpoint(request)

    promotion.sagemaker.answers["DescribeEndpoint"] = describe
    assert promotion.approve(2).status == "SUCCEEDED"
    assert len(promotion.sagemaker.of("DescribeEndpoint")) == 3


def test_sagemaker_s_own_event_starts_a_roll_out_too(promotion: Promotion) -> None:
    """As it is kept where it could not be delivered."""
    assert promotion.machines.run(promotion.arn, approval(2)).status == "SUCCEEDED"
    assert promotion.stack.parameters["ModelPackageArn"] == package(2)


LIMIT_BYTES = 256 * 1024
# Step Functions' own limit of an error's cause, in characters.
LONGEST_CAUSE = 32_768


def test_no_state_comes_near_the_limit_of_its_data_whatever_the_stack_and_its_failure_say(promotion: Promotion) -> None:
    """`States.DataLimitExceeded` ends an execution without a message, and nothing catches it."""
    stack, describe = promotion.stack, promotion.stack.describe
    stack.failing[package(2)] = "because " * 4_000
    # As many parameters, outputs and tags as an endpoint's stack has, each as long as CloudFormation takes them.
    stack.parameters |= {f"Parameter{number}": "p" * 4096 for number in range(6)}

    def long(request: dict[str, Any]) -> dict[str, Any]:
        answer = describe(request)
        (found,) = answer["Stacks"]
        found["Tags"] = [{"Key": f"{number:0128}", "Value": "t" * 256} for number in range(50)]
        found["Description"] = "d" * 1024
        found["Outputs"] += [
            {"OutputKey": f"Output{number}", "OutputValue": "o" * 1024, "Description": "d" * 1024}
            for number in range(10)
        ]
        if stack.status.endswith("ROLLBACK_IN_PROGRESS"):
            found["StackStatusReason"] = "resource " * 4_000
        return answer

    promotion.cloudformation.answers["DescribeStacks"] = long
    execution = promotion.machines.start(promotion.arn, {"package": package(2)})
    ended = promotion.machines.end_of(execution)
    history = promotion.machines.client("stepfunctions").get_execution_history(executionArn=execution, maxResults=1000)

    assert ended.status == "FAILED"
    assert len(ended.cause or "") < LONGEST_CAUSE
    largest = max(len(json.dumps(event, default=str)) for event in history["events"])
    assert 40_000 < largest < LIMIT_BYTES / 2


def test_throttling_of_the_stack_s_own_update_is_waited_out(promotion: Promotion) -> None:
    update, refusals = promotion.stack.update, iter([1, 2])

    def throttled(request: dict[str, Any]) -> dict[str, Any]:
        for _ in refusals:
            raise Refusal("Throttling", "Rate exceeded")
        return update(request)

    promotion.cloudformation.answers["UpdateStack"] = throttled
    assert promotion.approve(2).status == "SUCCEEDED"
    assert len(promotion.cloudformation.of("UpdateStack")) == 3
