"""Promotion: an approval in the model registry becomes an update of the endpoint's stack."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct

from tidegate.infra.promotion import rollout_machine
from tidegate.infra.stage.names import Names
from tidegate.infra.workflows.event_trigger import EventTrigger, Undelivered
from tidegate.infra.workflows.notifications import Notifications
from tidegate.infra.workflows.state_machine import StateMachine

_LOG_RETENTION_DAYS = 90


class Promotion(Construct):
    """Approve, and the package is rolled out; reject, and nothing happens.

    The machine may look at the endpoint, changes nothing of SageMaker's and passes no role: CloudFormation goes on with
    the role that the stack was deployed with, "even if the users don't have permission to pass it".
    Source: API reference, CloudFormation UpdateStack, RoleARN.
    """

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        names: Names,
        group: str,
        # Whether the model is on an inference component.
        component: bool,
        email: str | None,
        key_arn: str | None,
    ) -> None:
        super().__init__(scope, id_)
        stack = cdk.Stack.of(self)
        endpoint_stack = names.stack("endpoint")
        self.topic = Notifications(
            self, "Topic", name=names.promotion, title="Model roll-outs", email=email, key_arn=key_arn
        )
        self.machine = StateMachine(
            self,
            "Rollout",
            name=names.promotion,
            definition=rollout_machine.definition(component=component),
            values={"Stack": endpoint_stack, "Endpoint": names.endpoint, "Topic": self.topic.arn},
            log_retention_days=_LOG_RETENTION_DAYS,
        )
        self.topic.published_by(self.machine)
        self.machine.may(
            "ReadPackages",
            ["sagemaker:DescribeModelPackage"],
            [stack.format_arn(service="sagemaker", resource="model-package", resource_name=f"{group}/*")],
            any_because="the versions of one group are numbered as they come",
        )
        self.machine.may(
            "UpdateEndpointStack",
            ["cloudformation:DescribeStackResources", "cloudformation:DescribeStacks", "cloudformation:UpdateStack"],
            [stack.format_arn(service="cloudformation", resource="stack", resource_name=f"{endpoint_stack}/*")],
            any_because="a stack's ARN ends in an id that CloudFormation chooses",
        )
        kinds = {"Endpoint": "endpoint"} | ({"InferenceComponent": "inference-component"} if component else {})
        self.machine.may(
            "SeeWhatIsServed",
            [f"sagemaker:Describe{kind}" for kind in kinds],
            [
                stack.format_arn(service="sagemaker", resource=kind, resource_name=names.endpoint)
                for kind in kinds.values()
            ],
        )
        self.machine.may(
            "ResolveStackParameters",
            ["ssm:GetParameters"],
            [
                stack.format_arn(service="ssm", resource="parameter", resource_name=name)
                for name in (_bootstrap_version(stack), f"{names.parameter('*')[1:]}")
            ],
            any_because="CloudFormation reads the stage's parameters in Parameter Store as who updates the stack",
        )
        EventTrigger(
            self,
            "Approved",
            name=f"{names.promotion}-approved",
            description=f"A package of the group {group} was approved",
            pattern=approval_pattern(group),
            machine=self.machine,
            undelivered=Undelivered(self, "Undelivered", name=f"{names.promotion}-undelivered"),
            hands_on=rollout_machine.FROM_EVENT,
        )


def _bootstrap_version(stack: cdk.Stack) -> str:
    """The parameter that every bootstrapped stack reads, by the qualifier that the account was bootstrapped with.

    Source: CDK guide, customize CDK bootstrapping: `--qualifier` and the context key of the same meaning.
    """
    qualifier = stack.synthesizer.bootstrap_qualifier or cdk.DefaultStackSynthesizer.DEFAULT_QUALIFIER
    return f"cdk-bootstrap/{qualifier}/version"


def approval_pattern(group: str) -> dict[str, object]:
    """Source: SageMaker guide, events that SageMaker sends to EventBridge, model package state change."""
    return {
        "source": ["aws.sagemaker"],
        "detail-type": ["SageMaker Model Package State Change"],
        "detail": {"ModelPackageGroupName": [group], "ModelApprovalStatus": ["Approved"]},
    }
