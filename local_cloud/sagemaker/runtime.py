"""The runtime: the ways to invoke an endpoint, with the service's limits, headers and errors."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tidegate.local_cloud.sagemaker.async_invocations import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_TTL_S,
    AsyncInvocations,
    AsyncRequest,
    locations,
)
from tidegate.local_cloud.sagemaker.bidirectional import BidirectionalStreams, is_opening
from tidegate.local_cloud.sagemaker.chat_completions import ChatCompletions
from tidegate.local_cloud.sagemaker.container_answers import Answer, NoAnswer
from tidegate.local_cloud.sagemaker.data_capture import DataCapture, Exchange
from tidegate.local_cloud.sagemaker.endpoints import Lease
from tidegate.local_cloud.sagemaker.errors import ServiceError, validation_error
from tidegate.local_cloud.sagemaker.http_server import Request, Response
from tidegate.local_cloud.sagemaker.instances import Instances
from tidegate.local_cloud.sagemaker.invocation_members import (
    PREFIX,
    container_headers,
    read_members,
    returned_headers,
)
from tidegate.local_cloud.sagemaker.multi_model import LoadRefused, NoSuchModel, NotReady
from tidegate.local_cloud.sagemaker.response_stream import ResponseStreams
from tidegate.local_cloud.sagemaker.roles import role_of
from tidegate.local_cloud.sagemaker.shadow_traffic import Copy, ShadowTraffic
from tidegate.local_cloud.sagemaker.state import now
from tidegate.local_cloud.sagemaker.targets import Targets


@dataclass(frozen=True, slots=True)
class Runtime:
    """Answers what is posted below ``/endpoints/NAME/``."""

    targets: Targets
    async_invocations: AsyncInvocations
    captures: DataCapture
    shadows: ShadowTraffic

    def answer(self, request: Request) -> Response:
        """Raises :class:`ServiceError` for every answer that is an error."""
        name, _, action = request.path.removeprefix("/endpoints/").partition("/")
        if "openai" in action.split("/"):
            return ChatCompletions(self.targets).answer(name, action, request)
        match action:
            case "invocations":
                return self._invoke(name, request)
            case "invocations-response-stream":
                return ResponseStreams(self.targets).invoke(name, request)
            case "async-invocations":
                return self._invoke_async(name, request)
            case "invocations-bidirectional-stream" if is_opening(request):
                return BidirectionalStreams(self.targets).open(name, request)
        raise ServiceError(
            "UnknownOperationException",
            f"The local cloud does not have the runtime operation at {request.path}.",
            status=404,
        )

    def answer_unsigned(self, name: str, action: str, request: Request) -> Response:
        """The same for who need not sign: what is invoked at once, whole or streamed, and chats without a token."""
        if "openai" in action.split("/"):
            return ChatCompletions(self.targets).pass_on(name, action, request)
        if action not in ("invocations", "invocations-response-stream"):
            raise ServiceError("UnknownOperationException", f"Nothing can be asked at {request.path}.", status=404)
        return self.answer(replace(request, path=f"/endpoints/{name}/{action}"))

    def _invoke(self, name: str, request: Request) -> Response:
        members = read_members("InvokeEndpoint", name, request.headers)
        with self.targets.lease(name, members) as lease:
            self.targets.demand_size(lease, request.body, request.id)
            limits: dict[str, Any] = {
                "timeout_s": self.targets.limits.invocation_timeout_s,
                "max_bytes": self.targets.max_bytes(lease),
                "caller": request.caller,
            }
            headers = container_headers(members) | dict(lease.headers)
            self._copy(lease.shadow, lease, members, headers, request.body)
            try:
                with lease.observed.asked():
                    if lease.models is None:
                        answer = lease.client.call("POST", "/invocations", headers=headers, body=request.body, **limits)
                    else:
                        target = members["TargetModel"]
                        note = self.targets.note(name, members, lease)
                        answer = lease.models.invoke(
                            lease.client, target, headers=headers, body=request.body, note=note, **limits
                        )
                lease.observed.status = answer.status
            except NoSuchModel as error:
                raise validation_error(str(error)) from error
            except NotReady as error:
                raise ServiceError("ModelNotReadyException", str(error), status=429) from error
            except LoadRefused as error:
                raise self.targets.container_error(name, error.answer, error.answer.body, lease) from error
            except NoAnswer as error:
                raise self.targets.no_answer(name, error, lease) from error
        if answer.status >= 300:
            raise self.targets.container_error(name, answer, answer.body, lease)
        lease.note(answer.headers)
        self._capture(lease.variant.name, lease, members, request.body, answer)
        headers = returned_headers(answer.headers) | {"x-Amzn-Invoked-Production-Variant": lease.variant.name}
        if "content-type" in answer.headers:
            headers["Content-Type"] = answer.headers["content-type"]
        return Response(status=200, headers=headers, body=answer.body)

    def _copy(
        self,
        shadow: Instances | None,
        lease: Lease,
        members: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> None:
        """Lets the shadow variant have the request too, where it is its turn."""
        if shadow is None:
            return
        copy = Copy(
            endpoint=members["EndpointName"],
            variant=shadow.variant,
            instances=shadow,
            headers=headers,
            body=body,
            timeout_s=self.targets.limits.invocation_timeout_s,
            answered=lambda answer: self._capture(shadow.variant, lease, members, body, answer),
        )
        self.shadows.offer(copy)

    def _capture(self, variant: str, lease: Lease, members: Mapping[str, str], body: bytes, answer: Answer) -> None:
        if lease.capture_config is None:
            return
        exchange = Exchange(
            endpoint=members["EndpointName"],
            variant=variant,
            request=body,
            answer=answer.body,
            sent=members.get("ContentType"),
            answered=answer.headers.get("content-type"),
            inference_id=members.get("InferenceId"),
            custom_attributes=members.get("CustomAttributes"),
        )
        self.captures.record(lease.capture_config, exchange, role_arn=role_of(lease.variant.model))

    def _invoke_async(self, name: str, request: Request) -> Response:
        members = read_members("InvokeEndpointAsync", name, request.headers)
        config = self.targets.endpoints.async_config(name)
        self.targets.endpoints.demand_invokable(name)
        if config is None:
            raise validation_error(
                f"Endpoint {name} is not asynchronous: its configuration has no AsyncInferenceConfig."
            )
        location = members.get("InputLocation")
        if (location is None) != bool(request.body):
            raise validation_error("InvokeEndpointAsync takes exactly one of InputLocation and Body.")
        if location is not None and not location.startswith("s3://"):
            raise validation_error(f"InputLocation is {location}; it must be an s3:// address.")
        max_bytes = self.targets.limits.async_inline_body_bytes
        if len(request.body) > max_bytes:
            raise validation_error(f"Body has {len(request.body)} bytes, and InvokeEndpointAsync takes {max_bytes}.")
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
            headers=container_headers(members),
            role_arn=self.targets.endpoints.role_of(name),
            timeout_s=float(members.get("InvocationTimeoutSeconds", DEFAULT_TIMEOUT_S)),
            ttl_s=float(members.get("RequestTTLSeconds", DEFAULT_TTL_S)),
            received=now(),
        )
        self.async_invocations.submit(asked)
        headers = {"Content-Type": "application/json", f"{PREFIX}OutputLocation": output_location}
        if failure_location is not None:
            headers[f"{PREFIX}FailureLocation"] = failure_location
        return Response(status=202, headers=headers, body=json.dumps({"InferenceId": asked.inference_id}).encode())
