"""The stage's own key, where the stage file asks for a new one."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_ssm as ssm
from constructs import Construct

# They put messages into encrypted topics and queues by themselves; all others act in a role, whose policy decides.
_SENDERS = ("cloudwatch.amazonaws.com", "events.amazonaws.com", "budgets.amazonaws.com")


class EncryptionKey(Construct):
    """A key that AWS rotates every year. Its ARN is kept under a name of ours, where the other stacks read it."""

    def __init__(
        self, scope: Construct, id_: str, *, alias: str, parameter: str, removal_policy: cdk.RemovalPolicy
    ) -> None:
        super().__init__(scope, id_)
        self.key = kms.Key(
            self,
            "Key",
            alias=alias,
            description="Buckets, images, topics and volumes",
            enable_key_rotation=True,
            # Until then a deleted key can be had back, and with it everything that it encrypts.
            pending_window=cdk.Duration.days(30),
            removal_policy=removal_policy,
        )
        self.key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="SendEncrypted",
                principals=[iam.ServicePrincipal(service) for service in _SENDERS],
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                # In a key's policy this is the key itself.
                resources=["*"],
                conditions={"StringEquals": {"aws:SourceAccount": cdk.Stack.of(self).account}},
            )
        )
        ssm.CfnParameter(
            self,
            "Arn",
            name=parameter,
            type="String",
            value=self.key.key_arn,
            description="Read by the other stacks of the stage",
        )
