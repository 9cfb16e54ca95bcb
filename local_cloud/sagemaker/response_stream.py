"""InvokeEndpointWithResponseStream: the container's answer as events, passed on as it comes.

Nothing is kept: the next piece is read from the container when the caller's socket has taken the last one, so a slow
reader slows the container down and costs no memory. Once the answer's head is there the status has been sent, and what
goes wrong after it is the stream's last event.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from tidegate.local_cloud.sagemaker import event_stream
from tidegate.local_cloud.sagemaker.container_answers import NoAnswer, StreamedAnswer, TimedOut
from tidegate.local_cloud.sagemaker.http_messages import Request, Response
from tidegate.local_cloud.sagemaker.invocation_members import (
    PREFIX,
    container_headers,
    read_members,
    returned_headers,
)
from tidegate.local_cloud.sagemaker.leases import Lease, first_taken
from tidegate.local_cloud.sagemaker.targets import Targets

_ERROR_BYTES = 65_536
_END_NOTICED_S = 0.5  # between a lost connection and the word that the container itself has ended


@dataclass(frozen=True, slots=True)
class ResponseStreams:
    """Streams the answers of containers."""

    targets: Targets

    def invoke(self, name: str, request: Request) -> Response:
        """Returns when the answer's head is there. Raises :class:`ServiceError` for every error before it."""
        members = read_members("InvokeEndpointWithResponseStream", name, request.headers)
        deadline = time.monotonic() + self.targets.limits.stream_timeout_s
        with ExitStack() as stack:
            lease = stack.enter_context(self.targets.lease(name, members))
            self.targets.demand_size(lease, request.body, request.id)
            lease.observed.ask()

            def ask(lease: Lease) -> StreamedAnswer:
                asked: AbstractContextManager[StreamedAnswer] = lease.client.stream(
                    "POST",
                    "/invocations",
                    headers=container_headers(members) | dict(lease.headers),
                    body=request.body,
                    timeout_s=self.targets.limits.stream_timeout_s,
                    caller=request.caller,
                )
                return stack.enter_context(asked)

            try:
                lease, answer = first_taken(lease, ask)
                if answer.status >= 300:
                    raise self.targets.container_error(name, answer, answer.beginning(_ERROR_BYTES), lease)
            except NoAnswer as error:
                raise self.targets.no_answer(name, error, lease) from error
            lease.note(answer.headers)
            headers = returned_headers(answer.headers) | {
                "x-Amzn-Invoked-Production-Variant": lease.variant.name,
                "Content-Type": event_stream.CONTENT_TYPE,
            }
            if "content-type" in answer.headers:
                headers[f"{PREFIX}Content-Type"] = answer.headers["content-type"]
            held = stack.pop_all()
        return Response(
            status=200, headers=headers, pieces=_events(answer, lease), deadline=deadline, release=held.close
        )


def _events(answer: StreamedAnswer, lease: Lease) -> Iterator[bytes]:
    """The answer's pieces as events, as they come; what breaks it off is the last event.

    The error codes are those of the API reference, ModelStreamError; AWS's messages are not known.
    """
    try:
        for piece in answer.pieces:
            lease.observed.first_chunk()
            yield event_stream.payload_parts(piece)
    except TimedOut:
        lease.observed.broke_off = True
        yield event_stream.model_stream_error(
            code="ModelInvocationTimeExceeded", message="The model did not finish its response in time."
        )
    except NoAnswer as error:
        lease.observed.broke_off = True
        if lease.ended(_END_NOTICED_S):
            yield event_stream.internal_stream_failure(f"The container ended while it was answering ({error}).")
        else:
            yield event_stream.model_stream_error(
                code="StreamBroken", message=f"The connection to the model was closed or reset ({error})."
            )
