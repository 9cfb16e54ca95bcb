"""What a rule or a schedule calls: state machines, queues, topics, buses, pipelines, and any operation by its name.

Sources: "Amazon EventBridge targets" and "Using universal targets in EventBridge Scheduler"
(https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html).
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError
from botocore.utils import EVENT_ALIASES

from tidegate.local_cloud.access import RoleSessions
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed

Json = dict[str, Any]
UNIVERSAL = "arn:aws:scheduler:::aws-sdk:"


class NoSuchTarget(Exception):
    """The local cloud cannot call this target; the text says which."""


FAILURES = (NoSuchTarget, RoleNotAssumed, ClientError, BotoCoreError)
"""What a call of a target can come to, each with a text that says why."""


class Targets:
    """Calls targets by clients of this cloud; with ``sessions`` in the target's role, whose rights are checked."""

    def __init__(self, make_client: Callable[[str], Any], sessions: RoleSessions | None = None) -> None:
        self._make_client = make_client
        self._sessions = sessions
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()

    def call(self, target: Mapping[str, Any], payload: str, *, taken_by: str, source_arn: str) -> None:
        """Gives ``payload`` to the target. Raises :class:`NoSuchTarget`, or what the service answers.

        ``taken_by`` is the service that takes the target's role, for ``source_arn``.
        """
        arn: str = target["Arn"]

        def client(service: str) -> Any:
            role = target.get("RoleArn", "")
            if self._sessions is None or not role:
                return self._client(service)
            return self._sessions.client_of(service, role, taken_by=taken_by, source_arn=source_arn)

        if arn.startswith(UNIVERSAL):
            _universal(client, arn, payload)
            return
        parts = arn.split(":")
        match parts[2] if len(parts) > 5 else "":
            case "states":
                client("stepfunctions").start_execution(stateMachineArn=arn, input=payload)
            case "sqs":
                group = target.get("SqsParameters", {}).get("MessageGroupId")
                client("sqs").send_message(
                    QueueUrl=self._queue_url(parts[5]),
                    MessageBody=payload,
                    **({"MessageGroupId": group} if group else {}),
                )
            case "sns":
                client("sns").publish(TopicArn=arn, Message=payload)
            case "events" if "EventBridgeParameters" in target:
                given = target["EventBridgeParameters"]
                entry = {"Source": given["Source"], "DetailType": given["DetailType"], "Detail": payload}
                client("events").put_events(Entries=[entry | {"EventBusName": arn}])
            case "sagemaker" if parts[5].startswith("pipeline/"):
                given = target.get("SageMakerPipelineParameters", {}).get("PipelineParameterList", [])
                client("sagemaker").start_pipeline_execution(PipelineName=arn, PipelineParameters=given)
            case _:
                raise NoSuchTarget(f"the local cloud calls no targets such as {arn}")

    def bury(self, queue_arn: str, payload: str, error: Exception) -> None:
        """Puts what could not be delivered into a dead-letter queue, with the reason."""
        attributes = {
            "ERROR_CODE": {"DataType": "String", "StringValue": type(error).__name__},
            "ERROR_MESSAGE": {"DataType": "String", "StringValue": str(error)[:256] or "unknown"},
        }
        self._client("sqs").send_message(
            QueueUrl=self._queue_url(queue_arn.split(":")[5]), MessageBody=payload, MessageAttributes=attributes
        )

    def _queue_url(self, name: str) -> str:
        url: str = self._client("sqs").get_queue_url(QueueName=name)["QueueUrl"]
        return url

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._made:
                self._made[service] = self._make_client(service)
            return self._made[service]


def is_called_here(target: Mapping[str, Any]) -> bool:
    """Whether :meth:`Targets.call` has a way to such a target."""
    arn: str = target["Arn"]
    service, resource = arn.split(":")[2], arn.split(":", 5)[-1]
    return (
        arn.startswith(UNIVERSAL)
        or service in ("states", "sqs", "sns")
        or (service == "events" and "EventBridgeParameters" in target)
        or (service == "sagemaker" and resource.startswith("pipeline/"))
    )


@functools.cache
def service_of(identifier: str) -> str | None:
    """What boto3 calls a service that the scheduler knows by its SDK's identifier, such as ``sfn``; None for none."""
    there = botocore.session.Session().get_available_services()
    known = {name.replace("-", ""): name for name in there if EVENT_ALIASES.get(name, name) == name}
    known |= {alias.replace("-", ""): name for name, alias in EVENT_ALIASES.items() if name in there}
    return known.get(identifier)


def _universal(client: Callable[[str], Any], arn: str, payload: str) -> None:
    service, _, operation = arn.removeprefix(UNIVERSAL).partition(":")
    act = getattr(client(service_of(service) or service), xform_name(operation[:1].upper() + operation[1:]), None)
    if act is None:
        raise NoSuchTarget(f"{service} has no operation {operation}")
    members = json.loads(payload or "{}")
    if service == "sfn":  # the scheduler writes all members with a capital; this API has none
        members = {name[:1].lower() + name[1:]: value for name, value in members.items()}
    act(**members)
