"""The identity: what is served where there is no model, and where the deployer asks for that by name.

For trying everything around a model before there is one: the network, the rights, a batch job, a client. Every answer
says so, in the one header that SageMaker hands on to a client.
"""

from __future__ import annotations

from typing import Any

from tidegate.inference.errors import NotAcceptable
from tidegate.inference.worker.accept import demand_some, preferred_type
from tidegate.inference.worker.content import JSON, JSON_LINES, NPZ, OCTETS, Reading, split_media_type
from tidegate.inference.worker.context import Context
from tidegate.inference.worker.dictionaries import read
from tidegate.inference.worker.encoding import encode
from tidegate.inference.worker.handler import Functions

VARIABLE = "TIDEGATE_IDENTITY_MODEL"
HEADER = ("X-Amzn-SageMaker-Custom-Attributes", "model=identity")
_CONVERTED = frozenset({JSON, JSON_LINES, NPZ})
"""The types of which one that was sent is answered as another, where the Accept header asks for that."""


class Identity:
    """The model that returns its input."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def __call__(self, data: Any) -> Any:
        self.tell()
        return data

    def tell(self) -> None:
        """Say in the responses at hand what answers."""
        for request in self._context.request_processor:
            request.add_response_property(*HEADER)


def functions(context: Context, reading: Reading) -> Functions:
    """The functions of a server that has neither a model nor a script: a body is answered by itself."""

    def transform(model: Identity, body: Any, content_type: str | None, _: str) -> tuple[Any, str]:
        model.tell()
        sent = content_type or OCTETS
        asked = context.get_request_header(0, "Accept") or ""
        own = split_media_type(sent)[0]
        # Named tensors come as an npz body of the server's own making, and JSON would forget their types.
        if own != split_media_type(context.get_request_header(0, "Content-Type") or OCTETS)[0]:
            return body, sent
        writable = (own, *sorted(_CONVERTED - {own})) if own in _CONVERTED else (own,)
        wanted = preferred_type(asked, sent, writable)
        demand_some(wanted)
        kind = split_media_type(wanted)[0]
        if kind == own:
            return body, sent
        if kind not in writable:
            raise NotAcceptable(
                f"Accept '{wanted}' cannot be answered; the identity answers {', '.join(writable)} here."
            )
        return encode(read(body, content_type, reading=reading), kind), kind

    return Functions(model_fn=lambda _: Identity(context), transform_fn=transform, takes_names=True)
