"""The account that a run is made in: stacks deployed and deleted, endpoints looked at and asked. Decides nothing."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tidegate.infra.configuration import ConfigurationError
from tidegate.infra.loopback import is_loopback
from tidegate.infra.smoke.seen import Standing

# An operation on a stack takes an endpoint along, whose own time-outs end long before.
_STACK_TIMEOUT_S = 2 * 3600.0
_DELETE_ATTEMPTS = 4
_NO_SUCH_STACK = "ValidationError"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """How an operation on a stack ended."""

    status: str
    # What CloudFormation said where it began none.
    refused: str | None = None
    # `LOGICAL_ID: reason` of what failed, the first first.
    failures: tuple[str, ...] = ()


class Account:
    """One account in one Region."""

    def __init__(self, region: str | None) -> None:
        """Raises `ConfigurationError` where there are no credentials, or where no Region is set."""
        self._session = boto3.Session(region_name=region)
        if self._session.region_name is None:
            raise ConfigurationError("no Region is set; set AWS_REGION, or write region into the stage file")
        self.region = str(self._session.region_name)
        self._clients: dict[str, Any] = {}
        try:
            sts = self._client("sts")
            self.number = str(sts.get_caller_identity()["Account"])
        except ClientError as error:
            reason = error.response["Error"]["Message"].rstrip(".")
            raise ConfigurationError(f"the account: AWS says '{reason}'; log in anew, or set AWS_PROFILE") from None
        except BotoCoreError as error:
            raise ConfigurationError(f"the account: {str(error).rstrip('.')}; set AWS_PROFILE") from None
        # A cloud on this machine, such as our own.
        self.is_local = is_loopback(urlsplit(sts.meta.endpoint_url).netloc)
        self._poll_s = 0.2 if self.is_local else 10.0

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._session.client(service)
        return self._clients[service]

    # stacks

    def stack(self, name: str) -> Mapping[str, Any] | None:
        """The description of a stack; None where there is none."""
        try:
            (found,) = self._client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if error.response["Error"]["Code"] == _NO_SUCH_STACK:
                return None
            raise
        return None if found["StackStatus"] == "DELETE_COMPLETE" else dict(found)

    def stacks_tagged(self, tag: str) -> dict[str, str]:
        """The value of the tag by the names of the stacks that have it."""
        pages = self._client("cloudformation").get_paginator("describe_stacks").paginate()
        return {
            stack["StackName"]: each["Value"]
            for page in pages
            for stack in page["Stacks"]
            for each in stack.get("Tags", [])
            if each["Key"] == tag and stack["StackStatus"] != "DELETE_COMPLETE"
        }

    def deploy(self, name: str, template: Mapping[str, Any], tags: Mapping[str, str]) -> Operation:
        """Make the stack, or change it, and wait until it rests."""
        cloudformation = self._client("cloudformation")
        request = {
            "StackName": name,
            # A few kilobytes, of the 51,200 bytes that a request takes. Source: CloudFormation guide, quotas.
            "TemplateBody": json.dumps(template, separators=(",", ":")),
            "Capabilities": ["CAPABILITY_NAMED_IAM"],
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }
        there = self.stack(name)
        known = self._event_ids(name) if there is not None else frozenset()
        try:
            if there is None:
                cloudformation.create_stack(**request)
            else:
                cloudformation.update_stack(**request)
        except ClientError as error:
            status = "" if there is None else str(there["StackStatus"])
            return Operation(status=status, refused=str(error.response["Error"]["Message"]).rstrip("."))
        return Operation(status=self._rest(name) or "gone", failures=self._failures(name, known))

    def _rest(self, name: str) -> str | None:
        """The status of the stack once nothing is done to it; None where it is gone."""

        def resting() -> bool:
            found = self.stack(name)
            statuses.append(None if found is None else str(found["StackStatus"]))
            return not (statuses[-1] or "").endswith("_IN_PROGRESS")

        statuses: list[str | None] = []
        self._await(resting, f"stack {name} rests")
        return statuses[-1]

    def _events(self, name: str) -> list[dict[str, Any]]:
        pages = self._client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=name)
        return [event for page in pages for event in page["StackEvents"]]

    def _event_ids(self, name: str) -> frozenset[str]:
        return frozenset(event["EventId"] for event in self._events(name))

    def _failures(self, name: str, known: frozenset[str]) -> tuple[str, ...]:
        failed = [
            event
            for event in self._events(name)
            if event["EventId"] not in known and event["ResourceStatus"].endswith("_FAILED")
        ]
        failed.sort(key=lambda event: event["Timestamp"])
        return tuple(
            f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason')}" for event in failed
        )

    # what is in S3

    def bucket_is_there(self, name: str) -> bool:
        """Also where it is somebody else's."""
        try:
            self._client("s3").head_bucket(Bucket=name)
        except ClientError as error:
            return error.response["Error"]["Code"] not in ("404", "NoSuchBucket")
        return True

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self._client("s3").put_object(Bucket=bucket, Key=key, Body=body)

    # endpoints

    def standing(self, endpoint: str, *, component: bool) -> Standing | None:
        """The endpoint now, and the component of the same name; None where there is no endpoint."""
        sagemaker = self._client("sagemaker")
        found = self._found(lambda: sagemaker.describe_endpoint(EndpointName=endpoint))
        if found is None:
            return None
        own = None
        if component:
            own = self._found(lambda: sagemaker.describe_inference_component(InferenceComponentName=endpoint))
        variants = found.get("ProductionVariants", [{}])
        pages = self._client("application-autoscaling").get_paginator("describe_scalable_targets")
        return Standing(
            status=str(found["EndpointStatus"]),
            config=str(found.get("EndpointConfigName", "")),
            why=str(found.get("FailureReason", "")),
            changed=found["LastModifiedTime"].isoformat(),
            instances=variants[0].get("DesiredInstanceCount"),
            scalable=sum(
                endpoint in target["ResourceId"].split("/")
                for page in pages.paginate(ServiceNamespace="sagemaker")
                for target in page["ScalableTargets"]
            ),
            component_status=None if own is None else str(own["InferenceComponentStatus"]),
            component_model=None if own is None else str(own["Specification"].get("ModelName", "")),
            component_why=None if own is None else str(own.get("FailureReason", "")),
        )

    def config_is_there(self, name: str) -> bool:
        sagemaker = self._client("sagemaker")
        return self._found(lambda: sagemaker.describe_endpoint_config(EndpointConfigName=name)) is not None

    def scale(self, endpoint: str, count: int) -> None:
        """Give the endpoint that many instances, as Application Auto Scaling does, and wait for them."""
        sagemaker = self._client("sagemaker")
        (variant,) = sagemaker.describe_endpoint(EndpointName=endpoint)["ProductionVariants"]
        sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=endpoint,
            DesiredWeightsAndCapacities=[{"VariantName": variant["VariantName"], "DesiredInstanceCount": count}],
        )
        self._await(
            lambda: sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointStatus"] not in ("Updating",),
            f"endpoint {endpoint} has {count} instances",
        )

    def traffic(self, endpoint: str, *, component: bool) -> Traffic:
        """Requests without a pause, to be used as a context manager."""
        runtime = self._session.client("sagemaker-runtime")
        to = {"EndpointName": endpoint} | ({"InferenceComponentName": endpoint} if component else {})

        def ask() -> str:
            answer = runtime.invoke_endpoint(**to, ContentType="application/json", Body=b"1")
            return str(json.loads(answer["Body"].read()))

        return Traffic(ask)

    # the end

    def delete(self, stacks: Sequence[str], buckets: Sequence[str], log_groups: Sequence[str]) -> list[str]:
        """Delete them, in this order, and what their endpoints wrote. Returns what could not be deleted, with why."""
        problems: dict[str, str] = {}
        for attempt in range(_DELETE_ATTEMPTS):
            if attempt:
                # S3 writes its access logs into a bucket long after the access.
                time.sleep(self._poll_s * 6)
            problems = {}
            for bucket in buckets:
                self._try(problems, f"bucket {bucket}", functools.partial(self._empty, bucket))
            for stack in stacks:
                self._try(problems, f"stack {stack}", functools.partial(self._delete_stack, stack))
            for group in log_groups:
                self._try(problems, f"log group {group}", functools.partial(self._forget, group))
            if not problems:
                break
        return [f"{what}: {why}" for what, why in problems.items()]

    def _try(self, problems: dict[str, str], what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except (ClientError, BotoCoreError, ConfigurationError) as error:
            problems[what] = str(error)

    def _empty(self, bucket: str) -> None:
        if self.bucket_is_there(bucket):
            self._session.resource("s3").Bucket(bucket).object_versions.delete()

    def _delete_stack(self, name: str) -> None:
        cloudformation = self._client("cloudformation")
        found = self.stack(name)
        if found is None:
            return
        if found["StackStatus"] == "UPDATE_IN_PROGRESS" and not self.is_local:
            # A stack that is being updated cannot be deleted.
            cloudformation.cancel_update_stack(StackName=name)
        # AWS breaks a creation off; the local cloud does one thing after the other.
        if self.is_local or found["StackStatus"] != "CREATE_IN_PROGRESS":
            self._rest(name)
        cloudformation.delete_stack(StackName=name)
        if (status := self._rest(name)) is not None:
            failures = self._failures(name, frozenset())
            raise ConfigurationError(f"it is {status} ({failures[-1] if failures else 'no reason is given'})")

    def _forget(self, group: str) -> None:
        logs = self._client("logs")
        try:
            logs.delete_log_group(logGroupName=group)
        except logs.exceptions.ResourceNotFoundException:
            return

    def _found(self, ask: Callable[[], Any]) -> Any:
        """What SageMaker answers; None for its "Could not find", which has no code of its own."""
        try:
            return ask()
        except ClientError as error:
            if error.response["Error"]["Message"].startswith("Could not find"):
                return None
            raise

    def _await(self, question: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _STACK_TIMEOUT_S
        while not question():
            if time.monotonic() > deadline:
                raise ConfigurationError(f"{what}: not within {_STACK_TIMEOUT_S / 3600:.0f} hours; see its console")
            time.sleep(self._poll_s)


class Traffic:
    """Asks again and again from a thread of its own, at least once, and counts what comes back."""

    def __init__(self, ask: Callable[[], str]) -> None:
        self.answers: Counter[str] = Counter()
        self._ask = ask
        self._over = threading.Event()
        # A daemon: a run that is broken off does not wait for an answer.
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def _run(self) -> None:
        while True:
            try:
                self.answers[self._ask()] += 1
            except ClientError as error:
                self.answers[error.response["Error"]["Code"]] += 1
            except (BotoCoreError, ValueError) as error:
                self.answers[type(error).__name__] += 1
            if self._over.wait(0.1):
                return

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        if kind is None:
            self._thread.join()
