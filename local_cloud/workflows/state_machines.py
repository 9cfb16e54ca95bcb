"""State machines run: moto's interpreter of the Amazon States Language, switched on and completed.

What it lacks is put in here: an engine for JSONata (jsonata-python, a port of the one that AWS uses) with the ``$hash``
of Step Functions, the names of the services' errors, JSON in the place of an object's bytes, and clients that reach
our SageMaker and moto. It has no ``.sync`` for SageMaker, so a machine must look at its job itself.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from jsonata import jsonata
from moto.core.config import default_user_config
from moto.core.exceptions import ServiceException
from moto.stepfunctions.parser.api import ExecutionStatus
from moto.stepfunctions.parser.asl.component.intrinsic import jsonata as intrinsic_functions
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_aws_sdk
from moto.stepfunctions.parser.asl.jsonata import jsonata as engine
from moto.stepfunctions.parser.models import StepFunctionsParserBackend, stepfunctions_parser_backends

from tidegate.local_cloud.access import RoleSessions
from tidegate.local_cloud.sagemaker.roles import RoleNotAssumed

_start_of_moto = StepFunctionsParserBackend.start_execution
MakeClient = Callable[[str], Any]
_SERVICE = "states.amazonaws.com"

# "SageMaker.ResourceInUseException": how Step Functions begins the names of errors.
_ERROR_PREFIXES = {
    "cloudformation": "CloudFormation",
    "s3": "S3",
    "sagemaker": "SageMaker",
    "sns": "Sns",
    "sqs": "Sqs",
    "ssm": "Ssm",
}


def run_state_machines(make_client: MakeClient, sessions: RoleSessions | None = None) -> None:
    """Switches the interpreter on, for this process. Calling it again only changes the clients.

    With ``sessions`` each machine calls in its role.
    """
    default_user_config.setdefault("stepfunctions", {})["execute_state_machine"] = True
    engine._eval_jsonata = evaluate
    intrinsic_functions._DECLARATION_BY_VARIABLE_REFERENCE["$hash"] = ""
    state_task_service_aws_sdk._SERVICE_ERROR_NAMES |= _ERROR_PREFIXES
    StepFunctionsParserBackend.start_execution = _starting(sessions)  # type: ignore[method-assign]
    client = _clients(make_client, sessions)
    # Every task asks this function for a client, by a name that each module of the interpreter has for itself.
    for name, module in list(sys.modules.items()):
        if name.startswith("moto.stepfunctions.") and hasattr(module, "boto_client_for"):
            setattr(module, "boto_client_for", client)  # noqa: B010 - not exported


def resume() -> list[str]:
    """After a restart: an execution that was running has failed. Returns what is lost, in sentences."""
    lost = []
    for _, _, backend in list(stepfunctions_parser_backends.iter_backends()):
        for machine in vars(backend)["state_machines"]:
            for execution in machine.executions:
                if execution.exec_status == ExecutionStatus.RUNNING:
                    execution.exec_status, execution.stop_date = ExecutionStatus.FAILED, datetime.now(UTC)
                    execution.error = "LocalCloud.Ended"
                    execution.cause = "The local cloud ended while this was under way."
                    _tell_its_end(execution)
                    lost.append(f"execution {execution.name} of {machine.name} was running, and is FAILED now")
    return lost


def _tell_its_end(execution: Any) -> None:
    """In the history of an execution that another process has begun."""
    if execution.exec_worker is None:  # it was not begun yet
        return
    history: list[Any] = execution.exec_worker.env.event_manager.get_event_history()
    last = history[-1]["id"] if history else 0
    event = {
        "id": last + 1,
        "previousEventId": last,
        "type": "ExecutionFailed",
        "timestamp": execution.stop_date.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "executionFailedEventDetails": {"error": execution.error, "cause": execution.cause},
    }
    history.append(event)


def _starting(sessions: RoleSessions | None) -> Callable[..., Any]:
    def start(
        self: StepFunctionsParserBackend, state_machine_arn: str, name: Any = None, *rest: Any, **named: Any
    ) -> Any:
        """moto leaves an execution that was started without a name without one; the service gives it a UUID."""
        if sessions is not None:
            role = self.describe_state_machine(state_machine_arn).roleArn
            try:
                sessions.session(role, taken_by=_SERVICE, source_arn=state_machine_arn)
            except RoleNotAssumed as error:
                # The sentence of CreateStateMachine, which checks it there.
                raise _RoleRefused(
                    f"Neither the global service principal {_SERVICE}, nor the regional one is authorized to assume the"
                    " provided role."
                ) from error
        return _start_of_moto(self, state_machine_arn, name or str(uuid.uuid4()), *rest, **named)

    return start


class _RoleRefused(ServiceException):
    code = "AccessDeniedException"


def evaluate(expression: str) -> Any:
    """The value of a JSONata expression with the functions that Step Functions adds."""
    try:
        program = jsonata.Jsonata(expression)
        program.register_lambda("hash", _hash)
        return json.loads(json.dumps(program.evaluate(None)))
    except Exception as error:
        # What is wrong with an expression is the machine's failure, whatever the engine raises.
        raise engine.JSONataException("UNKNOWN", str(error)) from error


def _hash(value: str, algorithm: str) -> str:
    return hashlib.new(algorithm.replace("-", ""), value.encode()).hexdigest()


def _clients(make_client: MakeClient, sessions: RoleSessions | None) -> Callable[..., Any]:
    """What stands in the place of moto's ``boto_client_for``."""
    made: dict[tuple[str, str], Any] = {}
    lock = threading.Lock()

    def client(region: str, service: str, state_credentials: Any = None) -> Any:  # noqa: ARG001 - there is one
        role = str(getattr(state_credentials, "role_arn", None) or "")
        session = sessions.begun(role, taken_by=_SERVICE) if sessions is not None and role else None
        key = session.access_key_id if session is not None else ""
        with lock:
            if (service, key) not in made:
                found = (
                    make_client(service)
                    if sessions is None or session is None
                    else sessions.signed_client(service, session)
                )
                made[service, key] = found
                events = found.meta.events
                events.register("provide-client-params.s3.PutObject", _as_bytes)
                events.register("provide-client-params.sns.Publish", _as_text)
                events.register("provide-client-params.stepfunctions.*", _lower_first)
                events.register("after-call.stepfunctions.*", _upper_first)
                events.register("after-call", _without_moments)
            return made[service, key]

    return client


def _as_bytes(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Step Functions writes JSON where the API takes bytes."""
    body = params.get("Body")
    return params if isinstance(body, bytes | bytearray) else {**params, "Body": _json(body).encode()}


def _as_text(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    """... and where it takes a text."""
    message = params.get("Message")
    return params if isinstance(message, str) else {**params, "Message": _json(message)}


def _lower_first(params: dict[str, Any], **_: Any) -> dict[str, Any]:
    """In definitions all members begin with a capital; in the API of Step Functions none does."""
    return {name[0].lower() + name[1:]: value for name, value in params.items()}


def _upper_first(parsed: dict[str, Any], **_: Any) -> None:
    for name in list(parsed):
        parsed[name[0].upper() + name[1:]] = parsed.pop(name)


def _without_moments(parsed: dict[str, Any], **_: Any) -> None:
    """Step Functions gives moments as text; the interpreter keeps what boto3 gives."""
    parsed.update({name: _plain(value) for name, value in parsed.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
