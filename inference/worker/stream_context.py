"""The `context` of a conversation: the script's own, with the model and with the request that opened the WebSocket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidegate.inference import protocol
from tidegate.inference.conversation_frames import Opening
from tidegate.inference.protocol import REQUEST_ID_HEADER
from tidegate.inference.worker.context import IN_CONVERSATION, Context, RequestProcessor
from tidegate.inference.worker.request import Request
from tidegate.inference.worker.user_metrics import Metrics


class StreamContext(Context):
    """A context for one client. It begins with what the script has set on the one that `model_fn` was given.

    `model` is what `model_fn` returned; `path` and `query` are those of the request, the way to `stream_fn` that the
    client chose. Its headers are asked for as elsewhere: `context.get_request_header(0, "…")`.
    """

    def __init__(self, base: Context, *, model: Any, opening: Opening) -> None:
        self.__dict__.update(base.__dict__)
        received = protocol.Request(opening.id, opening.content_type, "", opening.headers, b"")
        self.conversation_id = opening.id
        self.request = Request(received=received, accept="")
        requests = (self.request.processor,)
        self.requests = requests
        # Not by a method: what the script keeps on its context would stay with it until a collection.
        self.metrics = Metrics(lambda idx: requests[idx or 0].get_request_property(REQUEST_ID_HEADER) or "")
        self.model = model
        self.path = opening.path
        self.query = opening.query

    def put_at_hand(self) -> None:
        """Let lines of the log be about this conversation, in the thread or task that calls this."""
        IN_CONVERSATION.set((self.request,))

    @property
    def request_processor(self) -> Sequence[RequestProcessor]:
        """The request that opened this conversation, in whichever thread or task it is asked for."""
        return self.requests

    @request_processor.setter
    def request_processor(self, requests: Sequence[RequestProcessor]) -> None:
        raise AttributeError(f"a conversation has one request, not these {len(requests)}")
