"""Where state machines say how their work ended."""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from aws_cdk import aws_sns as sns
from constructs import Construct

from tidegate.infra.workflows.state_machine import StateMachine


class Notifications(Construct):
    """An encrypted topic that takes messages over TLS only, and one address that gets them.

    Its default key is the one of AWS for SNS: who may publish may use it. Services that publish by themselves, such as
    CloudWatch alarms, cannot use that key; state machines publish in their own role and can.
    Source: https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
    """

    def __init__(
        self, scope: Construct, id_: str, *, name: str, title: str, email: str | None, key_arn: str | None
    ) -> None:
        super().__init__(scope, id_)
        self._key_arn = key_arn
        self.name = name
        topic = sns.CfnTopic(
            self,
            "Topic",
            topic_name=name,
            display_name=title,
            kms_master_key_id=key_arn or "alias/aws/sns",
        )
        self.arn = topic.ref
        sns.CfnTopicPolicy(
            self,
            "TlsOnly",
            topics=[self.arn],
            policy_document=iam.PolicyDocument(
                statements=[
                    iam.PolicyStatement(
                        sid="RefusePlainHttp",
                        effect=iam.Effect.DENY,
                        principals=[iam.AnyPrincipal()],
                        actions=["sns:Publish"],
                        resources=[self.arn],
                        conditions={"Bool": {"aws:SecureTransport": "false"}},
                    )
                ]
            ),
        )
        if email is not None:
            sns.CfnSubscription(self, "Email", topic_arn=self.arn, protocol="email", endpoint=email)

    def published_by(self, machine: StateMachine) -> None:
        """Let `machine` publish."""
        machine.may("Notify", ["sns:Publish"], [self.arn])
        if self._key_arn is not None:
            machine.may("NotifyEncrypted", ["kms:Decrypt", "kms:GenerateDataKey"], [self._key_arn])
