"""An event of AWS that starts a state machine, and the queue for those that could not be delivered."""

from __future__ import annotations

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from tidegate.infra.workflows.state_machine import StateMachine, starter

# EventBridge and its scheduler try for a day, with waits that grow; then the event goes to the queue.
MAX_AGE_S = 24 * 3600
ATTEMPTS = 185


class Undelivered(Construct):
    """Events that reached no state machine, kept for two weeks. Each is the event itself, to be sent again by hand."""

    def __init__(self, scope: Construct, id_: str, *, name: str) -> None:
        super().__init__(scope, id_)
        self.name = name
        self.queue = sqs.Queue(
            self,
            "Queue",
            queue_name=name,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=cdk.Duration.days(14),
        )
        cdk.Validations.of(self.queue).acknowledge(
            cdk.Acknowledgment(id="AwsSolutions-SQS3", reason="it is itself the queue for what could not be delivered")
        )

    def taken_from(self, rule_arn: str) -> None:
        """Let EventBridge put what one rule could not deliver."""
        self.queue.add_to_resource_policy(
            iam.PolicyStatement(
                sid="KeepUndelivered",
                effect=iam.Effect.ALLOW,
                principals=[iam.ServicePrincipal("events.amazonaws.com")],
                actions=["sqs:SendMessage"],
                resources=[self.queue.queue_arn],
                conditions={"ArnEquals": {"aws:SourceArn": rule_arn}},
            )
        )


class EventTrigger(Construct):
    """Starts a state machine with each event that matches a pattern."""

    def __init__(
        self,
        scope: Construct,
        id_: str,
        *,
        name: str,
        description: str,
        pattern: dict[str, object],
        machine: StateMachine,
        undelivered: Undelivered,
        hands_on: Mapping[str, str] | None = None,
    ) -> None:
        """`hands_on`: paths of texts in the event, by the keys under which the machine gets them; None: all of it.

        An event may be larger than the input of a state machine.
        """
        super().__init__(scope, id_)
        arn = cdk.Stack.of(self).format_arn(service="events", resource="rule", resource_name=name)
        role = starter(self, "Role", service="events.amazonaws.com", source_arn=arn, machine_arn=machine.arn)
        rule = events.CfnRule(
            self,
            "Rule",
            name=name,
            description=description,
            event_pattern=pattern,
            state="ENABLED",
            targets=[
                events.CfnRule.TargetProperty(
                    id="machine",
                    arn=machine.arn,
                    role_arn=role.role_arn,
                    input_transformer=None if hands_on is None else _of_event(hands_on),
                    dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=undelivered.queue.queue_arn),
                    retry_policy=events.CfnRule.RetryPolicyProperty(
                        maximum_event_age_in_seconds=MAX_AGE_S, maximum_retry_attempts=ATTEMPTS
                    ),
                )
            ],
        )
        rule.add_resource_dependency(machine.resource)
        undelivered.taken_from(arn)


def _of_event(paths: Mapping[str, str]) -> events.CfnRule.InputTransformerProperty:
    members = ", ".join(f'"{name}": <{name}>' for name in paths)
    return events.CfnRule.InputTransformerProperty(input_paths_map=dict(paths), input_template=f"{{{members}}}")
