"""The OpenAI-compatible path of an endpoint: ``/endpoints/NAME[/inference-components/IC]/openai/v1/chat/completions``.

The container gets ``POST /v1/chat/completions`` and its answer is passed back as it is, streamed or not, with its
status (developer guide, "Invoke endpoints with OpenAI-compatible APIs"). AWS names no limits of this path; the bytes of
a real-time request and the time of a streamed answer count here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from tidegate.local_cloud.sagemaker.bearer_token import check_bearer_token
from tidegate.local_cloud.sagemaker.container_answers import NoAnswer, StreamedAnswer
from tidegate.local_cloud.sagemaker.errors import ServiceError
from tidegate.local_cloud.sagemaker.http_messages import BrokenOff, Request, Response
from tidegate.local_cloud.sagemaker.invocation_members import FORWARDED, returned_headers
from tidegate.local_cloud.sagemaker.leases import Lease, first_taken
from tidegate.local_cloud.sagemaker.targets import Targets

_ROUTE = ["openai", "v1", "chat", "completions"]


@dataclass(frozen=True, slots=True)
class ChatCompletions:
    """Passes chat completions on to the containers of endpoints and inference components."""

    targets: Targets

    def answer(self, name: str, action: str, request: Request) -> Response:
        """The container's own answer, once its head is there. Raises :class:`ServiceError`."""
        # By the machine's time, as the caller who signed it does.
        region = self.targets.identity.region
        check_bearer_token(request.headers.get("authorization", ""), region=region, at=datetime.now(UTC))
        return self.pass_on(name, action, request)

    def pass_on(self, name: str, action: str, request: Request) -> Response:
        """The same, without a look at the token."""
        members = {"EndpointName": name}
        match action.split("/"):
            case ["inference-components", component, *route] if route == _ROUTE:
                members["InferenceComponentName"] = component
            case route if route == _ROUTE:
                pass
            case _:
                raise ServiceError(
                    "UnknownOperationException",
                    f"SageMaker passes on /openai/v1/chat/completions, and nothing else below /openai: {request.path}.",
                    status=404,
                )
        timeout_s = self.targets.limits.stream_timeout_s
        deadline = time.monotonic() + timeout_s
        with ExitStack() as stack:
            lease = stack.enter_context(self.targets.lease(name, members))
            self.targets.demand_size(lease, request.body, request.id)
            lease.observed.ask()

            def ask(lease: Lease) -> StreamedAnswer:
                asked: AbstractContextManager[StreamedAnswer] = lease.client.stream(
                    "POST",
                    "/v1/chat/completions",
                    headers=_passed_on(request) | dict(lease.headers),
                    body=request.body,
                    timeout_s=timeout_s,
                    caller=request.caller,
                )
                return stack.enter_context(asked)

            try:
                lease, answer = first_taken(lease, ask)
            except NoAnswer as error:
                raise self.targets.no_answer(name, error, lease) from error
            lease.note(answer.headers)
            lease.observed.status = answer.status
            headers = returned_headers(answer.headers) | {"x-Amzn-Invoked-Production-Variant": lease.variant.name}
            if "content-type" in answer.headers:
                headers["Content-Type"] = answer.headers["content-type"]
            held = stack.pop_all()
        return Response(
            status=answer.status, headers=headers, pieces=_pieces(answer, lease), deadline=deadline, release=held.close
        )


def _passed_on(request: Request) -> dict[str, str]:
    """The headers that SageMaker forwards; the token is not among them."""
    return {
        header: request.headers[header.lower()] for header in FORWARDED.values() if header.lower() in request.headers
    }


def _pieces(answer: StreamedAnswer, lease: Lease) -> Iterator[bytes]:
    try:
        for piece in answer.pieces:
            lease.observed.first_chunk()
            yield piece
    except NoAnswer as error:
        lease.observed.broke_off = True
        # The status has been sent; a body without its end is the only way left to say that it is not whole.
        raise BrokenOff(str(error)) from error
