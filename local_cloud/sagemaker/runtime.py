"""The runtime: the three ways to invoke an endpoint, with the service's limits, headers and errors."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.model import StructureShape

from tidegate.local_cloud.sagemaker import event_stream
from tidegate.local_cloud.sagemaker.async_invocations import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_TTL_S,
    AsyncInvocations,
    AsyncRequest,
    locations,
)
from tidegate.local_cloud.sagemaker.container_client import AnswerTooLarge, NoAnswer, StreamedAnswer, TimedOut
from tidegate.local_cloud.sagemaker.endpoints import BeingReplaced, Endpoints, Lease
from tidegate.local_cloud.sagemaker.errors import ServiceError, model_error, validation_error
from tidegate.local_cloud.sagemaker.http_server import Request, Response
from tidegate.local_cloud.sagemaker.inference_components import InferenceComponents
from tidegate.local_cloud.sagemaker.multi_model import LoadRefused, NoSuchModel, NotReady
from tidegate.local_cloud.sagemaker.shapes import check, operation_model
from tidegate.local_cloud.sagemaker.state import Identity, now

MAX_BODY_BYTES = 25 * 1024 * 1024  # "Model Hosting FAQs": 25 MB of payload for real-time endpoints, each way
INVOCATION_TIMEOUT_S = 60.0  # "your-algorithms-inference-code": the model has 60 seconds to answer
SERVERLESS_BODY_BYTES = 4 * 1024 * 1024  # the same page: 4 MB of payload for serverless endpoints, each way
ASYNC_BODY_BYTES = 128_000  # InvokeEndpointAsync, Body
STREAM_TIMEOUT_S = 480.0  # "Model Hosting FAQs": 8 minutes for a streamed answer
_ORIGINAL_MESSAGE_CHARS = 4096
_NO_RESPONSE = "Amazon SageMaker could not get a response from the primary endpoint ({})."

_PREFIX = "X-Amzn-SageMaker-"
# Members of the request that reach the container, and their headers there. SageMaker drops every other header.
_FORWARDED = {
    "ContentType": "Content-Type",
    "Accept": "Accept",
    "CustomAttributes": f"{_PREFIX}Custom-Attributes",
    "InferenceId": f"{_PREFIX}Inference-Id",
    "SessionId": f"{_PREFIX}Session-Id",
    "TargetVariant": f"{_PREFIX}Target-Variant",
    "TargetModel": f"{_PREFIX}Target-Model",
}
_RETURNED = (f"{_PREFIX}Custom-Attributes", f"{_PREFIX}New-Session-Id", f"{_PREFIX}Closed-Session-Id")
# Members that say how SageMaker itself is to act.
HONOURED = frozenset(
    {
        "EndpointName",
        "Body",
        "InferenceComponentName",
        "InputLocation",
        "S3OutputPathExtension",
        "Filename",
        "RequestTTLSeconds",
        "InvocationTimeoutSeconds",
        *_FORWARDED,
    }
)
# Members that only endpoints have which the local cloud does not have.
REFUSED = {
    "TargetContainerHostname": "endpoints of several containers",
    "EnableExplanations": "explainers",
    "PrefixAwareId": "prefix-aware routing",
}


@dataclass(frozen=True, slots=True)
class Runtime:
    """Answers what is posted below ``/endpoints/NAME/``."""

    endpoints: Endpoints
    components: InferenceComponents
    async_invocations: AsyncInvocations
    identity: Identity

    def answer(self, request: Request) -> Response:
        """Raises :class:`ServiceError` for every answer that is an error."""
        name, _, action = request.path.removeprefix("/endpoints/").partition("/")
        match action:
            case "invocations":
                return self._invoke(name, request)
            case "invocations-response-stream":
                return self._invoke_with_stream(name, request)
            case "async-invocations":
                return self._invoke_async(name, request)
        raise ServiceError(
            "UnknownOperationException",
            f"The local cloud does not have the runtime operation at {request.path}.",
            status=404,
        )

    def _invoke(self, name: str, request: Request) -> Response:
        members = _members("InvokeEndpoint", name, request.headers)
        with self._lease(name, members) as lease:
            _demand_size(lease, request.body)
            limits: dict[str, Any] = {
                "timeout_s": INVOCATION_TIMEOUT_S,
                "max_bytes": _max_bytes(lease),
                "caller": request.caller,
            }
            headers = _container_headers(members)
            try:
                if lease.models is None:
                    answer = lease.client.call("POST", "/invocations", headers=headers, body=request.body, **limits)
                else:
                    target = members["TargetModel"]
                    answer = lease.models.invoke(lease.client, target, headers=headers, body=request.body, **limits)
            except NoSuchModel as error:
                raise validation_error(str(error)) from error
            except NotReady as error:
                raise ServiceError("ModelNotReadyException", str(error), status=429) from error
            except LoadRefused as error:
                raise self._container_error(name, error.answer.status, error.answer.body, lease.log) from error
            except NoAnswer as error:
                raise self._no_answer(name, error, lease) from error
        if answer.status >= 300:
            raise self._container_error(name, answer.status, answer.body, lease.log)
        headers = _returned_headers(answer.headers) | {"x-Amzn-Invoked-Production-Variant": lease.variant.name}
        if "content-type" in answer.headers:
            headers["Content-Type"] = answer.headers["content-type"]
        return Response(status=200, headers=headers, body=answer.body)

    def _invoke_with_stream(self, name: str, request: Request) -> Response:
        members = _members("InvokeEndpointWithResponseStream", name, request.headers)
        stack = ExitStack()
        try:
            lease = stack.enter_context(self._lease(name, members))
            _demand_size(lease, request.body)
            try:
                answer = stack.enter_context(
                    lease.client.stream(
                        "POST",
                        "/invocations",
                        headers=_container_headers(members),
                        body=request.body,
                        timeout_s=STREAM_TIMEOUT_S,
                        caller=request.caller,
                    )
                )
                if answer.status >= 300:
                    raise self._container_error(name, answer.status, b"".join(answer.pieces), lease.log)
            except NoAnswer as error:
                raise self._no_answer(name, error, lease) from error
        except BaseException:
            stack.close()
            raise
        headers = _returned_headers(answer.headers) | {
            "x-Amzn-Invoked-Production-Variant": lease.variant.name,
            "Content-Type": event_stream.CONTENT_TYPE,
        }
        if "content-type" in answer.headers:
            headers[f"{_PREFIX}Content-Type"] = answer.headers["content-type"]
        return Response(status=200, headers=headers, pieces=_events(stack, answer))

    def _invoke_async(self, name: str, request: Request) -> Response:
        members = _members("InvokeEndpointAsync", name, request.headers)
        config = self.endpoints.async_config(name)
        self.endpoints.demand_invokable(name)
        if config is None:
            raise validation_error(
                f"Endpoint {name} is not asynchronous: its configuration has no AsyncInferenceConfig."
            )
        location = members.get("InputLocation")
        if (location is None) != bool(request.body):
            raise validation_error("InvokeEndpointAsync takes exactly one of InputLocation and Body.")
        if location is not None and not location.startswith("s3://"):
            raise validation_error(f"InputLocation is {location}; it must be an s3:// address.")
        if len(request.body) > ASYNC_BODY_BYTES:
            raise validation_error(
                f"Body has {len(request.body)} bytes, and InvokeEndpointAsync takes {ASYNC_BODY_BYTES}."
            )
        token = str(uuid.uuid4())
        output_location, failure_location = locations(
            config, token, extension=members.get("S3OutputPathExtension"), filename=members.get("Filename")
        )
        asked = AsyncRequest(
            endpoint=name,
            config=config,
            inference_id=members.get("InferenceId", token),
            input_location=location,
            body=request.body,
            output_location=output_location,
            failure_location=failure_location,
            headers=_container_headers(members),
            timeout_s=float(members.get("InvocationTimeoutSeconds", DEFAULT_TIMEOUT_S)),
            ttl_s=float(members.get("RequestTTLSeconds", DEFAULT_TTL_S)),
            received=now(),
        )
        self.async_invocations.submit(asked)
        headers = {"Content-Type": "application/json", f"{_PREFIX}OutputLocation": output_location}
        if failure_location is not None:
            headers[f"{_PREFIX}FailureLocation"] = failure_location
        return Response(status=202, headers=headers, body=json.dumps({"InferenceId": asked.inference_id}).encode())

    @contextmanager
    def _lease(self, name: str, members: Mapping[str, str]) -> Iterator[Lease]:
        if self.endpoints.async_config(name) is not None:
            raise validation_error(f"Endpoint {name} is asynchronous: it takes only InvokeEndpointAsync.")
        with ExitStack() as stack:
            try:
                lease = stack.enter_context(self._chosen(name, members))
            except BeingReplaced as error:
                raise self._model_error(
                    name, 0, _NO_RESPONSE.format(error), "Received server error (0)", error.log
                ) from error
            if lease.models is None and "TargetModel" in members:
                raise validation_error(
                    f"Endpoint {name} is not a multi-model endpoint and does not support target model header."
                )
            if lease.models is not None and "TargetModel" not in members:
                raise validation_error(f"Endpoint {name} is a multi-model endpoint: a request needs TargetModel.")
            yield lease

    def _chosen(self, name: str, members: Mapping[str, str]) -> AbstractContextManager[Lease]:
        """The variant by weight or by name, or the inference component that the request names."""
        component = members.get("InferenceComponentName")
        if not self.endpoints.takes_components(name):
            if component is not None:
                raise validation_error(f"Endpoint {name} has no inference components, so a request must not name one.")
            return self.endpoints.lease(name, target_variant=members.get("TargetVariant"))
        if component is None:
            raise validation_error(
                "Inference Component Name header is required for endpoints to which you plan to deploy inference"
                " components. Please include Inference Component Name header or consider using SageMaker models."
            )
        self.endpoints.demand_invokable(name)
        return self.components.lease(name, component)

    def _container_error(self, name: str, status: int, body: bytes, log: Path) -> ServiceError:
        message = body.decode(errors="replace")
        if len(message) > _ORIGINAL_MESSAGE_CHARS:
            message = f"{message[:_ORIGINAL_MESSAGE_CHARS]}… (could not load the entire response body)"
        kind = "client" if status < 500 else "server"
        return self._model_error(name, status, message, f"Received {kind} error ({status})", log)

    def _no_answer(self, name: str, error: NoAnswer, lease: Lease) -> ServiceError:
        if isinstance(error, TimedOut):
            said = "Your invocation timed out while waiting for a response from container primary."
        elif isinstance(error, AnswerTooLarge):
            said = f"The response of container primary is larger than {_max_bytes(lease)} bytes."
        else:
            said = _NO_RESPONSE.format(error)
        return self._model_error(name, 0, said, "Received server error (0)", lease.log)

    def _model_error(self, name: str, status: int, original: str, received: str, log: Path) -> ServiceError:
        return model_error(
            original_status=status,
            original_message=original,
            # The service's wording; in the place of the CloudWatch address stands the file that plays the log.
            message=f'{received} from primary with message "{original}". See {log.as_uri()} in account'
            f" {self.identity.account} for more information.",
            log_stream_arn=self.identity.log_group_arn(f"/aws/sagemaker/Endpoints/{name}"),
        )


def _members(operation: str, name: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The members of the request, checked against the operation's shape."""
    model = operation_model("sagemaker-runtime", operation)
    if model is None or model.input_shape is None:
        raise LookupError(f"botocore does not know {operation}")
    members = {"EndpointName": name}
    for member, shape in model.input_shape.members.items():
        header = shape.serialization.get("name", member).lower()
        if shape.serialization.get("location") == "header" and header in headers:
            members[member] = headers[header]
    try:
        # The body's own bound is MAX_BODY_BYTES: the model still says 6 MB, the documentation 25 MB.
        body = {"Body": b""} if "Body" in model.input_shape.members else {}
        check(model.input_shape, _typed(model.input_shape, members) | body)
    except ServiceError as error:
        raise validation_error(error.message) from error
    for member in members.keys() - HONOURED:
        feature = REFUSED.get(member, "it")
        raise validation_error(f"Endpoint {name} does not take {member}: the local cloud does not have {feature}.")
    return members


def _typed(shape: StructureShape, members: Mapping[str, str]) -> dict[str, Any]:
    """Numbers in headers as numbers; what is not one stays text, which the check then names."""
    return {
        name: int(value) if shape.members[name].type_name == "integer" and value.isdecimal() else value
        for name, value in members.items()
    }


def _max_bytes(lease: Lease) -> int:
    return MAX_BODY_BYTES if lease.variant.serverless is None else SERVERLESS_BODY_BYTES


def _demand_size(lease: Lease, body: bytes) -> None:
    if len(body) > _max_bytes(lease):
        raise validation_error(
            f"The body has {len(body)} bytes, and the serverless variant {lease.variant.name} takes"
            f" {SERVERLESS_BODY_BYTES}."
        )


def _container_headers(members: Mapping[str, str]) -> dict[str, str]:
    return {header: members[member] for member, header in _FORWARDED.items() if member in members}


def _returned_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name.lower()] for name in _RETURNED if name.lower() in headers}


def _events(stack: ExitStack, answer: StreamedAnswer) -> Iterator[bytes]:
    """The answer's pieces as events, as they come; what breaks it off is the last event."""
    with stack:
        try:
            for piece in answer.pieces:
                yield event_stream.payload_parts(piece)
        except TimedOut as error:
            yield event_stream.model_stream_error(code="ModelInvocationTimeExceeded", message=str(error))
        except NoAnswer as error:
            yield event_stream.model_stream_error(code="StreamBroken", message=str(error))
