"""Where alarms go: one encrypted SNS topic of the stage."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

_CLOUDWATCH = "cloudwatch.amazonaws.com"


class AlarmTopic(Construct):
    """Encrypted by a key of its own, TLS only; CloudWatch of this account may publish, and nobody else.

    The key cannot be `alias/aws/sns`: its policy is AWS's own and does not let CloudWatch in, so alarms would be lost
    without a word. Source: Amazon SNS developer guide, "Enable compatibility between event sources and encrypted
    topics".
    """

    def __init__(
        self, scope: Construct, id_: str, *, name: str, email: str | None, removal_policy: cdk.RemovalPolicy
    ) -> None:
        super().__init__(scope, id_)
        stack = cdk.Stack.of(self)
        of_this_account = {"StringEquals": {"aws:SourceAccount": stack.account}}
        key = kms.Key(
            self,
            "Key",
            description=f"Messages of the topic {name}",
            enable_key_rotation=True,
            removal_policy=removal_policy,
        )
        key.add_to_resource_policy(
            iam.PolicyStatement(
                sid="EncryptAlarms",
                principals=[iam.ServicePrincipal(_CLOUDWATCH)],
                actions=["kms:Decrypt", "kms:GenerateDataKey"],
                # In the policy of a key: this key.
                resources=["*"],
                conditions=of_this_account,
            )
        )
        self.topic = sns.Topic(self, "Topic", topic_name=name, master_key=key, enforce_ssl=True)
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                sid="PublishAlarms",
                principals=[iam.ServicePrincipal(_CLOUDWATCH)],
                actions=["sns:Publish"],
                resources=[self.topic.topic_arn],
                conditions=of_this_account
                | {
                    "ArnLike": {
                        "aws:SourceArn": stack.format_arn(
                            service="cloudwatch",
                            resource="alarm",
                            resource_name="*",
                            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
                        )
                    }
                },
            )
        )
        if email is not None:
            self.topic.add_subscription(subscriptions.EmailSubscription(email))
