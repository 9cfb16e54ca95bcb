"""One cloud for all tests of this room, whose clock they advance: what they set up, they name for themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.local_cloud.conftest import STAND_IN, Account, await_true
from tidegate.local_cloud import LocalCloud

ROLE = "arn:aws:iam::123456789012:role/service"


@dataclass
class TimedAccount(Account):
    """An account whose time can be advanced."""

    cloudwatch: Any = field(init=False)
    sqs: Any = field(init=False)
    sns: Any = field(init=False)
    events: Any = field(init=False)
    scaling: Any = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.cloudwatch = self.cloud.client("cloudwatch")
        self.sqs = self.cloud.client("sqs")
        self.sns = self.cloud.client("sns")
        self.events = self.cloud.client("events")
        self.scaling = self.cloud.client("application-autoscaling")

    def advance(self, *, minutes: float) -> datetime:
        return self.cloud.advance(60 * minutes)

    def to_full_minute(self) -> datetime:
        """Advances to the first second of a minute, so that what follows falls into that minute."""
        now = self.cloud.advance(0)
        return self.cloud.advance(60 - now.second - now.microsecond / 1e6 + 0.001)

    def sum_of(self, name: str, dimensions: dict[str, str], *, namespace: str = "AWS/SageMaker") -> float:
        """All that CloudWatch has of a metric within a week."""
        return sum(point["Sum"] for point in self.points(name, dimensions, "Sum", namespace=namespace))

    def points(
        self, name: str, dimensions: dict[str, str], statistic: str, *, namespace: str = "AWS/SageMaker"
    ) -> list[dict[str, Any]]:
        now = self.cloud.advance(0)
        metric = {
            "Namespace": namespace,
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
        }
        query = {"Id": "m", "MetricStat": {"Metric": metric, "Period": 60, "Stat": statistic}}
        (found,) = self.cloudwatch.get_metric_data(
            MetricDataQueries=[query], StartTime=now - timedelta(days=7), EndTime=now + timedelta(minutes=1)
        )["MetricDataResults"]
        points = zip(found["Timestamps"], found["Values"], strict=True)
        return [{"Timestamp": moment, statistic: value} for moment, value in points]

    def alarm(self, name: str, **members: Any) -> None:
        self.cloudwatch.put_metric_alarm(
            AlarmName=name,
            **{
                "Namespace": "Own",
                "MetricName": name,
                "Statistic": "Sum",
                "Period": 60,
                "EvaluationPeriods": 1,
                "Threshold": 1.0,
                "ComparisonOperator": "GreaterThanOrEqualToThreshold",
                **members,
            },
        )

    def state(self, name: str) -> str:
        found = self.cloudwatch.describe_alarms(AlarmNames=[name], AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        (alarm,) = found["MetricAlarms"] + found["CompositeAlarms"]
        state: str = alarm["StateValue"]
        return state

    def measure(self, name: str, value: float) -> None:
        self.cloudwatch.put_metric_data(Namespace="Own", MetricData=[{"MetricName": name, "Value": value}])

    def queue(self) -> tuple[str, str]:
        """A new queue's address and ARN."""
        url = self.sqs.create_queue(QueueName=self.name("queue"))["QueueUrl"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return url, found["Attributes"]["QueueArn"]

    def messages(self, url: str) -> list[Any]:
        """What is in a queue, which is empty then."""
        bodies: list[Any] = []
        while found := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                bodies.append(json.loads(message["Body"]))
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def topic(self) -> tuple[str, str]:
        """A topic's ARN, and the address of a queue that gets its messages."""
        url, queue_arn = self.queue()
        arn = self.sns.create_topic(Name=self.name("topic"))["TopicArn"]
        self.sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)
        return arn, url

    def asynchronous(self, *, variant: str = "only", **environment: str) -> str:
        """An asynchronous endpoint in service, with one instance."""
        config, name = self.name("config"), self.name("async")
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=config,
            ProductionVariants=[
                {
                    "VariantName": variant,
                    "ModelName": self.model(**environment),
                    "InstanceType": "ml.g6.xlarge",
                    "InitialInstanceCount": 1,
                }
            ],
            AsyncInferenceConfig={"OutputConfig": {"S3OutputPath": "s3://test-bucket/answers"}},
        )
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
        assert self.settled(name)["EndpointStatus"] == "InService"
        return name

    def instances(self, endpoint: str) -> int:
        """How many instances of an endpoint's only variant are asked for, once it rests."""
        (variant,) = self.settled(endpoint)["ProductionVariants"]
        count: int = variant["DesiredInstanceCount"]
        return count


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TimedAccount]:
    with LocalCloud(tmp_path_factory.mktemp("time") / "state", container_command=STAND_IN) as cloud:
        yield TimedAccount(cloud)


__all__ = ["await_true"]
