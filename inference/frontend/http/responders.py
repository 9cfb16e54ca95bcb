"""What answers a request that was admitted: at once, in a task, or a model. The events go to the request's reply."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

from tidegate.inference.errors import RequestError
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.response import Response
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.frontend.queue.reply import Reply
from tidegate.inference.request_trace import fields_of_all

log = logging.getLogger("tidegate.http")


CONVERSE = "invocations-bidirectional-stream"
"""Where the platform opens a WebSocket. Source: developer guide, "Custom inference code with hosting services"."""
CHAT = "/v1/chat/completions"
"""Where SageMaker passes on what OpenAI's clients send (developer guide, "OpenAI-compatible APIs")."""


class Route(NamedTuple):
    """Which verbs a path answers, and by what."""

    methods: tuple[str, ...]
    responder: Callable[[Request], Responder]


class Responder(Protocol):
    """What admission found for one request."""

    @property
    def metrics(self) -> ModelMetrics | None:
        """Where its answer is counted; None where no model is asked."""

    @property
    def pending(self) -> PendingRequest | None:
        """The request as the queue has it, once a model is asked."""

    def begin(self, request: Request, reply: Reply) -> None:
        """Answer by `reply`, now or later. Raises `RequestError`."""

    def cancel(self) -> None:
        """The client has left: the reply is not wanted any more."""

    def pause(self) -> None:
        """The client reads more slowly than the response comes."""

    def resume(self) -> None:
        """It has caught up."""


class AtOnce:
    """Answers from what the server knows."""

    __slots__ = ("_respond",)
    metrics = pending = None

    def __init__(self, respond: Callable[[Request], Response]) -> None:
        self._respond = respond

    def begin(self, request: Request, reply: Reply) -> None:
        self._respond(request).send(reply)

    def cancel(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...


class InTask:
    """Answers after something that has to be waited for."""

    __slots__ = ("_respond", "_task")
    metrics = pending = None

    def __init__(self, respond: Callable[[Request], Awaitable[Response]]) -> None:
        self._respond = respond
        self._task: asyncio.Task[None] | None = None

    def begin(self, request: Request, reply: Reply) -> None:
        self._task = asyncio.get_running_loop().create_task(self._answer(request, reply))

    async def _answer(self, request: Request, reply: Reply) -> None:
        try:
            response = await self._respond(request)
        except RequestError as error:
            reply.fail(error)
        except Exception:
            reply.fail(own_failure(request))
        else:
            response.send(reply)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def pause(self) -> None: ...
    def resume(self) -> None: ...


def own_failure(request: Request) -> RequestError:
    """Log the exception at hand; what the client is told of it."""
    log.exception("the server itself failed", extra=fields_of_all([(request.id, request.header_block())]))
    return RequestError("The server failed; its log says why.")
