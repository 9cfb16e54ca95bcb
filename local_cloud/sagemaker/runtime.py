"""The runtime: the ways to invoke an endpoint, with the service's limits, headers and errors."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, replace

from tidegate.local_cloud.sagemaker.async_invocations import (
    DEFAULT_TIMEOUT_S,
    DEFAULT_TTL_S,
    AsyncInvocations,
    AsyncRequest,
    locations,
)
from tidegate.local_cloud.sagemaker.bidirectional import BidirectionalStreams, is_opening
from tidegate.local_cloud.sagemaker.chat_completions import ChatCompletions
from tidegate.local_cloud.sagemaker.errors import ServiceError, validation_error
from tidegate.local_cloud.sagemaker.http_messages import Request, Response
from tidegate.local_cloud.sagemaker.invocation_members import (
    PREFIX,
    container_headers,
    read_members,
)
from tidegate.local_cloud.sagemaker.plain_invocation import Invocation, PlainInvocations
from tidegate.local_cloud.sagemaker.response_stream import ResponseStreams
from tidegate.local_cloud.sagemaker.state import now
from tidegate.local_cloud.sagemaker.targets import Targets

# What has these waits for a model to be loaded, or for a copy.
_MAY_TAKE_LONG = frozenset({f"{PREFIX}Target-Model".lower(), f"{PREFIX}Inference-Component".lower()})


@dataclass(frozen=True, slots=True)
class Runtime:
    """Answers what is posted below ``/endpoints/NAME/``."""

    targets: Targets
    async_invocations: AsyncInvocations
    plain: PlainInvocations

    def answer(self, request: Request) -> Response:
        """An answer that is an error is raised as :class:`ServiceError`, or is that already."""
        name, _, action = request.path.removeprefix("/endpoints/").partition("/")
        if "openai" in action.split("/"):
            return ChatCompletions(self.targets).answer(name, action, request)
        match action:
            case "invocations":
                return self.plain.begin(name, request).answer(request.caller)
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
        """The same for who need not sign: what is invoked, whole, streamed or later, and chats without a token."""
        if "openai" in action.split("/"):
            return ChatCompletions(self.targets).pass_on(name, action, request)
        if action not in ("invocations", "invocations-response-stream", "async-invocations"):
            raise ServiceError("UnknownOperationException", f"Nothing can be asked at {request.path}.", status=404)
        return self.answer(replace(request, path=f"/endpoints/{name}/{action}"))

    def begin(self, request: Request) -> Invocation | None:
        """The first half of InvokeEndpoint, where neither it nor the second can take long; None for all else.

        Raises as :meth:`answer` does.
        """
        name, _, action = request.path.removeprefix("/endpoints/").partition("/")
        if action != "invocations" or not _MAY_TAKE_LONG.isdisjoint(request.headers):
            return None
        return self.plain.begin(name, request)

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
