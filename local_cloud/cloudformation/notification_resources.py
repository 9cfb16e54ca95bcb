"""AWS::SNS::Subscription, AWS::SNS::TopicPolicy and AWS::SQS::QueuePolicy, which moto lacks, through boto3.

Subscriptions to queues deliver. Those to e-mail addresses are stored; no mail is sent. Policies are not enforced.
"""

# ruff: noqa: ARG002 - the signatures are those by which moto calls these classes

from __future__ import annotations

import json
from typing import Any, ClassVar

from botocore.exceptions import ClientError
from moto.core.common_models import CloudFormationModel

from tidegate.local_cloud.cloudformation.clients import client
from tidegate.local_cloud.cloudformation.resource_class import Json, Overwritten, ResourceFailed

_IDENTITY = ("TopicArn", "Protocol", "Endpoint", "Region")
_ATTRIBUTES = ("FilterPolicy", "FilterPolicyScope", "RawMessageDelivery", "RedrivePolicy", "DeliveryPolicy")


class Subscription(Overwritten, CloudFormationModel):
    TYPE = "AWS::SNS::Subscription"
    IDENTITY = _IDENTITY
    ATTRIBUTES: ClassVar[dict[str, str]] = {"Arn": "arn"}

    def put(self, properties: Json) -> None:
        strangers = sorted(set(properties) - {*_IDENTITY, *_ATTRIBUTES})
        if strangers:
            raise ResourceFailed(f"The local cloud does not have {strangers[0]} of {self.TYPE}.")
        sns = client("sns")
        if not self.arn:
            self.arn = sns.subscribe(
                TopicArn=properties["TopicArn"],
                Protocol=properties["Protocol"],
                Endpoint=properties["Endpoint"],
                ReturnSubscriptionArn=True,
            )["SubscriptionArn"]
        for name in _ATTRIBUTES:
            if name in properties or name in self.properties:
                value = _as_text(properties.get(name, {}))
                sns.set_subscription_attributes(SubscriptionArn=self.arn, AttributeName=name, AttributeValue=value)

    def delete(self, account_id: str, region_name: str) -> None:
        try:
            client("sns").unsubscribe(SubscriptionArn=self.arn)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NotFound":  # it went with its topic
                raise


class TopicPolicy(Overwritten, CloudFormationModel):
    TYPE = "AWS::SNS::TopicPolicy"

    def __init__(self, name: str, properties: Json) -> None:
        super().__init__(name, properties)
        self._before: dict[str, str] = {}  # the policy that each topic had before

    @property
    def physical_resource_id(self) -> str:
        return self.name

    def put(self, properties: Json) -> None:
        sns = client("sns")
        for topic in properties["Topics"]:
            self._before.setdefault(topic, sns.get_topic_attributes(TopicArn=topic)["Attributes"]["Policy"])
            text = _as_text(properties["PolicyDocument"])
            sns.set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=text)
        for topic in [topic for topic in self._before if topic not in properties["Topics"]]:
            self._restore(topic)

    def delete(self, account_id: str, region_name: str) -> None:
        for topic in list(self._before):
            self._restore(topic)

    def _restore(self, topic: str) -> None:
        policy = self._before.pop(topic)
        try:
            client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=policy)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("NotFound", "NotFoundException"):
                raise


class QueuePolicy(Overwritten, CloudFormationModel):
    TYPE = "AWS::SQS::QueuePolicy"
    IDENTITY = ("Queues",)

    @property
    def physical_resource_id(self) -> str:
        return self.name

    def put(self, properties: Json) -> None:
        for queue in properties["Queues"]:
            policy = {"Policy": _as_text(properties["PolicyDocument"])}
            client("sqs").set_queue_attributes(QueueUrl=queue, Attributes=policy)

    def delete(self, account_id: str, region_name: str) -> None:
        for queue in self.properties["Queues"]:
            try:
                client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"Policy": ""})
            except ClientError as error:
                if "NonExistentQueue" not in error.response["Error"]["Code"]:
                    raise


def _as_text(value: Any) -> str:
    """Attributes are texts: a document as JSON, a boolean as its word."""
    if isinstance(value, str):
        return value
    return json.dumps(value)
