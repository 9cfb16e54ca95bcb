"""A chat to one of several models: the body's `model` says to which, as in all that OpenAI's clients send."""

from __future__ import annotations

import json
from collections.abc import Callable

from tidegate.inference.errors import BadRequest, PayloadTooLarge
from tidegate.inference.frontend.http.request import Request
from tidegate.inference.frontend.http.responders import Responder
from tidegate.inference.frontend.metrics import ModelMetrics
from tidegate.inference.frontend.queue.body import Body
from tidegate.inference.frontend.queue.pending_request import PendingRequest
from tidegate.inference.frontend.queue.reply import Reply

MAX_READ_BYTES = 1024 * 1024
"""The longest body that is read here, in the loop of all connections: 1 ms of text, and less than 0.1 s of anything."""


class AskNamedModel:
    """Finds the model when the body is there, and hands the request to what `ask` has for it; see `Responder`."""

    __slots__ = ("_ask", "_asked")

    def __init__(self, ask: Callable[[str], Responder]) -> None:
        self._ask = ask
        self._asked: Responder | None = None

    @property
    def metrics(self) -> ModelMetrics | None:
        return self._asked.metrics if self._asked is not None else None

    @property
    def pending(self) -> PendingRequest | None:
        return self._asked.pending if self._asked is not None else None

    def begin(self, request: Request, reply: Reply) -> None:
        self._asked = self._ask(model_named_in(request.body))
        self._asked.begin(request, reply)

    def cancel(self) -> None:
        if self._asked is not None:
            self._asked.cancel()

    def pause(self) -> None:
        if self._asked is not None:
            self._asked.pause()

    def resume(self) -> None:
        if self._asked is not None:
            self._asked.resume()


def model_named_in(body: Body) -> str:
    """The `model` of a chat's body; empty where it has none. Raises `PayloadTooLarge` and `BadRequest`."""
    if body.size > MAX_READ_BYTES:
        raise PayloadTooLarge(
            f"'model' is looked for in bodies of at most {MAX_READ_BYTES} bytes, and this one has {body.size}; "
            "send it to /models/NAME/v1/chat/completions."
        )
    data = body.whole()
    try:
        # Text in another charset is no matter here: the worker reads it by its Content-Type.
        content = json.loads(data.decode(json.detect_encoding(data), "replace"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise BadRequest("The body must be a JSON object with 'model' and 'messages'.")
    name = content.get("model")
    return name if isinstance(name, str) else ""
