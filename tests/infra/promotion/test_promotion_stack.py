"""The promotion's resources: what its machine may do, and which events reach it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from moto.events.models import EventPattern

from tests.infra.promotion.conftest import GROUP
from tests.infra.promotion.test_promotion_rollout import approval
from tests.infra.state_machines import ACCOUNT, REGION, text
from tests.infra.templates import LOGS_AND_TRACES, Synthesised, called_actions, lint_definition, lint_template

HERE = f"{REGION}:{ACCOUNT}"
NAME = "tidegate-dev-promotion"


def test_the_machine_may_update_one_stack_and_pass_no_role(promotion_stack: Synthesised) -> None:
    assert promotion_stack.rights_of_machine("UpdateEndpointStack") == LOGS_AND_TRACES | {
        "ReadPackages": (
            {"sagemaker:DescribeModelPackage"},
            [f"arn:aws:sagemaker:{HERE}:model-package/{GROUP}/*"],
        ),
        "UpdateEndpointStack": (
            {"cloudformation:DescribeStackResources", "cloudformation:DescribeStacks", "cloudformation:UpdateStack"},
            [f"arn:aws:cloudformation:{HERE}:stack/tidegate-dev-endpoint/*"],
        ),
        "SeeWhatIsServed": (
            {"sagemaker:DescribeEndpoint"},
            [f"arn:aws:sagemaker:{HERE}:endpoint/tidegate-dev"],
        ),
        "ResolveStackParameters": (
            {"ssm:GetParameters"},
            [
                f"arn:aws:ssm:{HERE}:parameter/cdk-bootstrap/hnb659fds/version",
                f"arn:aws:ssm:{HERE}:parameter/tidegate/dev/*",
            ],
        ),
        "Notify": ({"sns:Publish"}, ["topic"]),
    }


def test_every_call_is_allowed_and_every_right_is_called_for(promotion_stack: Synthesised) -> None:
    """Except that CloudFormation itself resolves parameters in the name of who updates the stack."""
    allowed = promotion_stack.rights_of_machine("UpdateEndpointStack")
    needed = set().union(
        *(
            actions
            for sid, (actions, _) in allowed.items()
            if sid not in LOGS_AND_TRACES | {"ResolveStackParameters": 0}
        )
    )

    assert called_actions(promotion_stack.definition(NAME)) == {action.lower() for action in needed}


@pytest.mark.parametrize(
    ("changes", "matches"),
    [
        ({}, True),
        ({"ModelApprovalStatus": "Rejected"}, False),
        ({"ModelApprovalStatus": "PendingManualApproval"}, False),
        ({"ModelPackageGroupName": "tidegate-prod"}, False),
    ],
)
def test_only_approvals_of_the_group_match_the_rule(
    changes: dict[str, str], matches: bool, promotion_stack: Synthesised
) -> None:
    event: dict[str, Any] = approval(2)
    event["detail"] |= changes
    pattern = EventPattern.load(json.dumps(promotion_stack.only("AWS::Events::Rule")["EventPattern"]))

    assert pattern.matches_event(event) is matches


def test_the_machine_is_given_the_package_and_not_the_event_which_may_be_larger_than_its_input(
    promotion_stack: Synthesised,
) -> None:
    (target,) = promotion_stack.only("AWS::Events::Rule")["Targets"]

    assert target["InputTransformer"] == {
        "InputPathsMap": {"package": "$.detail.ModelPackageArn"},
        "InputTemplate": '{"package": <package>}',
    }


def test_no_call_asks_for_the_stack_s_events_which_need_not_fit_into_a_state(promotion_stack: Synthesised) -> None:
    """Each carries all properties of its resource, and the call takes no number."""
    assert "cloudformation:describestackevents" not in called_actions(promotion_stack.definition(NAME))


def test_an_approval_that_cannot_be_delivered_is_kept(promotion_stack: Synthesised) -> None:
    (target,) = promotion_stack.only("AWS::Events::Rule")["Targets"]

    assert text(target["Arn"], {}).endswith(f":stateMachine:{NAME}")
    assert target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0] == promotion_stack.logical_id("AWS::SQS::Queue")
    assert promotion_stack.only("AWS::SQS::Queue")["QueueName"] == f"{NAME}-undelivered"


def test_there_is_no_lambda_and_no_custom_resource(promotion_stack: Synthesised) -> None:
    assert promotion_stack.kinds == {
        "AWS::Events::Rule",
        "AWS::IAM::Role",
        "AWS::Logs::LogGroup",
        "AWS::SNS::Subscription",
        "AWS::SNS::Topic",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::Queue",
        "AWS::SQS::QueuePolicy",
        "AWS::StepFunctions::StateMachine",
    }


def test_template_and_definition_pass_cdk_nag_and_cfn_lint(promotion_stack: Synthesised) -> None:
    assert '"failure"' not in promotion_stack.report
    assert lint_template(promotion_stack.file) == ""
    assert lint_definition(promotion_stack.definition(NAME)) == ""
