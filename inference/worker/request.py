"""One request on its way through the user's functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tidegate.inference import protocol
from tidegate.inference.body_file import BodyFile
from tidegate.inference.protocol import Answer, Error
from tidegate.inference.worker.chunks import StreamBody
from tidegate.inference.worker.context import RequestProcessor
from tidegate.inference.worker.members import Path

if TYPE_CHECKING:
    from tidegate.inference.worker.declared.taken import Taken
    from tidegate.inference.worker.open_inference import Asked


@dataclass(slots=True, kw_only=True)
class Request:
    """What was received, what each function has made of it, and the outcome."""

    received: protocol.Request
    processor: RequestProcessor
    """What user code sees of it, and decides about its response."""
    accept: str
    """The one type to answer with."""
    asked: Asked | None = None
    """What the client asks for by the open inference protocol; None for requests of other forms."""
    data: Any = None
    decoded: bool = False
    records: int = 0
    """How many records `data` holds; 0 until they are counted."""
    records_in_body: int = 0
    """How many records the default `input_fn` counted in the body; 0 where it could not, or did not run."""
    taken: Taken | None = None
    """What is known of a body that a declared input has read, without its data; None where something else read it."""
    prediction: Any = None
    members: dict[Path, int] = field(default_factory=dict)
    """The members of `data` by their digests, where a proof that it may share a call is due."""
    compared: bool = False
    """Whether its answer may be compared with that of a batch."""
    kept: Any = None
    """A copy of the prediction from before output_fn, which may change it, to compare."""
    asked_context: bool = False
    """Whether predict_fn has asked the context about the request."""
    predict_s: float = 0.0
    outcome: Answer | Error | None = None
    stream: StreamBody | None = None
    """What answers the request instead of an outcome, where its body is a stream."""

    def let_go(self) -> None:
        """Close the file that its body is in, where it is in one."""
        if isinstance(self.received.body, BodyFile):
            self.received.body.close()
