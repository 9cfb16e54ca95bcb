"""Runs synthesised state machines for real: moto's interpreter of the Amazon States Language, in this process.

What is real: the definition as it stands in the template, its JSONata, retriers and catchers, error names, and the
requests, which botocore checks against the API's own shapes. What is not: the services. S3, Parameter Store, SNS and
Step Functions are moto's; SageMaker and CloudFormation are `Scripted`. Waits are recorded and not waited for.

What the interpreter lacks is put in here: an engine for JSONata (jsonata-python, a port of the engine that AWS uses),
`$hash`, the names that Step Functions gives to errors of some services, and how it spells parameters and bodies.
It has no `.sync` for SageMaker.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest import mock

import boto3
from botocore.config import Config
from jsonata import jsonata
from moto import mock_aws
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.intrinsic import jsonata as intrinsic_functions
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_aws_sdk
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction
from moto.stepfunctions.parser.asl.jsonata import jsonata as engine

ACCOUNT, REGION = "123456789012", "eu-central-1"
ERROR_PREFIXES = {"sagemaker": "SageMaker", "ssm": "Ssm", "s3": "S3", "cloudformation": "CloudFormation"}


class Refusal(Exception):
    """A service's error answer, such as ("ResourceInUse", "the name is taken")."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code, message)
        self.answer = {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "scripted"},
        }


@dataclass
class Scripted:
    """A service that answers each operation by a function of its parameters, and remembers what it was asked."""

    answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def of(self, operation: str) -> list[dict[str, Any]]:
        """The parameters of every call of `operation`."""
        return [parameters for name, parameters in self.asked if name == operation]


@dataclass(frozen=True)
class Execution:
    """How an execution ended, and what it went through."""

    status: str
    name: str
    error: str | None
    cause: str | None
    states: list[str]


@dataclass
class Machines:
    """State machines of one account, and how long they waited."""

    waits_s: list[float] = field(default_factory=list)

    def client(self, service: str) -> Any:
        """The test's own."""
        return make_client(service, of_a_machine=False)

    def create(self, name: str, definition: str) -> str:
        """Returns the ARN; raises where the interpreter cannot parse the definition."""
        role = f"arn:aws:iam::{ACCOUNT}:role/machine"
        made = self.client("stepfunctions").create_state_machine(name=name, definition=definition, roleArn=role)
        return str(made["stateMachineArn"])

    def start(self, arn: str, request: Any, *, name: str | None = None) -> str:
        """Returns the execution's ARN without waiting for its end."""
        started = self.client("stepfunctions").start_execution(
            stateMachineArn=arn, input=json.dumps(request), name=name or str(uuid.uuid4())
        )
        return str(started["executionArn"])

    def end_of(self, execution: str) -> Execution:
        """Waits until the execution has ended."""
        client = self.client("stepfunctions")
        while (seen := client.describe_execution(executionArn=execution))["status"] == "RUNNING":
            time.sleep(0.02)
        history = client.get_execution_history(executionArn=execution, maxResults=1000)["events"]
        states = [event["stateEnteredEventDetails"]["name"] for event in history if "stateEnteredEventDetails" in event]
        return Execution(
            status=seen["status"],
            name=seen["name"],
            error=seen.get("error"),
            cause=seen.get("cause"),
            states=states,
        )

    def run(self, arn: str, request: Any, *, name: str | None = None) -> Execution:
        return self.end_of(self.start(arn, request, name=name))


@cache
def make_client(service: str, *, of_a_machine: bool) -> Any:
    """A client, made once for all tests: their own, or the one through which the running machines call."""
    client = boto3.client(
        service,
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )
    if not of_a_machine:
        return client
    events = client.meta.events
    if service == "s3":
        events.register("before-parameter-build.s3.PutObject", _serialise_body)
    elif service == "stepfunctions":
        events.register("provide-client-params.stepfunctions", _begin_small)
        events.register("after-call.stepfunctions", _begin_large)
    elif service in SCRIPTABLE:
        events.register("before-parameter-build.*", lambda **said: _remember(SCRIPTED[service], **said))
        events.register("before-call.*", lambda **said: _answer(SCRIPTED[service], **said))
    return client


SCRIPTABLE = ("cloudformation", "sagemaker")
# Those of the running interpreter, by the name of the service.
SCRIPTED: dict[str, Scripted] = {}
_asking = threading.local()


def _remember(service: Scripted, params: dict[str, Any], model: Any, **_: Any) -> None:
    _asking.parameters = json.loads(json.dumps(params))
    service.asked.append((model.name, _asking.parameters))


def _answer(service: Scripted, model: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
    # Instead of sending it: by now botocore has checked and serialised the request.
    try:
        parsed = service.answers[model.name](_asking.parameters)
    except Refusal as refusal:
        return SimpleNamespace(status_code=refusal.answer["ResponseMetadata"]["HTTPStatusCode"]), refusal.answer
    return SimpleNamespace(status_code=200), parsed | {"ResponseMetadata": {"HTTPStatusCode": 200}}


def _serialise_body(params: dict[str, Any], **_: Any) -> None:
    # As Step Functions does with JSON in the place of bytes.
    params["Body"] = json.dumps(params["Body"], separators=(",", ":")).encode()


def _begin_small(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    # In state machines all parameters begin with a capital, also those of APIs where they do not.
    return {name[0].lower() + name[1:]: value for name, value in params.items()}


def _begin_large(parsed: dict[str, Any], **_: Any) -> None:
    answer = {name[0].upper() + name[1:]: value for name, value in parsed.items()}
    parsed.clear()
    parsed.update(json.loads(json.dumps(answer, default=str)))


def evaluate(expression: str) -> Any:
    """A JSONata expression with the functions that Step Functions adds. Errors become those of the interpreter."""
    try:
        program = jsonata.Jsonata(expression)
        program.register_lambda(
            "hash", lambda value, name: hashlib.new(name.replace("-", ""), value.encode()).hexdigest()
        )
        return json.loads(json.dumps(program.evaluate(None)))
    except Exception as error:
        raise engine.JSONataException("UNKNOWN", str(error)) from error


@contextmanager
def interpreter(**scripted: Scripted) -> Iterator[Machines]:
    """An account of its own, until the block ends."""
    machines = Machines()

    def client_for(*, service: str, **_: Any) -> Any:
        return make_client(service, of_a_machine=True)

    def wait_interval(_: WaitFunction, *, wait_seconds: float, **__: Any) -> None:
        machines.waits_s.append(wait_seconds)

    services = "moto.stepfunctions.parser.asl.component.state.exec.state_task.service"
    with (
        mock_aws(config={"stepfunctions": {"execute_state_machine": True}}),
        mock.patch.dict(SCRIPTED, scripted),
        mock.patch.object(engine, "_eval_jsonata", evaluate),
        mock.patch.dict(intrinsic_functions._DECLARATION_BY_VARIABLE_REFERENCE, {"$hash": ""}),
        mock.patch.dict(state_task_service_aws_sdk._SERVICE_ERROR_NAMES, ERROR_PREFIXES),
        mock.patch(f"{services}.state_task_service_aws_sdk.boto_client_for", client_for),
        mock.patch(f"{services}.state_task_service_sfn.boto_client_for", client_for),
        mock.patch(f"{services}.state_task_service_sns.boto_client_for", client_for),
        mock.patch.object(WaitFunction, "_wait_interval", wait_interval),
        mock.patch.object(retrier_decl, "time", SimpleNamespace(sleep=machines.waits_s.append)),
    ):
        yield machines


def text(value: Any, values: Mapping[str, str]) -> str:
    """A property of a template with `Ref`, `Fn::GetAtt`, `Fn::Join` and `Fn::Sub` put in."""
    pseudo = {"AWS::Partition": "aws", "AWS::Region": REGION, "AWS::AccountId": ACCOUNT} | dict(values)
    if isinstance(value, str):
        return value
    ((function, argument),) = value.items()
    if function == "Ref":
        return pseudo[argument]
    if function == "Fn::GetAtt":
        return pseudo[".".join(argument)]
    if function == "Fn::Join":
        return str(argument[0]).join(text(part, values) for part in argument[1])
    template, own = argument if isinstance(argument, list) else (argument, {})
    known = pseudo | {name: text(inner, values) for name, inner in own.items()}
    return re.sub(r"\$\{([^}!]+)\}", lambda match: known[match[1]], template)
