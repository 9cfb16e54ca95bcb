"""Topics of an asynchronous endpoint: one hears of every answer, one of every failure."""

from __future__ import annotations

from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultTopics:
    """`arns` are by name, so that the role does not depend on topics that a condition may leave out."""

    success: sns.Topic
    failure: sns.Topic
    arns: tuple[str, ...]


def result_topics(scope: Construct, *, endpoint_name: str, email: str | None, key_arn: str | None) -> ResultTopics:
    """SageMaker publishes as the execution role, which the key that AWS manages for SNS lets through."""

    def topic(kind: str) -> sns.Topic:
        key = (
            kms.Alias.from_alias_name(scope, f"{kind}-key", "alias/aws/sns")
            if key_arn is None
            else kms.Key.from_key_arn(scope, f"{kind}-key", key_arn)
        )
        made = sns.Topic(scope, kind, topic_name=name(kind), enforce_ssl=True, master_key=key)
        if email is not None:
            made.add_subscription(subscriptions.EmailSubscription(email))
        return made

    def name(kind: str) -> str:
        return f"{endpoint_name}-async-{kind}"

    arns = (cdk.Stack.of(scope).format_arn(service="sns", resource=name(kind)) for kind in ("success", "failure"))
    return ResultTopics(success=topic("success"), failure=topic("failure"), arns=tuple(arns))
