"""The stage's own key, where the stage file asks for a new one."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_ssm as ssm
from constructs import Construct


class EncryptionKey(Construct):
    """A key that AWS rotates every year. Its ARN is kept under a name of ours, where the other stacks read it.

    Its policy lets the account's IAM decide: whoever uses it does so in a role of ours, whose policy names it. No
    service uses it by itself; alarms have a topic with a key of its own.
    """

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
        ssm.CfnParameter(
            self,
            "Arn",
            name=parameter,
            type="String",
            value=self.key.key_arn,
            description="Read by the other stacks of the stage",
        )
